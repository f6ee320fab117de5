"""One blob on its way from one source to one sink, over any number of attempts, with its progress."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

from mirror.content.place import Place
from mirror.content.store import Progress, Sink, Source, image_progress
from mirror.content.stream import BlobReader, Ranges, ReadInto, from_verified
from mirror.oci.descriptor import Descriptor

_REPORT_INTERVAL = 0.1  # seconds between two progress reports of a thread: each wakes the event loop


class BlobTransfer:
    """A transfer of one blob. `furthest` is the number of bytes that the most successful attempt has read.

    The blob takes a `place` to receive while the sink reads it, and then one to commit.
    """

    def __init__(
        self, node: Descriptor, source: Source, sink: Sink, progress: Progress, place: Place | None = None
    ) -> None:
        self._node, self._source, self._sink, self._progress = node, source, sink, progress
        self._place, self._image_progress = place, image_progress(progress)
        self._done = self.furthest = 0
        self._unreported: list[_Unreported] = []

    async def attempt(self) -> None:
        try:
            await self._sink.put(self._node, self._fetch)
        except BaseException:
            self._report()
            self.advance(-self._done)
            raise
        self._report()
        self.skip(self._node.size - self._done)  # a blob that a registry mounted was never read here

    @asynccontextmanager
    async def _fetch(self, start: int) -> AsyncIterator[BlobReader]:
        if self._place:
            await self._place.receive()
        data = self._node.data
        embedded = None if data is None else from_verified(data, "its own descriptor")
        async with embedded(start) if embedded else self._source.open_blob(self._node, start) as body:
            self.skip(body.start - self._done)
            yield self.counted(replace(body, ranges=body.ranges and _CountedRanges(body.ranges, self)))
        if self._place:
            await self._place.commit()

    def counted(self, body: BlobReader) -> BlobReader:
        """Return a reader that counts what is read from it."""
        fill = body.fill and self._counted_fill(body.fill)
        return replace(body, chunks=self._counted_chunks(body), fill=fill)

    async def _counted_chunks(self, body: BlobReader) -> AsyncIterator[bytes]:
        async for chunk in body.chunks:
            self.advance(len(chunk))
            yield chunk

    def _counted_fill(self, fill: ReadInto) -> ReadInto:
        """Count the bytes that a thread reads, and wake the event loop only now and then."""
        loop, count = get_running_loop(), _Unreported()
        self._unreported.append(count)

        def counted(buffer: memoryview) -> int:
            got = fill(buffer)
            count.bytes += got
            if not got or monotonic() - count.since >= _REPORT_INTERVAL:
                loop.call_soon_threadsafe(self.advance, count.take())
            return got

        return counted

    def _report(self) -> None:
        """Count what threads have read and not reported yet."""
        self.advance(sum(count.take() for count in self._unreported))

    def skip(self, count: int) -> None:
        """Count bytes that the receiver has from an earlier attempt, or does not need to receive."""
        if count > 0:
            self._image_progress.skip(self._node, count)
        self.advance(count)

    def advance(self, count: int) -> None:
        """Count bytes that the receiver has."""
        self._progress.advance(self._node, count)
        self._done += count
        self.furthest = max(self.furthest, self._done)


class _Unreported:
    """The bytes that a thread has read and not reported yet."""

    def __init__(self) -> None:
        self.bytes, self.since = 0, monotonic()

    def take(self) -> int:
        taken, self.bytes, self.since = self.bytes, 0, monotonic()
        return taken


class _CountedRanges:
    """`Ranges`: those of a body, whose bytes the transfer counts."""

    def __init__(self, ranges: Ranges, transfer: BlobTransfer) -> None:
        self._ranges, self._transfer = ranges, transfer
        self.connections, self.limit = ranges.connections, ranges.limit

    @property
    def supported(self) -> bool:
        return self._ranges.supported

    def skip(self, count: int) -> None:
        self._transfer.skip(count)

    @asynccontextmanager
    async def open(self, first: int, last: int) -> AsyncIterator[BlobReader]:
        async with self._ranges.open(first, last) as body:
            yield self._transfer.counted(body)
