"""Open directories, and locks.

A layout may come from a stranger's USB drive, so links inside it are never followed: every directory is opened relative
to its parent with O_NOFOLLOW, and names are resolved against that descriptor (GHSA-8xwf-rjm4-xvhv).

Errors of the operating system are raised as `StorageError`, and anything that is of the wrong kind as `BrokenLayout`,
unless a docstring says otherwise.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader
from pathlib import Path
from threading import Lock as ThreadLock
from typing import Self

from mirror.concurrency import once_unused
from mirror.errors import BrokenLayout, StorageError
from mirror.fs.features import NO_LOCKS, NO_SYNC, Feature, report_missing

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # O_NONBLOCK: do not wait for the writer of a FIFO
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

_HINTS = {
    errno.ENOSPC: "The disk is full. Free some space and run the same command again.",
    errno.EDQUOT: "Your quota is used up. Free some space and run the same command again.",
    errno.EROFS: "The file system is read-only. Choose another directory.",
    errno.EACCES: "Check the owner and the permissions of the directory.",
    errno.EPERM: "Check the owner and the permissions of the directory.",
    errno.EFBIG: "The file system does not support files of this size; FAT is limited to 4 GiB. Use exFAT or ext4.",
    errno.EIO: "The disk reports a hardware error.",
}


class os_errors:  # noqa: N801 - used like a function; a generator would take three times as long
    """Translate the operating system's errors, with a message about `what`.

    Raises:
        StorageError: for any OSError inside.
    """

    __slots__ = ("_what",)

    def __init__(self, what: str | Path) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, OSError):
            number = error.errno or 0
            raise StorageError(f"{self._what}: {os.strerror(number)}.", hint=_HINTS.get(number)) from error


def is_full(error: StorageError) -> bool:
    """Return whether an error means that the disk is full, or the user's quota is used up."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)


def is_directory(path: Path) -> bool:
    """Return True if a path is a directory; links are followed."""
    with os_errors(path):
        return path.is_dir()


def exists(path: Path) -> bool:
    """Return True if anything has this path, even a dangling link."""
    with os_errors(path):
        return path.exists() or path.is_symlink()


def make_directories(path: Path, mode: int = 0o777) -> None:
    """Create a directory and its parents, durably; `mode` is that of the directory itself."""
    missing = [folder for folder in (path, *path.parents) if not exists(folder)]
    with os_errors(path):
        path.mkdir(mode, parents=True, exist_ok=True)
    for folder in missing:
        with Directory.open(folder.parent) as parent:
            parent.sync()


class _Opened:
    """An open file or directory; close it, or use it in `with`. `path` is for messages only."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd, self.path = fd, path

    def close(self) -> None:
        once_unused(partial(os.close, self._fd))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Directory(_Opened):
    """An open directory."""

    def __init__(self, fd: int, path: Path) -> None:
        super().__init__(fd, path)
        self._syncing = ThreadLock()
        self._syncs_begun = self._synced = 0  # how many calls of fsync have begun; the last one that succeeded

    @classmethod
    def open(cls, path: Path) -> Directory:
        """Open a directory; links are followed."""
        with os_errors(path):
            return cls(os.open(path, _DIRECTORY), path)

    def sub(self, name: str, *, create: bool = False, durable: bool = True) -> Directory:
        """Open the directory `name` inside this one; FileNotFoundError if it is not there and not to be created.

        Its name is durable if it is created here, unless the caller sees to that, or needs no durable name.
        """
        path = self.path / name
        try:
            if create:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=self._fd)
                    if durable:
                        self.sync()
            return Directory(os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd), path)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST):
                raise BrokenLayout(
                    f"{path} is not a directory.", hint="Links inside a layout are not followed."
                ) from None
            with os_errors(path):
                raise

    def names(self) -> list[str]:
        with os_errors(self.path):
            return sorted(os.listdir(self._fd))

    def each_name(self) -> Iterator[str]:
        """Yield all names unsorted, without keeping a million of them in memory."""
        with os_errors(self.path), os.scandir(self._fd) as entries:
            for entry in entries:
                yield entry.name

    def kind(self, name: str) -> int | None:
        """Return the type bits of `name` (`stat.S_IFREG`, …), or None if it is not there; links are not followed."""
        status = self.status(name)
        return None if status is None else stat.S_IFMT(status.st_mode)

    def status(self, name: str) -> os.stat_result | None:
        with os_errors(self.path / name):
            try:
                return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def open_file(self, name: str) -> int:
        """Open `name` for reading; the caller checks its kind, closes it, and translates OSError."""
        return os.open(name, _READ, dir_fd=self._fd)

    def read(self, name: str, cap: int) -> bytes:
        """Return the content of a small regular file; FileNotFoundError if it is not there."""
        with self.open_regular(name) as file:
            data = file.read(min(cap, os.fstat(file.fileno()).st_size) + 1)
        if len(data) > cap:
            raise BrokenLayout(f"{self.path / name} has more than {cap} bytes.")
        return data

    def hash(self, name: str) -> bytes:
        """Return the SHA-256 of a regular file's content; FileNotFoundError if it is not there."""
        with self.open_regular(name) as file:
            return hashlib.file_digest(file, "sha256").digest()

    @contextmanager
    def open_regular(self, name: str) -> Iterator[BufferedReader]:
        """Open a regular file for reading; FileNotFoundError if it is not there."""
        path = self.path / name
        try:
            fd = self.open_file(name)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):  # a link; a socket
                raise BrokenLayout(f"{path} is {kind_name(self.kind(name) or 0)}, not a file.") from None
            with os_errors(path):
                raise
        kind = stat.S_IFMT(os.fstat(fd).st_mode)  # of what is open: the name may have something else by now
        if kind != stat.S_IFREG:
            os.close(fd)
            raise BrokenLayout(f"{path} is {kind_name(kind)}, not a file.")
        with os_errors(path), os.fdopen(fd, "rb") as file:
            yield file

    def open_with(self, name: str, flags: int, mode: int = 0o644) -> int:
        """Open `name` with other flags; the caller closes it, and translates OSError."""
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self._fd)

    def link(self, fd: int, name: str) -> None:
        """Give an open file another name, in this directory. OSError is not translated."""
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=self._fd, follow_symlinks=True)

    def link_name(self, name: str, target: Directory, new: str) -> bool:
        """Give a file a second name in `target`; links are not followed. Return False if that is not possible."""
        try:
            os.link(name, new, src_dir_fd=self._fd, dst_dir_fd=target._fd, follow_symlinks=False)
        except OSError:  # a directory, another user's file, or a file system without hard links
            return False
        return True

    def move(self, name: str, target: Directory, new: str) -> None:
        with os_errors(target.path / new):
            os.rename(name, new, src_dir_fd=self._fd, dst_dir_fd=target._fd)

    def remove(self, name: str) -> None:
        """Unlink a file, if it is still there."""
        with os_errors(self.path / name), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def sync(self) -> None:
        """Make the names durable; if the file system does not support that, a warning says so.

        Of several threads that wait for each other here, one calls fsync for all.
        """
        needed = self._syncs_begun + 1
        with self._syncing:
            if self._synced < needed:
                self._syncs_begun = begun = self._syncs_begun + 1
                self._fsync()
                self._synced = begun

    def _fsync(self) -> None:
        with os_errors(self.path):
            try:
                os.fsync(self._fd)
            except OSError as error:
                if error.errno not in NO_SYNC:
                    raise
                report_missing(Feature.SYNC, self._fd, self.path, error)

    def free(self) -> int:
        """Return the bytes that an unprivileged user may still write to this file system."""
        with os_errors(self.path):
            status = os.fstatvfs(self._fd)
            return status.f_bavail * status.f_frsize

    def lock(self, name: str) -> Lock:
        with os_errors(self.path / name):
            return Lock(os.open(name, _LOCK, 0o644, dir_fd=self._fd), self.path / name)


class Lock(_Opened):
    """An advisory lock on a file (flock), which is released when it is closed or its process dies."""

    def take(self, *, shared: bool = False, wait: bool = True) -> bool:
        """Take the lock; return False if another process has it and `wait` is false.

        If the file system has no locks, a warning says so, and nothing is locked.
        """
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        with os_errors(self.path):
            try:
                fcntl.flock(self._fd, mode)
            except BlockingIOError:
                return False
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                report_missing(Feature.LOCKS, self._fd, self.path, error)
            return True


def kind_name(kind: int) -> str:
    """Return the name of a file type, with its article."""
    names = {
        stat.S_IFREG: "a file",
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
        stat.S_IFCHR: "a device",
    }
    return names.get(kind, "something else")
