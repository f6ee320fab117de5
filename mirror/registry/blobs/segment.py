"""Segments of a blob, fetched ahead of time and buffered in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from mirror.errors import MirrorError, TransferError
from mirror.registry.transport.exchange import Response
from mirror.registry.transport.request_text import Request

SEGMENT = 4 * 1024 * 1024  # bytes of one segment, and of its buffer

# Opens the response to a range request; fails if the response is not this range
OpenRange = Callable[[int, int], AbstractAsyncContextManager[Response]]


class Segment:
    """The bytes from `first` to `last`, both inclusive, of a blob."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.confirmed = False  # the server has answered with exactly this range
        self.done = False  # the segment is complete, or has failed
        self._failure: MirrorError | None = None
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
        self._changed, self._has_room = asyncio.Event(), asyncio.Event()

    async def fetch(self, open_range: OpenRange, on_bytes: Callable[[int], None]) -> None:
        """Fetch the segment, and call `on_bytes` with the size of each chunk; errors are raised by `chunks`."""
        try:
            async with open_range(self.first, self.last) as response:
                self.confirmed = True
                await self._receive(response, on_bytes)
        except MirrorError as error:
            self._failure = error
        finally:
            self.done = True
            self._changed.set()

    async def _receive(self, response: Response, on_bytes: Callable[[int], None]) -> None:
        missing = self.last - self.first + 1
        self._changed.set()
        async for chunk in response.chunks():
            missing -= len(chunk)
            if missing < 0:
                break
            on_bytes(len(chunk))
            self._chunks.append(chunk)
            self._buffered += len(chunk)
            self._changed.set()
            while self._buffered > SEGMENT:
                self._has_room.clear()
                await self._has_room.wait()
        if missing:
            request = Request.of(response)
            raise TransferError(f"{request.host}: the connection was cut{request.about}.", transient=True)

    async def is_confirmed(self) -> bool:
        """Wait for the response, and return whether it is this range."""
        while not (self.confirmed or self.done):
            await self._wait()
        return self.confirmed

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes as they arrive."""
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._buffered -= len(chunk)
                self._has_room.set()
                yield chunk
            if self._failure:
                raise self._failure
            if self.done:
                return
            await self._wait()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
