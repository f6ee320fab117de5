"""The blobs of several layouts, each hashed before its first byte is served.

What was hashed is remembered by the state of its file: device, inode, size, times. The same state is the same content,
so a blob is hashed once; another state is hashed again. What is served is read from the descriptor that was looked at,
so nothing can be swapped in between. Small content is hashed every time, and its bytes are what is served.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from threading import Event
from types import TracebackType
from typing import Self, TypeVar

from mirror.concurrency import available_cpus, shielded
from mirror.content.hashing import MISSING, BlobCheck, BlobFault, hash_blob, keep
from mirror.fs.stamp import Stamp
from mirror.layout import Layout
from mirror.layout.blobs import BlobFile
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest

R = TypeVar("R")

_SMALL = 64 * 1024  # bytes that are hashed faster than they are remembered, and may wait in memory for a slow client
_THREADS = 32  # that wait for disks; hashing has as many of them as there are cores
_PASSING = frozenset({BlobFault.UNREADABLE, BlobFault.CHANGED})  # a stick that was loose may be read again
_STOPPED = BlobCheck(BlobFault.UNREADABLE, "a readable file", "a server that is stopping")


@dataclass(frozen=True, slots=True)
class Opened:
    """A blob, open for reading; `close` it."""

    fd: int
    stamp: Stamp
    links: int

    @classmethod
    def of(cls, fd: int) -> Opened:
        status = os.fstat(fd)
        return cls(fd, Stamp.of(status), status.st_nlink)

    @property
    def unchanged(self) -> bool:
        """Whether the file is as it was opened. To lose or to get a name is a change too, but none of the content."""
        status = os.fstat(self.fd)
        now = Stamp.of(status)
        if status.st_nlink != self.links:
            now = replace(now, changed=self.stamp.changed)
        return now == self.stamp

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        os.close(self.fd)


class Store:
    """The blobs of layouts, as one: the first layout that has a good copy gives it. Use it in `with`."""

    def __init__(self, layouts: Sequence[Layout]) -> None:
        self._blobs = [layout.blobs for layout in layouts]
        self._threads = ThreadPoolExecutor(_THREADS, "serve")
        self._hashing = asyncio.Semaphore(available_cpus())
        self._verdicts: dict[tuple[int, Digest], tuple[Stamp, BlobCheck]] = {}
        self._locks: dict[tuple[int, Digest], asyncio.Lock] = {}
        self._stop = Event()

    async def hop(self, work: Callable[[], R]) -> R:
        """Run `work`, which may wait for a disk, in a thread of the store's, and never leave it behind."""
        return await shielded(asyncio.get_running_loop().run_in_executor(self._threads, work))

    async def open(self, node: Descriptor) -> bytes | Opened | BlobCheck:
        """The content of `node`, checked: bytes, or a blob that the caller closes; or what is wrong with it."""
        worst = MISSING
        for place in range(len(self._blobs)):
            found = await self._open(place, node)
            if not isinstance(found, BlobCheck):
                return found
            worst = found if worst.flaw is BlobFault.MISSING else worst
        return worst

    def read(self, node: Descriptor) -> bytes | None:
        """The verified bytes of a manifest, whose size the caller has capped; None where there are none. It blocks."""
        for blobs in self._blobs:
            data = bytearray()
            if hash_blob(blobs.look(node.digest), node.digest, node.size, through=keep(data)).ok:
                return bytes(data)
        return None

    def stop(self) -> None:
        """End what is being hashed, in a moment."""
        self._stop.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._threads.shutdown()

    async def _open(self, place: int, node: Descriptor) -> bytes | Opened | BlobCheck:
        found = await self._look(place, node)
        if not isinstance(found, Opened):
            return found
        try:
            verdict = await self._judge(place, node, found)
        except BaseException:
            found.close()
            raise
        if verdict.ok:
            return found
        found.close()
        return verdict

    async def _look(self, place: int, node: Descriptor) -> bytes | Opened | BlobCheck:
        """Small content whole; larger content open, and not yet judged."""
        found: list[bytes | Opened | BlobCheck] = []

        def look() -> None:
            file = self._blobs[place].look(node.digest)
            found.append(file if isinstance(file, BlobCheck) else _taken(node, file))

        try:
            await self.hop(look)
        except BaseException:
            for one in found:
                if isinstance(one, Opened):
                    one.close()
            raise
        return found[0]

    async def _judge(self, place: int, node: Descriptor, opened: Opened) -> BlobCheck:
        """What is known of this file in this state, else what comes out when it is hashed.

        One blob is hashed once at a time, and the others wait. It is hashed to its end even where its client has gone:
        who comes back then, after a timeout of his own, is served at once.
        """
        key = (place, node.digest)
        if known := self._known(key, opened):
            return known
        async with self._locks.setdefault(key, asyncio.Lock()):
            if known := self._known(key, opened):
                return known
            async with self._hashing:
                return await self.hop(partial(self._hash, key, node, opened))

    def _known(self, key: tuple[int, Digest], opened: Opened) -> BlobCheck | None:
        stamp, verdict = self._verdicts.get(key, (None, None))
        return verdict if stamp == opened.stamp else None

    def _hash(self, key: tuple[int, Digest], node: Descriptor, opened: Opened) -> BlobCheck:
        def advance(_: int) -> None:
            if self._stop.is_set():
                raise _StoppedError

        shielded = opened.stamp.settled
        try:
            verdict = hash_blob(_Lent(opened), node.digest, node.size, advance=advance)
        except _StoppedError:
            return _STOPPED
        if shielded and verdict.flaw not in _PASSING:
            self._verdicts[key] = (opened.stamp, verdict)
        return verdict


class _StoppedError(Exception):
    """Raised inside of an examination that nobody waits for any more."""


class _Lent:
    """An open blob as something to examine, which does not close it (`mirror.content.hashing.Reader`)."""

    def __init__(self, opened: Opened) -> None:
        self.size = opened.stamp.size
        self._opened = opened

    def readinto(self, buffer: memoryview, /) -> int:
        return os.readv(self._opened.fd, [buffer])

    def changed(self) -> bool:
        return not self._opened.unchanged

    def close(self) -> None: ...


def _taken(node: Descriptor, file: BlobFile) -> bytes | Opened | BlobCheck:
    """What has been opened: hashed and closed where it is small."""
    if file.size > _SMALL:
        return Opened.of(file.fd)
    data = bytearray()
    verdict = hash_blob(file, node.digest, node.size, through=keep(data))
    return bytes(data) if verdict.ok else verdict
