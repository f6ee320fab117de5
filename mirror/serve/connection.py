"""The connection of one client: the event loop reads requests and writes heads, threads send the bodies of blobs.

asyncio's own connections are not used: their TLS cannot be lent to a thread, copies each byte several times on the
event loop, and takes 256 KiB for each client, even for one that is idle.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mirror.concurrency import once_unused

WOULD_BLOCK = (BlockingIOError, InterruptedError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

_READ = 64 * 1024  # bytes of requests that are read at once
_MAX_WAITING = 64 * 1024  # bytes of responses that may wait before the writer has to
_SIOCOUTQ = 0x5411  # Linux: bytes that were sent and not acknowledged (tcp(7))


class Connection(asyncio.Transport):
    """A non-blocking socket, with TLS after its handshake, as the transport of `protocol`, which owns it."""

    def __init__(self, connection: socket.socket, protocol: asyncio.Protocol) -> None:
        super().__init__(
            {
                "socket": connection,
                "peername": connection.getpeername(),
                "sockname": connection.getsockname(),
                "sslcontext": connection.context if isinstance(connection, ssl.SSLSocket) else None,
            }
        )
        self._socket, self._protocol, self._loop = connection, protocol, asyncio.get_running_loop()
        self._waiting = bytearray()  # to be written
        self._changed = asyncio.Event()  # set when `_waiting` is empty, or a lent socket is writable
        self._reading, self._lent, self._closing, self._lost, self._paused = True, False, False, False, False
        protocol.connection_made(self)
        self._read_soon()

    # Reading

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._reading = False
        if not self._lent and not self._lost:
            self._loop.remove_reader(self._socket)

    def resume_reading(self) -> None:
        if not self._reading:
            self._reading = True
            self._read_soon()

    def _read_soon(self) -> None:
        """Read when the client has sent something, or what TLS has already decrypted."""
        if self.is_reading() and not self._lent:
            self._loop.add_reader(self._socket, self._read)
            if self._pending:
                self._loop.call_soon(self._read)

    @property
    def _pending(self) -> bool:
        return isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0

    def _read(self) -> None:
        while self.is_reading() and not self._lent:
            try:
                data = self._socket.recv(_READ)
            except WOULD_BLOCK:
                return
            except OSError as error:
                self._lose(error)
                return
            if data:
                self._protocol.data_received(data)
            else:
                self._protocol.eof_received()
                self.close()
            if not self._lost and not self._pending:
                return

    # Writing

    def get_write_buffer_size(self) -> int:
        return len(self._waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._closing:
            self._waiting += data
            self._write()

    def _write(self) -> None:
        """Write what waits, as far as the client accepts it."""
        try:
            while self._waiting:
                del self._waiting[: self._socket.send(self._waiting)]
        except WOULD_BLOCK:
            self._loop.add_writer(self._socket, self._write)
            self._pause(len(self._waiting) > _MAX_WAITING)
        except OSError as error:
            self._lose(error)
        else:
            self._loop.remove_writer(self._socket)
            self._pause(False)
            self._changed.set()
            if self._closing:
                self._lose(None)

    def _pause(self, paused: bool) -> None:
        if paused != self._paused:
            self._paused = paused
            (self._protocol.pause_writing if paused else self._protocol.resume_writing)()

    async def flushed(self) -> None:
        """Wait until everything has been written. Raise ConnectionError if the connection is closed before."""
        while self._waiting and not self._lost:
            self._changed.clear()
            await self._changed.wait()
        if self._lost:
            raise ConnectionResetError

    # For a thread

    @contextmanager
    def lent(self) -> Iterator[socket.socket]:
        """Yield the socket to a thread, when everything has been written: the event loop neither reads nor writes.

        It stays non-blocking. If the connection is aborted, it is shut down, and closed at the end.
        """
        if self._closing:
            raise ConnectionResetError
        self._loop.remove_reader(self._socket)
        self._lent = True
        try:
            yield self._socket
        finally:
            self._lent = False
            if self._lost:
                once_unused(self._socket.close)
            elif self._closing:
                self._lose(None)
            else:
                self._read_soon()

    async def writable(self) -> None:
        """Wait until the client accepts more from the socket that is lent."""
        if self._closing:
            raise ConnectionResetError
        self._changed.clear()
        self._loop.add_writer(self._socket, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            self._loop.remove_writer(self._socket)

    @property
    def unacknowledged(self) -> int:
        """The bytes that the client has not acknowledged yet, where the system can tell, otherwise 0."""
        count = array.array("i", [0])
        if sys.platform == "linux":
            fcntl.ioctl(self._socket, _SIOCOUTQ, count)
        return count[0]

    # Closing

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Close the connection when everything has been written."""
        if not self._closing:
            self._closing = True
            self._loop.remove_reader(self._socket)
            if not self._waiting and not self._lent:
                self._lose(None)

    def abort(self) -> None:
        self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._changed.set()
        if self._lent:
            with suppress(OSError):
                # Ends what a thread is doing. That of SSLSocket drops its TLS state: the thread would send without.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
        self._loop.call_soon(self._end, error)

    def _end(self, error: OSError | None) -> None:
        self._protocol.connection_lost(error)
        if not self._lent:
            if isinstance(self._socket, ssl.SSLSocket) and error is None and not self._waiting:
                with suppress(OSError, ValueError):
                    self._socket.unwrap()  # says goodbye, and does not wait for an answer
            self._socket.close()
