"""A blob that is being written into a layout, in `.mirror/partial/<algorithm>-<encoded>` until it is complete.

    1. open and lock that file; if another mirror process has locked it, or it is not a plain file of ours, write a
       nameless file in `.mirror/tmp` instead, which cannot be resumed
    2. hash what the file already has: the existence of a partial file proves nothing
    3. fetch the rest, hashing what is written
    4. if it is complete and correct, the writer moves it into `blobs/`; if it is wrong, delete it; if the transfer was
       interrupted, keep it for the next attempt

After a power cut, a partial file may have any content. The digest is wrong then, and the blob is fetched again from
the start, once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from mirror.concurrency import to_thread, to_thread_cancellable
from mirror.content.filecopy import copy_file
from mirror.content.stream import Batch, BlobReader, Fetch, ReadInto, Verifier, batches, pipeline
from mirror.errors import DigestMismatch, MirrorError, SizeMismatch, StorageError, TransferError
from mirror.fs.atomic import AtomicFile
from mirror.fs.directory import Directory
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
        self.file: AtomicFile = AtomicFile.resume(partials, partial_name(node)) or AtomicFile.create(temporary)
        self.reused = self._size = 0  # bytes
        self._node, self._temporary, self._batch, self._hard_link = node, temporary, batch, hard_link
        self._answered = False  # whether the source has begun to send anything
        self._linked = False  # whether `file` is another layout's file too

    async def receive(self, fetch: Fetch) -> float | None:
        """Complete the blob, verify it, and return when the source says that it was last modified.

        If the source is asked for the rest of a blob, and the result is wrong or the source sends nothing that is new,
        the blob is fetched from the start.
        """
        await to_thread_cancellable(self._load)
        self.reused = start = self._size
        try:
            return await self._fetch(fetch, start)
        except (DigestMismatch, SizeMismatch):
            if not start:
                raise
            self._restart()
        except TransferError:
            if not (start and self._answered and self._size <= start):
                raise
        return await self._fetch(fetch, 0)

    async def _fetch(self, fetch: Fetch, start: int) -> float | None:
        node = self._node
        if start and start == node.size:  # complete, but for its name: nothing to fetch
            self._verifier.finish(f"{node.digest} from an earlier attempt")
            return None
        async with fetch(start) as body:
            self._answered = True
            if body.start != self._size:
                self._restart()
            if body.file is not None and not self._size and await to_thread(partial(self._share, body.file)):
                await to_thread_cancellable(self._load)
            elif body.fill:
                await to_thread_cancellable(partial(self._copy, body, body.fill))
            else:
                waiting: Batch = []
                await pipeline(batches(body, node, self._batch, waiting), self._write, waiting=waiting)
            self._verifier.finish(body.called(node))
            return None if self._linked else body.modified

    def _load(self, advance: Callable[[int], None]) -> None:
        """Hash what the file has. A file that is larger than the blob is emptied."""
        if self.file.size > self._node.size:
            self.file.truncate()
        view = memoryview(bytearray(min(_READ, self.file.size)))
        while view and (count := self.file.read(view)):
            self._verifier.update([view[:count]])
            self._size += count
            advance(count)

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
        return True

    def _copy(self, body: BlobReader, fill: ReadInto, advance: Callable[[int], None]) -> None:
        copy_file(body, self._node, fill, self._verifier, lambda view: self._store([view]), advance, at=self._size)

    def _write(self, batch: Batch) -> None:
        self._verifier.update(batch)
        self._store(batch)

    def _store(self, batch: Sequence[bytes | memoryview]) -> None:
        self.file.write(batch)
        self._size += sum(map(len, batch))

    def _restart(self) -> None:
        self.file.truncate()
        self._verifier = Verifier(self._node)
        self._size = self.reused = 0

    def abandon(self, error: BaseException) -> None:
        """Keep an incomplete blob for the next attempt, unless its bytes are wrong or could not be written."""
        interrupted = not isinstance(error, MirrorError) or error.transient or error.exit_code != 3
        if self._size and interrupted and not isinstance(error, StorageError):
            self.file.close()
        else:
            self.file.discard()
