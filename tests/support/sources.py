"""Content in memory as a source: in one piece, or read in several as from a disk, by a thread or the event loop."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from mirror.content.stream import BlobReader, Fetch, single_chunk

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
