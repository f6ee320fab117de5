"""Bytes, checked as they pass.

Chunks from a network or a file are gathered into batches, and a batch is hashed (and written, where it is written) in
one hop to a worker thread while the next one is being read: hashlib and write release the GIL, so both cores work.
Hashing on the event loop costs a third more time; a hop for each chunk costs more still
(docs/explanation/benchmarks.md).

Sizes are checked before digests, and reading stops at the first byte too many.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import Future, wait
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from mirror.concurrency import to_thread
from mirror.errors import DigestMismatch, SizeMismatch, TransferError
from mirror.oci.descriptor import Descriptor

Batch = list[bytes]
ReadInto = Callable[[memoryview], int]  # puts the bytes that come next into a buffer, and says how many; 0 at the end

MEMORY = 32 * 1024 * 1024  # bytes; the one budget that all blobs in flight share, whatever their size
_LARGEST, _SMALLEST = 4 * 1024 * 1024, 128 * 1024  # bytes of one batch


def batch_size(jobs: int) -> int:
    """How many bytes one batch may have when `jobs` blobs are in flight: each holds two, one read and one written."""
    return max(_SMALLEST, min(_LARGEST, MEMORY // (2 * jobs)))


@dataclass(frozen=True, slots=True)
class BlobReader:
    """Content on its way, not yet checked.

    `origin` names where it comes from, for errors. `modified` is when the origin says it was made, in seconds since
    the epoch. `start` is the offset of its first byte: what comes before is somewhere else already.

    `file` is a descriptor of the regular file that the content is in, from its first byte to its last. Who takes all of
    it can share it with that file instead of reading `chunks`, where the file system can, and hashes what it then has.

    `fill` gives the same bytes as `chunks`, to whoever reads them in a thread: the one or the other is used.
    """

    chunks: AsyncIterable[bytes]
    origin: str
    modified: float | None = None
    start: int = 0
    file: int | None = None
    fill: ReadInto | None = None

    def called(self, node: Descriptor) -> str:
        return f"{node.digest} from {self.origin}"


# Opens content at an offset, or at 0 where that cannot be done: `BlobReader.start` says which.
Fetch = Callable[[int], AbstractAsyncContextManager[BlobReader]]


class Verifier:
    """The hash of one piece of content on its way, and the verdict at its end."""

    def __init__(self, node: Descriptor) -> None:
        self._node = node
        self._hasher = node.digest.hasher()

    def update(self, batch: Sequence[bytes | memoryview]) -> None:
        for chunk in batch:
            self._hasher.update(chunk)

    def finish(self, what: str) -> None:
        """Give the verdict; `what` is how to call the content in an error.

        Raises:
            DigestMismatch: the bytes are not what the descriptor names.
        """
        if not self._node.digest.matches(self._hasher):
            got = f"{self._node.digest.algorithm}:{self._hasher.hexdigest()}"
            raise DigestMismatch(what, want=self._node.digest, got=got)


async def batches(body: BlobReader, node: Descriptor, size: int) -> AsyncIterator[Batch]:
    """Gather chunks into batches of about `size` bytes, counting.

    What has come before a cut is yielded before the cut is raised, so that nothing has to come twice.

    Raises:
        SizeMismatch: there are more bytes than `node.size` (as soon as one has come), or fewer.
        TransferError: the connection was cut.
    """
    got, held = body.start, 0
    batch: Batch = []
    cut: TransferError | None = None
    try:
        async for chunk in body.chunks:
            got += len(chunk)
            if got > node.size:
                raise SizeMismatch(body.called(node), want=node.size, got=None)
            batch.append(chunk)
            held += len(chunk)
            if held >= size:
                yield batch
                batch, held = [], 0
    except TransferError as error:
        cut = error
    if batch:
        yield batch
    if cut:
        raise cut
    if got < node.size:
        raise SizeMismatch(body.called(node), want=node.size, got=got)


async def pipeline(source: AsyncIterator[Batch], *works: Callable[[Batch], None]) -> None:
    """Run every one of `works` on each batch, each in a worker thread of its own, while the next batch is read.

    None of them gets a batch before all are done with the one before. No hop outlives this call, however it ends: the
    caller may close what they write to.
    """
    hops: list[Future[None]] = []
    try:
        async for batch in source:
            await _done(hops)
            hops = [_submit(work, batch) for work in works]
        await _done(hops)
    finally:
        wait(hops)  # at most one batch of work; a file must not be closed under the thread that writes it


async def _done(hops: Iterable[Future[None]]) -> None:
    for hop in hops:
        await asyncio.wrap_future(hop)


async def verified(body: BlobReader, node: Descriptor, size: int) -> AsyncIterator[bytes]:
    """Pass content on to somebody who cannot take bytes back, such as a registry.

    The last batch is withheld until all bytes are known to be right, so a receiver who counts never gets a whole
    wrong body.

    Raises:
        SizeMismatch: as `batches`.
        DigestMismatch: the bytes are not what the descriptor names.
    """
    check = Verifier(node)
    ready: Batch = []
    async for batch in batches(body, node, size):
        hop = _submit(check.update, batch)
        try:
            for chunk in ready:
                yield chunk
            await asyncio.wrap_future(hop)
        finally:
            wait([hop])
        ready = batch
    check.finish(body.called(node))
    for chunk in ready:
        yield chunk


async def read(body: BlobReader, node: Descriptor) -> bytes:
    """The whole of a small piece of content, checked. The caller has capped `node.size`.

    Raises:
        SizeMismatch: as `batches`.
        DigestMismatch: the bytes are not what the descriptor names.
    """
    if body.fill:
        data = await to_thread(partial(_filled, body, node, body.fill))
    else:
        data = b"".join([chunk async for batch in batches(body, node, node.size or 1) for chunk in batch])
    check = Verifier(node)
    check.update([data])
    check.finish(body.called(node))
    return data


def _filled(body: BlobReader, node: Descriptor, fill: ReadInto) -> bytes:
    buffer, got = memoryview(bytearray(min(node.size + 1, _SMALLEST))), bytearray()
    while len(got) <= node.size and (count := fill(buffer)):
        got += buffer[:count]
    if len(got) != node.size:
        raise SizeMismatch(body.called(node), want=node.size, got=None if len(got) > node.size else len(got))
    return bytes(got)


async def single_chunk(data: bytes) -> AsyncIterator[bytes]:
    """Bytes in hand as a stream."""
    if data:
        yield data


def from_memory(data: bytes, origin: str) -> Fetch:
    """Content that is in memory, to be fetched from there."""

    @asynccontextmanager
    async def fetch(start: int) -> AsyncIterator[BlobReader]:
        yield BlobReader(single_chunk(data[start:]), origin, start=start)

    return fetch


def _submit(work: Callable[[Batch], None], batch: Batch) -> Future[None]:
    """A hop to a worker thread that can be waited for without the event loop, unlike `run_in_executor`'s."""
    done: Future[None] = Future()
    done.set_running_or_notify_cancel()  # a cancelled task must not cancel the hop: it could never be waited for

    def run() -> None:
        try:
            work(batch)
        except BaseException as error:  # raised again where the hop is awaited
            done.set_exception(error)
        else:
            done.set_result(None)

    asyncio.get_running_loop().run_in_executor(None, run)
    return done
