"""Temporary files beside an output. A kill leaves nothing of them for long.

If the file system supports it, such a file has no name until it is complete (O_TMPFILE, open(2)), and vanishes with
its process. Elsewhere, and for the moment before it is renamed, its name is `.NAME.mirror-` and 16 hexadecimal digits,
and it is locked. The next output in the same directory deletes those that are no longer locked.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import stat
from contextlib import suppress

from mirror.fs.directory import Directory

_NAME = re.compile(r"\..+\.mirror-[0-9a-f]{16}", re.DOTALL)
_LENGTH = 200  # bytes of NAME, so that the whole name has less than the 255 bytes of most file systems
_ATTEMPTS = 10


def open_nameless(directory: Directory, mode: int) -> int | None:
    """Open and lock a file without a name in a directory; None if that is not possible."""
    if not hasattr(os, "O_TMPFILE"):  # not Linux
        return None
    try:
        fd = directory.open_with(".", os.O_TMPFILE | os.O_WRONLY, mode)
    except OSError:  # for whatever reason: `create_named` reports the errors that matter
        return None
    if not os.path.exists(f"/proc/self/fd/{fd}"):  # it could not get a name
        os.close(fd)
        return None
    _lock(fd)
    return fd


def give_name(directory: Directory, fd: int, beside: str) -> str:
    """Give a nameless file a temporary name, and return it. OSError is not translated."""
    name = _temporary_name(beside)
    directory.link(fd, name)
    return name


def create_named(directory: Directory, beside: str, mode: int) -> tuple[str, int]:
    """Create and lock a file with a temporary name; return the name and the descriptor. OSError is not translated."""
    for _ in range(_ATTEMPTS):
        name = _temporary_name(beside)
        fd = directory.open_with(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        _lock(fd)
        if directory.status(name):
            return name, fd
        os.close(fd)  # another process took it for a leftover before it was locked
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def delete_leftovers(directory: Directory) -> None:
    """Delete the temporary files of this user that no process has locked, as far as possible."""
    with suppress(OSError):
        for name in [name for name in directory.each_name() if _NAME.fullmatch(name)]:
            status = directory.status(name)
            if status and stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                _delete_unlocked(directory, name)


def _delete_unlocked(directory: Directory, name: str) -> None:
    with suppress(OSError):
        fd = directory.open_with(name, os.O_RDWR | os.O_NONBLOCK)
        try:
            if _lock(fd):
                directory.remove(name)
        finally:
            os.close(fd)


def _temporary_name(beside: str) -> str:
    shortened = os.fsdecode(os.fsencode(beside)[:_LENGTH])
    return f".{shortened}.mirror-{os.urandom(8).hex()}"


def _lock(fd: int) -> bool:
    """Lock a file; return False if another process has locked it, or if the file system has no locks."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
