"""The server: open the layouts, listen, pass each request to the handler, shut down.

At shutdown, no new connections are accepted, and requests in progress get a few seconds before they are cancelled.
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
from aiohttp.http_exceptions import HttpProcessingError

from mirror.errors import UsageError
from mirror.layout import Layout
from mirror.report.layouts import ServerInfo
from mirror.serve import access, htpasswd, listen
from mirror.serve.api import Api
from mirror.serve.blobs import BlobStore
from mirror.serve.cache import CatalogCache
from mirror.serve.handler import Handler
from mirror.serve.htpasswd import BasicAuth

log = logging.getLogger(__name__)

ExceptionHandler = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

_HANDSHAKE_TIMEOUT = 10.0  # seconds for TLS
_LINGERING_TIME = 2.0  # seconds to read the rest of a refused upload, so that the client sees the response
_MAX_CONNECTIONS = 16_384  # if the limit of open files allows it
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_QUIET_TIME = 10.0  # seconds before the same warning is logged again


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Options for serving layouts. Timeouts are seconds.

    Attributes:
        listen: HOST:PORT; port 0 picks a free port.
        certificate: a PEM file; without it, TLS is not used.
        key: a PEM file, if the key is not in `certificate`.
        htpasswd: a file with bcrypt hashes; without it, everyone may pull.
        idle_timeout: time that a connection may take to send a request.
        send_timeout: time that a client may take to accept 128 KiB or, on Linux, any byte at all.
        shutdown_timeout: time that requests in progress may take at shutdown.
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
    """Serve layouts as a read-only registry until the context ends. Nothing is written to them.

    Broken content and other warnings go to loggers below `mirror.serve`; `mirror.serve.access` logs a line for each
    request at level INFO. These lines contain text from clients: escape them before they reach a terminal.

    Args:
        layouts: the directories of the layouts. If two images have the same name, the one in the first layout is
            served.
        options: the address, TLS, passwords and timeouts.

    Raises:
        UsageError: the address, the certificate or the htpasswd file is not usable, or a layout does not exist.
        BrokenLayout: a directory is not a layout.
        ListenError: the address is in use, or is not an address of this machine.
    """
    options = options or ServeOptions()
    if not layouts:
        raise UsageError("Name at least one layout to serve.")
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
        bound, port = listening.getsockname()[:2]
        address = f"[{bound}]:{port}" if ":" in bound else f"{bound}:{port}"
        async with _running(handler, store, listening, tls, options):
            if host not in ("localhost", "::1") and not host.startswith("127."):
                _warn_of_exposure(host, tls is not None, users is not None)
            yield ServerInfo(
                address=address,
                url=f"http{'s' if tls else ''}://{address}",
                layouts=tuple(map(str, layouts)),
                repositories=tuple(catalog.names(None)),
                images=catalog.images,
            )


def _warn_of_exposure(host: str, tls: bool, users: bool) -> None:
    if not users:
        log.warning("Anyone who can reach %s can pull all images; require a password with --htpasswd.", host)
    elif not tls:
        log.warning("Passwords are sent without TLS and can be intercepted; use --cert and --key.")


@asynccontextmanager
async def _running(
    handler: Handler, store: BlobStore, listening: socket.socket, tls: ssl.SSLContext | None, options: ServeOptions
) -> AsyncIterator[None]:
    server_log = logging.Logger("mirror.serve.aiohttp", logging.WARNING)  # not registered, so without other handlers
    server_log.addHandler(_ServerLogHandler())
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
    loop.set_exception_handler(_log_exhaustion(previous))
    try:
        yield
    finally:
        loop.remove_reader(listening)  # first: closing the listener does not close the connections it has accepted
        connections.closed = True
        await _run_pending_callbacks()
        listener.close()
        server.pre_shutdown()
        await handler.finish(options.shutdown_timeout)
        store.stop()
        await handler.cancel()  # before the connections: asyncio cannot abort one during a sendfile
        for connection in server.connections:
            if connection.transport:
                connection.transport.abort()
        await server.shutdown(1)
        await _run_pending_callbacks()
        loop.set_exception_handler(previous)


async def _run_pending_callbacks() -> None:
    """Let the event loop hand over the connections that it has accepted, and close those that were aborted."""
    for _ in range(10):
        await asyncio.sleep(0)


def _max_connections() -> int:
    """Return half of the files that may be open, since each connection may have a blob open, less a reserve."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return _MAX_CONNECTIONS
    reserve = max(128, min(300, files // 4))  # asyncio accepts 100 connections before it asks `_ConnectionLimit`
    return max(16, min(_MAX_CONNECTIONS, (files - reserve) // 2))


class _ConnectionLimit:
    """A factory for the protocols of new connections, up to a maximum and until `closed`; all others are aborted."""

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


def _log_exhaustion(fallback: ExceptionHandler | None) -> ExceptionHandler:
    """Return an exception handler that logs one line if no connection can be accepted; asyncio logs every attempt.

    asyncio tries again after a second. Other exceptions go to `fallback`.
    """
    logged = -_QUIET_TIME

    def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        nonlocal logged
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _EXHAUSTED and "socket" in context:
            if loop.time() - logged >= _QUIET_TIME:
                logged = loop.time()
                log.warning("New connections must wait: %s (ulimit -n).", os.strerror(error.errno))
        elif isinstance(error, ValueError) and "._start_serving(" in context["message"]:
            pass  # a second after such an error, asyncio goes on to accept, even if the listener is closed by then
        else:
            fallback(loop, context) if fallback else loop.default_exception_handler(context)

    return handle


class _ServerLogHandler(logging.Handler):
    """A handler of aiohttp's own log: requests that cannot be parsed, and internal errors."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            access.log_invalid(error)
        else:
            log.warning("%s%s", record.getMessage(), f" ({type(error).__name__}: {error})" if error else "")
