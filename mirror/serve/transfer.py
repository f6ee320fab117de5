"""Send a blob in a thread: read a unit into memory, verify it, and send these very bytes.

It does not matter what happens to the file, or to its pages in the cache, at the same time. The socket does not block:
a thread waits only for a client that takes what it is offered, and no longer than a moment. For all others, the event
loop waits, and the thread sends to another client. The rest of their unit is verified again then.
"""

from __future__ import annotations

import select
import socket
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, wait
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from mirror.concurrency import submit
from mirror.serve.blobs import OpenBlob
from mirror.serve.checkpoints import UNIT, ChangedError
from mirror.serve.connection import WOULD_BLOCK

_TURN = 8 * UNIT  # bytes that are sent before it is another client's turn
_WAIT = 20  # milliseconds


@dataclass(slots=True)
class Transfer:
    """The bytes of a blob from `position` to `end`."""

    blob: OpenBlob
    position: int
    end: int

    def send(self, connection: socket.socket, buffers: Sequence[bytearray]) -> None:
        """Send some of the bytes, and advance `position`. Blocks.

        Each buffer has room for a unit. With two, another thread verifies the next unit while this one is sent.

        Raise ChangedError if the file is not what was hashed, OSError if it cannot be read, ConnectionError if the
        client is gone, and TimeoutError if the system has given it up.
        """
        start, end = self.position, min(self.end, self.position + _TURN)
        numbers = range(start // UNIT, -(-end // UNIT))
        with closing(self._ahead(numbers, buffers) if len(buffers) > 1 else self._units(numbers, *buffers)) as units:
            for unit in units:
                offset = self.position % UNIT
                if not self._send(connection, unit[offset : offset + self.end - self.position], start):
                    return

    def _units(self, numbers: range, buffer: bytearray) -> Generator[memoryview]:
        for number in numbers:
            yield self._read(number, buffer)

    def _ahead(self, numbers: range, buffers: Sequence[bytearray]) -> Generator[memoryview]:
        reading = deque[Future[memoryview]]()
        try:
            for number in numbers:
                reading.append(submit(partial(self._read, number, buffers[number % 2])))
                if len(reading) > 1:
                    yield reading.popleft().result()
            yield reading.popleft().result()
        finally:
            wait(reading)  # it uses a buffer

    def _read(self, number: int, buffer: bytearray) -> memoryview:
        if not self.blob.unchanged:
            raise ChangedError
        return self.blob.checkpoints.read(self.blob.fd, number, buffer)

    def _send(self, connection: socket.socket, data: memoryview, start: int) -> bool:
        """Return False if the client has to be waited for."""
        while data:
            try:
                count = connection.send(data)
            except WOULD_BLOCK:
                is_fast = self.position - start >= UNIT
                if not is_fast or not _is_writable(connection):
                    return False
            except TimeoutError:
                raise
            except OSError as error:  # TLS has errors of its own
                raise ConnectionResetError from error
            else:
                self.position += count
                data = data[count:]
        return True


def _is_writable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLOUT)
    return bool(poll.poll(_WAIT))
