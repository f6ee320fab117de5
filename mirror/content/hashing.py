"""Check stored content against its digest, in any kind of store.

A store opens a blob as a `Reader`, or returns a `BlobCheck` with the fault. Hashing reads into one reused buffer; reads
and hashes release the GIL, so threads use all cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from enum import StrEnum
from typing import NamedTuple, Protocol

from mirror.errors import InvalidDigest
from mirror.oci.digest import Digest, Hasher

READ = 1024 * 1024  # bytes per read: more would not stay in the cache, fewer would cost system calls


class BlobFault(StrEnum):
    """The ways in which a stored blob can be wrong."""

    MISSING = "missing"
    NOT_A_FILE = "not-a-file"
    TOO_SHORT = "too-short"
    TOO_LONG = "too-long"
    CORRUPT = "corrupt"
    UNREADABLE = "unreadable"
    UNHASHABLE = "unhashable"
    CHANGED = "changed"


class BlobCheck(NamedTuple):
    """The result of checking one blob.

    Attributes:
        fault: what is wrong, or None.
        expected, found: what should be there, and what is, as text.
        size: bytes that are stored.
        hashed: `size` if all bytes were hashed, otherwise 0.
    """

    fault: BlobFault | None
    expected: str = ""
    found: str = ""
    size: int = 0
    hashed: int = 0

    @property
    def ok(self) -> bool:
        return self.fault is None


MISSING = BlobCheck(BlobFault.MISSING, "a file", "nothing")


def not_a_file(found: str) -> BlobCheck:
    return BlobCheck(BlobFault.NOT_A_FILE, "a file", found)


def unreadable(error: OSError) -> BlobCheck:
    return BlobCheck(BlobFault.UNREADABLE, "a readable file", os.strerror(error.errno or 0).lower())


class Reader(Protocol):
    """A stored blob, open for one thread. `size` is its bytes at the time when it was opened."""

    size: int

    def readinto(self, buffer: memoryview, /) -> int:
        """Read the next bytes into the buffer, and return how many; 0 at the end."""
        ...

    def changed(self) -> bool:
        """Return True if the blob has been written to since it was opened."""
        ...

    def close(self) -> None: ...


class HashingReader:
    """A reader that hashes what it reads. `size` is as in `Reader`."""

    def __init__(self, reader: Reader, hasher: Hasher, advance: Callable[[int], None]) -> None:
        self.size = reader.size
        self._reader, self._hasher, self._advance = reader, hasher, advance
        self._left = reader.size + 1  # so that a file that keeps growing is not read forever

    def readinto(self, buffer: memoryview, /) -> int:
        count = self._reader.readinto(buffer[: self._left])
        self._hasher.update(buffer[:count])
        self._left -= count
        self._advance(count)
        return count

    def state(self) -> Hasher:
        """Return a copy of the hasher, which has all bytes that have been read so far."""
        return self._hasher.copy()

    @property
    def complete(self) -> bool:
        """True if exactly `size` bytes have been read."""
        return self._left == 1


Through = Callable[[HashingReader], None]


def check_size(opened: Reader | BlobCheck, size: int | None) -> BlobCheck:
    """Compare only the size of a blob, and close it; None accepts every size."""
    if isinstance(opened, BlobCheck):
        return opened
    opened.close()
    return _sized(opened, size)


def hash_blob(
    opened: Reader | BlobCheck,
    digest: Digest,
    size: int | None,
    *,
    buffer: bytearray | None = None,
    advance: Callable[[int], None] = lambda _: None,
    through: Through | None = None,
) -> BlobCheck:
    """Compare the size of a blob, then hash it and compare it with its digest, and close it.

    `size` is None if no descriptor names the blob. One thread can use one `buffer` for many calls. `advance` is called
    with the number of bytes of each read; what it raises ends the check. `through` processes the content first; the
    bytes that it does not read are read afterwards.
    """
    if isinstance(opened, BlobCheck):
        return opened
    with closing(opened):
        sized = _sized(opened, size)
        if not sized.ok:
            return sized
        try:
            return _hashed(opened, digest, buffer or bytearray(min(READ, opened.size + 1)), advance, through)
        except OSError as error:
            return unreadable(error)


def keep(data: bytearray) -> Through:
    """Make `hash_blob` append the content to `data` (use as `through`); the caller limits its size."""

    def through(passing: HashingReader) -> None:
        buffer = memoryview(bytearray(passing.size + 1))
        while count := passing.readinto(buffer):
            data.extend(buffer[:count])

    return through


def _sized(reader: Reader, size: int | None) -> BlobCheck:
    if size is None or reader.size == size:
        return BlobCheck(None, size=reader.size)
    fault = BlobFault.TOO_SHORT if reader.size < size else BlobFault.TOO_LONG
    return BlobCheck(fault, f"{size} bytes", f"{reader.size} bytes", reader.size)


def _hashed(
    reader: Reader, digest: Digest, buffer: bytearray, advance: Callable[[int], None], through: Through | None
) -> BlobCheck:
    try:
        hasher = digest.hasher()
    except InvalidDigest:
        return BlobCheck(BlobFault.UNHASHABLE, str(digest), f"no way to compute {digest.algorithm}", reader.size)
    passing = HashingReader(reader, hasher, advance)
    if through:
        through(passing)
    view = memoryview(buffer)
    while passing.readinto(view):
        pass
    if not passing.complete or reader.changed():
        return BlobCheck(BlobFault.CHANGED, str(digest), "content that changed while it was read", reader.size)
    if digest.matches(hasher):
        return BlobCheck(None, size=reader.size, hashed=reader.size)
    found = f"{digest.algorithm}:{hasher.hexdigest()}"
    return BlobCheck(BlobFault.CORRUPT, str(digest), found, reader.size, reader.size)
