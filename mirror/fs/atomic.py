"""Durable writes: a file appears under its name complete, or not at all.

1. write a file without a name or with a temporary one, or resume a partial one
2. fsync it
3. rename it, which replaces any older file
4. fsync its directory
"""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from mirror.concurrency import once_unused
from mirror.errors import StorageError
from mirror.fs import temporary
from mirror.fs.directory import Directory, is_directory, os_errors
from mirror.fs.features import Feature, report_missing

_IOV_MAX = 1024  # buffers per call
_RECENT = 16 * 1024 * 1024  # bytes that may not be on the disk yet; going through all of a large file is slow
_sync_data = getattr(os, "fdatasync", os.fsync)  # not on macOS
_FICLONE = 0x40049409  # Linux, ioctl_ficlone(2): btrfs, XFS, bcachefs, ZFS, NFS 4.2


class AtomicFile:
    """A file that is being written, until `commit` gives it its name. `size` is its bytes when it was opened."""

    def __init__(self, directory: Directory, name: str | None, fd: int) -> None:
        self._directory, self._name, self._fd = directory, name, fd
        self.size = self._written = os.fstat(fd).st_size
        self._lost: OSError | None = None  # why bytes that were written are not on the disk

    @classmethod
    def create(cls, directory: Directory, *, mode: int = 0o644, beside: str = "") -> AtomicFile:
        """Create an empty file with a random name; with `beside`, the name of an output, see `mirror.fs.temporary`."""
        with os_errors(directory.path):
            if beside:
                temporary.delete_leftovers(directory)
                fd = temporary.open_nameless(directory, mode)
                named = temporary.create_named(directory, beside, mode) if fd is None else (None, fd)
                return cls(directory, *named)
            name = os.urandom(8).hex()
            return cls(directory, name, directory.open_with(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode))

    @classmethod
    def resume(cls, directory: Directory, name: str) -> AtomicFile | None:
        """Open and lock the file of this name, or create it; None if another process has locked it.

        None also if it is not a regular file, or has other names: a stranger's link must not decide what is written.
        """
        try:
            fd = directory.open_with(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
        except OSError:  # including a full disk, which `create` reports
            return None
        if _is_exclusive(directory, name, fd):
            return cls(directory, name, fd)
        os.close(fd)
        return None

    @classmethod
    def link(cls, directory: Directory, fd: int) -> AtomicFile | None:
        """Give an open file another name, to be read and committed; None if that is not possible."""
        name = os.urandom(8).hex()
        try:
            directory.link(fd, name)
        except OSError:  # another file system, another user's file, or too many names
            return None
        with os_errors(directory.path / name):
            return cls(directory, name, directory.open_with(name, os.O_RDONLY))

    @property
    def _path(self) -> Path:
        return self._directory.path / (self._name or "")

    def clone(self, fd: int) -> bool:
        """Share the blocks of an open file until either is written to; False if the file system cannot do that.

        The content is unknown afterwards and must be read.
        """
        try:
            fcntl.ioctl(self._fd, _FICLONE, fd)
        except OSError:  # most file systems cannot; nothing has changed
            return False
        self.size = os.fstat(self._fd).st_size
        return True

    def read(self, view: memoryview) -> int:
        """Read the next bytes into `view`, and return how many; 0 at the end."""
        with os_errors(self._path):
            return os.readv(self._fd, [view])

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        with os_errors(self._directory.path):
            write_all(self._fd, chunks)
            self._written += sum(map(len, chunks))
            _start_writeback(self._fd, self._written)

    def write_at(self, chunks: Sequence[bytes | memoryview], offset: int, *, keep: bool = False) -> None:
        """Write at an offset. Several threads may write at once, at different offsets.

        With `keep`, the bytes stay in the page cache, since they will be read.
        """
        with os_errors(self._directory.path):
            write_all(self._fd, chunks, offset)
            if not keep:
                _start_writeback(self._fd, offset + sum(map(len, chunks)))

    def read_at(self, view: memoryview, offset: int) -> int:
        """Read bytes at an offset into `view`, and return how many; 0 at the end."""
        with os_errors(self._path):
            return os.preadv(self._fd, [view], offset)

    def sync(self) -> None:
        """Make the content durable, without a name. After an error, each further call fails.

        The kernel reports a failed write once, and then takes what it has lost for written (fsync(2)).
        """
        with os_errors(self._path):
            if self._lost:
                raise self._lost
            try:
                _sync_data(self._fd)
            except OSError as error:
                self._lost = error
                raise

    @property
    def may_be_kept(self) -> bool:
        """False if the disk has lost what was written: the file must not be resumed."""
        return self._lost is None

    def truncate(self, size: int = 0) -> None:
        """Truncate the file to `size` bytes, and continue to write there."""
        with os_errors(self._path):
            os.ftruncate(self._fd, size)
            os.lseek(self._fd, size, os.SEEK_SET)
        self.size = self._written = size

    def give_to(self, owner: os.stat_result) -> None:
        """Give the file the owner and the group of another one. Only root may do so."""
        with os_errors(self._directory.path):
            os.fchown(self._fd, owner.st_uid, owner.st_gid)

    def commit(self, target: Directory, name: str, modified: float | None = None) -> None:
        """Make the content durable, then its name in `target` (same file system). After an error, no file is left.

        `modified` is its modification time, in seconds since the epoch; by default, that of the last write. If it
        cannot be set, a warning says so.
        """
        try:
            with os_errors(target.path / name):
                if modified is not None:
                    self._set_time(target.path, modified)
                os.fsync(self._fd)
                _drop_from_cache(self._fd)
                self._name = self._name or temporary.give_name(self._directory, self._fd, name)
            self._directory.move(self._name, target, name)
        except BaseException:
            self.discard()
            raise
        self._name = None  # `discard` must not remove another process's file of this name
        self.close()
        target.sync()

    def _set_time(self, path: Path, modified: float) -> None:
        try:
            os.utime(self._fd, (modified, modified))
        except OSError as error:  # such as exFAT that is mounted for another user
            report_missing(Feature.TIMES, self._fd, path, error)

    def discard(self) -> None:
        once_unused(self._discard)

    def _discard(self) -> None:
        if self._name:
            self._directory.remove(self._name)  # while it is locked, so that another process creates its own file
        self.close()

    def close(self) -> None:
        """Close and unlock the file, if it is open; it keeps its content."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            once_unused(partial(os.close, fd))


def replace_file(
    directory: Directory,
    name: str,
    pieces: Iterable[bytes],
    *,
    staging: Directory | None = None,
    mode: int = 0o644,
    owner: os.stat_result | None = None,
) -> None:
    """Replace a file as a whole, durably. After an error, the old file is still there.

    It is first written in `staging`, in the same file system; by default, in `directory`. The new file belongs to
    `owner` before it has its name.
    """
    file = AtomicFile.create(staging or directory, mode=mode, beside="" if staging else name)
    try:
        if owner:
            file.give_to(owner)
        rest = iter(pieces)
        while some := [*islice(rest, _IOV_MAX)]:
            file.write(some)
    except BaseException:
        file.discard()
        raise
    file.commit(directory, name)


def write_output(path: Path, data: bytes) -> None:
    """Replace a file as a whole, durably; links are followed. Pipes and devices are written directly."""
    with os_errors(path):
        if path.exists() and not path.is_file() and not path.is_dir():  # such as /dev/stdout
            _write_directly(path, data)
            return
    with replacing(Path(os.path.realpath(path))) as file:
        file.write(data)


def _write_directly(path: Path, data: bytes) -> None:
    """Write to a pipe or a device. OSError is not translated."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)  # no O_TRUNC: it may be a link to a file by now
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            raise StorageError(f"{path} has changed.", hint="Run the same command again.")
        write_all(fd, [data])
    finally:
        os.close(fd)


@contextmanager
def replacing(path: Path) -> Iterator[Replacement]:
    """Prepare to replace a regular file, so that an error is raised now and not after an hour of work."""
    if is_directory(path):
        raise StorageError(f"{path} is a directory.", hint="Name a file in it.")
    with Directory.open(path.parent) as directory:
        if directory.kind(path.name) not in (None, stat.S_IFREG):
            raise StorageError(f"{path} is not a regular file.", hint="Name another file.")
        file = AtomicFile.create(directory, beside=path.name)
        replacement = Replacement(file, directory, path.name)
        try:
            yield replacement
        finally:
            if not replacement.done:
                file.discard()


class Replacement:
    """A file that replaces another one when it is written; then `done` is True."""

    def __init__(self, file: AtomicFile, directory: Directory, name: str) -> None:
        self._file, self._directory, self._name = file, directory, name
        self.done = False

    def write(self, data: bytes) -> None:
        """Write the content as a whole, durably."""
        self._file.write([data])
        self.done = True
        self._file.commit(self._directory, self._name)


def write_all(fd: int, chunks: Sequence[bytes | memoryview], offset: int | None = None) -> None:
    """Write every byte to a file or a pipe, at the current position or at an offset. OSError is not translated."""
    views = [memoryview(chunk) for chunk in chunks if chunk]
    while views:
        some = views[:_IOV_MAX]
        written = os.writev(fd, some) if offset is None else os.pwritev(fd, some, offset)
        offset = None if offset is None else offset + written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:  # the kernel may take fewer bytes than it is given
            views[0] = views[0][written:]


def _is_exclusive(directory: Directory, name: str, fd: int) -> bool:
    """Lock an open file; return True if that succeeds, and it is a regular file with this name and no other."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    found, named = os.fstat(fd), directory.status(name)
    is_named = named is not None and os.path.samestat(found, named)
    return is_named and stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _start_writeback(fd: int, end: int) -> None:
    """Make the disk start to write now, so that little is left for the fsync at the end."""
    start = max(end - _RECENT, 0)
    _drop_from_cache(fd, start, end - start)  # Linux starts to write dirty pages without waiting, and frees clean ones


def _drop_from_cache(fd: int, start: int = 0, length: int = 0) -> None:
    """Free `length` bytes of the page cache; 0: all that follow.

    Thus a large pull does not evict everything else, and a verification reads from the disk.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)
