"""The stored content of a layout: `blobs/<algorithm>/<encoded>`, read.

Opening follows no links, and an open file is checked again (fstat), so nothing can be swapped in between.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from threading import Lock

from mirror.content.finding_text import link_hint
from mirror.content.hashing import MISSING, BlobCheck, BlobFault, not_a_file, unreadable
from mirror.errors import BrokenLayout, StorageError
from mirror.fs.directory import Directory, kind_name
from mirror.fs.filestate import FileState
from mirror.oci.digest import Digest


def place(digest: Digest) -> str:
    """Return the path of a blob, relative to the layout's directory."""
    return f"blobs/{digest.algorithm}/{digest.encoded}"


class BlobFile:
    """A blob's regular file, open for reading (`mirror.content.hashing.Reader`). `fd` is its descriptor."""

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd, self.size = fd, status.st_size
        self._status = status

    @property
    def state(self) -> FileState:
        """The state of the file when it was opened."""
        return FileState.of(self._status)

    def readinto(self, buffer: memoryview, /) -> int:
        return os.readv(self.fd, [buffer])

    def changed(self) -> bool:
        now = os.fstat(self.fd)
        return (now.st_size, now.st_mtime_ns) != (self._status.st_size, self._status.st_mtime_ns)

    def close(self) -> None:
        os.close(self.fd)


class Blobs:
    """The blobs of one layout. Directories are opened on first use, and created only if `directory` is asked to."""

    def __init__(self, root: Directory) -> None:
        self._root = root
        self._directories: dict[str, Directory] = {}
        self._opening = Lock()  # several threads hash at once

    def directory(self, algorithm: str, *, create: bool = False) -> Directory:
        """Return the directory `blobs/<algorithm>`, open until `close`; raise FileNotFoundError if there is none."""
        with self._opening:
            if algorithm not in self._directories:
                with self._root.sub("blobs", create=create) as blobs:
                    self._directories[algorithm] = blobs.sub(algorithm, create=create)
            return self._directories[algorithm]

    def look(self, digest: Digest) -> BlobFile | BlobCheck:
        """Open the regular file of a blob; if there is none, return the fault."""
        try:
            directory = self.directory(digest.algorithm)
            fd = directory.open_file(digest.encoded)
        except FileNotFoundError:
            return MISSING
        except BrokenLayout:
            return not_a_file(f"nothing: {self._what(digest.algorithm)}")
        except StorageError as error:
            return BlobCheck(BlobFault.UNREADABLE, "a readable file", str(error).rstrip("."))
        except OSError as error:
            is_special = error.errno in (errno.ELOOP, errno.ENXIO)  # a link; a socket
            return not_a_file(kind_name(directory.kind(digest.encoded) or 0)) if is_special else unreadable(error)
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode):
            return BlobFile(fd, status)
        os.close(fd)
        return not_a_file(kind_name(stat.S_IFMT(status.st_mode)))

    def _what(self, algorithm: str) -> str:
        """Say what is in the place of a directory of blobs."""
        kind, name = self._root.kind("blobs"), "blobs"
        if kind == stat.S_IFDIR:
            with self._root.sub("blobs") as blobs:
                kind, name = blobs.kind(algorithm), f"blobs/{algorithm}"
        return f"{name} is {kind_name(kind or 0)}, not a directory"

    def size(self, digest: Digest) -> int | None:
        """Return the size of the blob's file in bytes, unverified; None if there is no regular file."""
        opened = self.look(digest)
        if isinstance(opened, BlobCheck):
            return None
        opened.close()
        return opened.size

    def open(self, digest: Digest) -> int:
        """Return a descriptor of the blob's regular file, which the caller closes; raise BrokenLayout without one."""
        opened = self.look(digest)
        if isinstance(opened, BlobFile):
            return opened.fd
        path = self._root.path / place(digest)
        if opened.fault is BlobFault.UNREADABLE:
            raise StorageError(f"{path}: {opened.found}.")
        what = "is missing" if opened.fault is BlobFault.MISSING else f"is {opened.found}, and should be a file"
        where = self._root.path
        hint = link_hint(what, str(where)) or f"See everything that is wrong with the layout: mirror verify {where}"
        raise BrokenLayout(f"{path} {what}.", hint=hint)

    def stored(self) -> Iterator[tuple[str, str]]:
        """Yield every name below `blobs/`, whatever has it, as (algorithm, encoded)."""
        try:
            with self._root.sub("blobs") as blobs:
                algorithms = blobs.names()
        except FileNotFoundError:
            return
        for algorithm in algorithms:
            try:
                directory = self.directory(algorithm)
            except (BrokenLayout, FileNotFoundError):
                yield algorithm, ""
                continue
            for name in directory.each_name():
                yield algorithm, name

    def close(self) -> None:
        for directory in self._directories.values():
            directory.close()
        self._directories.clear()
