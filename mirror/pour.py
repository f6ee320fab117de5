"""From one file to another: bytes that are on this machine already, hashed on their way, without the event loop.

One thread reads and writes, and where a core has nothing to do, it hashes beside. Both use the same two buffers from
the first byte to the last: to allocate new ones costs as much as to copy (docs/benchmarks.md).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Semaphore

from mirror.descriptor import Descriptor
from mirror.errors import WrongSize
from mirror.stream import Body, Check, Fill

_SIZE = 1024 * 1024  # bytes of a buffer: what is hashed is in the cache still, and few calls are needed
_CORES = Semaphore(os.cpu_count() or 1)  # that nobody pours on

Write = Callable[[memoryview], None]


def pour(
    body: Body,
    node: Descriptor,
    fill: Fill,
    check: Check,
    write: Write,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Pass on what a body can fill buffers with. Nobody gets the last bytes before all are known to be right.

    Args:
        body: the content, from its `start` on.
        node: what it should be, from the first byte on.
        fill: the body's.
        check: the hash of the bytes before `start`.
        write: takes bytes, which are overwritten once it has returned.
        advance: called with the bytes that each read gave; what it raises ends it all.

    Raises:
        WrongSize: there are more bytes than `node.size`, or fewer.
        WrongDigest: the bytes are not what the descriptor names.
    """
    got, held = body.start, memoryview(b"")
    with _core(), _Hashing(check) as hashing:
        for chunk in _chunks(fill, min(_SIZE, node.size + 1)):
            got += len(chunk)
            if got > node.size:
                raise WrongSize(body.called(node), want=node.size, got=None)
            advance(len(chunk))
            hashing.update(chunk, last=got == node.size)
            if got < node.size:
                write(chunk)
            else:
                held = chunk
    if got < node.size:
        raise WrongSize(body.called(node), want=node.size, got=got)
    check.finish(body.called(node))
    write(held)


def _chunks(fill: Fill, size: int) -> Iterator[memoryview]:
    """What comes, in two buffers by turns: each chunk is there until the next but one is asked for."""
    buffer, other = memoryview(bytearray(size)), memoryview(bytearray(size))
    while count := fill(buffer):
        yield buffer[:count]
        buffer, other = other, buffer


class _Hashing:
    """Chunk after chunk is hashed: in a thread beside this one while a core is free, else here."""

    def __init__(self, check: Check) -> None:
        self._check, self._thread = check, ThreadPoolExecutor(1)
        self._running: Future[None] | None = None

    def update(self, chunk: memoryview, *, last: bool) -> None:
        """Begin with one when the one before is done. Nothing goes on beside the `last`: most content has no other."""
        self._wait()
        if last or not _CORES.acquire(blocking=False):
            self._check.update([chunk])
            return
        try:
            self._running = self._thread.submit(self._beside, chunk)
        except BaseException:  # no more threads are to be had
            _CORES.release()
            raise

    def _beside(self, chunk: memoryview) -> None:
        try:
            self._check.update([chunk])
        finally:
            _CORES.release()

    def _wait(self) -> None:
        if self._running:
            self._running.result()
        self._running = None

    def __enter__(self) -> _Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()


@contextmanager
def _core() -> Iterator[None]:
    """One core less, where there is one, for whoever pours."""
    had = _CORES.acquire(blocking=False)
    try:
        yield
    finally:
        if had:
            _CORES.release()
