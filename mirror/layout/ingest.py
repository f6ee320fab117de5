"""A blob on its way into a layout, and how it goes on after a cut: `.mirror/partial/<algorithm>-<encoded>`.

    1. open the file of that name and lock it; where another mirror holds it, or what is there is no plain file of ours,
       take a nameless one in `.mirror/tmp` instead, with which nobody goes on
    2. hash what is there already: a partial file proves nothing by being there
    3. go on from its end, hashing what is written
    4. whole and right: it gets its name in `blobs/`. Wrong: it goes. Cut: it stays for the next attempt

After a power cut a partial file may hold anything. Then the digest is wrong at the end, and it starts from zero, once.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence

from mirror.content.filecopy import copy_file
from mirror.content.stream import Batch, BlobReader, ReadInto, Verifier
from mirror.errors import MirrorError, SizeMismatch, StorageError
from mirror.fs.atomic import AtomicFile
from mirror.fs.directory import Directory
from mirror.oci.descriptor import Descriptor

_READ = 1024 * 1024  # bytes at a time


def partial_name(node: Descriptor) -> str:
    """What the partial file of a blob is called."""
    return f"{node.digest.algorithm}-{node.digest.encoded}"


class Ingest:
    """One blob that is being written. `size` is how far it has come, `reused` how much of that an earlier try left.

    `linked` is whether its file is another layout's too.
    """

    def __init__(self, node: Descriptor, partials: Directory, spare: Directory) -> None:
        self.node, self._spare = node, spare
        self.file: AtomicFile = AtomicFile.resume(partials, partial_name(node)) or AtomicFile.create(spare)
        self.check = Verifier(node)
        self.size = self.reused = 0
        self.linked = False

    def load(self, advance: Callable[[int], None] = lambda _: None) -> None:
        """Step 2. What is longer than the blob can be is thrown away.

        Args:
            advance: called with the bytes that each read gave; what it raises ends the loading.

        Raises:
            StorageError: it cannot be read.
        """
        if self.file.size > self.node.size:
            self.file.truncate()
        view = memoryview(bytearray(min(_READ, self.file.size)))
        while view and (count := self.file.read(view)):
            self.check.update([view[:count]])
            self.size += count
            advance(count)
        self.reused = self.size

    def share(self, fd: int, *, link: bool) -> bool:
        """Step 3 in another way: take over an open file whole, as blocks that are shared, or as a further name of it.

        What it holds is hashed here, under its new name.

        Returns:
            Whether that is possible. Where it is not, nothing has changed.

        Raises:
            SizeMismatch: the file has another size than the blob.
        """
        named = AtomicFile.link(self._spare, fd) if link else None
        if named:
            self.file.discard()
            self.file, self.linked = named, True
        elif not self.file.clone(fd):
            return False
        if self.file.size != self.node.size:
            raise SizeMismatch(
                f"{self.node.digest}, taken over from another layout,", want=self.node.size, got=self.file.size
            )
        return True

    def restart(self) -> None:
        """Forget everything that has come."""
        self.file.truncate()
        self.check = Verifier(self.node)
        self.size = self.reused = 0

    def write(self, batch: Batch) -> None:
        self.check.update(batch)
        self._store(batch)

    def take(self, body: BlobReader, fill: ReadInto, advance: Callable[[int], None]) -> None:
        """Step 3 for what is in a file already; see `copy_file`."""
        copy_file(body, self.node, fill, self.check, lambda view: self._store([view]), advance, at=self.size)

    def _store(self, batch: Sequence[bytes | memoryview]) -> None:
        self.file.write(batch)
        self.size += sum(map(len, batch))

    def abandon(self, error: BaseException) -> None:
        """Step 4, where it did not become whole: keep what the next attempt can go on with."""
        wrong = isinstance(error, StorageError) or (isinstance(error, MirrorError) and not _was_cut(error))
        if wrong or not self.size:
            self.file.discard()
        else:
            self.file.close()


def _was_cut(error: MirrorError) -> bool:
    """Whether the bytes that have come may be right all the same."""
    return error.transient or error.exit_code != 3


def partial_size(partials: Directory, node: Descriptor) -> int:
    """The bytes of a blob that have arrived by an earlier attempt, as far as its file's size tells."""
    status = partials.status(partial_name(node))
    return min(status.st_size, node.size) if status and stat.S_ISREG(status.st_mode) else 0
