"""The server: open the layouts, listen, pass each request to the handler, shut down.

At shutdown no new connections are accepted, requests in progress get some seconds, then everything is closed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from mirror.errors import UsageError
from mirror.layout import Layout
from mirror.report.server import ServerInfo
from mirror.serve import htpasswd, listen
from mirror.serve.api import Api
from mirror.serve.blobs import BlobStore
from mirror.serve.cache import CatalogCache
from mirror.serve.handler import Handler, ServerLogHandler
from mirror.serve.htpasswd import BasicAuth

log = logging.getLogger(__name__)

ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

_HANDSHAKE_TIMEOUT = 10.0  # seconds for TLS
_LINGERING_TIME = 2.0  # seconds for which the rest of a refused upload is read, so that the client sees the response
_MAX_CONNECTIONS = 16_384  # if the limit of open files allows it
_RESERVED_FILES = (128, 300)  # neither connections nor blobs: asyncio accepts 100 before it asks `_ConnectionLimit`
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_QUIET_TIME = 10.0  # seconds before the same warning is logged again


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """How to serve. Timeouts are seconds.

    Attributes:
        listen: HOST:PORT; port 0 picks a free port.
        certificate: a PEM file; without one there is no TLS.
        key: a PEM file, if the key is not in `certificate`.
        htpasswd: a file with bcrypt hashes; without one everyone may pull.
        idle_timeout: how long a connection may take to send a request.
        send_timeout: how long a client may take to accept 128 KiB or, on Linux, any byte at all.
        shutdown_timeout: how long requests in progress may take at shutdown.
    """

    listen: str = "127.0.0.1:5000"
    certificate: Path | None = None
    key: Path | None = None
    htpasswd: Path | None = None
    idle_timeout: float = 60.0
    send_timeout: float = 120.0
    shutdown_timeout: float = 5.0


@asynccontextmanager
async def serve_layouts(
    layouts: Sequence[Path | str], options: ServeOptions | None = None
) -> AsyncIterator[ServerInfo]:
    """Serve layouts as a read-only registry for as long as the context lasts. Nothing is written to them.

    Broken content and other warnings go to the logger `mirror.serve`; `mirror.serve.access` logs a line for each
    request at level INFO. These lines contain text from clients: escape them before they reach a terminal.

    Args:
        layouts: their directories. If two images have the same name, that of the first layout is served.
        options: how to serve.

    Raises:
        UsageError: the address, the certificate or the htpasswd file is not usable, or a layout does not exist.
        BrokenLayout: a directory is not a layout.
        ListenError: the address is in use, or not an address of this machine.
    """
    options = options or ServeOptions()
    if not layouts:
        raise UsageError("There is no layout to serve.")
    host, port = listen.parse_address(options.listen)
    tls = listen.tls_context(options.certificate, options.key)
    users = htpasswd.read_users(options.htpasswd) if options.htpasswd else None
    with ExitStack() as stack:
        opened = [stack.enter_context(Layout.open(Path(path))) for path in layouts]
        store = stack.enter_context(BlobStore(opened))
        cache = CatalogCache(opened, store)
        catalog = await cache.catalog()
        auth = BasicAuth(users, store.run_in_thread) if users else None
        handler = Handler(Api(cache, store), auth, options.send_timeout)
        listening = stack.enter_context(listen.bind(host, port, options.send_timeout))
        address = listen.format_address(listening)
        async with _running(handler, store, listening, tls, options):
            _warn_of_exposure(host, tls is not None, users is not None)
            yield ServerInfo(
                address=address,
                url=f"http{'s' if tls else ''}://{address}",
                layouts=tuple(map(str, layouts)),
                repositories=tuple(catalog.names(None)),
                images=catalog.images,
            )


def _warn_of_exposure(host: str, tls: bool, users: bool) -> None:
    if host in ("localhost", "::1") or host.startswith("127."):
        return
    if not users:
        log.warning("Anyone who can reach %s can pull all images; require a password with --htpasswd.", host)
    elif not tls:
        log.warning("Passwords are sent without TLS and can be intercepted; use --cert and --key.")


@asynccontextmanager
async def _running(
    handler: Handler,
    store: BlobStore,
    listening: socket.socket,
    tls: ssl.SSLContext | None,
    options: ServeOptions,
) -> AsyncIterator[None]:
    server_log = logging.Logger("mirror.serve.aiohttp", logging.WARNING)  # not registered: it has this handler only
    server_log.addHandler(ServerLogHandler())
    server = web.Server(
        handler.handle,
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        keepalive_timeout=options.idle_timeout,
        lingering_time=_LINGERING_TIME,
        logger=server_log,
    )
    connections = _ConnectionLimit(server, _max_connections())
    loop = asyncio.get_running_loop()
    timeout, previous = _HANDSHAKE_TIMEOUT if tls else None, loop.get_exception_handler()
    listener = await loop.create_server(connections, sock=listening, ssl=tls, ssl_handshake_timeout=timeout)
    loop.set_exception_handler(_AcceptErrors(previous))
    try:
        yield
    finally:
        loop.remove_reader(listening)  # first: asyncio does not close what it has accepted when the listener closes
        connections.closed = True
        await _run_pending_callbacks()
        listener.close()
        server.pre_shutdown()
        await handler.finish(options.shutdown_timeout)
        store.stop()
        await handler.cancel()  # before the connections: asyncio does not expect one to be aborted during a sendfile
        for connection in server.connections:
            if connection.transport:
                connection.transport.abort()
        await server.shutdown(1)
        await _run_pending_callbacks()
        loop.set_exception_handler(previous)


async def _run_pending_callbacks() -> None:
    """Let the event loop pass on the connections that it has accepted, and close those that have been aborted."""
    for _ in range(10):
        await asyncio.sleep(0)


def _max_connections() -> int:
    """Return half of the available open files: each connection may have a blob open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    least, most = _RESERVED_FILES
    reserved = max(least, min(most, files // 4))
    return max(16, min(_MAX_CONNECTIONS, (files - reserved) // 2))


class _ConnectionLimit:
    """Creates the protocol of each new connection, up to a maximum and until `closed`; aborts all others."""

    def __init__(self, server: web.Server, maximum: int) -> None:
        self.closed = self._full = False
        self._server, self._maximum = server, maximum

    def __call__(self) -> asyncio.Protocol:
        was_full, self._full = self._full, len(self._server.connections) >= self._maximum
        if self._full and not was_full and not self.closed:
            log.warning("Refusing new connections: the limit of open files is reached (ulimit -n).")
        return _AbortedProtocol() if self.closed or self._full else self._server()


class _AbortedProtocol(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


class _AcceptErrors:
    """An exception handler that logs failures to accept a connection once, where asyncio logs hundreds of tracebacks.

    asyncio tries again after a second.
    """

    def __init__(self, otherwise: ExceptionHandler | None) -> None:
        self._otherwise, self._logged = otherwise, -_QUIET_TIME

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _EXHAUSTED and "socket" in context:
            if loop.time() - self._logged >= _QUIET_TIME:
                self._logged = loop.time()
                log.warning("New connections must wait: %s (ulimit -n).", os.strerror(error.errno))
        elif self._otherwise:
            self._otherwise(loop, context)
        else:
            loop.default_exception_handler(context)
