"""Tests of checking stored content against its digest, independent of the kind of store."""

import errno
from collections.abc import Callable

import pytest

from mirror.content.hashing import MISSING, BlobCheck, BlobFault, HashingReader, check_size, hash_blob, keep
from mirror.oci.digest import Digest

DATA = b"0123456789"
DIGEST = Digest.of(DATA)


class MemoryReader:
    """A blob in memory; `actual` is its content if it was changed after the blob was opened."""

    def __init__(self, data: bytes = DATA, *, actual: bytes | None = None, changed: bool = False) -> None:
        self.size, self._data = len(data), data if actual is None else actual
        self._position, self._changed = 0, changed
        self.closed = False

    def readinto(self, buffer: memoryview, /) -> int:
        part = self._data[self._position : self._position + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def changed(self) -> bool:
        return self._changed

    def close(self) -> None:
        self.closed = True


class BrokenReader(MemoryReader):
    def readinto(self, buffer: memoryview, /) -> int:
        raise OSError(errno.EIO, "no")


class EndlessReader(MemoryReader):
    """A file that another program keeps appending to."""

    def readinto(self, buffer: memoryview, /) -> int:
        return len(buffer)


def test_correct_blob_is_ok() -> None:
    assert hash_blob(MemoryReader(), DIGEST, len(DATA)) == BlobCheck(None, size=len(DATA), hashed=len(DATA))


@pytest.mark.parametrize("look", [lambda reader: hash_blob(reader, DIGEST, 10), lambda reader: check_size(reader, 10)])
@pytest.mark.parametrize("reader", [MemoryReader(), MemoryReader(b"short"), BrokenReader()])
def test_reader_is_closed(reader: MemoryReader, look: Callable[[MemoryReader], BlobCheck]) -> None:
    look(reader)
    assert reader.closed


def test_result_of_a_failed_open_is_returned_unchanged() -> None:
    assert hash_blob(MISSING, DIGEST, 10) is MISSING
    assert check_size(MISSING, 10) is MISSING


@pytest.mark.parametrize(
    ("size", "flaw"), [(10, None), (None, None), (9, BlobFault.TOO_LONG), (11, BlobFault.TOO_SHORT)]
)
def test_check_size_compares_sizes_without_reading(size: int | None, flaw: BlobFault | None) -> None:
    assert check_size(BrokenReader(), size).fault is flaw


def test_read_error_makes_a_blob_unreadable() -> None:
    assert hash_blob(BrokenReader(), DIGEST, 10).fault is BlobFault.UNREADABLE


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "reader",
    [
        MemoryReader(actual=DATA[:-1]),
        MemoryReader(actual=DATA + b"more"),
        MemoryReader(changed=True),
        EndlessReader(),
    ],
    ids=["shrinks", "grows", "is written to", "grows for ever"],
)
def test_content_that_changes_during_the_read_is_reported_as_changed(reader: MemoryReader) -> None:
    assert hash_blob(reader, DIGEST, 10).fault is BlobFault.CHANGED


def test_keep_collects_the_content() -> None:
    data = bytearray()
    assert hash_blob(MemoryReader(), DIGEST, 10, through=keep(data)).ok
    assert data == DATA


@pytest.mark.parametrize("some", [0, 1, 9, 10])
def test_bytes_that_through_does_not_read_are_hashed_too(some: int) -> None:
    def through(passing: HashingReader) -> None:
        passing.readinto(memoryview(bytearray(some)))

    assert hash_blob(MemoryReader(), DIGEST, 10, through=through).ok
    wrong = hash_blob(MemoryReader(b"012345678X"), DIGEST, 10, through=through)
    assert (wrong.fault, wrong.found) == (BlobFault.CORRUPT, Digest.of(b"012345678X"))


def test_buffer_can_be_reused_for_several_blobs() -> None:
    buffer = bytearray(7)
    for data in (b"long and longer", b"short", b""):
        assert hash_blob(MemoryReader(data), Digest.of(data), len(data), buffer=buffer).ok
