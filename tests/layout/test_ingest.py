"""A blob that was cut goes on where it stopped, whatever stands where its partial file should be."""

import asyncio
import fcntl
import os
import random
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirror.content.stream import BlobReader
from mirror.errors import DigestMismatch, MirrorError, SizeMismatch, StorageError, TransferError, Unauthorized
from mirror.layout import LayoutWriter
from mirror.layout.ingest import partial_name
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support.command import assert_whole, blob_path, partials

DATA = random.Random(7).randbytes(100_000)
NODE = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))
CUT = TransferError("The connection was cut.", transient=True)


class Origin:
    """Gives the content in small chunks, and notes from where on it was asked for.

    `failure` comes after `after` bytes, once; `ranges=False` begins at 0 whatever is asked; `data` may be wrong.
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
    """A new layout."""
    put(tmp_path / "layout", Origin(b""), Descriptor("a/b", Digest.of(b""), 0))
    return tmp_path / "layout"


def put(path: Path, origin: Origin, node: Descriptor = NODE) -> int:
    """Put a blob as one process would; gives the bytes that an earlier one had left for it."""

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
def test_a_cut_costs_only_the_bytes_after_it(path: Path, after: int) -> None:
    origin = Origin(after=after)
    with pytest.raises(TransferError):
        put(path, origin)
    assert partials(path) == {NODE.digest: DATA[:after]}
    assert put(path, origin) == after
    assert origin.asked == [0, after]
    assert_stored(path)


def test_a_cut_before_the_first_byte_leaves_nothing(path: Path) -> None:
    with pytest.raises(TransferError):
        put(path, Origin(after=0))
    assert partials(path) == {}


def test_an_interrupted_put_leaves_what_was_written(path: Path) -> None:
    with pytest.raises(asyncio.CancelledError):
        put(path, Origin(after=5000, failure=asyncio.CancelledError()))
    assert DATA.startswith(partials(path).get(NODE.digest, b""))
    put(path, Origin())
    assert_stored(path)


def test_what_a_killed_process_left_is_used(path: Path) -> None:
    plant(path, DATA[:70_000])
    origin = Origin()
    assert put(path, origin) == 70_000
    assert origin.asked == [70_000]
    assert_stored(path)


def test_a_blob_that_had_come_whole_is_asked_of_nobody(path: Path) -> None:
    plant(path, DATA)
    origin = Origin()
    assert put(path, origin) == len(DATA)
    assert origin.asked == []
    assert_stored(path)


@pytest.mark.parametrize(
    ("there", "asked"), [(bytes(70_000), [70_000, 0]), (bytes(len(DATA)), [0]), (DATA + b"!", [0])]
)
def test_a_partial_file_that_is_wrong_is_fetched_again_once(path: Path, there: bytes, asked: list[int]) -> None:
    plant(path, there)
    origin = Origin()
    assert put(path, origin) == 0
    assert origin.asked == asked
    assert_stored(path)


def test_a_source_that_is_wrong_is_asked_twice_and_no_more(path: Path) -> None:
    plant(path, DATA[:10])
    origin = Origin(bytes(len(DATA)))
    with pytest.raises(DigestMismatch):
        put(path, origin)
    assert origin.asked == [10, 0]
    assert partials(path) == {}
    assert not blob_path(path, NODE.digest).exists()


@pytest.mark.parametrize("there", [DATA[:10], bytes(10)])
def test_a_source_without_ranges_begins_again(path: Path, there: bytes) -> None:
    plant(path, there)
    origin = Origin(ranges=False)
    assert put(path, origin) == 0
    assert origin.asked == [10]
    assert_stored(path)


@pytest.mark.parametrize("failure", [SizeMismatch("It", want=1, got=None), StorageError("The disk is full.")])
def test_what_is_wrong_or_on_a_disk_that_fails_does_not_stay(path: Path, failure: MirrorError) -> None:
    with pytest.raises(type(failure)):
        put(path, Origin(after=5000, failure=failure))
    assert partials(path) == {}


def test_what_came_before_a_refusal_stays(path: Path) -> None:
    with pytest.raises(Unauthorized):
        put(path, Origin(after=5000, failure=Unauthorized("The token has expired.", status=401)))
    assert partials(path) == {NODE.digest: DATA[:5000]}


@pytest.mark.parametrize("kind", ["link", "dangling", "fifo", "directory", "hard link"])
def test_what_was_planted_is_neither_written_nor_read(path: Path, tmp_path: Path, kind: str) -> None:
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


def test_what_another_mirror_is_writing_is_left_to_it(path: Path) -> None:
    with plant(path, DATA[:10]).open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        origin = Origin()
        put(path, origin)
    assert origin.asked == [0]
    assert partials(path) == {NODE.digest: DATA[:10]}
    assert blob_path(path, NODE.digest).read_bytes() == DATA


def test_how_much_has_come_is_known_beforehand(path: Path) -> None:
    async def main() -> list[int]:
        async with LayoutWriter.writing(path) as layout:
            before = layout.partial_size(NODE)
            plant(path, DATA[:10])
            between = layout.partial_size(NODE)
            plant(path, DATA + DATA)
            return [before, between, layout.partial_size(NODE)]

    assert asyncio.run(main()) == [0, 10, len(DATA)]
