"""The journal of a partial file with holes: which of its bytes are durable.

It lies beside the partial file, in `<name>.ranges`, and is durable before the first hole is made. Two slots of a fixed
size are written in turn, each with a counter and a checksum, so that a power cut damages one of them at most:

    mirror-ranges 1 <counter> <first>-<end>,<first>-<end>,… <checksum>

A partial file without a journal has no holes.
"""

from __future__ import annotations

import hashlib
import re
import stat
from collections.abc import Iterator
from itertools import islice

from mirror.content.extents import Extents
from mirror.errors import StorageError
from mirror.fs.atomic import AtomicFile
from mirror.fs.directory import Directory

SUFFIX = ".ranges"
_SLOT = 4096  # bytes
_MOST_PARTS = 90  # of at most 40 characters; those that follow are received again
_LINE = re.compile(rb"mirror-ranges 1 (\d{1,19}) ((?:\d{1,19}-\d{1,19}(?:,\d{1,19}-\d{1,19})*)?) ([0-9a-f]{16})\n")


class Journal:
    """The journal of the partial file `name` in `directory`. The caller has locked that file, and calls `find`."""

    def __init__(self, directory: Directory, name: str) -> None:
        self._directory, self._name = directory, name + SUFFIX
        self._file: AtomicFile | None = None
        self._count = 0

    @property
    def is_usable(self) -> bool:
        """False if something else has its name."""
        status = self._directory.status(self._name)
        return status is None or (stat.S_ISREG(status.st_mode) and status.st_nlink == 1)

    @property
    def exists(self) -> bool:
        """Return whether it is open: it has been found or written."""
        return self._file is not None

    def find(self) -> bool:
        """Open the journal if there is one; return False if there is, and it cannot be opened."""
        if self._directory.status(self._name) is not None:
            self._file = AtomicFile.resume(self._directory, self._name)
            return self.exists
        return True

    def read(self) -> Extents | None:
        """Return the recorded parts; no parts if the record is damaged, and None if there is no journal."""
        if not self.exists:
            return None
        self._count, found = max(self._slots(self._open()), key=lambda slot: slot[0], default=(0, Extents()))
        return found

    def write(self, parts: Extents) -> None:
        """Record these bytes durably, which are durable themselves; create the journal if there is none."""
        is_new, self._count = self._file is None, self._count + 1
        file = self._open()
        text = ",".join(f"{first}-{end}" for first, end in islice(parts, _MOST_PARTS))
        line = f"mirror-ranges 1 {self._count} {text} ".encode()
        slot = (line + _checksum(line) + b"\n").ljust(_SLOT)
        file.write_at([slot], self._count % 2 * _SLOT, keep=True)
        file.sync()
        if is_new:
            self._directory.sync()

    def remove(self) -> None:
        """Remove it, once the partial file has no holes."""
        self.close()
        self._directory.remove(self._name)

    def close(self) -> None:
        if self._file:
            self._file.close()
        self._file = None

    def _open(self) -> AtomicFile:
        self._file = self._file or AtomicFile.resume(self._directory, self._name)
        if self._file is None:
            raise StorageError(f"{self._directory.path / self._name} cannot be written to.")
        return self._file

    def _slots(self, file: AtomicFile) -> Iterator[tuple[int, Extents]]:
        for number in range(2):
            view = memoryview(bytearray(_SLOT))
            line = bytes(view[: file.read_at(view, number * _SLOT)]).rstrip(b" ")
            match = _LINE.fullmatch(line)
            if match and _checksum(line[: -len(match[3]) - 1]) == match[3]:
                yield int(match[1]), _parse(match[2].decode())


def held_bytes(directory: Directory, name: str) -> int:
    """Return how many bytes of a partial file there are, unverified; 0 if there is none."""
    status = directory.status(name)
    if status is None or not stat.S_ISREG(status.st_mode):
        return 0
    journal = directory.status(name + SUFFIX)
    # Holes take no space; what is not recorded yet is little.
    return min(status.st_size, status.st_blocks * 512) if journal else status.st_size


def held_sizes(directory: Directory) -> dict[str, int]:
    """Return `held_bytes` of each partial file, by its name. A journal belongs to its file, and is not one of them."""
    names = set(directory.names())
    journals = {name for name in names if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) in names}
    return {name: held_bytes(directory, name) for name in names - journals}


def _parse(text: str) -> Extents:
    return Extents(
        (int(first), int(end)) for first, _, end in (part.partition("-") for part in text.split(",") if text)
    )


def _checksum(line: bytes) -> bytes:
    return hashlib.sha256(line).hexdigest()[:16].encode()
