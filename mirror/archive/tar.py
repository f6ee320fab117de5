"""Tar archives, read in place: one pass over the headers finds the bytes of each member.

Nothing is unpacked, so a name never becomes a path (CVE-2007-4559, CVE-2025-4517, CVE-2021-29136).
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from functools import partial
from pathlib import Path

from mirror.archive import header
from mirror.archive.extents import NOT_A_TAR, Extent, Members
from mirror.concurrency import once_unused
from mirror.content.decompress import compression
from mirror.errors import BrokenArchive, NotFound, StorageError
from mirror.fs.directory import kind_name, os_errors

# Programs that decompress a file to stdout.
_CATS = {"gzip": "zcat", "zstd": "zstdcat", "xz": "xzcat", "bzip2": "bzcat", "lz4": "lz4cat"}
_WHICH_FILE = "Is this the right file? mirror reads archives of docker, podman, skopeo, containerd, nerdctl and mirror."
HEAD = 8  # first bytes of a file that tell compression formats apart


class Tar:
    """An open tar archive; close it. `path` is for messages only.

    `fault` is the error if its headers could not be read to the end; `members` are those before it.
    """

    def __init__(self, fd: int, path: Path) -> None:
        """Read the headers of an open regular file. It is closed with this object, also if this fails."""
        self.fd, self.path = fd, path
        try:
            refuse_packed(self.pread(0, HEAD), path)
            with os_errors(path):
                self.size = os.fstat(fd).st_size
                found = Members(self.pread, self.size)
            hint = _WHICH_FILE if found.fault == NOT_A_TAR else None
            if found.fault and header.type_name(header.SYMLINK) in found.fault:
                hint = "Pack the files that the links lead to: tar -chf ARCHIVE -C DIR ."
            self.members = found.by_name
            self.fault = BrokenArchive(f"{path} {found.fault}.", hint=hint) if found.fault else None
            if self.fault and not self.members:
                raise self.fault
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Tar:
        """Open a file; links are followed."""
        with os_errors(path):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # do not wait for the writer of a FIFO
            except FileNotFoundError:
                raise NotFound(f"There is no file {str(path)!r}.", hint="Check the path.") from None
        kind = stat.S_IFMT(os.fstat(fd).st_mode)
        if kind == stat.S_IFREG:
            return cls(fd, path)
        os.close(fd)
        hint = "To read a stream: mirror import - LAYOUT"
        if kind == stat.S_IFDIR:
            hint = f"An archive is a file. To copy a layout: mirror copy {path} DST"
        raise StorageError(f"{path} is {kind_name(kind)}, not a file.", hint=hint)

    def read(self, member: Extent, cap: int) -> bytes:
        """Return the content of a member of up to `cap` bytes."""
        if member.size > cap:
            raise BrokenArchive(f"{self.path} has a member of {member.size} bytes; {cap} are the limit.")
        data = self.at(member, 0, member.size)
        if len(data) < member.size:
            raise BrokenArchive(f"{self.path} was truncated while it was read.")
        return data

    def at(self, member: Extent, start: int, size: int) -> bytes:
        """Return a part of the content of a member, less if the file has been truncated."""
        if member.regions is None:
            return self.pread(member.offset + start, size)
        data = memoryview(bytearray(size))
        done = 0
        while done < size and (count := self.readinto(member, start + done, data[done:])):
            done += count
        return bytes(data[:done])

    def readinto(self, member: Extent, start: int, buffer: memoryview) -> int:
        """Read content of a member from `start` on, and return how many bytes; of a sparse member, up to the next hole.

        The buffer must end within the member.
        """
        if member.regions is None:
            return os.preadv(self.fd, [buffer], member.offset + start)
        position = bisect_right(member.regions, start, key=lambda region: region.start)
        region = member.regions[position - 1] if position else None
        if region and start < region.start + region.size:
            inside = start - region.start
            return os.preadv(self.fd, [buffer[: region.size - inside]], region.offset + inside)
        end = member.regions[position].start if position < len(member.regions) else member.size
        count = min(len(buffer), end - start)
        buffer[:count] = bytes(count)
        return count

    def pread(self, offset: int, size: int) -> bytes:
        """Return bytes at an offset, fewer at the end of the file."""
        with os_errors(self.path):
            return os.pread(self.fd, size, offset)

    def close(self) -> None:
        once_unused(partial(os.close, self.fd))


def refuse_packed(head: bytes, path: Path) -> None:
    """Refuse a compressed archive, since it cannot be read in place."""
    if form := compression(head):
        raise BrokenArchive(
            f"{path} is compressed with {form}, but mirror reads archives in place.",
            hint=f"Decompress it: {_CATS[form]} {path} | mirror import - LAYOUT",
            unsupported=True,
        )
