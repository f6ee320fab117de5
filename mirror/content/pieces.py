"""A blob in pieces, for a receiver that cannot take bytes back, such as a registry.

A thread fills one buffer, hashes it, and hands it out in pieces. The bytes that complete the blob are handed out only
after its size and its digest have been verified, so a receiver that knows the size never gets a complete wrong blob.

One reading can be spread over several requests, and each of them sent by a thread or by the event loop.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from threading import Event
from types import TracebackType
from typing import NamedTuple, Self, TypeVar

from mirror.concurrency import settled, to_thread
from mirror.content import stream
from mirror.content.filecopy import Buffers
from mirror.content.stream import BlobReader, ReadInto, Verifier
from mirror.errors import SizeMismatch, TransferError
from mirror.oci.descriptor import Descriptor

T = TypeVar("T")


class Part(NamedTuple):
    """Bytes of a blob, which are also at `offset` of the open `file`, if there is one.

    The last ones are not: they must be sent as they were hashed.
    """

    view: memoryview
    file: int | None
    offset: int


class Pieces:
    """The content of one blob, handed out once, in order. Use it in `async with`."""

    def __init__(self, body: BlobReader, node: Descriptor, *, most: int, batch: int) -> None:
        """Create the pieces of a body that starts at 0.

        Args:
            body: the content.
            node: its descriptor.
            most: bytes of one piece.
            batch: bytes that are read and verified at a time, at most.
        """
        self._body, self._most = body, most
        self._stack, self._reader = ExitStack(), None
        if body.fill:
            buffers = self._stack.enter_context(Buffers(min(node.size, batch)))
            self._reader = _Reader(body, node, body.fill, buffers)
        self._verified = stream.verified(body, node, batch)
        self._rest, self._offset = memoryview(b""), 0  # bytes that have been read, and their place in the blob
        self._reading = asyncio.Lock()  # in a thread, for the event loop
        self._interrupted = Event()

    @property
    def fills(self) -> bool:
        """Return whether a thread can read the content: without `fill`, there is only `chunks`."""
        return self._reader is not None

    def read(self, count: int) -> Iterator[Part]:
        """Yield the next `count` bytes in a thread. They are valid until the next ones are asked for.

        Raises:
            SizeMismatch, DigestMismatch: the content is wrong; its end has not been yielded.
            TransferError: its file was written to meanwhile. This is transient.
            CancelledError: the reading was interrupted.
        """
        while count:
            self._rest = self._rest or self._fill()
            file = None if self._reader and self._reader.is_verified else self._body.file
            offset, piece = self._offset, self._take(count)
            count -= len(piece)
            yield Part(piece, file, offset)

    async def chunks(self, count: int) -> AsyncIterator[memoryview]:
        """Yield the next `count` bytes in the event loop; raise what `read` does. The receiver may keep them."""
        while count:
            self._rest = self._rest or await self._next()
            piece = self._take(count)
            count -= len(piece)
            yield memoryview(bytes(piece)) if self._reader else piece

    async def collect(self, count: int) -> bytes:
        """Return the next `count` bytes; raise what `read` does."""
        if self._reader:
            return await self._in_thread(lambda: b"".join(bytes(part.view) for part in self.read(count)))
        return b"".join([piece async for piece in self.chunks(count)])

    async def skip(self, count: int) -> None:
        """Read bytes that are only hashed; raise what `read` does."""
        if self._reader:
            await self._in_thread(lambda: deque(self.read(count), maxlen=0))
            return
        async for _ in self.chunks(count):
            pass

    async def finish(self) -> None:
        """Raise SizeMismatch or DigestMismatch unless the whole content is right: nothing is read of an empty blob."""
        if not self._reader:
            async for _ in self._verified:
                pass
        elif not self._reader.is_verified:
            await self._next()

    def pause(self, seconds: float) -> None:
        """Sleep in a thread; raise CancelledError if the reading is interrupted."""
        if self._interrupted.wait(seconds) if seconds > 0 else self._interrupted.is_set():
            raise asyncio.CancelledError

    def interrupt(self) -> None:
        """Make the thread that reads, or pauses, fail at once."""
        self._interrupted.set()
        self._body.interrupt()

    async def _next(self) -> memoryview:
        return await self._in_thread(self._fill) if self._reader else memoryview(await anext(self._verified))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        async with self._reading:
            return await to_thread(work, on_cancel=self.interrupt)

    def _fill(self) -> memoryview:
        assert self._reader, "has `fill`"
        self.pause(0)
        return self._reader.fill()

    def _take(self, count: int) -> memoryview:
        size = min(count, self._most)
        piece, self._rest = self._rest[:size], self._rest[size:]
        self._offset += len(piece)
        return piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for a request that was cancelled, and may still be reading in its own task."""
        if self._reading.locked():
            self.interrupt()
        await settled([asyncio.ensure_future(self._reading.acquire())])
        self._stack.__exit__(kind, error, trace)


class _Reader:
    """Reads content into a buffer, in a thread, and verifies it."""

    def __init__(self, body: BlobReader, node: Descriptor, fill: ReadInto, buffers: Buffers) -> None:
        self.is_verified = False  # the whole content
        self._body, self._node, self._fill, self._buffers = body, node, fill, buffers
        self._check, self._got = Verifier(node), body.start
        self._state = _state(body.file)

    def fill(self) -> memoryview:
        """Return the next bytes, until the next call. If they complete the content, it has been verified."""
        buffers, size = self._buffers, self._node.size
        count = self._fill(buffers.current) if self._got < size else 0
        self._got += count
        is_over = self._got > size or (self._got == size and self._fill(buffers.excess) > 0)
        if is_over or (self._got < size and not count):
            raise SizeMismatch(self._body.called(self._node), want=size, got=None if is_over else self._got)
        self._check.update([buffers.current[:count]])
        if self._got == size:
            self._check.finish(self._body.called(self._node))
            if self._state != _state(self._body.file):
                raise TransferError(
                    f"{self._body.called(self._node)} was written to while it was sent.", transient=True
                )
            self.is_verified = True
        return buffers.current[:count]


def _state(file: int | None) -> tuple[int, int] | None:
    """Return what changes when a file is written to. Its bytes may be sent from there after they were hashed."""
    if file is None:
        return None
    found = os.fstat(file)
    return found.st_size, found.st_mtime_ns
