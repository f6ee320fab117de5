"""Tests of partial files: interrupted blobs are continued, and bad partial files are replaced."""

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


def test_partial_size_is_that_of_the_file_up_to_the_blob_size(path: Path) -> None:
    async def main() -> list[int]:
        async with LayoutWriter.writing(path) as layout:
            before = layout.partial_size(NODE)
            plant(path, DATA[:10])
            between = layout.partial_size(NODE)
            plant(path, DATA + DATA)
            return [before, between, layout.partial_size(NODE)]

    assert asyncio.run(main()) == [0, 10, len(DATA)]
