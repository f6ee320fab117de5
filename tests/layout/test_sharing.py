"""Tests of blobs that share blocks, or the whole file, with another layout: they are hashed, too."""

import asyncio
import errno
import fcntl
import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mirror.content.stream import BlobReader
from mirror.errors import ContentError, SizeMismatch
from mirror.layout import LayoutWriter
from mirror.layout.ingest import partial_name
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support.command import assert_whole, blob_path, blobs, partials

DATA = random.Random(8).randbytes(3_000_000)
NODE = Descriptor("x/y", Digest.of(DATA), len(DATA))
FICLONE = 0x40049409


class Origin:
    """A source with its content in a file; `read` contains the bytes that were streamed instead of shared."""

    def __init__(self, path: Path, data: bytes = DATA) -> None:
        path.write_bytes(data)
        self.path, self.read = path, bytearray()

    @asynccontextmanager
    async def __call__(self, start: int) -> AsyncIterator[BlobReader]:
        with self.path.open("rb") as file:
            yield BlobReader(self._chunks(start), "a test", 1_500_000_000, start, file=file.fileno())

    async def _chunks(self, start: int) -> AsyncIterator[bytes]:
        rest = self.path.read_bytes()[start:]
        self.read += rest
        yield rest


def put(layout: Path, origin: Origin, *, hard_links: bool = False) -> None:
    async def main() -> None:
        async with LayoutWriter.writing(layout, hard_links=hard_links) as writer:
            await writer.put(NODE, origin)

    asyncio.run(main())


@pytest.fixture
def clones(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[bytes], bytes]], None]:
    """Return a function that simulates a file system with shared blocks; its argument changes the content."""

    def install(become: Callable[[bytes], bytes]) -> None:
        def ioctl(fd: int, request: int, source: int) -> int:
            assert request == FICLONE
            os.pwrite(fd, become(os.pread(source, os.fstat(source).st_size, 0)), 0)
            return 0

        monkeypatch.setattr(fcntl, "ioctl", ioctl)

    return install


Clones = Callable[[Callable[[bytes], bytes]], None]


@pytest.mark.slow
def test_blocks_are_shared_if_the_file_system_supports_it(tmp_path: Path, clones: Clones) -> None:
    clones(lambda data: data)
    origin = Origin(tmp_path / "file")
    put(tmp_path / "layout", origin)
    assert_whole(tmp_path / "layout")
    assert (blob_path(tmp_path / "layout", NODE.digest).read_bytes(), bytes(origin.read)) == (DATA, b"")
    assert blob_path(tmp_path / "layout", NODE.digest).stat().st_mtime == 1_500_000_000


WRONG: dict[str, Callable[[bytes], bytes]] = {
    "flipped": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "short": lambda data: data[:-1],
    "long": lambda data: data + b"x",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("wrong", WRONG)
def test_content_of_shared_blocks_is_hashed(tmp_path: Path, clones: Clones, wrong: str) -> None:
    clones(WRONG[wrong])
    with pytest.raises(ContentError):
        put(tmp_path / "layout", Origin(tmp_path / "file"))
    assert (blobs(tmp_path / "layout"), partials(tmp_path / "layout")) == (set(), {})


@pytest.mark.parametrize("error", [errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSPC])
def test_bytes_are_copied_if_blocks_cannot_be_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    origin = Origin(tmp_path / "file")
    put(tmp_path / "layout", origin)
    assert_whole(tmp_path / "layout")
    assert origin.read == DATA


def test_partial_file_is_continued_without_sharing_blocks(tmp_path: Path, clones: Clones) -> None:
    clones(lambda data: data)
    put(tmp_path / "layout", Origin(tmp_path / "file"))
    blob_path(tmp_path / "layout", NODE.digest).unlink()
    (tmp_path / "layout/.mirror/partial" / partial_name(NODE)).write_bytes(DATA[:1000])
    origin = Origin(tmp_path / "file")
    put(tmp_path / "layout", origin)
    assert origin.read == DATA[1000:]
    assert_whole(tmp_path / "layout")


# Hard links


def test_hard_linked_blob_is_the_same_file(tmp_path: Path) -> None:
    origin = Origin(tmp_path / "file")
    put(tmp_path / "layout", origin, hard_links=True)
    assert_whole(tmp_path / "layout")
    assert blob_path(tmp_path / "layout", NODE.digest).samefile(origin.path)
    assert (bytes(origin.read), origin.path.stat().st_mtime == 1_500_000_000) == (b"", False)


@pytest.mark.parametrize("wrong", WRONG)
def test_file_with_wrong_content_is_neither_linked_nor_changed(tmp_path: Path, wrong: str) -> None:
    bad = WRONG[wrong](DATA)
    origin = Origin(tmp_path / "file", bad)
    with pytest.raises(ContentError):
        put(tmp_path / "layout", origin, hard_links=True)
    assert (blobs(tmp_path / "layout"), origin.path.read_bytes(), origin.path.stat().st_nlink) == (set(), bad, 1)
    assert list((tmp_path / "layout/.mirror/tmp").iterdir()) == []


def test_error_for_a_file_of_the_wrong_size_contains_both_sizes(tmp_path: Path) -> None:
    with pytest.raises(SizeMismatch, match="should have 3000000 bytes and has 2999999 bytes"):
        put(tmp_path / "layout", Origin(tmp_path / "file", DATA[:-1]), hard_links=True)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Create a directory on another file system."""
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is only one file system")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_bytes_are_copied_from_another_file_system(tmp_path: Path, elsewhere: Path) -> None:
    origin = Origin(elsewhere / "file")
    put(tmp_path / "layout", origin, hard_links=True)
    assert_whole(tmp_path / "layout")
    assert origin.read == DATA
