"""A layout as a sink.

    1. hold `.mirror/lock` shared; whoever gets it alone clears what dead writers left in `.mirror/tmp`
    2. each blob: a partial file (`mirror.layout.ingest`), hash while writing, fsync, rename into `blobs/`, fsync of
       that directory
    3. the name last, in `index.json`, which is written in batches (`mirror.layout.index_writer`)

Deleting blobs needs the lock alone: a pull that is running may have decided to reuse one of them.
"""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import AsyncIterator, Iterable
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from mirror.concurrency import to_thread, to_thread_cancellable
from mirror.content.stream import BlobReader, Fetch, batch_size, batches, pipeline
from mirror.errors import BrokenLayout, DigestMismatch, StorageError, UsageError
from mirror.fs.atomic import AtomicFile, replace_file
from mirror.fs.directory import Directory, Lock, exists, is_directory, os_errors
from mirror.layout import index
from mirror.layout.index import Entry, EntryFinder
from mirror.layout.index_editor import IndexEditor
from mirror.layout.index_writer import IndexWriter
from mirror.layout.ingest import Ingest, partial_size
from mirror.layout.reader import Layout
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest

log = logging.getLogger(__name__)

_PATIENCE = 30.0  # seconds to wait for another mirror: for any that deletes blobs, and before deleting for all
_SILENCE = 0.5  # seconds after which whoever waits wonders why
_OURS = {".mirror", "blobs", "index.json", "lost+found"}  # all that a layout whose creation was cut can have


class LayoutWriter(Layout):
    """An OCI image layout, open for writing: made by `LayoutWriter.writing`.

    `aside` collects where things that stood at a blob's path and were no files have gone; `resumed` counts the bytes
    that earlier attempts had left, and that were of use.
    """

    def __init__(
        self, root: Directory, own: Directory, temporary: Directory, partials: Directory, jobs: int, *, keep_bad: bool
    ) -> None:
        super().__init__(root, remember=not keep_bad)
        self.aside: list[Path] = []
        self.resumed = 0
        self._keep_bad, self._hard_links = keep_bad, False
        self._own, self._temporary, self._partials = own, temporary, partials
        self._batch = batch_size(jobs)
        self._index = IndexWriter(root, own, temporary, partial(self.read, "index.json", index.CAP))

    @classmethod
    @asynccontextmanager
    async def writing(
        cls, path: Path, *, jobs: int = 1, alone: bool = False, keep_bad: bool = False, hard_links: bool = False
    ) -> AsyncIterator[LayoutWriter]:
        """Open a layout to write to it, creating it where it is not there.

        Args:
            path: the folder.
            jobs: how many blobs are going to be written at once; they share one budget of memory.
            alone: keep every other writer out meanwhile.
            keep_bad: what a blob replaces goes to quarantine, whatever it is; blobs are hashed whenever they are asked
                for, since a disk that loses bits leaves a file's times alone.
            hard_links: blobs that are in a file of the same file system may be further names of that file. Whoever
                changes it in place, which mirror never does, changes both.

        Raises:
            UsageError: the folder has other things in it.
            BrokenLayout: it is a layout whose `oci-layout` or `index.json` is broken.
            StorageError: it cannot be written to, or is busy.
        """
        refuse_foreign(path)
        _make(path)
        with ExitStack() as stack:
            root = stack.enter_context(Directory.open(path))
            own = stack.enter_context(root.sub(".mirror", create=True))
            temporary = stack.enter_context(own.sub("tmp", create=True))
            partials = stack.enter_context(own.sub("partial", create=True))
            lock = stack.enter_context(own.lock("lock"))
            await _acquire(lock, temporary, alone)
            layout = cls(root, own, temporary, partials, jobs, keep_bad=keep_bad)
            layout._hard_links = hard_links
            stack.callback(layout.blobs.close)
            await to_thread(layout._complete)
            async with layout._index.batches():
                yield layout

    def _complete(self) -> None:
        """Create what a new layout lacks. `oci-layout` comes last: it says that the rest is there."""
        with self._index.locked():
            if self.root.kind("oci-layout") is None:
                self.blobs.folder("sha256", create=True)
                if self.root.kind("index.json") is None:
                    replace_file(self.root, "index.json", [index.EMPTY], temporary=self._temporary)
                replace_file(self.root, "oci-layout", [index.OCI_LAYOUT], temporary=self._temporary)
        self._index.load()
        self.check()

    def _finder(self) -> EntryFinder:
        """Return the parsed `index.json`, with the names that are not written yet."""
        entries = self._index.entries()
        if entries is not self._entries.entries:
            self._entries = EntryFinder(entries, str(self.path))
        return self._entries

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """`Sink`: store verified bytes under their digest; see the steps at the top.

        Raises:
            ContentError: the bytes are not what the descriptor says; nothing of them is kept.
            StorageError: the disk refused.
        """
        if node.is_manifest and await self.has(node):  # manifests are put without being asked for before
            return
        arrival = Ingest(node, self._partials, self._temporary)
        try:
            await to_thread_cancellable(arrival.load)
            modified = await self._receive(arrival, fetch)
        except BaseException as error:
            arrival.abandon(error)
            raise
        await to_thread(partial(self._commit, arrival.file, node.digest, modified))

    async def _receive(self, arrival: Ingest, fetch: Fetch) -> float | None:
        """Bring the rest of a blob; what an earlier attempt left and was wrong is fetched again, once.

        Returns:
            When the origin says it was made.
        """
        try:
            modified = await self._fetch(arrival, fetch)
            self.resumed += arrival.reused
        except DigestMismatch:
            if not arrival.reused:
                raise
            arrival.restart()
            modified = await self._fetch(arrival, fetch)
        return modified

    async def _fetch(self, arrival: Ingest, fetch: Fetch) -> float | None:
        node = arrival.node
        if arrival.size == node.size and arrival.reused:  # all has come, and then the end: nobody need be asked
            arrival.check.finish(f"{node.digest} from an earlier attempt")
            return None
        async with fetch(arrival.size) as body:
            if body.start != arrival.size:
                arrival.restart()
            if await self._share(arrival, body):
                arrival.check.finish(body.called(node))
            elif body.fill:
                await to_thread_cancellable(partial(arrival.take, body, body.fill))
            else:
                await pipeline(batches(body, node, self._batch), arrival.write)
                arrival.check.finish(body.called(node))
            return None if arrival.linked else body.modified

    async def _share(self, arrival: Ingest, body: BlobReader) -> bool:
        """Take over a file of the same file system instead of its bytes, where that can be done."""
        if body.file is None or arrival.size:
            return False
        if not await to_thread(partial(arrival.share, body.file, link=self._hard_links)):
            return False
        await to_thread_cancellable(arrival.load)
        arrival.reused = 0  # nothing of it was here before
        return True

    def partial_size(self, node: Descriptor) -> int:
        """The bytes of a blob that have arrived by an earlier attempt, as far as the size of a file tells."""
        return partial_size(self._partials, node)

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """`Sink`: make `name` stand for `root`, and keep the annotations of `root` with it.

        The name is written to `index.json` with the next batch; see `mirror.layout.index_writer` and `flush`.

        Returns:
            What the name stood for before.

        Raises:
            MirrorError: an earlier batch of names could not be written.
        """
        before = self._index.stage(lambda index: index.add(name, root))
        return before.root.digest if before else None

    async def flush(self) -> None:
        """Write all names that have been given so far, durably.

        Raises:
            BrokenLayout: another program has broken `index.json`.
            StorageError: the disk refused.
        """
        await self._index.flush()

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Remove entries from `index.json`, all at once; their blobs stay.

        Raises:
            MirrorError: as `flush`.
        """
        for entry in entries:
            self._index.stage(partial(IndexEditor.remove, entry=entry))
        await self._index.flush()

    async def delete(self, digests: Iterable[Digest]) -> None:
        """Delete blobs. The caller holds the layout alone, and knows that nothing names them."""

        def delete() -> None:
            for digest in digests:
                self.blobs.folder(digest.algorithm).remove(digest.encoded)

        await to_thread(delete)

    async def quarantine(self, digest: Digest) -> None:
        """Move what stands at a blob's path to quarantine, and put nothing in its place."""
        await to_thread(lambda: self._move_aside(self.blobs.folder(digest.algorithm), digest))

    async def clear(self) -> None:
        """Delete what others began and have not finished. The caller holds the layout alone."""

        def clear() -> None:
            for folder in (self._partials, self._temporary):
                _clear(folder)

        await to_thread(clear)

    def _commit(self, temporary: AtomicFile, digest: Digest, modified: float | None) -> None:
        try:
            folder = self.blobs.folder(digest.algorithm, create=True)
            kind = folder.kind(digest.encoded)
            if kind is not None and (kind != stat.S_IFREG or self._keep_bad):
                self._move_aside(folder, digest)
        except BaseException:
            temporary.discard()
            raise
        temporary.commit(folder, digest.encoded, modified)

    def _move_aside(self, folder: Directory, digest: Digest) -> None:
        """What stands at a blob's path and is no file may be somebody's: keep it, out of the way."""
        with self._own.sub("quarantine", create=True) as quarantine:
            name = f"{digest.algorithm}-{digest.encoded}"
            while quarantine.kind(name) is not None:
                name += "+"
            folder.move(digest.encoded, quarantine, name)
            quarantine.sync()
            self.aside.append(quarantine.path / name)


def refuse_foreign(path: Path) -> None:
    """Refuse a folder that a layout must not be written to; a folder that is not there is fine.

    Raises:
        UsageError: it has other things in it, or is a file.
        BrokenLayout: it was a layout once, and the names of its images would be forgotten.
    """
    if not exists(path):
        return
    if not is_directory(path):
        raise UsageError(f"{path} is no folder.", hint="Name another one.")
    with Layout(Directory.open(path)) as found:
        there = set(found.root.names())
        if "oci-layout" in there:
            found.check()
            return
        if there - _OURS:
            raise UsageError(
                f"{path} is not empty and is no OCI image layout.",
                hint="Name a new or empty folder, or a layout.",
            )
        used = any(name for _, name in found.blobs.stored()) or ("index.json" in there and found.entries())
        # Looked for once more: another mirror may be creating the layout, and writes oci-layout before the first blob.
        if used and found.root.kind("oci-layout") is None:
            raise BrokenLayout(
                f"{path} is no OCI image layout: it has no oci-layout.",
                hint=f'If it was one: printf \'{{"imageLayoutVersion":"1.0.0"}}\' > {path}/oci-layout',
            )


def _make(path: Path) -> None:
    """Create a folder and its parents, each made durable in its own parent."""
    missing = [folder for folder in (path, *path.parents) if not exists(folder)]
    with os_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        with Directory.open(folder.parent) as parent:
            parent.sync()


def _clear(folder: Directory) -> None:
    for name in folder.names():
        if folder.kind(name) != stat.S_IFDIR:  # mirror makes none there; somebody else's stays
            folder.remove(name)


async def _acquire(lock: Lock, temporary: Directory, alone: bool) -> None:
    """Take the lock as step 1 says.

    Raises:
        StorageError: another writer does not let go.
    """
    layout = lock.path.parent.parent
    if lock.take(wait=False):
        _clear(temporary)
    telling = asyncio.get_running_loop().call_later(
        _SILENCE, log.warning, "%s is in use by another mirror; waiting for it.", layout
    )
    try:
        async with asyncio.timeout(_PATIENCE):
            while not lock.take(shared=not alone, wait=False):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise StorageError(
            f"{layout} is in use by another mirror.",
            hint="Wait until it is done, and try again.",
        ) from None
    finally:
        telling.cancel()
