"""Content in memory as a source: in one piece, or read in several as from a disk, by a thread or the event loop."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from mirror.content.stream import BlobReader, Fetch, single_chunk
from mirror.errors import TransferError

_PIECE = 1024  # bytes, at least
fills = True  # threads can read it


def in_one_piece(data: bytes) -> Fetch:
    """Return a function that opens content, not verified, in one chunk."""

    @asynccontextmanager
    async def fetch(start: int) -> AsyncIterator[BlobReader]:
        yield BlobReader(single_chunk(data[start:]), "a test", start=start)

    return fetch


def in_pieces(data: bytes) -> Fetch:
    """Return a function that opens content."""

    @asynccontextmanager
    async def fetch(start: int) -> AsyncIterator[BlobReader]:
        size = max(_PIECE, len(data) // 100)

        async def chunks() -> AsyncIterator[bytes]:
            for place in range(start, len(data), size):
                yield data[place : place + size]

        yield BlobReader(chunks(), "a test", start=start, fill=filling(data[start:], size) if fills else None)

    return fetch


class Blocked:
    """Content that a thread waits for until it is interrupted."""

    def __init__(self) -> None:
        self._began, self.interrupted = threading.Event(), threading.Event()
        self.body = BlobReader(single_chunk(b""), "a test", fill=self._fill, interrupt=self.interrupted.set)

    def _fill(self, _: memoryview) -> int:
        self._began.set()
        self.interrupted.wait(60)
        raise TransferError("It was interrupted.")

    async def cancel(self, reading: Coroutine[Any, Any, object]) -> None:
        """Cancel what reads the content, once its thread waits."""
        task = asyncio.create_task(reading)
        await asyncio.to_thread(self._began.wait)
        task.cancel()
        await task


def filling(data: bytes, most: int) -> Callable[[memoryview], int]:
    """Return a function that reads at most `most` bytes at a time into buffers."""
    left = data

    def fill(buffer: memoryview) -> int:
        nonlocal left
        chunk = left[: min(most, len(buffer))]
        buffer[: len(chunk)] = chunk
        left = left[len(chunk) :]
        return len(chunk)

    return fill
