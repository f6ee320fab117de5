"""The server: open the layouts, listen, hand each request to the handler, and end.

At the end nobody new is let in, those who are being served get some seconds, and then all is closed.
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
from mirror.serve import htpasswd, listen
from mirror.serve.api import Api
from mirror.serve.current import Current
from mirror.serve.handler import Handler, Speak
from mirror.serve.htpasswd import BasicAuth
from mirror.serve.store import Store
from mirror.strictjson import JsonObject
from mirror.text import count

Complain = Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object]

_HANDSHAKE = 10.0  # seconds for TLS
_LINGERING = 2.0  # seconds in which the rest of an upload that was refused is read, so that the client sees why
_MOST = 16_384  # connections, where the system allows so many files
_SPARE, _ROOM = 128, 300  # files that are no connections and no blobs: asyncio lets in 100 before it asks the door
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_AGAIN = 10.0  # seconds before the same thing is said again


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where to serve, for whom, and how patiently. Times are seconds.

    `listen` is HOST:PORT, port 0 a free one. `certificate` and `key` are PEM files, `htpasswd` a file with bcrypt
    hashes. `idle` is how long a connection may take to ask for something, `patience` how long a client may take for
    128 KiB, or (on Linux) for any byte at all, `grace` what running transfers get at the end.
    """

    listen: str = "127.0.0.1:5000"
    certificate: Path | None = None
    key: Path | None = None
    htpasswd: Path | None = None
    idle: float = 60.0
    patience: float = 120.0
    grace: float = 5.0


@dataclass(frozen=True, slots=True)
class Serving:
    """What is being served, and where: `address` is HOST:PORT. `notes` are sentences for whoever started it."""

    address: str
    tls: bool
    layouts: tuple[str, ...]
    repositories: tuple[str, ...]
    images: int
    notes: tuple[str, ...] = ()

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://{self.address}"

    def lines(self) -> list[str]:
        return [self.address]

    def to_json(self) -> JsonObject:
        return {
            "schema": "mirror.serve/1",
            "address": self.address,
            "url": self.url,
            "layouts": list(self.layouts),
            "repositories": list(self.repositories),
            "images": self.images,
        }

    def summary(self) -> str:
        what = f"{count(self.images, 'image')} of {', '.join(self.layouts)}"
        return f"serving {what} at {self.url}, read-only; SIGTERM or Ctrl-C ends it."


def _silent(_: str) -> None: ...


@asynccontextmanager
async def serve_layouts(
    layouts: Sequence[Path | str],
    options: ServeOptions | None = None,
    *,
    say: Speak = _silent,
    log: Speak = _silent,
) -> AsyncIterator[Serving]:
    """Serve layouts as a read-only registry for as long as the context lasts. Nothing is written to them.

    Args:
        layouts: their folders; of two images with one name, that of the first layout is served.
        options: how.
        say: takes sentences: content that is broken, an `index.json` that cannot be read.
        log: takes the lines of the access log, one for each request. What a client wrote is in them: escape it.

    Raises:
        UsageError: an address, a certificate or an htpasswd file that cannot be used; a layout that is not there.
        BrokenLayout: a folder is no layout.
        ListenError: the address is taken.
    """
    options = options or ServeOptions()
    if not layouts:
        raise UsageError("There is no layout to serve.")
    where, tls = listen.address(options.listen), listen.tls(options.certificate, options.key)
    users = htpasswd.read(options.htpasswd) if options.htpasswd else None
    with ExitStack() as stack:
        opened = [stack.enter_context(Layout.open(Path(path))) for path in layouts]
        store = stack.enter_context(Store(opened))
        current = Current(opened, store, say)
        catalog = await current.catalog()
        guard = BasicAuth(users, store.hop) if users else None
        handler = Handler(Api(current, store), guard, options.patience, say, log)
        sock = stack.enter_context(listen.bound(*where, options.patience))
        async with _running(handler, store, sock, tls, options):
            yield Serving(
                address=listen.shown(sock),
                tls=tls is not None,
                layouts=tuple(map(str, layouts)),
                repositories=tuple(catalog.names(None)),
                images=catalog.images,
                notes=tuple(_warnings(where[0], tls, users)),
            )


def _warnings(host: str, tls: ssl.SSLContext | None, users: object) -> list[str]:
    if host in ("localhost", "::1") or host.startswith("127."):
        return []
    if users and not tls:
        return ["Passwords can be read on the way: there is no TLS. Give it a certificate with --cert and --key."]
    return [] if users else [f"Whoever can reach {host} can read all images; --htpasswd asks for a password."]


@asynccontextmanager
async def _running(
    handler: Handler, store: Store, sock: socket.socket, tls: ssl.SSLContext | None, options: ServeOptions
) -> AsyncIterator[None]:
    server = web.Server(
        handler.handle,
        access_log=None,
        auto_decompress=False,
        handler_cancellation=True,
        keepalive_timeout=options.idle,
        lingering_time=_LINGERING,
        logger=_logger(handler),
    )
    door = _ConnectionLimit(server, _most_connections(), handler.say)
    loop = asyncio.get_running_loop()
    handshake, before = _HANDSHAKE if tls else None, loop.get_exception_handler()
    listener = await loop.create_server(door, sock=sock, ssl=tls, ssl_handshake_timeout=handshake)
    loop.set_exception_handler(_Overload(handler.say, before))
    try:
        yield
    finally:
        loop.remove_reader(sock)  # first: asyncio forgets to close what it has accepted when the listener closes
        door.shut = True
        await _turns()
        listener.close()
        server.pre_shutdown()
        await handler.finish(options.grace)
        store.stop()
        await handler.cancel()  # before the connections: asyncio does not expect one to be aborted in a sendfile
        for connection in server.connections:
            if connection.transport:
                connection.transport.abort()
        await server.shutdown(1)
        await _turns()
        loop.set_exception_handler(before)


async def _turns() -> None:
    """Let the event loop do what it has put off: hand over what it has accepted, close what has been aborted."""
    for _ in range(10):
        await asyncio.sleep(0)


def _most_connections() -> int:
    """Each may have a blob open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    spare = max(_SPARE, min(_ROOM, files // 4))
    return _MOST if files == resource.RLIM_INFINITY else max(16, min(_MOST, (files - spare) // 2))


class _ConnectionLimit:
    """Lets connections in until it is shut, and as many as there can be files for; the others are closed at once."""

    def __init__(self, server: web.Server, most: int, say: Speak) -> None:
        self.shut = self._full = False
        self._server, self._most, self._say = server, most, say

    def __call__(self) -> asyncio.Protocol:
        if self.shut:
            return _Refused()
        full, before = len(self._server.connections) >= self._most, self._full
        self._full = full
        if full and not before:
            self._say("connections are refused: there are as many as there can be files for (ulimit -n).")
        return _Refused() if full else self._server()


class _Overload:
    """What asyncio says, hundreds of times with a traceback each, where it cannot accept a connection: in one sentence.

    It tries again after a second.
    """

    def __init__(self, say: Speak, otherwise: Complain | None) -> None:
        self._say, self._otherwise, self._said = say, otherwise, -_AGAIN

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError) and error.errno in _NO_ROOM and "socket" in context:
            if loop.time() - self._said >= _AGAIN:
                self._said = loop.time()
                self._say(f"connections have to wait: {os.strerror(error.errno)} (ulimit -n).")
        elif self._otherwise:
            self._otherwise(loop, context)
        else:
            loop.default_exception_handler(context)


class _Refused(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.abort()


def _logger(handler: Handler) -> logging.Logger:
    """aiohttp's own log, which is ours: a logger that nobody else has, so no other handler sees it."""
    logger = logging.Logger("mirror.serve", logging.WARNING)
    logger.addHandler(_Lines(handler))
    return logger


class _Lines(logging.Handler):
    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self._handler = handler

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._handler.trouble(record.getMessage(), error)
