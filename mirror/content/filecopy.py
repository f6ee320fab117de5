"""From one file to another: bytes that are on this machine already, hashed on their way, without the event loop.

One thread reads, hashes and writes, and where a core has nothing to do, it hashes beside. All of it takes place in one
buffer, which stays in the core's cache, or by turns in two; the next blob comes in the same ones, for to allocate costs
as much as to copy (docs/explanation/benchmarks.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock

from mirror.concurrency import available_cpus
from mirror.content.stream import BlobReader, ReadInto, Verifier
from mirror.errors import SizeMismatch
from mirror.oci.descriptor import Descriptor

_SIZE = 1024 * 1024  # bytes of a buffer: what is hashed is in the cache still, and few calls are needed

Write = Callable[[memoryview], None]


class CpuSlots:
    """The cores of a machine: whoever pours is on one, and those that nobody is on can help."""

    def __init__(self, count: int) -> None:
        self.free = count  # below 0 where more pour than there are cores
        self._lock = Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        with self._lock:
            self.free -= 1
        try:
            yield
        finally:
            self.give()

    def take(self) -> bool:
        """Have one to help with, until it is given back; False where none is free."""
        if self.free <= 0:
            return False
        with self._lock:
            self.free -= (found := self.free > 0)
        return found

    def give(self) -> None:
        with self._lock:
            self.free += 1


_CORES = CpuSlots(available_cpus())
_SPARE: list[memoryview] = []  # buffers of those who have finished
_SPARES = 4  # that are kept


def copy_file(
    body: BlobReader,
    node: Descriptor,
    fill: ReadInto,
    check: Verifier,
    write: Write,
    advance: Callable[[int], None] = lambda _: None,
    at: int = 0,
) -> None:
    """Pass on what a body can fill buffers with. Nobody gets the last bytes before all are known to be right.

    Args:
        body: the content, from its `start` on.
        node: what it should be, from the first byte on.
        fill: the body's.
        check: the hash of the bytes before `start`.
        write: takes bytes, which are overwritten once it has returned.
        advance: called with the bytes that each read gave; what it raises ends it all.
        at: where in a file the first byte is going to be, so that pages are written whole: half of one costs as much.

    Raises:
        SizeMismatch: there are more bytes than `node.size`, or fewer.
        DigestMismatch: the bytes are not what the descriptor names.
    """
    got, held = body.start, memoryview(b"")
    with _CORES.one(), _buffers(node.size) as buffers, _Hashing(check) as hashing:
        while count := fill(buffers.now[: _SIZE - at % _SIZE] if got < node.size else buffers.beyond):
            got, at = got + count, at + count
            if got > node.size:
                raise SizeMismatch(body.called(node), want=node.size, got=None)
            advance(count)
            chunk = buffers.now[:count]
            if hashing.update(chunk, last=got == node.size):
                buffers.turn()
            if got < node.size:
                write(chunk)
            else:
                held = chunk
        if got < node.size:
            raise SizeMismatch(body.called(node), want=node.size, got=got)
        check.finish(body.called(node))
        write(held)


class _Buffers:
    """Where the next bytes go: `now`. Those `beyond` the last ones go elsewhere, for the last ones wait in theirs."""

    def __init__(self, size: int) -> None:
        self._size = min(size, _SIZE)
        self.now, self.other = self._another(), memoryview(b"")
        self.beyond = memoryview(bytearray(1))

    def turn(self) -> None:
        """What is in the buffer is needed a while longer."""
        self.now, self.other = self.other or self._another(), self.now

    def give_back(self) -> None:
        for buffer in (self.now, self.other):
            if len(buffer) == _SIZE and len(_SPARE) < _SPARES:
                _SPARE.append(buffer)

    def _another(self) -> memoryview:
        try:
            return _SPARE.pop() if self._size == _SIZE else memoryview(bytearray(self._size))
        except IndexError:
            return memoryview(bytearray(_SIZE))


@contextmanager
def _buffers(size: int) -> Iterator[_Buffers]:
    buffers = _Buffers(size)
    yield buffers
    buffers.give_back()  # not after an error: who raised it may hold them still


class _Hashing:
    """Chunk after chunk is hashed: in a thread beside this one while a core is free, else here."""

    def __init__(self, check: Verifier) -> None:
        self._check = check
        self._thread: ThreadPoolExecutor | None = None
        self._running: Future[None] | None = None

    def update(self, chunk: memoryview, *, last: bool) -> bool:
        """Begin with one when the one before is done. Nothing goes on beside the `last`: most content has no other.

        Returns:
            Whether it is read still, until the next call.
        """
        self._wait()
        if last or not _CORES.take():
            self._check.update([chunk])
            return False
        try:
            self._thread = self._thread or ThreadPoolExecutor(1)
            self._running = self._thread.submit(self._beside, chunk)
        except RuntimeError:  # no more threads are to be had
            _CORES.give()
            self._thread = None
            self._check.update([chunk])
        return self._running is not None

    def _beside(self, chunk: memoryview) -> None:
        try:
            self._check.update([chunk])
        finally:
            _CORES.give()

    def _wait(self) -> None:
        if self._running:
            self._running.result()
        self._running = None

    def __enter__(self) -> _Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread:
            self._thread.shutdown()
