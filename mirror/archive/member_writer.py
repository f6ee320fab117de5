"""Write one blob to an archive; and the outputs of archives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from mirror.archive import header
from mirror.content.filecopy import copy_file
from mirror.content.stream import Batch, BlobReader, ReadInto, Verifier
from mirror.errors import MirrorError
from mirror.fs.atomic import write_all
from mirror.fs.directory import os_errors
from mirror.layout.blobs import place
from mirror.oci.descriptor import Descriptor


class Output(Protocol):
    """A file, which is written at any offset, or a pipe, which is written in order."""

    def write_at(self, chunks: Sequence[bytes | memoryview], offset: int) -> None: ...
    def truncate(self, size: int) -> None: ...


class Pipe:
    """An open pipe or file, which stays open."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write_at(self, chunks: Sequence[bytes | memoryview], offset: int) -> None:
        with os_errors("stdout"):
            write_all(self._fd, chunks)

    def truncate(self, size: int) -> None:
        """Do nothing: a pipe has nothing after its end."""


async def after(count: int, found: AsyncIterator[Batch]) -> AsyncIterator[Batch]:
    """Yield batches without their first `count` bytes."""
    async for batch in found:
        rest: Batch = []
        for chunk in batch:
            rest += [chunk[count:]] if count < len(chunk) else []
            count = max(count - len(chunk), 0)
        if rest:
            yield rest


def length(node: Descriptor) -> int:
    """Return the bytes that a blob takes in an archive, with its header and padding."""
    return len(_header(node)) + node.size + len(header.padding(node.size))


def _header(node: Descriptor) -> bytes:
    return header.build(place(node.digest), node.size)


class MemberWriter:
    """A blob that is being written to an archive, from `offset` on."""

    def __init__(self, node: Descriptor, offset: int) -> None:
        self.node = node
        self.size = 0  # bytes that have been received and hashed
        self._sound = True  # the written part is known
        self.partial_size = False  # something has been written
        self._waiting: list[bytes | memoryview] = [_header(node)]
        self._padding = header.padding(node.size)
        self._check, self._next = Verifier(node), offset

    @property
    def is_resumable(self) -> bool:
        """True if another attempt can go on: what has been written is known, and has been hashed."""
        return self._sound and not self._check.trusts

    def trust(self, body: BlobReader) -> None:
        """As `Verifier.trust`."""
        self._check.trust(body)

    def update(self, batch: Batch) -> None:
        self._check.update(batch)
        self.size += sum(map(len, batch))

    def hold(self, output: Output, batch: Batch) -> None:
        """Write the batch that was held back, and hold back this one, which another thread hashes."""
        self._write(output, [])
        self._waiting, self._sound = [*batch], True

    def finish(self, output: Output, body: BlobReader) -> None:
        """Verify the digest, then write the rest. A failed attempt cannot be resumed."""
        self._sound, self.partial_size = False, True
        self._check.finish(body.called(self.node))
        self._write(output, [self._padding])

    def take(self, output: Output, body: BlobReader, fill: ReadInto, advance: Callable[[int], None]) -> None:
        """Copy the rest of the blob from a file or a connection; see `copy_file`."""

        def write(view: memoryview) -> None:
            self._write(output, [view])
            self.size += len(view)

        at = self._next + sum(map(len, self._waiting))
        self._sound = False
        try:
            copy_file(body, self.node, fill, self._check, write, advance, at)
        except MirrorError as error:
            self._sound = error.transient and self._check.size == self.size  # what was hashed has been written
            raise
        self._write(output, [self._padding])

    def _write(self, output: Output, chunks: Sequence[bytes | memoryview]) -> None:
        self._sound, self.partial_size = False, True
        chunks = [*self._waiting, *chunks]
        output.write_at(chunks, self._next)
        self._next += sum(map(len, chunks))
        self._waiting = []
