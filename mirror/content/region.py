"""The part of some content that one connection writes into a file, in a thread."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from threading import Condition, Lock
from time import monotonic

from mirror.content.stream import BlobReader, ReadInto

_AHEAD = 1024 * 1024  # bytes that the event loop receives before a thread takes them


class Region:
    """Bytes from `first` up to `end`, written up to `at`.

    Its thread alone moves `at`, the event loop alone moves `end` back: never to where the thread may write, so no byte
    is written by two connections, or after it has been hashed.

    Attributes:
        planned: where the connection shall end, once the next one has been confirmed.
        confirmed: the response is there, and is this region.
    """

    def __init__(self, first: int, end: int, *, confirmed: bool = False) -> None:
        self.first = self.at = self._reserved = first
        self.end = self.planned = end
        self.confirmed, self.began = confirmed, monotonic()
        self._lock = Lock()

    def reading(self, fill: ReadInto, size: int) -> ReadInto:
        """Return a function that reads the region, and ends where it does; a byte after `size` is read too."""

        def read(buffer: memoryview) -> int:
            with self._lock:
                left = self.end - self._reserved
                count = min(len(buffer), left or (self.end == size))
                start, self._reserved = self._reserved, self._reserved + min(count, left)
            count = fill(buffer[:count]) if count else 0
            with self._lock:
                self._reserved = start + count
            return count

        return read

    def shorten(self, end: int) -> bool:
        """Move the end back; return False if the thread may write there already."""
        with self._lock:
            if self._reserved > end:
                return False
            self.end = min(self.end, end)
            return True

    @property
    def claimed(self) -> int:
        """The first byte that another connection may take."""
        return max(min(self.planned, self.end), self.at)

    @property
    def rate(self) -> float:
        """Bytes per second."""
        return (self.at - self.first) / max(monotonic() - self.began, 0.001)


class Feeder:
    """Passes chunks that the event loop receives to a thread.

    It reads ahead: bytes that still wait in a connection of the event loop are lost if that is cut.
    """

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._loop, self._changed, self._has_room = asyncio.get_running_loop(), Condition(), asyncio.Event()
        self._waiting: deque[bytes] = deque()
        self._held = 0  # bytes that are waiting
        self._rest = memoryview(b"")  # of the chunk that is being read
        self._ended = False
        self._error: BaseException | None = None
        self._task = asyncio.create_task(self._receive(chunks))

    def fill(self, buffer: memoryview) -> int:
        """Read the next bytes into a buffer, and return how many; 0 at the end."""
        if not self._rest:
            self._rest = memoryview(self._next())
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def interrupt(self) -> None:
        """End a blocked `fill`."""
        self._end(asyncio.CancelledError())

    async def close(self) -> None:
        """Stop receiving."""
        self._task.cancel()
        await asyncio.wait([self._task])

    def _next(self) -> bytes:
        """Wait for the next chunk; return nothing at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended)
            if not self._waiting:
                if self._error:
                    raise self._error
                return b""
            chunk = self._waiting.popleft()
            self._held -= len(chunk)
        self._loop.call_soon_threadsafe(self._has_room.set)
        return chunk

    async def _receive(self, chunks: AsyncIterable[bytes]) -> None:
        try:
            async for chunk in chunks:
                if chunk:
                    with self._changed:
                        self._waiting.append(chunk)
                        self._held += len(chunk)
                        self._changed.notify()
                while self._held >= _AHEAD:  # before the next chunk is received
                    self._has_room.clear()
                    await self._has_room.wait()
        except BaseException as error:
            self._end(error)
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        with self._changed:
            if not self._ended:
                self._ended, self._error = True, error
            self._changed.notify()


@asynccontextmanager
async def filling(body: BlobReader) -> AsyncIterator[tuple[ReadInto, Callable[[], None]]]:
    """Yield how a thread reads some content, and how it is interrupted."""
    if body.fill:
        yield body.fill, body.interrupt
        return
    feeder = Feeder(body.chunks)

    def interrupt() -> None:
        feeder.interrupt()
        body.interrupt()

    try:
        yield feeder.fill, interrupt
    finally:
        await feeder.close()
