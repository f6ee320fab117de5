"""The blobs of several layouts, each hashed before its first byte is served.

The result of hashing is cached with the state of the file: device, inode, size and times. A file whose state changes is
hashed again. A blob is sent from the file descriptor that was hashed, so the file cannot be replaced in between, and
each part is verified again when it is sent (see `mirror.serve.checkpoints`). Blobs of up to 64 KiB are hashed on every
request and sent from memory.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Event
from typing import TypeVar

from mirror.concurrency import ThreadPool, available_cpus, once_unused, shielded
from mirror.content.hashing import MISSING, BlobCheck, BlobFault, hash_blob, keep
from mirror.fs.filestate import FileState
from mirror.layout import Layout
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.serve.checkpoints import UNIT, Checkpoints

R = TypeVar("R")

_SMALL = 64 * 1024  # bytes; hashing is cheaper than caching, and slow clients do not take much memory
_THREADS = 32  # for reading; at most one per CPU hashes
_UNITS = 16  # in memory at once, for all clients
_MAX_STATES = 256 * 1024  # 64 MiB, for 128 GiB of blobs; those that were hashed first are forgotten
_TRANSIENT = frozenset({BlobFault.UNREADABLE, BlobFault.CHANGED})  # not cached: the next read may succeed
_STOPPED = BlobCheck(BlobFault.UNREADABLE, "a readable file", "a server that is shutting down")


@dataclass(frozen=True, slots=True)
class OpenBlob:
    """A blob that is open for reading; the owner closes it. `checkpoints` are there when it has been hashed."""

    fd: int
    state: FileState
    links: int
    checkpoints: Checkpoints = field(default_factory=Checkpoints)

    @classmethod
    def of(cls, fd: int) -> OpenBlob:
        status = os.fstat(fd)
        return cls(fd, FileState.of(status), status.st_nlink)

    @property
    def unchanged(self) -> bool:
        """True while the file is in the state in which it was opened."""
        status = os.fstat(self.fd)
        now = FileState.of(status)
        if status.st_nlink != self.links:  # a new or removed hard link updates ctime, but does not change the content
            now = now._replace(changed=self.state.changed)
        return now == self.state

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        os.close(self.fd)


Content = bytes | OpenBlob  # what a response sends


def close(content: Content | BlobCheck) -> None:
    if isinstance(content, OpenBlob):
        once_unused(content.close)


def _close_result(task: asyncio.Task[OpenBlob | BlobCheck]) -> None:
    if not task.cancelled() and not task.exception():
        close(task.result())


class BlobStore:
    """The blobs of several layouts, each from the first layout with a good copy."""

    def __init__(self, layouts: Sequence[Layout]) -> None:
        self._blobs = [layout.blobs for layout in layouts]
        self.hashed: Counter[str] = Counter()  # blobs that were hashed, by result
        self._threads = ThreadPool("serve", _THREADS)
        self._hashing = asyncio.Semaphore(available_cpus())
        self._checks: dict[tuple[int, Digest], tuple[FileState, BlobCheck, Checkpoints]] = {}
        self._buffers = asyncio.LifoQueue[bytearray]()  # for units; those used last first, since most are never used
        for _ in range(_UNITS):
            self._buffers.put_nowait(bytearray(UNIT))
        self._locks: dict[tuple[int, Digest], asyncio.Lock] = {}
        self._checking = set[asyncio.Task[OpenBlob | BlobCheck]]()
        self._stopping = Event()

    async def run_in_thread(self, work: Callable[[], R], discard: Callable[[R], None] = lambda _: None) -> R:
        """Run `work`, which may block on a disk, in a worker thread.

        A cancellation waits for the thread, and passes the unused result to `discard`.
        """
        return await shielded(self._threads.submit(work), discard=discard)

    async def open(self, descriptor: Descriptor) -> Content | BlobCheck:
        """Return the verified content: bytes, or a blob that the caller closes; the failed check if there is none."""
        failed = MISSING
        for layout in range(len(self._blobs)):
            content = await self._open_in(layout, descriptor)
            if not isinstance(content, BlobCheck):
                return content
            if failed.fault is BlobFault.MISSING:
                failed = content
        if failed.fault is BlobFault.MISSING and descriptor.data is not None:  # a list of referrers that was built
            return descriptor.data
        return failed

    @asynccontextmanager
    async def buffers(self) -> AsyncIterator[list[bytearray]]:
        """Wait for memory for a unit; others wait for it, in order. While a CPU is idle, there are two buffers."""
        buffers = [await self._buffers.get()]
        if _UNITS - self._buffers.qsize() < available_cpus():
            buffers.append(self._buffers.get_nowait())
        try:
            yield buffers
        except asyncio.CancelledError:
            buffers = [bytearray(UNIT) for _ in buffers]  # a thread that hangs may still write to the others
            raise
        finally:
            for buffer in buffers:
                self._buffers.put_nowait(buffer)

    def read(self, descriptor: Descriptor) -> bytes | None:
        """Return the verified bytes of a manifest; None if no layout has them. Blocks; the caller limits the size."""
        for blobs in self._blobs:
            data = bytearray()
            if hash_blob(blobs.look(descriptor.digest), descriptor.digest, descriptor.size, through=keep(data)).ok:
                return bytes(data)
        return descriptor.data

    def holds(self, digest: Digest) -> bool:
        """Return whether a layout has a file for a blob, unverified."""
        return any(blobs.size(digest) is not None for blobs in self._blobs)

    async def stop(self) -> None:
        """Abort hashing that is in progress, and wait for it, unless the disk hangs."""
        self._stopping.set()
        for task in self._checking:
            task.cancel()
        await asyncio.gather(*self._checking, return_exceptions=True)

    async def _open_in(self, layout: int, descriptor: Descriptor) -> Content | BlobCheck:
        def open_or_read() -> Content | BlobCheck:
            file = self._blobs[layout].look(descriptor.digest)
            if isinstance(file, BlobCheck):
                return file
            if file.size > _SMALL:
                return OpenBlob.of(file.fd)
            data = bytearray()
            check = hash_blob(file, descriptor.digest, descriptor.size, through=keep(data))
            return bytes(data) if check.ok else check

        content = await self.run_in_thread(open_or_read, discard=close)
        if not isinstance(content, OpenBlob):
            self._count(content)
            return content
        checking = asyncio.create_task(self._checked((layout, descriptor.digest), descriptor, content))
        self._checking.add(checking)
        checking.add_done_callback(self._checking.discard)
        try:
            return await asyncio.shield(checking)
        except asyncio.CancelledError:
            checking.add_done_callback(_close_result)
            raise

    async def _checked(self, key: tuple[int, Digest], descriptor: Descriptor, blob: OpenBlob) -> OpenBlob | BlobCheck:
        """Return the blob if it is good, otherwise close it."""
        try:
            check, checkpoints = await self._check(key, descriptor, blob)
        except BaseException:
            close(blob)
            raise
        if check.ok:
            return replace(blob, checkpoints=checkpoints)
        blob.close()
        return check

    async def _check(
        self, key: tuple[int, Digest], descriptor: Descriptor, blob: OpenBlob
    ) -> tuple[BlobCheck, Checkpoints]:
        """Return the cached result for this file in this state, or hash it.

        Concurrent requests for a blob wait for one hash. It continues if its client disconnects, so that a client that
        retries after a timeout is served at once.
        """
        async with self._locks.setdefault(key, asyncio.Lock()):
            state, check, checkpoints = self._checks.get(key, (None, None, blob.checkpoints))
            if check and state == blob.state and checkpoints.is_valid:
                return check, checkpoints
            async with self._hashing:
                check = await self.run_in_thread(partial(self._hash, key, descriptor, blob))
                self._count(check)
                return check, blob.checkpoints

    def _hash(self, key: tuple[int, Digest], descriptor: Descriptor, blob: OpenBlob) -> BlobCheck:
        def advance(_: int) -> None:
            if self._stopping.is_set():
                raise _StoppedError

        cacheable = blob.state.is_settled
        try:
            check = hash_blob(
                _BorrowedReader(blob),
                descriptor.digest,
                descriptor.size,
                advance=advance,
                through=blob.checkpoints.through,
            )
        except _StoppedError:
            return _STOPPED
        if cacheable and check.fault not in _TRANSIENT:
            self._remember(key, blob, check)
        return check

    def _count(self, content: bytes | BlobCheck) -> None:
        fault = content.fault if isinstance(content, BlobCheck) else None
        if fault is not BlobFault.MISSING:
            self.hashed[str(fault or "ok")] += 1

    def _remember(self, key: tuple[int, Digest], blob: OpenBlob, check: BlobCheck) -> None:
        self._checks.pop(key, None)
        self._checks[key] = (blob.state, check, blob.checkpoints if check.ok else Checkpoints())
        kept = sum(len(checkpoints) for _, _, checkpoints in self._checks.values())
        for old in list(self._checks)[:-1]:
            if kept <= _MAX_STATES:
                break
            kept -= len(self._checks.pop(old)[2])


class _StoppedError(Exception):
    """Raised inside `hash_blob` to abort it."""


class _BorrowedReader:
    """A `mirror.content.hashing.Reader` of an open blob that does not close it."""

    def __init__(self, blob: OpenBlob) -> None:
        self.size = blob.state.size
        self._blob = blob

    def readinto(self, buffer: memoryview, /) -> int:
        return os.readv(self._blob.fd, [buffer])

    def changed(self) -> bool:
        return not self._blob.unchanged

    def close(self) -> None: ...
