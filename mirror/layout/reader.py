"""A layout as a source. Nothing is created, so read-only media work."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Self

from mirror.concurrency import once_unused, settled, shielded, to_thread_cancellable
from mirror.content.finding_text import advising, link_hint
from mirror.content.graph import Keep
from mirror.content.hashing import READ, BlobCheck, BlobFault, Reader, Through, check_size, hash_blob, keep
from mirror.content.known import KnownContent
from mirror.content.stream import BlobReader
from mirror.errors import BrokenLayout, NotFound, StorageError
from mirror.fs.directory import Directory, exists, is_directory, kind_name, os_errors
from mirror.fs.filestate import FileState
from mirror.layout import index, presence
from mirror.layout.blobs import BlobFile, Blobs
from mirror.layout.index import Entry, EntryFinder
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest


class Layout:
    """An OCI image layout, open for reading; see `Layout.open`. Close it, or use it in `with`.

    `damaged` collects the results of stored blobs that were asked for and are bad. With `remember`, a blob is hashed
    only once, as long as its file does not change.
    """

    def __init__(self, root: Directory, *, remember: bool = True) -> None:
        self.root, self.path = root, root.path
        self.blobs = Blobs(root)
        self.known = KnownContent()
        self.damaged: dict[Digest, BlobCheck] = {}
        self._verified: dict[Digest, FileState] = {}
        self._remember = remember
        self._entries = EntryFinder((), str(self.path))
        self._parsed: Digest | None = None  # of the index.json that `_entries` are from
        self._state: FileState | None = None  # of that file

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a layout.

        Raises:
            NotFound: there is no such directory.
            BrokenLayout: it is not a layout, or its `oci-layout` or `index.json` is broken.
            StorageError: it cannot be read.
        """
        if not is_directory(path):
            hint = "Pull an image first, or choose another directory."
            if exists(path):
                hint = f"It is a file. If it is an archive: mirror import {path} ./layout"
            raise NotFound(f"There is no directory {str(path)!r}.", hint=hint)
        layout = cls(Directory.open(path))
        try:
            layout.check()
        except BaseException:
            layout.close()
            raise
        return layout

    def check(self) -> None:
        """Raise BrokenLayout if `oci-layout` or `index.json` is not valid, or `blobs` is not a directory."""
        index.check_layout_file(self.read("oci-layout", index.LAYOUT_CAP))
        self.entries()
        kind = self.root.kind("blobs")
        if kind != stat.S_IFDIR:
            what = f": it is {kind_name(kind)}" if kind else ""
            raise BrokenLayout(f"{self.path} has no directory 'blobs'{what}.", hint=link_hint(what, str(self.path)))

    def entries(self) -> list[Entry]:
        """Return the images that `index.json` names, in its order.

        Raises:
            BrokenLayout: it is missing or broken.
        """
        return list(self._finder().entries)

    def find(self, texts: Iterable[str] = ()) -> list[Entry]:
        """Return the images that `texts` name; all images if `texts` is empty.

        Raises:
            NotFound: there is no such image, or no image at all.
            UsageError: a text could mean several images.
        """
        return self._finder().find_all(texts)

    def _finder(self) -> EntryFinder:
        """Return the parsed `index.json`, which is parsed again only if it has changed."""
        status = self.root.status("index.json")
        state = FileState.of(status) if status else None
        if state is None or state != self._state:
            data = self.read("index.json", index.CAP)
            digest = Digest.of(data)
            if digest != self._parsed:
                self._entries, self._parsed = EntryFinder(index.entries(data), str(self.path)), digest
            self._state = state if state and state.is_settled else None
        return self._entries

    def holds(self, digest: Digest) -> bool:
        """Return whether there is a file for a blob, unverified."""
        return self.blobs.size(digest) is not None

    def stored(self) -> Iterator[tuple[str, str]]:
        """Yield every name below `blobs/`, as (algorithm, encoded); they need not be digests."""
        return self.blobs.stored()

    def look(self, digest: Digest) -> Reader | BlobCheck:
        """Open a blob, unverified, or return the fault."""
        return self.blobs.look(digest)

    async def there(self, entry: Entry) -> Keep:
        """Return which children of an image's indexes should be here: all except those that were left out."""
        return await presence.present(self, entry, self.holds, is_archive=False)

    async def resolve(self, name: str) -> Descriptor:
        """`Source`: return the root of the image called `name`."""
        return self.find([name])[0].root

    async def has(self, node: Descriptor) -> bool:
        """`BlobChecker`: hash the blob, and return whether it is here and correct. A bad one is added to `damaged`.

        A correct blob is hashed again only if its file has changed.
        """
        return (await self.has_all([node]))[0]

    async def has_all(self, nodes: Sequence[Descriptor]) -> list[bool]:
        """`BatchChecker`: as `has` for each of some small blobs, in one thread."""
        if all(map(self._is_verified, nodes)):
            return [True] * len(nodes)
        checks = await to_thread_cancellable(lambda advance: [self._check_blob(node, advance) for node in nodes])
        return [self._note(node, check) for node, check in zip(nodes, checks, strict=True)]

    async def intact(self, node: Descriptor) -> bytes | None:
        """Return a small blob if it is here and correct; None if it is not, which is noted as in `has`."""
        data = bytearray()
        check = await to_thread_cancellable(partial(self._hash_blob, node, through=keep(data)))
        return bytes(data) if self._note(node, check) else None

    def _note(self, node: Descriptor, check: BlobCheck) -> bool:
        if check.fault not in (None, BlobFault.MISSING):
            self.damaged[node.digest] = check
        return check.ok

    def _is_verified(self, node: Descriptor) -> bool:
        """Return whether a blob has been found correct, and its file is still the same."""
        if node.digest not in self._verified:
            return False
        opened = self.blobs.look(node.digest)
        is_same = isinstance(opened, BlobFile) and self._verified[node.digest] == opened.state
        return check_size(opened, node.size).ok and is_same

    def _check_blob(self, node: Descriptor, advance: Callable[[int], None]) -> BlobCheck:
        if self._is_verified(node):
            return BlobCheck(None, size=node.size)
        return self._hash_blob(node, advance)

    def _hash_blob(self, node: Descriptor, advance: Callable[[int], None], through: Through | None = None) -> BlobCheck:
        opened = self.blobs.look(node.digest)
        if isinstance(opened, BlobCheck):
            return opened
        state = opened.state
        settled = state.is_settled  # asked before hashing: the file could change while it is read
        check = hash_blob(opened, node.digest, node.size, advance=advance, through=through)
        if check.ok and settled and self._remember:
            self._verified[node.digest] = state
        return check

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        """`Source`: open a stored blob, unverified; raise BrokenLayout if it is missing or of the wrong size."""
        with advising(str(self.path)):
            async with self._open_file(node, start) as body:
                yield body

    @asynccontextmanager
    async def _open_file(self, node: Descriptor, start: int) -> AsyncIterator[BlobReader]:
        fd = self.blobs.open(node.digest)
        reading = asyncio.Lock()
        try:
            found = os.fstat(fd).st_size
            if found != node.size:  # checked here: a short file is not an interrupted connection, so no retry helps
                raise BrokenLayout(
                    f"{node.digest} from {self.path} should have {node.size} bytes and has {found} bytes."
                )
            os.lseek(fd, start, os.SEEK_SET)
            chunks, fill = _chunks(fd, reading, self.path), partial(_fill, fd, self.path)
            yield BlobReader(chunks, str(self.path), os.fstat(fd).st_mtime, start, file=fd, fill=fill)
        finally:
            # An upload that was cancelled may still be reading in its own task.
            unused = asyncio.ensure_future(reading.acquire())
            unused.add_done_callback(partial(_close_unless_cancelled, fd))
            await settled([unused])

    def unfinished(self) -> dict[str, int]:
        """Return how many bytes of each unfinished download and temporary file there are, by its path in the layout."""
        from mirror.layout.journal import held_sizes  # only prune and dry runs need it

        return self._files_in("partial", held_sizes) | self._files_in("tmp", _sizes)

    def quarantined(self) -> dict[str, int]:
        """Return the size in bytes of each file in quarantine, by its path in the layout."""
        return self._files_in("quarantine", _sizes)

    def _files_in(self, part: str, sizes: Callable[[Directory], dict[str, int]]) -> dict[str, int]:
        with suppress(FileNotFoundError), self.root.sub(".mirror") as metadata, metadata.sub(part) as folder:
            return {f".mirror/{part}/{name}": size for name, size in sizes(folder).items()}
        return {}

    async def modified(self, node: Descriptor) -> float | None:
        """`Dated`: return the time of a stored blob's file, which is the registry's Last-Modified if it sent one."""
        try:
            fd = self.blobs.open(node.digest)
        except (BrokenLayout, StorageError):
            return None  # verify reports what is wrong with it
        try:
            return os.fstat(fd).st_mtime
        finally:
            os.close(fd)

    def read(self, name: str, cap: int) -> bytes:
        """Return a small file of the layout's directory; raise BrokenLayout if it is missing or exceeds `cap` bytes."""
        try:
            return self.root.read(name, cap)
        except FileNotFoundError:
            message = f"{self.path} is not an OCI image layout: it has no {name} file."
            raise BrokenLayout(message, hint="Is this the right directory?") from None
        except BrokenLayout as error:
            error.hint = link_hint(str(error), str(self.path)) or error.hint
            raise

    def close(self) -> None:
        self.blobs.close()
        self.root.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sizes(folder: Directory) -> dict[str, int]:
    found = {name: folder.status(name) for name in folder.names()}
    return {name: status.st_size for name, status in found.items() if status}


def _fill(fd: int, path: Path, buffer: memoryview) -> int:
    with os_errors(path):
        return os.readv(fd, [buffer])


def _close_unless_cancelled(fd: int, unused: asyncio.Future[bool]) -> None:
    """Close a descriptor that no task uses, once no thread uses it either."""
    if not unused.cancelled():  # by the end of the event loop, while another task still waits for its thread
        once_unused(partial(os.close, fd))


async def _chunks(fd: int, reading: asyncio.Lock, path: Path) -> AsyncIterator[bytes]:
    import aiofiles  # only pushing and inspecting need it

    async with reading:
        file = await shielded(aiofiles.open(fd, "rb", buffering=0, closefd=False))
    while True:
        async with reading:
            with os_errors(path):
                chunk = await shielded(file.read(READ))
        if not chunk:
            return
        yield chunk
