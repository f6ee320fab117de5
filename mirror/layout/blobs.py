"""The `blobs/` of a layout, read: is this content what its name says?

Opening follows no link, and what is open is looked at again (fstat), so nothing can be swapped in between. Hashing
reads into one reused buffer: no allocation for each read, and the GIL is released for both the read and the hash.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from threading import Lock

from mirror.digest import Digest
from mirror.errors import BrokenLayout, InvalidDigest, StorageError
from mirror.layout.folder import Folder, kind_name

READ = 1024 * 1024  # bytes at a time: larger ones fall out of the cache, smaller ones cost system calls


class Flaw(StrEnum):
    """What can be wrong with a stored blob."""

    MISSING = "missing"
    NOT_A_FILE = "not-a-file"
    TOO_SHORT = "too-short"
    TOO_LONG = "too-long"
    CORRUPT = "corrupt"
    UNREADABLE = "unreadable"
    UNHASHABLE = "unhashable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found at a blob's path. `flaw` is None where all is well; `size` is bytes on the disk."""

    flaw: Flaw | None
    expected: str = ""
    found: str = ""
    size: int = 0

    @property
    def ok(self) -> bool:
        return self.flaw is None


_MISSING = Verdict(Flaw.MISSING, "a file", "nothing")


class Blobs:
    """The blobs below one layout's root. Folders are opened when they are first needed, and never created here."""

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._folders: dict[str, Folder] = {}
        self._opening = Lock()  # several threads hash at once

    def folder(self, algorithm: str, *, create: bool = False) -> Folder:
        """`blobs/<algorithm>`.

        Raises:
            FileNotFoundError: it is not there, and `create` is false.
            BrokenLayout: a link or a file has its name.
        """
        with self._opening:
            if algorithm not in self._folders:
                with self._root.sub("blobs", create=create) as blobs:
                    self._folders[algorithm] = blobs.sub(algorithm, create=create)
            return self._folders[algorithm]

    def examine(
        self,
        digest: Digest,
        size: int | None,
        *,
        buffer: bytearray | None = None,
        keep: bytearray | None = None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> Verdict:
        """Hash one blob and compare it with its name. Sizes are compared first.

        Args:
            digest: the name.
            size: the bytes that it should have; None for an orphan, of which nobody says.
            buffer: a scratch buffer, to be reused by one thread from call to call.
            keep: gets the content, which the caller has capped by `size`.
            advance: called with the bytes that each read gave; what it raises ends the examination.
        """
        opened = self._open(digest)
        if isinstance(opened, Verdict):
            return opened
        fd, found = opened
        try:
            if size is not None and found != size:
                flaw = Flaw.TOO_SHORT if found < size else Flaw.TOO_LONG
                return Verdict(flaw, f"{size} bytes", f"{found} bytes", found)
            return _hashed(fd, digest, found, buffer or bytearray(min(READ, found + 1)), keep, advance)
        except OSError as error:
            return _unreadable(error)
        finally:
            os.close(fd)

    def size(self, digest: Digest) -> int | None:
        """The bytes that the blob's file has; None where there is no regular file. No proof of anything."""
        opened = self._open(digest)
        if isinstance(opened, Verdict):
            return None
        os.close(opened[0])
        return opened[1]

    def open(self, digest: Digest) -> int:
        """A descriptor for reading the blob's regular file, which the caller closes.

        Raises:
            BrokenLayout: it is missing, or no regular file.
            StorageError: it cannot be read.
        """
        opened = self._open(digest)
        if not isinstance(opened, Verdict):
            return opened[0]
        path = self._root.path / "blobs" / digest.algorithm / digest.encoded
        if opened.flaw is Flaw.UNREADABLE:
            raise StorageError(f"{path}: {opened.found}.")
        what = "is missing" if opened.flaw is Flaw.MISSING else f"is {opened.found}, and should be a file"
        raise BrokenLayout(
            f"{path} {what}.", hint="Run `mirror verify` to see all that is wrong; pull it again to heal."
        )

    def stored(self) -> Iterator[tuple[str, str]]:
        """All names below `blobs/`, as (algorithm, encoded). Anything may stand there.

        Raises:
            StorageError: a directory cannot be read.
        """
        try:
            with self._root.sub("blobs") as blobs:
                algorithms = blobs.names()
        except FileNotFoundError:
            return
        for algorithm in algorithms:
            try:
                folder = self.folder(algorithm)
            except (BrokenLayout, FileNotFoundError):
                yield algorithm, ""
                continue
            for name in folder.names():
                yield algorithm, name

    def close(self) -> None:
        for folder in self._folders.values():
            folder.close()
        self._folders.clear()

    def _open(self, digest: Digest) -> tuple[int, int] | Verdict:
        """A descriptor and the size of a regular file, or what is there instead."""
        try:
            folder = self.folder(digest.algorithm)
        except FileNotFoundError:
            return _MISSING
        except BrokenLayout:
            return Verdict(Flaw.NOT_A_FILE, "a file", f"nothing: blobs/{digest.algorithm} is no directory")
        except StorageError as error:
            return Verdict(Flaw.UNREADABLE, "a readable file", str(error).rstrip("."))
        return _open_in(folder, digest.encoded)


def _open_in(folder: Folder, name: str) -> tuple[int, int] | Verdict:
    try:
        fd = folder.open_file(name)
    except FileNotFoundError:
        return _MISSING
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
            return Verdict(Flaw.NOT_A_FILE, "a file", kind_name(folder.kind(name) or 0))
        return _unreadable(error)
    status = os.fstat(fd)
    if stat.S_ISREG(status.st_mode):
        return fd, status.st_size
    os.close(fd)
    return Verdict(Flaw.NOT_A_FILE, "a file", kind_name(stat.S_IFMT(status.st_mode)))


def _hashed(
    fd: int,
    digest: Digest,
    size: int,
    buffer: bytearray,
    keep: bytearray | None,
    advance: Callable[[int], None],
) -> Verdict:
    try:
        hasher = digest.hasher()
    except InvalidDigest:
        return Verdict(Flaw.UNHASHABLE, str(digest), f"no way to compute {digest.algorithm}", size)
    view = memoryview(buffer)
    while count := os.readv(fd, [view]):
        hasher.update(view[:count])
        if keep is not None:
            keep += view[:count]
        advance(count)
    if digest.matches(hasher):
        return Verdict(None, size=size)
    return Verdict(Flaw.CORRUPT, str(digest), f"{digest.algorithm}:{hasher.hexdigest()}", size)


def _unreadable(error: OSError) -> Verdict:
    return Verdict(Flaw.UNREADABLE, "a readable file", os.strerror(error.errno or 0).lower())
