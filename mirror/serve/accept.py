"""Accept connections, and refuse those for which this process cannot open enough files.

asyncio's own server is not used: if no file can be opened, it logs a traceback for each attempt, and it goes on to
accept after it has been closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from aiohttp import web

from mirror.concurrency import ThreadPool, available_cpus, shielded
from mirror.serve.connection import Connection

log = logging.getLogger(__name__)

_HANDSHAKE_TIMEOUT = 10.0  # seconds for TLS
_UNREAD = 64 * 1024  # bytes
_MAX_CONNECTIONS = 16_384  # if the limit of open files allows it
_RETRY_DELAY = 1.0  # seconds until the next attempt, if the system can accept no connection
_QUIET_TIME = 10.0  # seconds before the same warning is logged again


class Acceptor:
    """Passes new connections to a server; connections over the maximum are closed at once.

    Args:
        listening: a listening socket, closed by `stop`.
        server: creates the protocol of each connection.
        tls: the certificate, if the connections use TLS.
    """

    def __init__(self, listening: socket.socket, server: web.Server, tls: ssl.SSLContext | None) -> None:
        self._listening, self._server, self._tls = listening, server, tls
        self._loop, self._maximum = asyncio.get_running_loop(), _max_connections()
        self._threads = ThreadPool("tls", available_cpus())
        self._starting: dict[asyncio.Task[None], socket.socket] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._full, self._warned_at = False, -_QUIET_TIME
        listening.setblocking(False)

    def start(self) -> None:
        """Accept connections from now on."""
        self._loop.add_reader(self._listening, self._accept)

    async def stop(self) -> None:
        """Close the listening socket, and the connections whose TLS handshake has not ended."""
        self._loop.remove_reader(self._listening)
        self._listening.close()
        if self._retry:
            self._retry.cancel()
        for task in self._starting:
            task.cancel()
        starting = dict(self._starting)
        await asyncio.gather(*starting, return_exceptions=True)
        for task, connection in starting.items():
            if task.cancelled():  # perhaps before it ran at all
                connection.close()

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except (BlockingIOError, ConnectionError):  # the client is gone already
            return
        except OSError as error:
            self._wait(error)
            return
        was_full, self._full = self._full, len(self._server.connections) + len(self._starting) >= self._maximum
        if self._full:
            connection.close()
            if not was_full:
                log.warning("Refusing new connections: the limit of open files is reached (ulimit -n).")
            return
        connection.setblocking(False)
        task = self._loop.create_task(self._open(connection))
        self._starting[task] = connection
        task.add_done_callback(self._starting.pop)

    def _wait(self, error: OSError) -> None:
        """Try again later: until then, the socket stays readable."""
        self._loop.remove_reader(self._listening)
        self._retry = self._loop.call_later(_RETRY_DELAY, self.start)
        if self._loop.time() - self._warned_at >= _QUIET_TIME:
            self._warned_at, advice = self._loop.time(), " (ulimit -n)" if error.errno == errno.EMFILE else ""
            log.warning("New connections must wait: %s%s.", os.strerror(error.errno or 0), advice)

    async def _open(self, accepted: socket.socket) -> None:
        connection = accepted
        try:
            if self._tls:
                connection = self._tls.wrap_socket(accepted, server_side=True, do_handshake_on_connect=False)
                await self._shake_hands(connection)
            Connection(connection, self._server())
        except OSError as error:  # the client is gone, or its handshake failed: only the client needs to know
            if isinstance(error, ssl.SSLError):
                with suppress(OSError):  # unread data would turn the alert into a reset
                    os.read(connection.fileno(), _UNREAD)
            connection.close()
        except BaseException:
            connection.close()
            raise

    async def _shake_hands(self, connection: ssl.SSLSocket) -> None:
        """Do the handshake of TLS: threads compute, and do not wait for the client; only what it takes counts."""
        left = _HANDSHAKE_TIMEOUT
        while True:
            try:
                return await shielded(self._threads.submit(connection.do_handshake))
            except ssl.SSLWantReadError:
                add, remove = self._loop.add_reader, self._loop.remove_reader
            except ssl.SSLWantWriteError:
                add, remove = self._loop.add_writer, self._loop.remove_writer
            started = self._loop.time()
            async with asyncio.timeout(left):
                await _until_called(add, remove, connection)
            left -= self._loop.time() - started


async def _until_called(
    add: Callable[..., None], remove: Callable[[socket.socket], bool], connection: socket.socket
) -> None:
    ready = asyncio.Event()
    add(connection, ready.set)
    try:
        await ready.wait()
    finally:
        remove(connection)


def _max_connections() -> int:
    """Return half of the files that may be open, since each connection may have a blob open, less a reserve."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    reserve = max(128, min(300, files // 4))  # for layouts, threads and temporary files
    return max(16, min(_MAX_CONNECTIONS, (files - reserve) // 2))
