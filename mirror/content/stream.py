"""Streams of content that are verified as they pass.

Chunks from a network or a file are collected into batches. A worker thread hashes (and writes) a batch while the next
one is read: hashlib and write release the GIL, so both cores work. Hashing on the event loop takes a third more time,
and a call to a thread for each chunk even more (docs/explanation/benchmarks.md).

Sizes are checked before digests, and reading stops at the first excess byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from mirror.concurrency import BackgroundTasks, settled, submit, to_thread
from mirror.errors import DigestMismatch, SizeMismatch, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Hasher

Batch = list[bytes]
ReadInto = Callable[[memoryview], int]  # reads the next bytes into a buffer, and returns how many; 0 at the end

MEMORY = 32 * 1024 * 1024  # bytes that all blobs in flight share
_LARGEST, _SMALLEST = 4 * 1024 * 1024, 128 * 1024  # bytes of one batch
_LONGEST = 0.4  # seconds that bytes wait for their batch to fill, so that on a slow link too, they are soon on the disk


def batch_size(jobs: int) -> int:
    """Return the bytes of one batch if `jobs` blobs are in flight; each holds two, one read and one written."""
    return max(_SMALLEST, min(_LARGEST, MEMORY // (2 * jobs)))


@dataclass(frozen=True, slots=True)
class BlobReader:
    """Content that is being read, not yet verified.

    Attributes:
        chunks: the bytes.
        origin: where they come from, for errors.
        modified: when they were created, according to the origin, in seconds since the epoch.
        start: the offset of the first byte in the blob.
        verified: True for content in memory that has been verified; a receiver of the whole need not hash it again.
        file: a descriptor of a regular file with exactly this content. Instead of reading `chunks`, a receiver of the
            whole content may share the blocks of that file, and must hash the result.
        fill: reads the same bytes as `chunks` in a thread; only one of the two is used.
        interrupt: ends a blocked `fill`, from any thread. Nothing more can be read afterwards.
        ranges: further connections to the content, for a receiver that can write at any offset.
    """

    chunks: AsyncIterable[bytes]
    origin: str
    modified: float | None = None
    start: int = 0
    verified: bool = False
    file: int | None = None
    fill: ReadInto | None = None
    interrupt: Callable[[], None] = lambda: None
    ranges: Ranges | None = None

    def called(self, node: Descriptor) -> str:
        return f"{node.digest} from {self.origin}"


class Ranges(Protocol):
    """Further connections to the content of a `BlobReader`."""

    @property
    def supported(self) -> bool:
        """False once the origin has refused ranges for good."""
        ...

    async def connections(self, received: int, remaining: int) -> int:
        """Return how many connections to use; all together have `received` so many bytes, and `remaining` are left."""
        ...

    def limit(self, connections: int) -> None:
        """Use at most so many connections from now on."""
        ...

    def skip(self, count: int) -> None:
        """Note that the receiver has so many bytes after the reader's `start`, and does not request them."""
        ...

    def open(self, first: int, last: int) -> AbstractAsyncContextManager[BlobReader]:
        """Open the bytes from `first` to `last`, both inclusive.

        Raises:
            TransferError: transient; the origin may answer the next time.
        """
        ...


# Opens content at an offset, or at 0 if the origin cannot seek; see `BlobReader.start`.
Fetch = Callable[[int], AbstractAsyncContextManager[BlobReader]]


class Verifier:
    """The hash of content that is being read, `size` bytes so far, and the verdict at its end."""

    def __init__(self, node: Descriptor) -> None:
        self._node, self.size = node, 0
        self._hasher: Hasher | None = node.digest.hasher()

    def trust(self, body: BlobReader) -> None:
        """Hash nothing if all content comes from a body that has been verified; no other body may follow it."""
        if body.verified and not (self.size or body.start):
            self._hasher = None

    @property
    def trusts(self) -> bool:
        """True if nothing is hashed."""
        return self._hasher is None

    def update(self, batch: Sequence[bytes | memoryview]) -> None:
        for chunk in batch:
            if self._hasher:
                self._hasher.update(chunk)
            self.size += len(chunk)

    def finish(self, what: str) -> None:
        """Raise DigestMismatch if the content does not match the digest; the error calls it `what`."""
        if self._hasher and not self._node.digest.matches(self._hasher):
            got = f"{self._node.digest.algorithm}:{self._hasher.hexdigest()}"
            raise DigestMismatch(what, want=self._node.digest, got=got)


async def batches(body: BlobReader, node: Descriptor, size: int, waiting: Batch | None = None) -> AsyncIterator[Batch]:
    """Collect chunks into batches of about `size` bytes; raise SizeMismatch at the first excess byte, or at the end.

    What arrives before a connection is cut is yielded before the error is raised, so that it need not be sent again.
    Chunks are collected in `waiting`; what the caller takes from there is not yielded.
    """
    got, held = body.start, 0
    waiting = [] if waiting is None else waiting
    cut: TransferError | None = None
    try:
        async for chunk in body.chunks:
            got += len(chunk)
            if got > node.size:
                raise SizeMismatch(body.called(node), want=node.size, got=None)
            held = len(chunk) + (held if waiting else 0)
            waiting.append(chunk)
            if held >= size:
                yield _take(waiting)
    except TransferError as error:
        cut = error
    if waiting:
        yield _take(waiting)
    if cut:
        raise cut
    if got < node.size:
        raise SizeMismatch(body.called(node), want=node.size, got=got)


async def pipeline(source: AsyncIterator[Batch], *works: Callable[[Batch], None], waiting: Batch | None = None) -> None:
    """Run all `works` on each batch, each in its own worker thread, while the next batch is read.

    They start on a batch when all have finished the previous one. However this call ends, no thread is still at work
    afterwards, unless it hangs: the caller may close the files that they write to (`mirror.concurrency.once_unused`).

    `waiting` is what `source` has read, but not yielded yet. It becomes a batch after `_LONGEST` seconds at the latest.
    """
    running: list[Future[None]] = []

    async def finish() -> None:
        for work in running:
            await asyncio.wrap_future(work)

    async def start_early() -> None:
        nonlocal running
        while True:
            await asyncio.sleep(_LONGEST)
            if waiting and all(work.done() and not work.exception() for work in running):
                batch = _take(waiting)
                running = [submit(partial(work, batch)) for work in works]

    try:
        async with BackgroundTasks() as timer:
            if waiting is not None:
                timer.start(start_early())
            async for batch in source:  # while it yields, nothing is waiting
                await finish()
                running = [submit(partial(work, batch)) for work in works]
        await finish()
    finally:
        await settled(running)


async def verified(body: BlobReader, node: Descriptor, size: int) -> AsyncIterator[bytes]:
    """Yield content for a receiver that cannot take bytes back, such as a registry.

    The last batch is withheld until the digest has been verified, so a receiver that knows the size never gets a
    complete wrong body.
    """
    check = Verifier(node)
    check.trust(body)
    ready: Batch = []
    async for batch in batches(body, node, size):
        hashing = submit(partial(check.update, batch))
        try:
            for chunk in ready:
                yield chunk
            await asyncio.wrap_future(hashing)
        finally:
            wait([hashing])
        ready = batch
    check.finish(body.called(node))
    for chunk in ready:
        yield chunk


async def read(body: BlobReader, node: Descriptor) -> bytes:
    """Return small content as a whole, verified. The caller limits `node.size`."""
    if body.fill:
        data = await to_thread(partial(_read_all, body, node, body.fill), on_cancel=body.interrupt)
    else:
        data = b"".join([chunk async for batch in batches(body, node, node.size or 1) for chunk in batch])
    check = Verifier(node)
    check.trust(body)
    check.update([data])
    check.finish(body.called(node))
    return data


def _read_all(body: BlobReader, node: Descriptor, fill: ReadInto) -> bytes:
    buffer, got = memoryview(bytearray(min(node.size + 1, _SMALLEST))), bytearray()
    while len(got) <= node.size and (count := fill(buffer)):
        got += buffer[:count]
    if len(got) != node.size:
        raise SizeMismatch(body.called(node), want=node.size, got=None if len(got) > node.size else len(got))
    return bytes(got)


async def single_chunk(data: bytes) -> AsyncIterator[bytes]:
    """Yield bytes that are in memory as one chunk, or none if there are none."""
    if data:
        yield data


def from_verified(data: bytes, origin: str) -> Fetch:
    """Return a function that opens content in memory, which has been verified."""

    @asynccontextmanager
    async def fetch(start: int) -> AsyncIterator[BlobReader]:
        yield BlobReader(single_chunk(data[start:]), origin, start=start, verified=True)

    return fetch


def _take(batch: Batch) -> Batch:
    """Empty a list, and return what was in it."""
    taken = batch[:]
    batch.clear()
    return taken
