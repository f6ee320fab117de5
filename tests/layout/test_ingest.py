"""Tests of partial files: interrupted blobs are continued, and bad partial files are replaced."""

import asyncio
import errno
import fcntl
import os
import random
import stat
import threading
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from mirror.content.extents import Extents
from mirror.content.stream import BlobReader
from mirror.errors import DigestMismatch, MirrorError, SizeMismatch, StorageError, TransferError, Unauthorized
from mirror.fs.directory import Directory
from mirror.layout import LayoutWriter
from mirror.layout.ingest import partial_name
from mirror.layout.journal import Journal
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.content.test_ranged import tiny_regions
from tests.support.command import assert_whole, blob_path, partials

DATA = random.Random(7).randbytes(100_000)
NODE = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))
CUT = TransferError("The connection was cut.", transient=True)


class Origin:
    """A source that sends small chunks, and records the requested offsets.

    `failure` is raised once, after `after` bytes; with `ranges=False`, it always starts at 0; `data` may be wrong.
    """

    def __init__(
        self, data: bytes = DATA, *, after: int | None = None, failure: BaseException = CUT, ranges: bool = True
    ) -> None:
        self.asked: list[int] = []
        self._data, self._after, self._failure, self._ranges = data, after, failure, ranges

    @asynccontextmanager
    async def __call__(self, start: int) -> AsyncIterator[BlobReader]:
        self.asked.append(start)
        start = start if self._ranges else 0
        yield BlobReader(self._chunks(start), "a test", start=start)

    async def _chunks(self, start: int) -> AsyncIterator[bytes]:
        end = len(self._data) if self._after is None else self._after
        for position in range(start, end, 1000):
            yield self._data[position : min(position + 1000, end)]
        if self._after is not None:
            self._after = None
            raise self._failure


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Create a new layout."""
    put(tmp_path / "layout", Origin(b""), Descriptor("a/b", Digest.of(b""), 0))
    return tmp_path / "layout"


def put(path: Path, origin: Origin, node: Descriptor = NODE) -> int:
    """Put a blob as a new process does; return the number of bytes that came from a partial file."""

    async def main() -> int:
        async with LayoutWriter.writing(path) as layout:
            await layout.put(node, origin)
            return layout.resumed

    return asyncio.run(main())


def plant(path: Path, data: bytes) -> Path:
    found = path / ".mirror" / "partial" / partial_name(NODE)
    found.write_bytes(data)
    return found


def assert_stored(path: Path) -> None:
    assert blob_path(path, NODE.digest).read_bytes() == DATA
    assert partials(path) == {}
    assert_whole(path)


@pytest.mark.parametrize("after", [1, 999, 50_000, 99_999])
def test_interrupted_blob_is_continued_at_its_offset(path: Path, after: int) -> None:
    origin = Origin(after=after)
    with pytest.raises(TransferError):
        put(path, origin)
    assert partials(path) == {NODE.digest: DATA[:after]}
    assert put(path, origin) == after
    assert origin.asked == [0, after]
    assert_stored(path)


def test_failure_before_the_first_byte_leaves_no_partial_file(path: Path) -> None:
    with pytest.raises(TransferError):
        put(path, Origin(after=0))
    assert partials(path) == {}


def test_blob_can_be_put_after_a_cancelled_put(path: Path) -> None:
    with pytest.raises(asyncio.CancelledError):
        put(path, Origin(after=5000, failure=asyncio.CancelledError()))
    assert DATA.startswith(partials(path).get(NODE.digest, b""))
    put(path, Origin())
    assert_stored(path)


def test_partial_file_of_a_killed_process_is_used(path: Path) -> None:
    plant(path, DATA[:70_000])
    origin = Origin()
    assert put(path, origin) == 70_000
    assert origin.asked == [70_000]
    assert_stored(path)


def test_complete_partial_file_is_used_without_a_request(path: Path) -> None:
    plant(path, DATA)
    origin = Origin()
    assert put(path, origin) == len(DATA)
    assert origin.asked == []
    assert_stored(path)


@pytest.mark.parametrize(
    ("there", "asked"), [(bytes(70_000), [70_000, 0]), (bytes(len(DATA)), [0]), (DATA + b"!", [0])]
)
def test_blob_with_a_wrong_partial_file_is_fetched_again_once(path: Path, there: bytes, asked: list[int]) -> None:
    plant(path, there)
    origin = Origin()
    assert put(path, origin) == 0
    assert origin.asked == asked
    assert_stored(path)


def test_source_with_wrong_content_is_requested_at_most_twice(path: Path) -> None:
    plant(path, DATA[:10])
    origin = Origin(bytes(len(DATA)))
    with pytest.raises(DigestMismatch):
        put(path, origin)
    assert origin.asked == [10, 0]
    assert partials(path) == {}
    assert not blob_path(path, NODE.digest).exists()


@pytest.mark.parametrize("there", [DATA[:10], bytes(10)])
def test_source_without_ranges_starts_again_at_0(path: Path, there: bytes) -> None:
    plant(path, there)
    origin = Origin(ranges=False)
    assert put(path, origin) == 0
    assert origin.asked == [10]
    assert_stored(path)


@pytest.mark.parametrize("failure", [SizeMismatch("It", want=1, got=None), StorageError("The disk is full.")])
def test_size_mismatch_or_disk_error_leaves_no_partial_file(path: Path, failure: MirrorError) -> None:
    with pytest.raises(type(failure)):
        put(path, Origin(after=5000, failure=failure))
    assert partials(path) == {}


def test_partial_file_is_kept_after_an_authorization_error(path: Path) -> None:
    with pytest.raises(Unauthorized):
        put(path, Origin(after=5000, failure=Unauthorized("The token has expired.", status=401)))
    assert partials(path) == {NODE.digest: DATA[:5000]}


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory", "hard link"])
def test_planted_link_or_special_file_is_neither_read_nor_written(path: Path, tmp_path: Path, kind: str) -> None:
    victim, name = tmp_path / "victim", plant(path, b"")
    victim.write_bytes(b"secret")
    name.unlink()
    if kind in ("link", "dangling"):
        name.symlink_to(victim if kind == "link" else tmp_path / "nowhere")
    elif kind == "fifo":
        os.mkfifo(name)
    elif kind == "directory":
        name.mkdir()
    else:
        os.link(victim, name)
    put(path, Origin())
    assert blob_path(path, NODE.digest).read_bytes() == DATA
    assert stat.S_ISREG(blob_path(path, NODE.digest).lstat().st_mode)
    assert victim.read_bytes() == b"secret"
    assert not (tmp_path / "nowhere").exists()


def test_partial_file_locked_by_another_process_is_not_used(path: Path) -> None:
    with plant(path, DATA[:10]).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        origin = Origin()
        put(path, origin)
    assert origin.asked == [0]
    assert partials(path) == {NODE.digest: DATA[:10]}
    assert blob_path(path, NODE.digest).read_bytes() == DATA


def test_interrupted_blob_leaves_nothing_if_another_process_has_its_partial_file(path: Path) -> None:
    with plant(path, DATA[:100]).open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for _ in range(2):
            with pytest.raises(TransferError):
                put(path, Origin(after=50_000))
    assert list((path / ".mirror" / "tmp").iterdir()) == []
    assert partials(path) == {NODE.digest: DATA[:100]}


def test_interrupted_source_without_ranges_is_not_asked_again_at_once(path: Path) -> None:
    plant(path, DATA[:90_000])
    origin = Origin(after=50_000, ranges=False)
    with pytest.raises(TransferError):
        put(path, origin)
    assert origin.asked == [90_000]
    assert partials(path) == {NODE.digest: DATA[:50_000]}


def test_put_that_is_cancelled_before_its_commit_closes_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def cancelled(_: object) -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        async with LayoutWriter.writing(path) as layout:
            with monkeypatch.context() as patch:
                patch.setattr("mirror.layout.writer.to_thread", cancelled)
                with pytest.raises(asyncio.CancelledError):
                    await layout.put(NODE, Origin())
            with (path / ".mirror" / "partial" / partial_name(NODE)).open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    asyncio.run(main())
    assert partials(path) == {NODE.digest: DATA}
    assert put(path, Origin()) == len(DATA)
    assert_stored(path)


def test_partial_size_is_that_of_the_file_up_to_the_blob_size(path: Path) -> None:
    async def main() -> list[int]:
        async with LayoutWriter.writing(path) as layout:
            before = layout.partial_size(NODE)
            plant(path, DATA[:10])
            between = layout.partial_size(NODE)
            plant(path, DATA + DATA)
            return [before, between, layout.partial_size(NODE)]

    assert asyncio.run(main()) == [0, 10, len(DATA)]


# Several connections


@pytest.fixture
def holed(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A layout with a partial file that has holes, after a process that was killed."""
    tiny_regions(monkeypatch)
    plant(path, punched())
    record(path, HELD)
    return path


HELD = [(0, 20_000), (40_000, 50_000), (90_000, 95_000)]


def punched() -> bytes:
    data = bytearray(95_000)
    for start, end in HELD:
        data[start:end] = DATA[start:end]
    return bytes(data)


def record(path: Path, parts: list[tuple[int, int]]) -> None:
    journal = Journal(Directory.open(path / ".mirror" / "partial"), partial_name(NODE))
    journal.write(Extents(parts))
    journal.close()


class Ranged(Origin):
    """An origin with further connections, which records what each sends."""

    def __init__(self, data: bytes = DATA, *, after: int | None = None, wrong_ranges: bool = False) -> None:
        super().__init__(data, after=after)
        self.sent, self.ranges = 0, list[int]()
        self._wrong_ranges = wrong_ranges
        self.supported = True

    async def connections(self, received: int, remaining: int) -> int:
        return 3

    def limit(self, connections: int) -> None: ...
    def skip(self, count: int) -> None: ...

    @asynccontextmanager
    async def __call__(self, start: int) -> AsyncIterator[BlobReader]:
        async with super().__call__(start) as body:
            yield replace(body, chunks=self._slowly(body.chunks), ranges=self)

    @asynccontextmanager
    async def open(self, first: int, last: int) -> AsyncIterator[BlobReader]:
        self.ranges.append(first)
        data = bytes(len(self._data)) if self._wrong_ranges else self._data

        async def chunks() -> AsyncIterator[bytes]:
            for position in range(first, last + 1, 100):
                yield data[position : min(position + 100, last + 1)]

        yield BlobReader(self._slowly(chunks()), "a test", start=first)

    async def _slowly(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            self.sent += len(chunk)
            yield chunk
            await asyncio.sleep(0)


def test_only_the_holes_of_a_partial_file_are_fetched(holed: Path) -> None:
    origin = Ranged()
    assert put(holed, origin) == 35_000
    assert origin.asked == [20_000]
    assert origin.ranges
    assert origin.sent < len(DATA) - 35_000 + 3000
    assert_stored(holed)


def test_partial_size_of_a_file_with_holes_does_not_count_them(holed: Path) -> None:
    found = holed / ".mirror" / "partial" / partial_name(NODE)
    with found.open("wb") as file:
        file.truncate(90_000)

    async def main() -> int:
        async with LayoutWriter.writing(holed) as layout:
            return layout.partial_size(NODE)

    assert asyncio.run(main()) == 0


def test_source_without_further_connections_continues_at_the_first_hole(holed: Path) -> None:
    origin = Origin()
    put(holed, origin)
    assert origin.asked == [20_000]
    assert_stored(holed)


def test_interrupted_source_without_further_connections_leaves_a_file_without_holes(holed: Path) -> None:
    with pytest.raises(TransferError):
        put(holed, Origin(after=30_000))
    assert partials(holed) == {NODE.digest: DATA[:30_000]}


@pytest.mark.parametrize("damage", [b"", b"mirror-ranges 1", bytes(8192)])
def test_blob_with_a_damaged_journal_is_fetched_from_the_start(holed: Path, damage: bytes) -> None:
    (holed / ".mirror" / "partial" / f"{partial_name(NODE)}.ranges").write_bytes(damage)
    origin = Ranged()
    assert put(holed, origin) == 0
    assert origin.asked == [0]
    assert_stored(holed)


@pytest.mark.parametrize("parts", [[(0, 95_000)], [(0, 10), (30_000, 60_000)], [(0, 2**62)], [(5, 7)]])
def test_journal_that_lies_costs_one_more_transfer_at_most(holed: Path, parts: list[tuple[int, int]]) -> None:
    record(holed, parts)
    record(holed, parts)
    record(holed, parts)
    origin = Ranged()
    put(holed, origin)
    assert len(origin.asked) <= 2
    assert_stored(holed)


def test_journal_without_its_file_is_removed(holed: Path) -> None:
    (holed / ".mirror" / "partial" / partial_name(NODE)).unlink()
    assert put(holed, Origin()) == 0
    assert_stored(holed)


@pytest.mark.parametrize("wrong", [True, False])
def test_wrong_bytes_of_a_further_connection_cost_one_more_transfer(
    path: Path, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    tiny_regions(monkeypatch)
    origin = Ranged(wrong_ranges=wrong)
    put(path, origin)
    assert origin.asked == ([0, 0] if wrong else [0])
    assert_stored(path)


def test_wrong_source_with_further_connections_leaves_nothing(holed: Path) -> None:
    origin = Ranged(bytes(len(DATA)))
    with pytest.raises(DigestMismatch):
        put(holed, origin)
    assert origin.asked == [20_000, 0]
    assert partials(holed) == {}


def test_planted_journal_keeps_the_partial_file_from_being_used(holed: Path, tmp_path: Path) -> None:
    name = holed / ".mirror" / "partial" / f"{partial_name(NODE)}.ranges"
    name.unlink()
    name.symlink_to(tmp_path / "nowhere")
    origin = Ranged()
    put(holed, origin)
    assert origin.asked == [0]
    assert blob_path(holed, NODE.digest).read_bytes() == DATA
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("has_partial", [True, False])
def test_journal_that_cannot_be_opened_does_not_keep_the_blob_from_being_stored(holed: Path, has_partial: bool) -> None:
    """Another process has locked it, as if it were another user's."""
    if not has_partial:
        (holed / ".mirror" / "partial" / partial_name(NODE)).unlink()
    before = partials(holed)
    with (holed / ".mirror" / "partial" / f"{partial_name(NODE)}.ranges").open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        put(holed, Ranged())
    assert blob_path(holed, NODE.digest).read_bytes() == DATA
    assert partials(holed) == before


def test_partial_file_is_kept_if_the_put_ends_before_it_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise CUT

    plant(path, DATA[:500])
    monkeypatch.setattr("mirror.layout.ingest.Ingest._load", fail)
    with pytest.raises(TransferError):
        put(path, Origin())
    assert partials(path) == {NODE.digest: DATA[:500]}


def test_partial_file_locked_by_another_process_is_received_over_several_connections_too(holed: Path) -> None:
    before = partials(holed)
    with (holed / ".mirror" / "partial" / partial_name(NODE)).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        origin = Ranged()
        put(holed, origin)
    assert origin.asked == [0]
    assert origin.ranges
    assert partials(holed) == before
    assert blob_path(holed, NODE.digest).read_bytes() == DATA


@pytest.mark.parametrize("failing", [1, 2])
def test_bytes_that_the_disk_has_lost_are_not_kept(path: Path, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    """The command is interrupted while an fsync fails, and the next one succeeds, as on Linux."""
    tiny_regions(monkeypatch)
    monkeypatch.setattr("mirror.content.ranged._SAVE", 0.0)
    syncs: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()

        def sync(file: int) -> None:
            if os.readlink(f"/proc/self/fd/{file}").endswith(partial_name(NODE)):
                syncs.append("")
                if len(syncs) == failing:
                    loop.call_soon_threadsafe(put.cancel)
                    cancelled.wait(10)
                    raise OSError(errno.EIO, os.strerror(errno.EIO))

        async with LayoutWriter.writing(path) as layout:
            monkeypatch.setattr("mirror.fs.atomic._sync_data", sync)
            put = asyncio.create_task(layout.put(NODE, Ranged()))
            cancelled = threading.Event()
            while not (put.done() or put.cancelling()):
                await asyncio.sleep(0.01)
            cancelled.set()
            with pytest.raises(asyncio.CancelledError):
                await put

    asyncio.run(main())
    assert len(syncs) == failing
    assert partials(path) == {}


@pytest.mark.parametrize("data", [DATA, bytes(len(DATA))])
def test_interrupted_file_with_holes_is_continued(path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    tiny_regions(monkeypatch)
    plant(path, DATA[:500])

    class Cut(Ranged):
        @asynccontextmanager
        async def open(self, first: int, last: int) -> AsyncIterator[BlobReader]:
            async with super().open(first, last) as body:
                yield replace(body, chunks=self._cut(body.chunks))

        async def _cut(self, chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
            async for chunk in chunks:
                yield chunk
                if self.sent > 20_000:
                    raise CUT

    with pytest.raises(TransferError):
        put(path, Cut(data))
    origin = Ranged()
    reused = put(path, origin)
    assert reused > 10_000 or data != DATA
    assert origin.sent < len(DATA) - reused + 3000 or data != DATA
    assert_stored(path)
