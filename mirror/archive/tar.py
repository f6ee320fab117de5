"""A tar archive, read in place: one pass over its headers tells where the bytes of each member are.

Nothing is ever unpacked, so no name becomes a path (CVE-2007-4559, CVE-2025-4517, CVE-2021-29136).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from mirror.archive.extents import Extent, Members
from mirror.content.decompress import compression
from mirror.errors import BrokenArchive, NotFound, StorageError
from mirror.fs.directory import kind_name, os_errors

# The programs that write what was compressed to their stdout.
_CATS = {"gzip": "zcat", "zstd": "zstdcat", "xz": "xzcat", "bzip2": "bzcat", "lz4": "lz4cat"}
HEAD = 8  # bytes that tell them apart


class Tar:
    """An archive that is held open; close it. `path` is for messages only.

    `fault` is why its headers could not be read to their end; then `members` are those before.
    """

    def __init__(self, fd: int, path: Path) -> None:
        """Read the headers of an open regular file, which belongs to this object from now on.

        Raises:
            BrokenArchive: it is compressed, or no tar archive at all.
            StorageError: it cannot be read.
        """
        self.fd, self.path = fd, path
        try:
            refuse_packed(self.pread(0, HEAD), path)
            with os_errors(path):
                found = Members(self.pread, os.fstat(fd).st_size)
            self.members, self.fault = found.by_name, found.fault and BrokenArchive(f"{path} {found.fault}.")
            if self.fault and not self.members:
                raise self.fault
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Tar:
        """Open the file that a person named; here links may be followed.

        Raises:
            NotFound: there is no such file.
            BrokenArchive: it is no tar archive.
            StorageError: it cannot be read, or is no file.
        """
        with os_errors(path):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # not to wait for a FIFO's writer
            except FileNotFoundError:
                raise NotFound(f"There is no file {str(path)!r}.") from None
        kind = stat.S_IFMT(os.fstat(fd).st_mode)
        if kind == stat.S_IFREG:
            return cls(fd, path)
        os.close(fd)
        folder = f"A layout is copied by mirror copy {path} DST."
        stream = "Give a stream to mirror import on stdin."
        raise StorageError(
            f"{path} is {kind_name(kind)}, and should be a file.", hint=folder if kind == stat.S_IFDIR else stream
        )

    def read(self, member: Extent, cap: int) -> bytes:
        """The whole of a small member.

        Raises:
            BrokenArchive: it has more than `cap` bytes, or the file has been cut since it was opened.
            StorageError: it cannot be read.
        """
        if member.size > cap:
            raise BrokenArchive(f"{self.path} has {member.size} bytes where {cap} are the most.")
        data = self.pread(member.offset, member.size)
        if len(data) < member.size:
            raise BrokenArchive(f"{self.path} has been cut while it was read.")
        return data

    def pread(self, offset: int, size: int) -> bytes:
        """The bytes at `offset`, fewer where the file ends.

        Raises:
            StorageError: it cannot be read.
        """
        with os_errors(self.path):
            return os.pread(self.fd, size, offset)

    def close(self) -> None:
        os.close(self.fd)


def refuse_packed(head: bytes, path: Path) -> None:
    """Refuse what is compressed: content can be read in place only where it is not.

    Raises:
        BrokenArchive: `head` is what compressed files begin with.
    """
    if form := compression(head):
        raise BrokenArchive(
            f"{path} is compressed with {form}, and mirror reads archives in place.",
            hint=f"Unpack it on the way: {_CATS[form]} {path} | mirror import - LAYOUT",
        )
