"""Copy a file to a file: bytes that are on this machine already are hashed on their way, without the event loop.

One thread reads, hashes and writes; if a core is idle, a second thread hashes. Two buffers are used in turn, or only
one, which stays in the core's cache. They are kept for the next blob: an allocation costs as much as a copy
(docs/explanation/benchmarks.md).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from threading import Lock

from mirror.concurrency import ThreadPool, available_cpus
from mirror.content.stream import BlobReader, ReadInto, Verifier
from mirror.errors import SizeMismatch
from mirror.oci.descriptor import Descriptor

_SIZE = 1024 * 1024  # bytes of a buffer: large enough for few calls, small enough to be hashed from the cache


class CpuSlots:
    """The cores of the machine. Every copy occupies one, and may use another one while that is idle."""

    def __init__(self, count: int) -> None:
        self.free = count  # below 0 while there are more copies than cores
        self._lock = Lock()

    @contextmanager
    def occupied(self) -> Iterator[None]:
        """Occupy a core, free or not."""
        with self._lock:
            self.free -= 1
        try:
            yield
        finally:
            self.release()

    def acquire(self) -> bool:
        """Occupy a core until `release`, or return False if none is free."""
        if self.free <= 0:
            return False
        with self._lock:
            self.free -= (found := self.free > 0)
        return found

    def release(self) -> None:
        with self._lock:
            self.free += 1


_CORES = CpuSlots(available_cpus())
_HASHING = ThreadPool("hash")  # its threads wait for nothing, so those that wait for them go on
_MOST_SPARE = 4
_SPARE: deque[memoryview] = deque(maxlen=_MOST_SPARE)  # buffers of finished copies


def copy_file(
    body: BlobReader,
    node: Descriptor,
    fill: ReadInto,
    check: Verifier,
    write: Callable[[memoryview], None],
    advance: Callable[[int], None] = lambda _: None,
    at: int = 0,
    *,
    size: int | None = None,
    ends_at: Callable[[int], bool] = lambda _: False,
) -> None:
    """Read, hash and write content. The last bytes are written only after the digest has been verified.

    Args:
        body: the content, from its `start` on.
        node: its descriptor.
        fill: the body's.
        check: the hash of the bytes before `start`.
        write: writes bytes, and keeps no reference to them.
        advance: called with the number of bytes of each read; what it raises ends the copy.
        at: the offset in the target file of the first byte to write; writes end at page boundaries.
        size: the bytes of a buffer, at most.
        ends_at: returns whether `fill` ends before the content does, and has just reached that end.
    """
    got, last, size = body.start, memoryview(b""), min(size or _SIZE, _SIZE)
    with _CORES.occupied(), Buffers(min(node.size, size)) as buffers, _Hashing(check) as hashing:
        while count := fill(buffers.current[: size - at % size] if got < node.size else buffers.excess):
            got, at = got + count, at + count
            if got > node.size:
                raise SizeMismatch(body.called(node), want=node.size, got=None)
            advance(count)
            chunk = buffers.current[:count]
            if hashing.update(chunk, last=got == node.size):
                buffers.swap()
            if got < node.size:
                write(chunk)
            else:
                last = chunk
        if got < node.size and ends_at(got):
            return
        if got < node.size:
            raise SizeMismatch(body.called(node), want=node.size, got=got)
        check.finish(body.called(node))
        write(last)


class Buffers:
    """Two buffers, used in turn. The next bytes go to `current`, a byte too many to `excess`."""

    def __init__(self, size: int) -> None:
        self._size = min(size, _SIZE)
        self.current, self._other = self._allocate(), memoryview(b"")
        self.excess = memoryview(bytearray(1))

    def swap(self) -> None:
        """Keep the content of the current buffer until the next swap."""
        self.current, self._other = self._other or self._allocate(), self.current

    def _allocate(self) -> memoryview:
        with suppress(IndexError):
            if self._size == _SIZE:
                return _SPARE.pop()
        return memoryview(bytearray(self._size))

    def __enter__(self) -> Buffers:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        for buffer in (self.current, self._other):
            # After an error, its traceback may still refer to a buffer.
            if error is None and len(buffer) == _SIZE:
                _SPARE.append(buffer)


class _Hashing:
    """Hashes one chunk after another: in a second thread while a core is idle, otherwise in this one."""

    def __init__(self, check: Verifier) -> None:
        self._check = check
        self._running: Future[None] | None = None

    def update(self, chunk: memoryview, *, last: bool) -> bool:
        """Hash a chunk once the previous one is done, and return True if it is still being read, until the next call.

        The `last` chunk is not worth a thread: most content has no other.
        """
        if self._running:
            self._running.result()
        self._running = None
        if last or not _CORES.acquire():
            self._check.update([chunk])
            return False
        try:
            self._running = _HASHING.submit(partial(self._hash_and_release, chunk))
        except RuntimeError:  # no threads are available
            _CORES.release()
            self._check.update([chunk])
        return self._running is not None

    def _hash_and_release(self, chunk: memoryview) -> None:
        try:
            self._check.update([chunk])
        finally:
            _CORES.release()

    def __enter__(self) -> _Hashing:
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            wait([self._running])
