"""One blob on its way from one source to one sink, over any number of attempts, with its progress."""

from __future__ import annotations

from asyncio import get_running_loop
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from time import monotonic

from mirror.content.place import Place
from mirror.content.store import Progress, Sink, Source
from mirror.content.stream import BlobReader, ReadInto, from_memory
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
        self._place = place
        self._done = self.furthest = 0

    async def attempt(self) -> None:
        try:
            await self._sink.put(self._node, self._fetch)
        except BaseException:
            self._advance(-self._done)
            raise
        self._advance(self._node.size - self._done)  # a blob that a registry mounted was never read here

    @asynccontextmanager
    async def _fetch(self, start: int) -> AsyncIterator[BlobReader]:
        if self._place:
            await self._place.receive()
        data = self._node.data
        embedded = None if data is None else from_memory(data, "its own descriptor")
        async with embedded(start) if embedded else self._source.open_blob(self._node, start) as body:
            self._advance(body.start - self._done)
            yield replace(body, chunks=self._counted_chunks(body), fill=body.fill and self._counted_fill(body.fill))
        if self._place:
            await self._place.commit()

    async def _counted_chunks(self, body: BlobReader) -> AsyncIterator[bytes]:
        async for chunk in body.chunks:
            self._advance(len(chunk))
            yield chunk

    def _counted_fill(self, fill: ReadInto) -> ReadInto:
        """Count the bytes that a thread reads, and wake the event loop only now and then."""
        loop, unreported, reported_at = get_running_loop(), 0, monotonic()

        def counted(buffer: memoryview) -> int:
            nonlocal unreported, reported_at
            count = fill(buffer)
            unreported += count
            if not count or monotonic() - reported_at >= _REPORT_INTERVAL:
                loop.call_soon_threadsafe(self._advance, unreported)
                unreported, reported_at = 0, monotonic()
            return count

        return counted

    def _advance(self, count: int) -> None:
        self._progress.advance(self._node, count)
        self._done += count
        self.furthest = max(self.furthest, self._done)
