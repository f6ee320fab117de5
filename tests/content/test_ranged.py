"""Tests of the reception of a blob over several connections: no byte is lost, or written without being hashed."""

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest

from mirror.concurrency import gives_up, to_thread
from mirror.content.extents import Extents
from mirror.content.ranged import RangedCopy
from mirror.content.region import filling
from mirror.content.stream import BlobReader, Verifier
from mirror.errors import DigestMismatch, MirrorError, SizeMismatch, StorageError, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support.profiles import every

DATA = random.Random(5).randbytes(2000)
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
CUT = TransferError("The connection was cut.", transient=True)
BUFFER = 20


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_regions(monkeypatch)


def tiny_regions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use small regions and buffers, and short pauses."""
    small = {"_SHORTEST": 200, "_LONGEST": 400, "_BUFFER": BUFFER, "_FAR": 100, "_WORTHWHILE": 0.0}
    for name, value in {**small, "_TICK": 0.01, "_PAUSE": 0.01, "_SAVE": 0.0}.items():
        monkeypatch.setattr(f"mirror.content.ranged.{name}", value)
    monkeypatch.setattr("mirror.content.region._AHEAD", 1)


class MemoryFile:
    """A `SeekableFile` that remembers which bytes were written, and which of them are durable."""

    def __init__(self, data: bytes = b"", failing: Callable[[int], bool] = lambda _: False) -> None:
        self.data, self.durable = bytearray(data), Extents()
        self.written = [1] * len(data)
        self._failing, self._lock = failing, threading.Lock()

    def write_at(self, chunks: Sequence[bytes | memoryview], offset: int, *, keep: bool = False) -> None:
        if self._failing(offset):
            raise StorageError("The disk is full.")
        data = b"".join(chunks)
        with self._lock:
            missing = offset + len(data) - len(self.data)
            self.data += bytes(max(missing, 0))
            self.written += [0] * max(missing, 0)
            self.data[offset : offset + len(data)] = data
            for at in range(offset, offset + len(data)):
                self.written[at] += 1

    def read_at(self, view: memoryview, offset: int) -> int:
        with self._lock:
            found = self.data[offset : offset + len(view)]
        view[: len(found)] = found
        return len(found)

    def sync(self) -> None:
        with self._lock:
            self.durable = Extents((at, at + 1) for at, count in enumerate(self.written) if count)


class Connections:
    """A source over `most` connections, which deliver pieces of a few bytes.

    `cut` maps an offset to the error that is raised there, once; `data` may be wrong; a `refused` range is an error.
    """

    def __init__(
        self,
        most: int = 4,
        data: bytes = DATA,
        cut: dict[int, BaseException] | None = None,
        refused: Callable[[int], bool] = lambda _: False,
        *,
        threads: bool = True,
    ) -> None:
        self.most, self.data, self.cut, self.threads, self.refused = most, data, cut or {}, threads, refused
        self.supported, self.skipped, self.asked, self.open_now = True, 0, list[int](), 0
        self.sizes = list[int]()

    async def connections(self, received: int, remaining: int) -> int:
        return self.most

    def limit(self, connections: int) -> None:
        self.most = min(self.most, connections)

    def skip(self, count: int) -> None:
        self.skipped += count

    @asynccontextmanager
    async def open(self, first: int, last: int) -> AsyncIterator[BlobReader]:
        self.asked.append(first)
        self.sizes.append(last + 1 - first)
        await asyncio.sleep(0)
        if self.refused(len(self.asked)):
            raise TransferError("Refused.", transient=True)
        self.open_now += 1
        try:
            yield self.reader(first, last + 1)
        finally:
            self.open_now -= 1

    def reader(self, start: int, end: int) -> BlobReader:
        stopped, at = threading.Event(), start

        def fill(buffer: memoryview) -> int:
            nonlocal at
            if stopped.wait(0.0005):
                raise CUT
            cuts = [offset for offset in self.cut if at <= offset < end]
            if at in self.cut:
                raise self.cut.pop(at)
            count = min(len(buffer), 17, end - at, *(offset - at for offset in cuts))
            buffer[:count] = self.data[at : at + count]
            at += count
            return count

        async def chunks() -> AsyncIterator[bytes]:
            view = memoryview(bytearray(17))
            while count := fill(view):
                yield bytes(view[:count])
                await asyncio.sleep(0)

        return BlobReader(
            chunks(), "a test", start=start, fill=fill if self.threads else None, interrupt=stopped.set, ranges=self
        )


def receive(
    source: Connections,
    file: MemoryFile | None = None,
    held: Extents | None = None,
    record: Callable[[Extents], None] | None = None,
) -> MemoryFile:
    """Receive what is missing, and assert that every byte was written once."""
    file, held = file or MemoryFile(), held or Extents()

    async def main() -> None:
        check = Verifier(NODE)
        start = held.end_of(0)
        check.update([bytes(file.data[:start])])
        first = source.reader(start, NODE.size)
        copy = RangedCopy(first, source, NODE, file, check, held, record, recorded=start < held.total, size=BUFFER)
        try:
            await copy.run()
        finally:
            assert source.open_now == 0
            await asyncio.sleep(0)  # in which the event loop closes generators that were collected as garbage
            assert len(asyncio.all_tasks()) == 1
            assert all(count <= 1 for count in file.written)

    asyncio.run(main())
    assert file.data == DATA
    return file


@pytest.mark.parametrize("threads", [True, False])
@pytest.mark.parametrize("most", [1, 2, 8])
def test_blob_is_received_over_several_connections(most: int, threads: bool) -> None:
    source = Connections(most, threads=threads)
    receive(source)
    assert (len(source.asked) > 2) == (most > 1)


def test_no_region_is_larger_than_its_share_of_what_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the connections end together."""
    monkeypatch.setattr("mirror.content.ranged._LONGEST", 2000)
    source = Connections(4)
    receive(source)
    assert max(source.sizes) <= 2000 / 4


@pytest.mark.parametrize("most", [1, 4])
def test_only_what_is_missing_is_requested(most: int) -> None:
    held = Extents([(0, 280), (480, 760), (1200, 1201), (1600, 2000)])
    there = bytearray(2000)
    for start, end in held:
        there[start:end] = DATA[start:end]
    file = MemoryFile(bytes(there))
    file.written = [int(any(start <= at < end for start, end in held)) for at in range(2000)]
    source = Connections(most)
    receive(source, file, held)
    assert source.skipped == 280 + 1 + 400
    assert not any(start <= offset < end for offset in source.asked for start, end in [(0, 280), (480, 760)])


@pytest.mark.slow
@pytest.mark.parametrize("threads", [True, False])
def test_cut_at_any_offset_loses_nothing(threads: bool) -> None:
    for offset in every(range(0, 2000, 1 if threads else 41)):
        source, file, held = Connections(3, cut={offset: CUT}, threads=threads), MemoryFile(), Extents()
        try:
            receive(source, file, held)
        except TransferError:  # there was one connection then
            assert all(file.data[start:end] == DATA[start:end] for start, end in held)
            file.written = [int(any(start <= at < end for start, end in held)) for at in range(len(file.written))]
            receive(source, file, held)


def test_wrong_byte_of_any_connection_is_noticed() -> None:
    for offset in [*range(0, 2000, 199), 1999]:
        wrong = bytearray(DATA)
        wrong[offset] ^= 1
        with pytest.raises(DigestMismatch):
            receive(Connections(4, bytes(wrong)))


@pytest.mark.parametrize("number", [1, 2, 3, 5])
def test_refused_range_is_received_over_another_connection(number: int) -> None:
    assert receive(Connections(3, refused=lambda count: count == number)).data == DATA


def test_first_response_goes_on_if_every_range_is_refused() -> None:
    source = Connections(4, refused=lambda _: True)
    receive(source)
    assert 0 < len(source.asked) < 20


@pytest.mark.parametrize("error", [SizeMismatch("It", want=1, got=None), MirrorError("Broken."), ValueError()])
def test_other_error_of_a_connection_ends_the_reception(error: BaseException) -> None:
    with pytest.raises(type(error)):
        receive(Connections(4, cut={1000: error}))


def test_full_disk_ends_the_reception() -> None:
    for full in (0, 960):
        with pytest.raises(StorageError):
            receive(Connections(4), MemoryFile(failing=lambda offset, full=full: offset >= full))  # type: ignore[misc]


def test_bytes_are_durable_before_they_are_recorded() -> None:
    file, records = MemoryFile(), list[Extents]()

    def record(parts: Extents) -> None:
        assert all(file.durable.end_of(start) >= end for start, end in parts)
        records.append(parts)

    receive(Connections(4), file, record=record)
    assert len(records) > 1


def test_nothing_beyond_a_hole_is_written_before_the_first_record() -> None:
    recorded = threading.Event()

    class Checked(MemoryFile):
        def write_at(self, chunks: Sequence[bytes | memoryview], offset: int, *, keep: bool = False) -> None:
            assert recorded.is_set() or offset == len(self.data)
            super().write_at(chunks, offset, keep=keep)

    receive(Connections(4), Checked(), record=lambda _: recorded.set())
    assert recorded.is_set()


def test_failed_record_ends_the_reception() -> None:
    def record(_: Extents) -> None:
        raise StorageError("The disk is full.")

    with pytest.raises(StorageError):
        receive(Connections(4), record=record)


def test_error_is_raised_if_the_disk_hangs_when_the_rest_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    broken, hangs, over = MirrorError("Broken."), threading.Event(), threading.Event()

    class Hanging(MemoryFile):
        def sync(self) -> None:
            if not source.cut:  # it has failed
                hangs.set()
                over.wait(60)

    source, file = Connections(4, cut={1000: broken}), Hanging(bytes(1500) + DATA[1500:1501])
    file.written = [0] * 1500 + [1]
    monkeypatch.setattr("mirror.content.ranged._SAVE", 1000.0)
    for module in ("content.ranged", "concurrency.threads"):
        monkeypatch.setattr(f"mirror.{module}.PATIENCE", 0.01)
    with pytest.raises(MirrorError, match="Broken"):
        receive(source, file, Extents([(1500, 1501)]), record=lambda _: None)
    assert hangs.is_set()
    assert gives_up()
    over.set()
    while gives_up():
        threading.Event().wait(0.001)


def test_received_bytes_are_recorded_when_the_last_connection_is_cut() -> None:
    file, held, records = MemoryFile(), Extents(), list[list[tuple[int, int]]]()
    cuts: dict[int, BaseException] = dict.fromkeys(range(800, 2000, 5), CUT)
    with pytest.raises(TransferError):
        receive(Connections(4, cut=cuts), file, held, lambda parts: records.append(list(parts)))
    assert records[-1] == list(held)


@pytest.mark.slow
def test_region_that_another_connection_has_written_meanwhile_is_dropped() -> None:
    """The server takes long to answer some range requests."""
    delays = random.Random(2)

    class Late(Connections):
        @asynccontextmanager
        async def open(self, first: int, last: int) -> AsyncIterator[BlobReader]:
            await asyncio.sleep(delays.choice([0, 0, 0.01, 0.03, 0.06]))
            async with super().open(first, last) as body:
                yield body

    for _ in range(20):
        assert receive(Late(6)).data == DATA


def test_bytes_that_arrived_before_a_cut_are_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiohttp drops what it holds when its connection is cut."""
    monkeypatch.setattr("mirror.content.region._AHEAD", 5000)

    class Held:
        """Content that is lost once its connection is cut, unless it was taken before."""

        def __init__(self) -> None:
            self.waiting = [bytes([number]) * 100 for number in range(50)]

        async def chunks(self) -> AsyncIterator[bytes]:
            while self.waiting:
                await asyncio.sleep(0)
                yield self.waiting.pop(0)
            raise CUT

    got = bytearray()

    def take(fill: Callable[[memoryview], int]) -> None:
        view = memoryview(bytearray(64))
        while count := fill(view):
            got.extend(view[:count])

    async def main() -> None:
        source = Held()
        async with filling(BlobReader(source.chunks(), "a test")) as (fill, _):
            while source.waiting:  # the thread is late
                await asyncio.sleep(0)
            with pytest.raises(TransferError):
                await to_thread(partial(take, fill))

    asyncio.run(main())
    assert bytes(got) == b"".join(bytes([number]) * 100 for number in range(50))
