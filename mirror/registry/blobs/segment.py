"""A part of a blob that is fetched ahead of its turn."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

import aiohttp

from mirror.errors import MirrorError, TransferError
from mirror.registry.blobs import ranges
from mirror.registry.transport import errors

SEGMENT = 4 * 1024 * 1024  # bytes of one segment, and the most of any that wait in memory


class Segment:
    """The bytes from `first` to `last`, on their way or here.

    `proven` is whether the server has answered with just this part, `done` whether nothing more is coming.
    """

    def __init__(self, first: int, last: int, size: int) -> None:
        self.first, self.last, self._size = first, last, size
        self.proven = self.done = False
        self._failure: MirrorError | None = None
        self._chunks: deque[bytes] = deque()
        self._held = 0
        self._news, self._room = asyncio.Event(), asyncio.Event()

    async def fetch(
        self,
        ask: Callable[[int, int], AbstractAsyncContextManager[aiohttp.ClientResponse]],
        count: Callable[[int], None],
        refuse: Callable[[], None],
    ) -> None:
        """Get it; what goes wrong is told to whoever waits for it.

        Args:
            ask: opens the answer to a range.
            count: called with the bytes that each read gave.
            refuse: called where the server answers something else than the range that it was asked for.
        """
        try:
            async with ask(self.first, self.last) as response:
                self.proven = ranges.covers(response, self.first, self.last, self._size)
                if not self.proven:
                    refuse()
                    raise TransferError(f"{response.url.host} does not know ranges.", transient=True)
                await self._receive(response, count)
        except MirrorError as error:
            self._failure = error
        finally:
            self.done = True
            self._news.set()

    async def _receive(self, response: aiohttp.ClientResponse, count: Callable[[int], None]) -> None:
        missing = self.last - self.first + 1
        self._news.set()
        async for chunk in response.content.iter_any():
            missing -= len(chunk)
            if missing < 0:
                break
            count(len(chunk))
            self._chunks.append(chunk)
            self._held += len(chunk)
            self._news.set()
            while self._held > SEGMENT:
                self._room.clear()
                await self._room.wait()
        if missing:
            text = f"GET {errors.shown(response.url)}: the connection was cut within a part of it."
            raise TransferError(text, transient=True)

    async def answered(self) -> bool:
        """Whether the server sends it, as soon as that is known."""
        while not (self.proven or self.done):
            await self._wait()
        return self.proven

    async def deliver(self) -> AsyncIterator[bytes]:
        """What has come and what comes, to the end.

        Raises:
            MirrorError: what fetching it raised.
        """
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._held -= len(chunk)
                self._room.set()
                yield chunk
            if self._failure:
                raise self._failure
            if self.done:
                return
            await self._wait()

    async def _wait(self) -> None:
        self._news.clear()
        await self._news.wait()
