"""The part of some content that one connection writes into a file, in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable
from concurrent.futures import Future
from threading import Lock
from time import monotonic

from mirror.content.stream import BlobReader, ReadInto


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
    """Passes chunks that the event loop receives to a thread."""

    def __init__(self, chunks: AsyncIterable[bytes]) -> None:
        self._chunks, self._loop = aiter(chunks), asyncio.get_running_loop()
        self._rest = memoryview(b"")
        self._next: Future[bytes] | None = None
        self._stopped = False

    def fill(self, buffer: memoryview) -> int:
        """Read the next bytes into a buffer, and return how many; 0 at the end."""
        if not self._rest:
            self._next = asyncio.run_coroutine_threadsafe(self._receive(), self._loop)
            if self._stopped:
                self._next.cancel()
            self._rest = memoryview(self._next.result())
        count = min(len(buffer), len(self._rest))
        buffer[:count], self._rest = self._rest[:count], self._rest[count:]
        return count

    def interrupt(self) -> None:
        """End a blocked `fill`."""
        self._stopped = True
        if self._next:
            self._next.cancel()

    async def _receive(self) -> bytes:
        async for chunk in self._chunks:
            if chunk:
                return chunk
        return b""


def filling(body: BlobReader) -> tuple[ReadInto, Callable[[], None]]:
    """Return how a thread reads some content, and how it is interrupted."""
    if body.fill:
        return body.fill, body.interrupt
    feeder = Feeder(body.chunks)

    def interrupt() -> None:
        feeder.interrupt()
        body.interrupt()

    return feeder.fill, interrupt
