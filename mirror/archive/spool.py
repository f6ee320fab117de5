"""Archives from a path or from stdin. Content is read at offsets, which a pipe does not support.

If stdin is a file, it is read in place. A pipe is first copied to an unnamed file in the file system of the target,
which needs room for both: the list of images may be the last member, and nothing is stored that no image references.
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
    """Open an archive whose images go to the directory `folder`; the text `-` is stdin."""
    if archive != "-":
        return await to_thread(partial(Archive.open, Path(archive)), discard=Archive.close)
    stdin = sys.stdin.fileno()
    if stat.S_ISREG(os.fstat(stdin).st_mode):
        return await to_thread(lambda: Archive(Tar(os.dup(stdin), STDIN)), discard=Archive.close)
    near = next(path for path in (folder, *folder.absolute().parents) if exists(path) and is_directory(path))
    with os_errors(near), tempfile.TemporaryFile(dir=near, buffering=0) as file:
        await to_thread_cancellable(partial(_copy, stdin, file.fileno()))
        return await to_thread(lambda: Archive(Tar(os.dup(file.fileno()), STDIN)), discard=Archive.close)


def _copy(source: int, target: int, advance: Callable[[int], None]) -> None:
    chunk = os.read(source, READ)
    refuse_packed(chunk[:HEAD], STDIN)
    while chunk:
        write_all(target, [chunk])
        advance(len(chunk))
        chunk = os.read(source, READ)
