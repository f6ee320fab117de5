"""Directories held open, and locks.

A layout may come from a stranger's stick, so nothing here follows a link that stands inside it: every directory is
opened relative to its parent with O_NOFOLLOW, and names are resolved against that descriptor (GHSA-8xwf-rjm4-xvhv).
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from types import TracebackType

from mirror.errors import BrokenLayout, StorageError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK, because opening a FIFO would wait for a writer until the end of days.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCK = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC

_HINTS = {
    errno.ENOSPC: "The disk is full. Free some space and run the same command again.",
    errno.EDQUOT: "Your quota is used up. Free some space and run the same command again.",
    errno.EROFS: "The file system is read-only. Choose another folder.",
    errno.EACCES: "Check who owns the folder and its permissions.",
    errno.EPERM: "Check who owns the folder and its permissions.",
    errno.EFBIG: "The file system cannot hold a file of this size; FAT ends at 4 GiB. Use exFAT or ext4.",
    errno.EIO: "The disk reports a hardware error.",
}


class os_errors:  # noqa: N801 - it reads as a function, and costs a third of what a generator does
    """Turn the operating system's errors about `what` into ours.

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


def is_directory(path: Path) -> bool:
    """Whether a person's path is a directory; links may be followed.

    Raises:
        StorageError: nobody may tell, such as below a folder that may not be entered.
    """
    with os_errors(path):
        return path.is_dir()


def exists(path: Path) -> bool:
    """Whether anything has this path, a dangling link too.

    Raises:
        StorageError: as `is_directory`.
    """
    with os_errors(path):
        return path.exists() or path.is_symlink()


class Directory:
    """A directory that is held open; close it, or use it in `with`. `path` is for messages only."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd, self.path = fd, path

    @classmethod
    def open(cls, path: Path) -> Directory:
        """Open the directory that a person named; here links may be followed.

        Raises:
            StorageError: it cannot be opened.
        """
        with os_errors(path):
            return cls(os.open(path, _DIRECTORY), path)

    def sub(self, name: str, *, create: bool = False) -> Directory:
        """Open the directory `name` inside this one.

        Raises:
            FileNotFoundError: it is not there, and `create` is false.
            BrokenLayout: something else than a directory has its name.
            StorageError: it cannot be opened or created.
        """
        path = self.path / name
        try:
            if create:
                self._make(name)
            return Directory(os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=self._fd), path)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ENOTDIR, errno.ELOOP, errno.EEXIST):
                raise BrokenLayout(f"{path} is no directory.", hint="Links inside a layout are not followed.") from None
            with os_errors(path):
                raise

    def _make(self, name: str) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=self._fd)
        except FileExistsError:
            return
        self.sync()

    def names(self) -> list[str]:
        with os_errors(self.path):
            return sorted(os.listdir(self._fd))

    def each_name(self) -> Iterator[str]:
        """All names, in the order of the disk: a million of them are not held at once."""
        with os_errors(self.path), os.scandir(self._fd) as entries:
            for entry in entries:
                yield entry.name

    def kind(self, name: str) -> int | None:
        """The type bits of `name` (`stat.S_IFREG`, …), links not followed; None where it is not there."""
        status = self.status(name)
        return None if status is None else stat.S_IFMT(status.st_mode)

    def status(self, name: str) -> os.stat_result | None:
        with os_errors(self.path / name):
            try:
                return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            except FileNotFoundError:
                return None

    def open_file(self, name: str) -> int:
        """A descriptor for reading `name`; the caller looks at its kind and closes it.

        Raises:
            OSError: untranslated, since what it means depends on who asks.
        """
        return os.open(name, _READ, dir_fd=self._fd)

    def read(self, name: str, cap: int) -> bytes:
        """Return the content of a small regular file.

        Raises:
            FileNotFoundError: it is not there.
            BrokenLayout: it is not a regular file, or has more than `cap` bytes.
            StorageError: it cannot be read.
        """
        with self._open_regular(name) as file:
            data = file.read(min(cap, os.fstat(file.fileno()).st_size) + 1)
        if len(data) > cap:
            raise BrokenLayout(f"{self.path / name} has more than {cap} bytes.")
        return data

    def hash(self, name: str) -> bytes:
        """Return the SHA-256 of a regular file's content.

        Raises:
            FileNotFoundError: it is not there.
            BrokenLayout: it is not a regular file.
            StorageError: it cannot be read.
        """
        with self._open_regular(name) as file:
            return hashlib.file_digest(file, "sha256").digest()

    @contextmanager
    def _open_regular(self, name: str) -> Iterator[BufferedReader]:
        path = self.path / name
        kind = self.kind(name)
        if kind not in (None, stat.S_IFREG):
            raise BrokenLayout(f"{path} is {kind_name(kind or 0)}, and should be a file.")
        try:
            fd = self.open_file(name)
        except FileNotFoundError:
            raise
        except OSError:
            with os_errors(path):
                raise
        with os_errors(path), os.fdopen(fd, "rb") as file:
            yield file

    def open_with(self, name: str, flags: int, mode: int = 0o644) -> int:
        """A descriptor for `name`, opened in a way of one's own; the caller closes it.

        Raises:
            OSError: untranslated, since what it means depends on who asks.
        """
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=self._fd)

    def link(self, fd: int, name: str) -> None:
        """Give an open file a name here, besides those that it has.

        Raises:
            OSError: untranslated, since what it means depends on who asks.
        """
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=self._fd, follow_symlinks=True)

    def move(self, name: str, target: Directory, new: str) -> None:
        with os_errors(target.path / new):
            os.rename(name, new, src_dir_fd=self._fd, dst_dir_fd=target._fd)

    def remove(self, name: str) -> None:
        """Unlink a file; one that is gone already is fine."""
        with os_errors(self.path / name), suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._fd)

    def sync(self) -> None:
        """Make names durable. File systems that cannot sync a directory say EINVAL, and need not."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            if error.errno != errno.EINVAL:
                with os_errors(self.path):
                    raise

    def free(self) -> int:
        """Bytes that an ordinary user may still write to this file system."""
        with os_errors(self.path):
            status = os.fstatvfs(self._fd)
            return status.f_bavail * status.f_frsize

    def lock(self, name: str) -> Lock:
        with os_errors(self.path / name):
            return Lock(os.open(name, _LOCK, 0o644, dir_fd=self._fd), self.path / name)

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Directory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Lock:
    """An advisory lock on a file (flock), released when it is closed or its process dies."""

    def __init__(self, fd: int, path: Path) -> None:
        self._fd, self.path = fd, path

    def take(self, *, shared: bool = False, wait: bool = True) -> bool:
        """Lock; where that is not possible at once and `wait` is false, return False."""
        mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB)
        try:
            fcntl.flock(self._fd, mode)
        except BlockingIOError:
            return False
        except OSError:
            with os_errors(self.path):
                raise
        return True

    def close(self) -> None:
        os.close(self._fd)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def kind_name(kind: int) -> str:
    """A word for what stands where a file should."""
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
