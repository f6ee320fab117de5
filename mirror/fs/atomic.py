"""Files that are being written, and appear under a name that counts whole or not at all."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

from mirror.errors import StorageError
from mirror.fs.directory import Directory, is_directory, os_errors

_IOV_MAX = 1024
_RECENT = 16 * 1024 * 1024  # bytes: where the disk may be busy still; to search a whole large file each time is slow
_FICLONE = 0x40049409  # Linux, ioctl_ficlone(2): btrfs, XFS, bcachefs, ZFS, NFS 4.2


class AtomicFile:
    """A file that is being written, and has no name that counts until `commit`. `size` is how long it was found."""

    def __init__(self, folder: Directory, name: str, fd: int) -> None:
        self._folder, self._name, self._fd = folder, name, fd
        self.size = self._written = os.fstat(fd).st_size

    @classmethod
    def create(cls, folder: Directory, mode: int = 0o644, prefix: str = "") -> AtomicFile:
        """A new empty file with a name that nobody could have planted, after `prefix`.

        Raises:
            StorageError: the disk refused.
        """
        name = prefix + secrets.token_hex(8)
        with os_errors(folder.path):
            return cls(folder, name, folder.open_with(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode))

    @classmethod
    def resume(cls, folder: Directory, name: str) -> AtomicFile | None:
        """The file of this name, locked, to go on with, or a new one.

        Returns:
            None where somebody else is writing it, or where anything but a plain file with this one name has it:
            whoever put a link or a FIFO there must not choose what we write to.
        """
        try:
            fd = folder.open_with(name, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK)
        except OSError:  # a full disk, too, which the file that is then created instead is going to report
            return None
        if _is_ours(folder, name, fd):
            return cls(folder, name, fd)
        os.close(fd)
        return None

    @classmethod
    def link(cls, folder: Directory, fd: int) -> AtomicFile | None:
        """Another name for an open file, to be read and committed; None where it cannot have one here."""
        name = secrets.token_hex(8)
        try:
            folder.link(fd, name)
        except OSError:  # another file system, somebody else's file, too many names
            return None
        with os_errors(folder.path / name):
            return cls(folder, name, folder.open_with(name, os.O_RDONLY))

    def clone(self, fd: int) -> bool:
        """Take over the content of an open file, sharing its blocks until either is written to; False where it cannot.

        Nothing is known of the content then: it has to be read.
        """
        try:
            fcntl.ioctl(self._fd, _FICLONE, fd)
        except OSError:  # most file systems cannot; and nothing has changed
            return False
        self.size = os.fstat(self._fd).st_size
        return True

    def read(self, view: memoryview) -> int:
        """The next bytes of what is there already, into `view`; 0 at its end."""
        with os_errors(self._folder.path / self._name):
            return os.readv(self._fd, [view])

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        with os_errors(self._folder.path):
            write_all(self._fd, chunks)
            self._written += sum(map(len, chunks))
            _start_writeback(self._fd, self._written)

    def write_at(self, chunks: Sequence[bytes | memoryview], offset: int) -> None:
        """Write wherever it belongs; several threads may, each elsewhere."""
        with os_errors(self._folder.path):
            write_all(self._fd, chunks, offset)
            _start_writeback(self._fd, offset + sum(map(len, chunks)))

    def truncate(self, size: int = 0) -> None:
        """Forget what is beyond `size` bytes, and go on there."""
        with os_errors(self._folder.path / self._name):
            os.ftruncate(self._fd, size)
            os.lseek(self._fd, size, os.SEEK_SET)
        self.size = self._written = size

    def commit(self, target: Directory, name: str, modified: float | None = None) -> None:
        """Make the bytes durable, then the name. On an error nothing is left.

        Raises:
            StorageError: the disk refused.
        """
        try:
            with os_errors(target.path / name):
                if modified is not None:
                    os.utime(self._fd, (modified, modified))
                os.fsync(self._fd)
                _give_back(self._fd)
            self._folder.move(self._name, target, name)
        except BaseException:
            self.discard()
            raise
        self.close()
        target.sync()

    def discard(self) -> None:
        self._folder.remove(self._name)  # while it is locked: the next one to open this name gets a file of its own
        self.close()

    def close(self) -> None:
        """Leave it as it is; what is locked is free again."""
        os.close(self._fd)


def replace_file(folder: Directory, name: str, pieces: Iterable[bytes], *, temporary: Directory | None = None) -> None:
    """Replace a file as a whole, durably; on an error, the old file stays.

    Args:
        folder: the directory of the file.
        name: its name.
        pieces: its content, written one after the other.
        temporary: a directory of the same file system to write it in; by default, that of the file.

    Raises:
        StorageError: the disk refused.
    """
    file = AtomicFile.create(temporary or folder)
    try:
        rest = iter(pieces)
        while some := [*islice(rest, _IOV_MAX)]:
            file.write(some)
    except BaseException:
        file.discard()
        raise
    file.commit(folder, name)


@contextmanager
def replacing(path: Path) -> Iterator[Replacement]:
    """A file of a person's choice, to be written whole at the end: that it can be is found out now, not after an hour.

    Raises:
        StorageError: its folder cannot be written to, or something else than a file has its name.
    """
    if is_directory(path):
        raise StorageError(f"{path} is a directory, and no file.", hint="Name a file in it.")
    with Directory.open(path.parent) as folder:
        if folder.kind(path.name) not in (None, stat.S_IFREG):
            raise StorageError(f"{path} is no plain file, and is not replaced.", hint="Name another file.")
        file = AtomicFile.create(folder)
        replacement = Replacement(file, folder, path.name)
        try:
            yield replacement
        finally:
            if not replacement.done:
                file.discard()


class Replacement:
    """A file that is going to take the place of another one, or does not."""

    def __init__(self, file: AtomicFile, folder: Directory, name: str) -> None:
        self._file, self._folder, self._name = file, folder, name
        self.done = False

    def write(self, data: bytes) -> None:
        """Make `data` the whole content, durably.

        Raises:
            StorageError: the disk refused.
        """
        self._file.write([data])
        self.done = True
        self._file.commit(self._folder, self._name)


def _is_ours(folder: Directory, name: str, fd: int) -> bool:
    """Whether an open file is plain, has one name only, is that name's, and nobody else has locked it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    found, named = os.fstat(fd), folder.status(name)
    same = named is not None and (found.st_dev, found.st_ino) == (named.st_dev, named.st_ino)
    return same and stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def write_all(fd: int, chunks: Sequence[bytes | memoryview], offset: int | None = None) -> None:
    """Write every byte to a file or a pipe, where it stands, or to a file at an offset.

    Raises:
        OSError: untranslated.
    """
    views = [memoryview(chunk) for chunk in chunks if chunk]
    while views:
        # The kernel takes at most IOV_MAX buffers in one call, and may take fewer bytes than it was given.
        some = views[:_IOV_MAX]
        written = os.writev(fd, some) if offset is None else os.pwritev(fd, some, offset)
        offset = None if offset is None else offset + written
        while views and written >= len(views[0]):
            written -= len(views.pop(0))
        if written:
            views[0] = views[0][written:]


def _start_writeback(fd: int, end: int) -> None:
    """Let the disk begin now, so that the fsync at the end finds little left to do.

    On Linux, DONTNEED starts to write what is dirty, without waiting, and gives back the memory of what is clean.
    """
    start = max(end - _RECENT, 0)
    _give_back(fd, start, end - start)


def _give_back(fd: int, start: int = 0, length: int = 0) -> None:
    """Give back the memory of what is on the disk: of so many bytes, or, where that is 0, of all.

    A large pull does not push everything else out of the page cache, and to verify it is to read the disk.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(fd, start, length, os.POSIX_FADV_DONTNEED)
