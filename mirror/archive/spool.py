"""Archives from stdin. Content is read at offsets, which a pipe does not have.

A file that a shell has opened is read in place. What comes through a pipe is kept in a file without a name while it is
needed, on the file system that the images go to, where there has to be room for both. It is not stored as it comes: the
list of images may be the last member, and nothing is stored that no image names.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from mirror.archive.reader import Archive
from mirror.archive.tar import HEAD, Tar, refuse_packed
from mirror.concurrency import to_thread, to_thread_cancellable
from mirror.content.hashing import READ
from mirror.fs.atomic import write_all
from mirror.fs.directory import exists, is_directory, os_errors

STDIN = Path("stdin")


async def opened(archive: Path | str, folder: Path) -> Archive:
    """The archive that a person named; the text `-` is stdin, and `folder` is where its images go.

    Raises:
        NotFound: there is no such file.
        ContentError: it is no archive of images, or a broken one.
        StorageError: it cannot be read, or there is no room for it.
    """
    if archive == "-":
        tar = await spooled(sys.stdin.fileno(), folder)
        return await to_thread(partial(Archive, tar), discard=Archive.close)
    return await to_thread(partial(Archive.open, Path(archive)), discard=Archive.close)


async def spooled(fd: int, folder: Path) -> Tar:
    """The archive that comes from an open file or a pipe; `folder` is where its images go.

    Raises:
        BrokenArchive: it is no tar archive.
        StorageError: it cannot be read, or there is no room for it.
    """
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return await to_thread(partial(Tar, os.dup(fd), STDIN), discard=Tar.close)
    near = next(path for path in (folder, *folder.absolute().parents) if exists(path) and is_directory(path))
    with os_errors(near), tempfile.TemporaryFile(dir=near, buffering=0) as file:
        await to_thread_cancellable(partial(_copy, fd, file.fileno()))
        return await to_thread(partial(Tar, os.dup(file.fileno()), STDIN), discard=Tar.close)


def _copy(source: int, target: int, advance: Callable[[int], None]) -> None:
    chunk = os.read(source, READ)
    refuse_packed(chunk[:HEAD], STDIN)
    while chunk:
        write_all(target, [chunk])
        advance(len(chunk))
        chunk = os.read(source, READ)
