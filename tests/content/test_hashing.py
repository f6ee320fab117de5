"""Stored content is checked against its digest, whatever store it is in."""

import errno
from collections.abc import Callable

import pytest

from mirror.content.hashing import MISSING, BlobCheck, BlobFault, HashingReader, check_size, hash_blob, keep
from mirror.oci.digest import Digest

DATA = b"0123456789"
DIGEST = Digest.of(DATA)


class MemoryReader:
    """A blob in memory; `actual` is what is read, if it has changed since the blob was opened."""

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


def test_what_is_right_is_ok() -> None:
    assert hash_blob(MemoryReader(), DIGEST, len(DATA)) == BlobCheck(None, size=len(DATA), hashed=len(DATA))


@pytest.mark.parametrize("look", [lambda reader: hash_blob(reader, DIGEST, 10), lambda reader: check_size(reader, 10)])
@pytest.mark.parametrize("reader", [MemoryReader(), MemoryReader(b"short"), BrokenReader()])
def test_what_was_opened_is_closed(reader: MemoryReader, look: Callable[[MemoryReader], BlobCheck]) -> None:
    look(reader)
    assert reader.closed


def test_what_could_not_be_opened_keeps_its_verdict() -> None:
    assert hash_blob(MISSING, DIGEST, 10) is MISSING
    assert check_size(MISSING, 10) is MISSING


@pytest.mark.parametrize(
    ("size", "flaw"), [(10, None), (None, None), (9, BlobFault.TOO_LONG), (11, BlobFault.TOO_SHORT)]
)
def test_to_measure_is_to_compare_sizes_and_read_nothing(size: int | None, flaw: BlobFault | None) -> None:
    assert check_size(BrokenReader(), size).fault is flaw


def test_what_cannot_be_read_is_not_right() -> None:
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
def test_content_that_changes_while_it_is_read_is_neither_right_nor_wrong(reader: MemoryReader) -> None:
    assert hash_blob(reader, DIGEST, 10).fault is BlobFault.CHANGED


def test_content_can_be_kept() -> None:
    data = bytearray()
    assert hash_blob(MemoryReader(), DIGEST, 10, through=keep(data)).ok
    assert data == DATA


@pytest.mark.parametrize("some", [0, 1, 9, 10])
def test_what_through_does_not_read_is_hashed_all_the_same(some: int) -> None:
    def through(passing: HashingReader) -> None:
        passing.readinto(memoryview(bytearray(some)))

    assert hash_blob(MemoryReader(), DIGEST, 10, through=through).ok
    wrong = hash_blob(MemoryReader(b"012345678X"), DIGEST, 10, through=through)
    assert (wrong.fault, wrong.found) == (BlobFault.CORRUPT, Digest.of(b"012345678X"))


def test_a_buffer_serves_one_blob_after_the_other() -> None:
    buffer = bytearray(7)
    for data in (b"long and longer", b"short", b""):
        assert hash_blob(MemoryReader(data), Digest.of(data), len(data), buffer=buffer).ok
