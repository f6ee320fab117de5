"""A blob that is being written into a layout, in `.mirror/partial/<algorithm>-<encoded>` until it is complete.

    1. open and lock that file; if another mirror process has locked it, or it is not a plain file of ours, write a
       nameless file in `.mirror/tmp` instead, which cannot be resumed
    2. hash what the file already has: the existence of a partial file proves nothing
    3. fetch the rest, hashing what is written; over several connections, the file has holes, which `layout.journal`
       keeps account of
    4. if it is complete and correct, the writer moves it into `blobs/`; if it is wrong, delete it; if the transfer was
       interrupted, keep it for the next attempt

After a power cut, a partial file may have any content. The digest is wrong then, and the blob is fetched again from
the start, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from mirror.concurrency import to_thread, to_thread_cancellable
from mirror.content.extents import Extents
from mirror.content.filecopy import copy_file
from mirror.content.ranged import RangedCopy
from mirror.content.stream import Batch, BlobReader, Fetch, Ranges, ReadInto, Verifier, batches, pipeline
from mirror.errors import DigestMismatch, MirrorError, SizeMismatch, StorageError, TransferError
from mirror.fs.atomic import AtomicFile
from mirror.fs.directory import Directory
from mirror.layout.journal import Journal
from mirror.oci.descriptor import Descriptor

_READ = 1024 * 1024  # bytes at a time


def partial_name(node: Descriptor) -> str:
    """Return the name of the partial file of a blob."""
    return f"{node.digest.algorithm}-{node.digest.encoded}"


class Ingest:
    """One blob that is being written to `file`. `reused` is the number of bytes that an earlier attempt had left.

    `batch` is how many bytes to hash and write at once. With `hard_link`, the blob may become a hard link to a file of
    another layout.
    """

    def __init__(
        self, node: Descriptor, partials: Directory, temporary: Directory, *, batch: int, hard_link: bool
    ) -> None:
        self._verifier = Verifier(node)
        name = partial_name(node)
        journal = Journal(partials, name)
        file = AtomicFile.resume(partials, name) if journal.is_usable else None
        if file and not journal.find():
            file.close() if file.size else file.discard()
            file = None
        self.file: AtomicFile = file or AtomicFile.create(temporary)
        self._journal = journal if file else None  # only a file that can be resumed has one
        self._held = Extents([(0, self.file.size)])  # what the file has, as far as that is known
        self.reused = 0  # bytes
        self._node, self._temporary, self._batch, self._hard_link = node, temporary, batch, hard_link
        self._answered = False  # whether the source has begun to send anything
        self._linked = False  # whether `file` is another layout's file too
        self._ranged = False  # whether several connections have been used

    async def receive(self, fetch: Fetch) -> float | None:
        """Complete the blob, verify it, and return when the source says that it was last modified.

        If the source is asked for parts of a blob, and the result is wrong or the source sends nothing that is new, the
        blob is fetched from the start, over one connection.
        """
        await to_thread_cancellable(self._load)
        self.reused = found = self._held.total
        start = self._verifier.size
        try:
            return await self._fetch(fetch, start)
        except (DigestMismatch, SizeMismatch):
            if not (found or self._ranged):
                raise
            self._restart()
        except TransferError:
            is_new = self._verifier.size > start or self._held.total > found
            if is_new or not (self.reused and self._answered):
                raise
        return await self._fetch(fetch, 0, whole=True)

    async def _fetch(self, fetch: Fetch, start: int, *, whole: bool = False) -> float | None:
        node = self._node
        if start and start == node.size:  # complete, but for its name: nothing to fetch
            self._verifier.finish(f"{node.digest} from an earlier attempt")
            return None
        async with fetch(start) as body:
            self._answered = True
            if body.start != self._verifier.size:
                self._restart()
            self._verifier.trust(body)
            if body.ranges and not whole:
                await self._receive_ranges(body, body.ranges)
            else:
                await self._receive_in_order(body)
            self._verifier.finish(body.called(node))
            return None if self._linked else body.modified

    async def _receive_ranges(self, body: BlobReader, ranges: Ranges) -> None:
        """Receive a blob from a registry, over as many connections as make it faster."""
        journal = self._journal
        copy = RangedCopy(
            body,
            ranges,
            self._node,
            self.file,
            self._verifier,
            self._held,
            journal.write if journal else None,
            recorded=self._has_journal,
            size=self._batch,
        )
        try:
            await copy.run()
        finally:
            self._ranged = copy.parallel
        if copy.recorded:
            await to_thread(self._forget_holes)

    def _forget_holes(self) -> None:
        """Remove the journal of a complete file, which is durable before: without a journal, it counts as complete."""
        self.file.sync()
        self._remove_journal()

    async def _receive_in_order(self, body: BlobReader) -> None:
        if self._has_journal:
            await to_thread(self._drop_holes)
        if body.file is not None and not self._verifier.size and await to_thread(partial(self._share, body.file)):
            await to_thread_cancellable(self._hash)
        elif body.fill:
            await to_thread_cancellable(partial(self._copy, body, body.fill), on_cancel=body.interrupt)
        else:
            waiting: Batch = []
            await pipeline(batches(body, self._node, self._batch, waiting), self._write, waiting=waiting)

    @property
    def _has_journal(self) -> bool:
        return self._journal is not None and self._journal.exists

    def _load(self, advance: Callable[[int], None]) -> None:
        """Find out what the file has, and hash it up to the first hole. A file larger than the blob is emptied."""
        recorded = self._journal.read() if self._journal else None
        if self.file.size > self._node.size:
            self._restart()
            return
        self._held = Extents([(0, self.file.size)])
        if recorded is not None:
            self._held = Extents((first, min(end, self.file.size)) for first, end in recorded)
        self._hash(advance)
        if self._held.total == self._verifier.size:
            self._drop_holes()

    def _hash(self, advance: Callable[[int], None]) -> None:
        end = self._held.end_of(0)
        view = memoryview(bytearray(min(_READ, end)))
        while count := self.file.read(view[: end - self._verifier.size]):
            self._verifier.update([view[:count]])
            advance(count)

    def _drop_holes(self) -> None:
        """Keep only what comes before the first hole; then no journal is needed."""
        if self._has_journal:
            end = self._held.end_of(0)
            self.file.truncate(end)
            self.file.sync()  # without a journal, it counts as complete up to its end
            self._held = Extents([(0, end)])
            self._remove_journal()

    def _remove_journal(self) -> None:
        if self._journal and self._journal.exists:
            self._journal.remove()

    def _share(self, fd: int) -> bool:
        """Share the blocks of an open file of another layout, or link to it; return False if that is not possible."""
        link = AtomicFile.link(self._temporary, fd) if self._hard_link else None
        if link:
            self.file.discard()
            self.file, self._linked = link, True
        elif not self.file.clone(fd):
            return False
        if self.file.size != self._node.size:
            what = f"{self._node.digest}, shared with another layout,"
            raise SizeMismatch(what, want=self._node.size, got=self.file.size)
        self._held = Extents([(0, self.file.size)])
        return True

    def _copy(self, body: BlobReader, fill: ReadInto, advance: Callable[[int], None]) -> None:
        def write(view: memoryview) -> None:
            self._store([view])

        check, at = self._verifier, self._verifier.size
        copy_file(body, self._node, fill, check, write, advance, at, size=self._batch)

    def _write(self, batch: Batch) -> None:
        self._verifier.update(batch)
        self._store(batch)

    def _store(self, batch: Sequence[bytes | memoryview]) -> None:
        self.file.write(batch)
        end = self._held.end_of(0)
        self._held.add(end, end + sum(map(len, batch)))

    def _restart(self) -> None:
        self.file.truncate()
        self._verifier, self._held, self.reused = Verifier(self._node), Extents(), 0
        self._remove_journal()

    def abandon(self, error: BaseException) -> None:
        """Keep an incomplete blob for the next attempt, unless its bytes are wrong or could not be written."""
        interrupted = not isinstance(error, MirrorError) or error.transient or error.exit_code != 3
        is_sound = self.file.may_be_kept and not isinstance(error, StorageError)
        if self._journal and self._held.total and interrupted and is_sound:  # a nameless file is never resumed
            self.file.close()
            self._journal.close()
        else:
            self.file.discard()
            self._remove_journal()
