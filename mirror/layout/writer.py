"""A layout as a sink.

    1. hold `.mirror/lock` shared; a writer that gets it exclusively deletes what dead writers left in `.mirror/tmp`
    2. for each blob: write a partial file, hashing it (`mirror.layout.ingest`), fsync it, rename it into `blobs/`, and
       fsync that directory
    3. the name last, in `index.json`, which is written in batches (`mirror.layout.index_writer`)

Deleting blobs requires the exclusive lock: a running pull may have decided to reuse one of them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from mirror.concurrency import BackgroundTasks, to_thread
from mirror.content.hashing import BlobCheck, BlobFault, hash_blob
from mirror.content.stream import Fetch, batch_size
from mirror.errors import ContentError, StorageError
from mirror.fs.atomic import AtomicFile, replace_file
from mirror.fs.directory import Directory, Lock, make_directories
from mirror.layout import index
from mirror.layout.index import Entry, EntryFinder
from mirror.layout.index_editor import IndexEditor
from mirror.layout.index_writer import IndexWriter
from mirror.layout.ingest import Ingest, partial_name
from mirror.layout.journal import held_bytes
from mirror.layout.reader import Layout
from mirror.layout.refuse import refuse_file, refuse_other_content
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest

log = logging.getLogger(__name__)

_LOCK_TIMEOUT = 30.0  # seconds
_WARN_AFTER = 0.5  # seconds of waiting for the lock
_DELETION = "deleting"  # a file in `.mirror`


class LayoutWriter(Layout):
    """An OCI image layout, open for writing; see `LayoutWriter.writing`.

    `quarantined_files` lists where things went that had the path of a blob, but were not files or, with `keep_bad`,
    were damaged; `resumed` counts the bytes of earlier attempts that were reused.
    """

    def __init__(self, root: Directory, stack: ExitStack, *, jobs: int, keep_bad: bool, hard_links: bool) -> None:
        super().__init__(root, remember=not keep_bad)
        self.quarantined_files: list[Path] = []
        self.resumed = 0
        self._keep_bad, self._hard_links, self._batch = keep_bad, hard_links, batch_size(jobs)
        self._metadata = stack.enter_context(root.sub(".mirror", create=True, durable=False))
        self._temporary = stack.enter_context(self._metadata.sub("tmp", create=True, durable=False))
        self._partials = stack.enter_context(self._metadata.sub("partial", create=True, durable=False))
        self._index = IndexWriter(root, self._metadata, self._temporary, partial(self.read, "index.json", index.CAP))
        stack.callback(self.blobs.close)

    @classmethod
    @asynccontextmanager
    async def writing(
        cls,
        path: Path,
        *,
        jobs: int = 1,
        exclusive: bool = False,
        keep_bad: bool = False,
        hard_links: bool = False,
        near: Layout | None = None,
    ) -> AsyncIterator[LayoutWriter]:
        """Open a layout for writing; create it if it does not exist.

        Args:
            path: the directory.
            jobs: how many blobs will be written at once; they share one memory budget.
            exclusive: keep out every other writer.
            keep_bad: keep every bad file that a blob replaces in quarantine, and never replace a good one. Blobs are
                hashed whenever they are asked for, because a failing disk loses bits without changing a file's times.
            hard_links: allow blobs to be hard links to files of the same file system. A program that changes such a
                file in place, which mirror never does, changes both.
            near: the same layout, open for reading. The blobs that one has hashed, the other need not hash.

        Raises:
            UsageError: the directory contains other things.
            BrokenLayout: its `oci-layout` or `index.json` is broken.
            StorageError: it cannot be written to, or another mirror process has locked it.
        """
        refuse_file(path)
        make_directories(path)
        with ExitStack() as stack:
            root = stack.enter_context(Directory.open(path))
            refuse_other_content(root, near)
            is_new, has_metadata = root.kind("oci-layout") is None, root.kind(".mirror") is not None
            layout = cls(root, stack, jobs=jobs, keep_bad=keep_bad, hard_links=hard_links)
            layout._share(near)
            await layout._acquire(stack.enter_context(layout._metadata.lock("lock")), exclusive)
            await to_thread(layout._complete)
            async with BackgroundTasks() as tasks, layout._index.batches():
                if not has_metadata:
                    keeping = layout._keep_metadata(is_new)
                    tasks.start(keeping) if is_new and jobs > 1 else await keeping
                yield layout

    def _share(self, near: Layout | None) -> None:
        if near and self._remember:
            self._verified, self.known = near._verified, near.known

    async def _acquire(self, lock: Lock, exclusive: bool) -> None:
        """Take the lock as step 1 says."""
        if lock.take(wait=False):
            _clear(self._temporary)
        warning = asyncio.get_running_loop().call_later(
            _WARN_AFTER, log.warning, "%s is locked by another mirror process; waiting.", self.path
        )
        try:
            async with asyncio.timeout(_LOCK_TIMEOUT):
                while not lock.take(shared=not exclusive, wait=False):
                    await asyncio.sleep(0.05)
        except TimeoutError:
            message = f"{self.path} is locked by another mirror process."
            raise StorageError(message, hint="Wait until it has finished, and run the same command again.") from None
        finally:
            warning.cancel()

    def _complete(self) -> None:
        """Create what a new layout lacks, `oci-layout` last: it says that the rest exists."""
        with self._index.locked():
            if self.root.kind("oci-layout") is None:
                is_empty = self.root.kind("index.json") is None
                self.root.sub("blobs", create=True, durable=not is_empty).close()  # otherwise durable with index.json
                self.blobs.directory("sha256", create=True)
                if is_empty:
                    replace_file(self.root, "index.json", [index.EMPTY], staging=self._temporary)
                replace_file(self.root, "oci-layout", [index.OCI_LAYOUT], staging=self._temporary)
        self._index.load()
        self.check()

    async def _keep_metadata(self, is_new: bool) -> None:
        """Make the names of mirror's own directories durable. In a new layout, nothing depends on them but resuming."""
        await to_thread(self._metadata.sync)
        if not is_new:  # otherwise, oci-layout has made it durable
            await to_thread(self.root.sync)

    def _finder(self) -> EntryFinder:
        """Return the parsed `index.json`, including names that are not written yet."""
        entries = self._index.entries()
        if entries is not self._entries.entries:
            self._entries = EntryFinder(entries, str(self.path))
        return self._entries

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """`Sink`: store verified bytes under their digest, as described at the top."""
        if node.is_manifest and await self.has(node):  # a copy does not ask before it puts manifests
            return
        ingest = Ingest(node, self._partials, self._temporary, batch=self._batch, hard_link=self._hard_links)
        try:
            modified = await ingest.receive(fetch)
        except BaseException as error:
            ingest.abandon(error)
            raise
        self.resumed += ingest.reused
        try:
            await to_thread(partial(self._commit, ingest.file, node.digest, modified))
        finally:
            ingest.file.close()  # if this was cancelled before the thread began, it is resumed later

    def partial_size(self, node: Descriptor) -> int:
        """Return how many bytes of a blob an earlier attempt has left, unverified."""
        return min(held_bytes(self._partials, partial_name(node)), node.size)

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """`Sink`: make `name` point to `root`, store the annotations of `root` with it, and return the previous digest.

        The name is written to `index.json` with the next batch; see `mirror.layout.index_writer` and `flush`.
        """
        before = self._index.name(name, root)
        return before.root.digest if before else None

    def expect(self, name: str, before: Entry | None) -> None:
        """Let `tag` change a full name only if it stands for `before`; otherwise it is one of the `conflicts`."""
        self._index.expected[name] = before

    async def conflicts(self) -> dict[str, Entry | None]:
        """Write all names so far; return those that another process has changed, with what they stand for now."""
        return await self._index.conflicts()

    def when_written(self, names: Collection[str], call: Callable[[], None]) -> None:
        """Call `call` once these names are in `index.json`, durably; never if one of them is in `conflicts`."""
        self._index.when_written(names, call)

    async def flush(self) -> None:
        """Write all names so far to `index.json`, durably."""
        await self._index.flush()

    async def remove(self, entries: Iterable[Entry]) -> None:
        """Remove entries from `index.json`, all at once; their blobs stay."""
        for entry in entries:
            self._index.stage(partial(IndexEditor.remove, entry=entry))
        await self._index.flush()

    def plan_deletion(self, digests: Iterable[Digest]) -> None:
        """Note which blobs are about to be deleted, durably, so that `planned_deletion` knows them after a kill."""
        replace_file(self._metadata, _DELETION, ["\n".join(digests).encode()], staging=self._temporary)

    def planned_deletion(self) -> list[Digest]:
        """Return the blobs that a process which was killed was about to delete, unless it had not removed the names."""
        with suppress(FileNotFoundError, ContentError, UnicodeDecodeError):
            return [Digest.parse(line) for line in self._metadata.read(_DELETION, index.CAP).decode().split()]
        return []

    def end_deletion(self) -> None:
        self._metadata.remove(_DELETION)

    async def delete(self, digests: Iterable[Digest]) -> None:
        """Delete blobs. The caller holds the exclusive lock, and knows that no image references them."""

        def delete() -> None:
            for digest in digests:
                self.blobs.directory(digest.algorithm).remove(digest.encoded)

        await to_thread(delete)

    async def quarantine(self, digest: Digest) -> bool:
        """Move what has a blob's path to quarantine if it is corrupt now, or not a file; return whether it was.

        It has no replacement. The caller holds the exclusive lock.
        """

        def quarantine() -> bool:
            if self._hash(digest).fault not in (BlobFault.CORRUPT, BlobFault.NOT_A_FILE):
                return False
            self._quarantine(self.blobs.directory(digest.algorithm), digest)
            return True

        return await to_thread(quarantine)

    async def clear(self) -> None:
        """Delete unfinished downloads and temporary files. The caller holds the exclusive lock."""
        for folder in (self._partials, self._temporary):
            await to_thread(partial(_clear, folder))

    def _commit(self, file: AtomicFile, digest: Digest, modified: float | None) -> None:
        try:
            folder = self.blobs.directory(digest.algorithm, create=True)
            if not self._is_in_the_way(folder, digest):
                file.commit(folder, digest.encoded, modified)
                return
            with self._index.locked():  # only one process at a time decides what to set aside
                if self._keep_bad and self._hash(digest).ok:
                    file.discard()
                    return
                if self._is_in_the_way(folder, digest):
                    self._quarantine(folder, digest, replaced=True)
                file.commit(folder, digest.encoded, modified)
        except BaseException:
            file.discard()
            raise

    def _is_in_the_way(self, folder: Directory, digest: Digest) -> bool:
        """Return whether a blob's path has something that is kept when the blob is written."""
        kind = folder.kind(digest.encoded)
        return kind is not None and (kind != stat.S_IFREG or self._keep_bad)

    def _hash(self, digest: Digest) -> BlobCheck:
        return hash_blob(self.blobs.look(digest), digest, None)

    def _quarantine(self, folder: Directory, digest: Digest, *, replaced: bool = False) -> None:
        """Move what has a blob's path to quarantine: it is not ours to delete.

        If it is about to be replaced, it only gets a second name there, so that a blob's path always has a file. A
        directory, and any file of a file system without hard links, has to be moved.
        """
        with self._metadata.sub("quarantine", create=True) as quarantine:
            found, name = folder.status(digest.encoded), f"{digest.algorithm}-{digest.encoded}"
            while (other := quarantine.status(name)) and not (found and os.path.samestat(found, other)):
                name += "+"
            is_kept = other is not None or (replaced and folder.link_name(digest.encoded, quarantine, name))
            if not is_kept:
                folder.move(digest.encoded, quarantine, name)
            elif not replaced:  # a repair that was killed has kept it
                folder.remove(digest.encoded)
            quarantine.sync()
            self.quarantined_files.append(quarantine.path / name)


def _clear(folder: Directory) -> None:
    for name in folder.names():
        if folder.kind(name) != stat.S_IFDIR:  # mirror creates no directories there, so it is not ours to delete
            folder.remove(name)
