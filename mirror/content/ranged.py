"""Receive one large blob over several connections, which write to the file at different offsets (docs/adr/0017).

    1. hash and write the first response, which has the rest of the blob
    2. if more connections make the blob faster, open one for each of the regions that follow. A region is written once
       the server has confirmed it; then the connection before it ends where it begins
    3. a connection that has ended takes the next region, or a part of the largest that is being received
    4. hash what has been written, in order, while the rest arrives
    5. once per second, make what has been written durable, and then record it

If a connection is cut, the others go on, and its region is taken up again. If the last one is cut, the attempt ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any, Protocol

from mirror.concurrency import PATIENCE, end_tasks, gives_up, to_thread, to_thread_cancellable
from mirror.content.extents import Extents
from mirror.content.filecopy import copy_file
from mirror.content.region import Region, filling
from mirror.content.stream import BlobReader, Ranges, ReadInto, Verifier
from mirror.errors import MirrorError, StorageError, TransferError
from mirror.oci.descriptor import Descriptor

_TICK = 0.05  # seconds between two decisions, unless a connection ends
_SAVE = 1.0  # seconds between two records of what is durable
_PAUSE = 1.0  # seconds after a failure before another connection is opened; more after several
_MOST_FAILURES = 3  # of connections that have not got far
_FAR = 1024 * 1024  # bytes
_SHORTEST, _LONGEST = 4 * 1024 * 1024, 32 * 1024 * 1024  # bytes of a region, unless fewer are left
_SECONDS = 3.0  # that a region takes
_WORTHWHILE = 0.2  # seconds of traffic that another connection must take over, to be worth its round trips
_BUFFER = 1024 * 1024  # bytes that the first connection reads at once, at most
_PIECE = 256 * 1024  # bytes that any other connection does: a slow one is measured, and can be shortened, sooner

Record = Callable[[Extents], None]  # makes known, durably, which bytes of the file are durable


class SeekableFile(Protocol):
    """A file that is written at any offset, by several threads."""

    def write_at(self, chunks: Sequence[bytes | memoryview], offset: int, *, keep: bool = False) -> None: ...
    def read_at(self, view: memoryview, offset: int) -> int: ...
    def sync(self) -> None: ...


class RangedCopy:
    """The reception of one blob. `held` are the bytes of the file that need not be received, and grows.

    `check` has hashed everything before the body's start. `record` is None if the file cannot be resumed; `recorded`
    is True if there is a record already. `size` is that of a buffer in bytes.
    """

    def __init__(
        self,
        body: BlobReader,
        ranges: Ranges,
        node: Descriptor,
        file: SeekableFile,
        check: Verifier,
        held: Extents,
        record: Record | None,
        *,
        recorded: bool,
        size: int = _BUFFER,
    ) -> None:
        self._body, self._ranges, self._node, self._file, self._check = body, ranges, node, file, check
        self._held, self._record, self.recorded, self._buffer = held, record, recorded, min(size, _BUFFER)
        self.parallel = recorded  # more than one connection has written
        self._regions: dict[asyncio.Task[None], Region] = {}
        self._hashing: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._recording = asyncio.Lock()
        self._received = self._failures = 0
        self._remaining = node.size  # bytes
        self._error: MirrorError | None = None
        self._open_at = self._save_at = 0.0  # monotonic times before which nothing is opened, or saved

    async def run(self) -> None:
        """Receive, write and hash the blob.

        Raises:
            DigestMismatch, SizeMismatch: the content is wrong.
            TransferError: it has not been received as a whole.
            StorageError: it cannot be written.
        """
        start, size = self._body.start, self._node.size
        self._ranges.skip(self._held.total - self._held.end_of(0))
        end = next((end for first, end in self._held.gaps(size) if first == start), start)
        try:
            self._first = Region(start, end, confirmed=True)
            self._start(self._first, self._receive_first(self._first))
            while not self._is_complete:
                await self._wait()
                await self._open_more()
            for task in filter(None, (self._hashing, self._saving)):
                await task
        finally:
            await self._stop()
        await self._hash_up_to(size)
        self._check.finish(self._body.called(self._node))

    @property
    def _is_complete(self) -> bool:
        return not any(self._held.gaps(self._node.size))

    # --- connections ---------------------------------------------------------------------------------------------

    def _start(self, region: Region, work: Coroutine[Any, Any, None]) -> None:
        self._regions[asyncio.create_task(work)] = region

    async def _receive_first(self, region: Region) -> None:
        """Hash and write the first response, up to the next region."""
        body = self._body
        async with filling(body) as (fill, interrupt):
            copy = partial(self._copy_first, region, region.reading(fill, self._node.size))
            await to_thread_cancellable(copy, on_cancel=interrupt)
            if region.at < self._node.size:
                interrupt()  # closes the connection

    def _copy_first(self, region: Region, fill: ReadInto, advance: Callable[[int], None]) -> None:
        def write(view: memoryview) -> None:
            self._file.write_at([view], region.at, keep=self.parallel)
            region.at += len(view)

        def ends_at(got: int) -> bool:
            return got == region.end

        body, node, check, size = self._body, self._node, self._check, self._buffer
        copy_file(body, node, fill, check, write, advance, region.at, size=size, ends_at=ends_at)

    async def _receive(self, region: Region) -> None:
        """Open another connection, and write its region if no other connection has got there."""
        async with self._ranges.open(region.first, region.end - 1) as body:
            if not self._confirm(region):
                return
            if self._record:
                await self._record_first(self._record)
            async with filling(body) as (fill, interrupt):
                copy = partial(self._copy, body, region, region.reading(fill, -1))
                await to_thread_cancellable(copy, on_cancel=interrupt)

    def _confirm(self, region: Region) -> bool:
        """End the connection before the region where it begins; return False if that has got further meanwhile."""
        is_written = any(start < region.end and region.first < end for start, end in self._written())
        before = [other for other in self._regions.values() if other.first < region.first < other.end]
        region.confirmed = not is_written and all(other.shorten(region.first) for other in before)
        self.parallel |= region.confirmed
        region.began = monotonic()
        return region.confirmed

    def _copy(self, body: BlobReader, region: Region, fill: ReadInto, advance: Callable[[int], None]) -> None:
        buffer = memoryview(bytearray(min(self._buffer, _PIECE, region.end - region.first)))
        while count := fill(buffer):
            advance(count)
            self._file.write_at([buffer[:count]], region.at, keep=True)
            region.at += count
        if region.at < region.end:
            raise TransferError(f"{body.called(self._node)}: the connection was cut.", transient=True)

    async def _open_more(self) -> None:
        """Open as many connections as are useful."""
        running = sum(region.at - region.first for region in self._regions.values())
        self._remaining = self._node.size - self._held.total - running
        wanted = await self._ranges.connections(self._received + running, self._remaining)
        if not (self._may_open or self._regions or self._is_complete):
            raise self._error or TransferError(f"{self._body.origin} does not support range requests.", transient=True)
        while self._may_open and monotonic() >= self._open_at and len(self._regions) < wanted:
            region = self._next_region(wanted)
            if region is None:
                return
            self._start(region, self._receive(region))

    @property
    def _may_open(self) -> bool:
        return self._ranges.supported and self._failures < _MOST_FAILURES

    def _next_region(self, wanted: int) -> Region | None:
        """Return the first region that no connection receives; if there is none, take a part of the largest."""
        if not self._gaps():
            self._divide_largest(wanted)
        for first, end in self._gaps():
            return Region(first, min(end, first + self._length(wanted)) if wanted > 1 else end)
        return None

    def _gaps(self) -> list[tuple[int, int]]:
        busy = Extents([*self._held, *((region.first, region.claimed) for region in self._regions.values())])
        return list(busy.gaps(self._node.size))

    def _divide_largest(self, wanted: int) -> None:
        """Leave the second half of the largest region to another connection, or more if it is very large."""
        largest = max(self._regions.values(), key=lambda region: region.planned - region.at, default=None)
        if largest is None:
            return
        left, least = largest.planned - largest.at, self._least(largest.rate)
        if left >= 2 * least:
            largest.planned = largest.at + max(least, min(self._length(wanted), left // 2))

    def _length(self, wanted: int) -> int:
        """The bytes of a region, so that the connections of a slow link end soon, and what is not hashed is limited.

        The last regions are smaller, so that the connections end at the same time.
        """
        rate = max((region.rate for region in self._regions.values()), default=0.0)
        return int(max(min(rate * _SECONDS, self._remaining / wanted, _LONGEST), _SHORTEST))

    def _least(self, rate: float) -> int:
        """The bytes that are worth another request."""
        return max(2 * self._buffer, int(rate * _WORTHWHILE))

    # --- what has ended ------------------------------------------------------------------------------------------

    async def _wait(self) -> None:
        """Wait until something ends, or for a moment; hash and save what has been written."""
        tasks = [*self._regions, *filter(None, (self._hashing, self._saving))]
        if tasks:
            await asyncio.wait(tasks, timeout=_TICK, return_when=asyncio.FIRST_COMPLETED)
        else:
            await asyncio.sleep(_TICK)
        for task in [task for task in self._regions if task.done()]:
            self._end(self._regions.pop(task), task)
        self._hash_more()
        self._save_more()

    def _end(self, region: Region, task: asyncio.Task[None]) -> None:
        """Count what a connection has written. Its error is raised unless others go on, or a server has answered."""
        self._held.add(region.first, region.at)
        self._received += region.at - region.first
        if not region.confirmed:
            self._give_back(region)
        if (error := task.exception()) is None:
            self._failures = 0 if region.confirmed else self._failures
            return
        is_hashed = region is not self._first or self._check.size == region.at
        if not (isinstance(error, TransferError) and is_hashed and (self._regions or error.status)):
            raise error
        self._error, self._failures = error, 0 if region.at - region.first >= _FAR else self._failures + 1
        self._open_at = monotonic() + _PAUSE * self._failures
        if not region.confirmed:
            self._ranges.limit(max(len(self._regions), 1))

    def _give_back(self, region: Region) -> None:
        """Leave a region that was not confirmed to the connection before it, if that goes on."""
        for other in self._regions.values():
            if other.first < region.first < other.end:
                other.planned = max(other.planned, region.planned)

    async def _stop(self) -> None:
        """End all connections and threads, and record what was written, for the next attempt."""
        tasks = [*self._regions, *filter(None, (self._hashing, self._saving))]
        await end_tasks(tasks)
        for region in self._regions.values():
            self._held.add(region.first, region.at)
        if self.recorded and self._record and not (self._is_complete or gives_up()):
            with suppress(StorageError, TimeoutError):  # there is another error already
                async with asyncio.timeout(PATIENCE):  # the disk may hang
                    await to_thread(partial(self._save, self._record, Extents(self._held)))

    # --- hash and record -----------------------------------------------------------------------------------------

    def _written(self) -> Extents:
        return Extents([*self._held, *((region.first, region.at) for region in self._regions.values())])

    def _hash_more(self) -> None:
        """Hash what has been written in order, once the first response, which is hashed as it arrives, has ended."""
        if self._hashing and self._hashing.done():
            self._hashing.result()
            self._hashing = None
        end = self._written().end_of(self._check.size)
        has_ended = self._first not in self._regions.values()
        if has_ended and not self._hashing and end - self._check.size >= self._buffer:
            self._hashing = asyncio.create_task(self._hash_up_to(end))

    async def _hash_up_to(self, end: int) -> None:
        def work(advance: Callable[[int], None]) -> None:
            view = memoryview(bytearray(min(self._buffer, end - self._check.size)))
            while self._check.size < end:
                count = self._file.read_at(view[: end - self._check.size], self._check.size)
                if not count:
                    raise StorageError(f"{self._node.digest}: the file has become shorter.")
                self._check.update([view[:count]])
                advance(count)

        await to_thread_cancellable(work)

    def _save_more(self) -> None:
        """Once per second, make what has been written durable."""
        if self._saving and self._saving.done():
            self._saving.result()
            self._saving = None
        if self.recorded and self._record and not self._saving and monotonic() >= self._save_at:
            self._save_at = monotonic() + _SAVE
            self._saving = asyncio.create_task(to_thread(partial(self._save, self._record, self._written())))

    async def _record_first(self, record: Record) -> None:
        """Record what was written, before the first hole is made."""
        async with self._recording:
            if not self.recorded:
                await to_thread(partial(self._save, record, self._written()))
                self.recorded = True

    def _save(self, record: Record, written: Extents) -> None:
        self._file.sync()
        record(written)
