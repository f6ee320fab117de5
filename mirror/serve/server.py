"""The server: open the layouts, listen, pass each request to the handler, shut down.

At shutdown, no new connections are accepted, and requests in progress get a few seconds before they are cancelled.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
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
from mirror.serve.accept import Acceptor
from mirror.serve.api import Api
from mirror.serve.blobs import BlobStore
from mirror.serve.cache import CatalogCache
from mirror.serve.handler import Handler
from mirror.serve.htpasswd import BasicAuth
from mirror.stores.location import Location, Transport

log = logging.getLogger(__name__)

_LINGERING_TIME = 2.0  # seconds to read the rest of a refused upload, so that the client sees the response


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
    directories = [Location.of_kind(path, Transport.LAYOUT).directory for path in layouts]
    host, port = listen.parse_address(options.listen)
    tls = listen.tls_context(options.certificate, options.key)
    users = htpasswd.read_users(options.htpasswd) if options.htpasswd else None
    with ExitStack() as stack:
        opened = [stack.enter_context(Layout.open(path)) for path in directories]
        store = BlobStore(opened)
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
    server = _Server(
        handler,
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        keepalive_timeout=options.idle_timeout,
        lingering_time=_LINGERING_TIME,
        logger=server_log,
    )
    acceptor = Acceptor(listening, server, tls)
    acceptor.start()
    try:
        yield
    finally:
        await acceptor.stop()
        server.pre_shutdown()
        await handler.finish(options.shutdown_timeout)
        await asyncio.gather(store.stop(), handler.cancel())  # before the connections, which they use
        for connection in server.connections:
            if connection.transport:
                connection.transport.abort()
        await server.shutdown(1)
        for _ in range(10):  # let the event loop close the connections that were aborted
            await asyncio.sleep(0)


class _Server(web.Server):
    """aiohttp's server, which also tells `handler` why a connection was lost."""

    def __init__(self, handler: Handler, **options: Any) -> None:
        super().__init__(handler.handle, **options)
        self._lose = handler.lose

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._lose(handler, exc)
        super().connection_lost(handler, exc)


class _ServerLogHandler(logging.Handler):
    """A handler of aiohttp's own log: requests that cannot be parsed, and internal errors."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            access.log_invalid(error)
        else:
            log.warning("%s%s", record.getMessage(), f" ({type(error).__name__}: {error})" if error else "")
