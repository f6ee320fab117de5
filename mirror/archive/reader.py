"""Archives as sources of content, read in place, at offsets.

A pipe does not support offsets, so stdin is first copied to an unnamed file in the file system of the target, unless it
is a file. That needs room for both: the list of images may be the last member, and nothing is stored that no image
references.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from mirror.archive.files import Files
from mirror.archive.tar import HEAD, Tar, refuse_packed
from mirror.concurrency import to_thread, to_thread_cancellable
from mirror.content.finding_text import advising
from mirror.content.graph import Keep
from mirror.content.hashing import MISSING, READ, BlobCheck, Reader
from mirror.content.known import KnownContent
from mirror.content.stream import BlobReader
from mirror.errors import BrokenArchive
from mirror.fs.atomic import write_all
from mirror.fs.directory import exists, is_directory, os_errors
from mirror.layout import Entry, index, presence
from mirror.layout.index import EntryFinder
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest

_STDIN = Path("stdin")


class Archive:
    """An image archive, open for reading. Use it in `with`."""

    def __init__(self, tar: Tar) -> None:
        """Read the list of images. `tar` is closed with this object, also if this fails."""
        self.path = tar.path
        self._tar = tar
        self.known = KnownContent()
        try:
            if tar.fault:
                raise tar.fault
            self._files = Files(tar)
            index.check_layout_file(self._read("oci-layout", index.LAYOUT_CAP))
            self._entries = EntryFinder(index.entries(self._read("index.json", index.CAP)), str(self.path))
        except BaseException:
            tar.close()
            raise

    @classmethod
    def open(cls, path: Path) -> Archive:
        """Open a file."""
        return cls(Tar.open(path))

    def entries(self) -> list[Entry]:
        """Return the images, in order."""
        return list(self._entries.entries)

    def find(self, texts: Iterable[str] = ()) -> list[Entry]:
        """Return the images with these names; all if no names are given."""
        return self._entries.find_all(texts)

    def holds(self, digest: Digest) -> bool:
        """Return True if there is a file for this digest. Its content is not checked."""
        return self._files.open(digest) is not None

    def stored(self) -> Iterator[tuple[str, str]]:
        """Yield every name below `blobs/`, as (algorithm, encoded); they need not be digests."""
        return self._files.stored()

    def look(self, digest: Digest) -> Reader | BlobCheck:
        """Open a blob, unverified, or return the fault."""
        return self._files.open(digest) or MISSING

    async def there(self, entry: Entry) -> Keep:
        """Return which children of indexes are here. Docker and containerd save incomplete indexes."""
        return await presence.present(self, entry, self.holds, is_archive=True)

    async def resolve(self, name: str) -> Descriptor:
        """Return the root of an image (`Source`)."""
        return self.find([name])[0].root

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        """Open a blob of the right size, not yet verified (`Source`)."""
        piece = self._files.open(node.digest)
        if piece is None:
            hint = f"Run mirror verify {self.path} to list everything that it lacks."
            raise BrokenArchive(f"{self.path} lacks {node.digest}.", hint=hint)
        if piece.size != node.size:  # not a `SizeMismatch`, which is retried like a cut connection
            raise BrokenArchive(f"{self.path}: {node.digest} should have {node.size} bytes, but has {piece.size}.")
        with advising(str(self.path), is_archive=True):
            yield BlobReader(piece.chunks(start), str(self.path), start=start, fill=piece.filler(start))

    async def modified(self, node: Descriptor) -> float | None:
        """Return None: archives do not keep the times of blobs (`Dated`)."""
        return None

    def _read(self, name: str, cap: int) -> bytes:
        data = self._files.read(name, cap)
        if data is None:
            raise BrokenArchive(f"{self.path} has no {name}.")
        return data

    def close(self) -> None:
        self._tar.close()

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def opened(archive: Path | str, folder: Path) -> Archive:
    """Open an archive whose images go to the directory `folder`; the text `-` is stdin."""
    if archive != "-":
        return await to_thread(partial(Archive.open, Path(archive)), discard=Archive.close)
    stdin = sys.stdin.fileno()
    if stat.S_ISREG(os.fstat(stdin).st_mode):
        return await to_thread(lambda: Archive(Tar(os.dup(stdin), _STDIN)), discard=Archive.close)
    near = next(path for path in (folder, *folder.absolute().parents) if exists(path) and is_directory(path))
    with os_errors(near), tempfile.TemporaryFile(dir=near, buffering=0) as file:
        await to_thread_cancellable(partial(_copy, stdin, file.fileno()))
        return await to_thread(lambda: Archive(Tar(os.dup(file.fileno()), _STDIN)), discard=Archive.close)


def _copy(source: int, target: int, advance: Callable[[int], None]) -> None:
    chunk = os.read(source, READ)
    refuse_packed(chunk[:HEAD], _STDIN)
    while chunk:
        advance(len(chunk))  # first: after a cancellation, the target may be closed
        write_all(target, [chunk])
        chunk = os.read(source, READ)
