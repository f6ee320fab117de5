"""Exchanges by blocking sockets in threads, for large bodies: several cores move, encrypt and hash them.

The event loop connects, so that the address that was checked is the one that is connected to. A thread does the rest:
proxy tunnel, TLS handshake, request, head of the response; and then, whichever thread calls `fill`, its body.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from time import monotonic

import aiohappyeyeballs
import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from mirror.concurrency import once_unused, to_thread
from mirror.registry.transport.addresses import AddressInfo, parse_address
from mirror.registry.transport.connection import Connection, connection_key
from mirror.registry.transport.exchange import Body, Call, Response, SocketFactory
from mirror.registry.transport.http1 import ResponseParser, request_head

_KEEP_IDLE = 15.0  # seconds; servers close idle connections after a minute or so, and proxies sooner
_STAGGER = 0.25  # seconds until the next address is tried at the same time (RFC 8305)
_CHUNK = 256 * 1024  # bytes
_IDEMPOTENT = frozenset({"GET", "HEAD", "PUT", "DELETE"})
# Errors of a connection that has been used before. An invalid response may be the rest of the previous one.
_UNUSABLE = (aiohttp.ServerDisconnectedError, aiohttp.ClientResponseError, ConnectionResetError, BrokenPipeError)
_CUT = "the connection ended in the middle of a response"

_Key = tuple[str, str | None, int | None, ssl.SSLContext | None, URL | None, SocketFactory | None]


class SocketResponse:
    """A response on a blocking connection; see `Response`."""

    def __init__(self, call: Call, connection: Connection, parser: ResponseParser, headers: Mapping[str, str]) -> None:
        head = parser.head
        self.method, self.url, self.sent = call.method, call.url, headers
        self.status, self.reason, self.headers = head.status, head.reason, head.headers
        self.content_length = _announced(head.headers)
        self.content_type = _media_type(head.headers.get("Content-Type", ""))
        self._connection, self._parser, self._timeout = connection, parser, call.read_timeout
        self._ready = parser.take()  # what has arrived of the body, and has not been read
        self._left = None if head.length is None else head.length - len(self._ready)
        self._has_ended = False  # the server will not answer on this connection again
        self._settle()

    def fill(self, view: memoryview) -> int:
        """Read the next bytes of the body, in a thread."""
        while not self._ready and not self._is_complete:
            if self._left is not None:
                return self._fill_directly(view)
            self._parse_more()
        taken, self._ready = self._ready[: len(view)], self._ready[len(view) :]
        view[: len(taken)] = taken
        self._settle()
        return len(taken)

    async def chunks(self) -> AsyncIterator[bytes]:
        view = memoryview(bytearray(_CHUNK))
        while count := await to_thread(partial(self.fill, view), on_cancel=self.interrupt):
            yield bytes(view[:count])

    def interrupt(self) -> None:
        self._connection.interrupt()

    def pause(self, seconds: float) -> None:
        self._connection.interrupted.wait(seconds)

    def close(self) -> None:
        self._connection.interrupt()

    @property
    def _is_complete(self) -> bool:
        return self._left == 0 if self._left is not None else self._parser.is_complete

    def _fill_directly(self, view: memoryview) -> int:
        assert self._left is not None, "the length is known"
        count = self._receive(view[: self._left])
        if not count:
            raise aiohttp.ClientPayloadError(_CUT)
        self._left -= count
        self._settle()
        return count

    def _parse_more(self) -> None:
        """Receive a part of a body that is chunked, or ends with the connection."""
        view = memoryview(bytearray(_CHUNK))
        count = self._receive(view, 0)  # the server may send nothing more before the next request
        try:
            if count:
                self._parser.feed(bytes(view[:count]))
            else:
                self._has_ended = True
                self._parser.end()
        except (HttpProcessingError, aiohttp.ClientPayloadError) as error:
            raise aiohttp.ClientPayloadError(str(error)) from error
        self._ready = self._parser.take()

    def _receive(self, view: memoryview, *gather: float) -> int:
        try:
            return self._connection.receive(view, self._timeout, *gather)
        except TimeoutError:
            raise
        except OSError as error:
            raise aiohttp.ClientPayloadError(_CUT) from error

    def _settle(self) -> None:
        is_open = self._parser.head.keeps_open and not (self._connection.was_answered_early or self._has_ended)
        self._connection.is_reusable = is_open and self._is_complete


def _announced(headers: CIMultiDictProxy[str]) -> int | None:
    text = headers.get("Content-Length")
    return None if text is None else int(text)


def _media_type(text: str) -> str:
    """Return the type in a `Content-Type`, as aiohttp does: a default replaces one that is not valid."""
    name = text.partition(";")[0].strip().lower()
    return name if name.count("/") == 1 else "application/octet-stream"


class SocketExchange:
    """`Exchange`: connections for one registry, which are kept open for the next call."""

    def __init__(self, connect_timeout: float) -> None:
        self._connect_timeout = connect_timeout
        self._idle: dict[_Key, list[Connection]] = {}

    @staticmethod
    def takes(call: Call) -> bool:
        """Return whether this exchange can carry out a call: Python's sockets cannot make TLS within TLS."""
        data = call.data
        is_sendable = data.pieces is not None if isinstance(data, Body) else isinstance(data, bytes | None)
        return is_sendable and not (call.proxy and call.proxy.scheme == "https")

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Response]:
        """`Exchange`: carry out a call."""
        connection, response = await self._respond(call)
        try:
            yield response
        finally:
            if connection.is_reusable and not connection.interrupted.is_set():
                self._close_expired()
                connection.idle_since = monotonic()
                self._idle.setdefault(_key(call), []).append(connection)
            else:
                once_unused(connection.close)

    async def close(self) -> None:
        """`Exchange`: close all idle connections."""
        while self._idle:
            for connection in self._idle.popitem()[1]:
                once_unused(connection.close)

    def _close_expired(self) -> None:
        """Close what has been idle for too long: other registries may never be asked again."""
        for key, idle in [*self._idle.items()]:
            while idle and monotonic() - idle[0].idle_since >= _KEEP_IDLE:
                once_unused(idle.pop(0).close)
            if not idle:
                del self._idle[key]

    async def _respond(self, call: Call) -> tuple[Connection, Response]:
        """Send a request on an idle connection or, if there is none, or it cannot be used any more, a new one."""
        if connection := self._take_idle(call):
            try:
                return connection, await self._attempt(call, connection)
            except _UNUSABLE:
                # A body may have been used up, and the server may have carried out the request (RFC 9110, 9.2.2).
                if isinstance(call.data, Body) or call.method not in _IDEMPOTENT:
                    raise
        infos = await self._resolve(call)
        while True:
            connection = await self._connect(call, infos)
            try:
                return connection, await self._attempt(call, connection)
            except aiohttp.ClientConnectorError:  # the TLS handshake failed: another address may have another server
                aiohappyeyeballs.pop_addr_infos_interleave(infos, 1)
                if call.proxy or not infos:
                    raise

    async def _attempt(self, call: Call, connection: Connection) -> Response:
        """Send a request and receive the head of its response, in a thread."""

        def interrupt() -> None:
            connection.interrupt()
            if isinstance(call.data, Body):
                call.data.interrupt()

        try:
            return await to_thread(partial(self._converse, call, connection), on_cancel=interrupt)
        except BaseException:
            once_unused(connection.close)
            raise

    def _converse(self, call: Call, connection: Connection) -> Response:
        headers = _complete(call)
        target = call.url.raw_path_qs
        if call.proxy and call.url.scheme == "http":
            target = str(call.url.with_fragment(None))
        try:
            if not connection.is_ready:
                self._prepare(call, connection)
            connection.send(call.method, request_head(call.method, target, headers), call.data, call.read_timeout)
            parser = connection.receive_head(call.read_timeout)
        except HttpProcessingError as error:
            info = aiohttp.RequestInfo(call.url, call.method, headers, call.url)  # type: ignore[arg-type]
            raise aiohttp.ClientResponseError(
                info, (), status=error.code, message=error.message, headers=error.headers
            ) from error
        if connection.was_answered_early and parser.head.status < 300:
            raise ConnectionResetError("the server answered before it had the whole request")
        return SocketResponse(call, connection, parser, headers)

    def _prepare(self, call: Call, connection: Connection) -> None:
        """Make a new connection ready for requests: through a proxy, and with TLS."""
        if call.url.scheme == "https":
            assert call.tls, "never without TLS"
            if call.proxy:
                connection.tunnel(call.url, call.proxy_headers, call.read_timeout)
            connection.start_tls(call.tls, call.url, self._connect_timeout)
        connection.is_ready = True

    def _take_idle(self, call: Call) -> Connection | None:
        idle = self._idle.get(_key(call), [])
        while idle:
            connection = idle.pop()
            if monotonic() - connection.idle_since < _KEEP_IDLE and not connection.is_stale:
                return connection
            connection.close()
        return None

    async def _resolve(self, call: Call) -> list[AddressInfo]:
        """Return the addresses of the host of a call, or of its proxy."""
        url = call.proxy or call.url
        host = url.raw_host or ""
        if host.replace(".", "").isdigit() and str(parse_address(host)) != host:
            raise aiohttp.InvalidUrlClientError(host, "is not a canonical IPv4 address")
        flags = 0 if parse_address(host) else socket.AI_ADDRCONFIG
        try:
            loop = asyncio.get_running_loop()
            return list(await loop.getaddrinfo(host, url.port, type=socket.SOCK_STREAM, flags=flags))
        except OSError as error:
            raise aiohttp.ClientConnectorDNSError(connection_key(url), error) from error

    async def _connect(self, call: Call, infos: list[AddressInfo]) -> Connection:
        """Connect to the first of these addresses that answers, and remove those that do not."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(self._connect_timeout):
                    connected = await aiohappyeyeballs.start_connection(
                        infos, happy_eyeballs_delay=_STAGGER, interleave=1, loop=loop, socket_factory=call.sockets
                    )
                return Connection(connected, partial(ResponseParser, loop=loop))
            except OSError as error:
                if isinstance(error, TimeoutError) and error.errno is None:
                    raise  # it is not from the system
                # As aiohttp does: the error of several addresses does not say what is wrong with one of them.
                aiohappyeyeballs.pop_addr_infos_interleave(infos, 1)
                if not infos:
                    kind = aiohttp.ClientProxyConnectionError if call.proxy else aiohttp.ClientConnectorError
                    raise kind(connection_key(call.proxy or call.url), error) from error


def _key(call: Call) -> _Key:
    """Return what calls must have in common to use the same connection."""
    tunnels = call.proxy is not None and call.url.scheme == "https"
    where = call.url if tunnels or not call.proxy else call.proxy
    return call.url.scheme, where.raw_host, where.port, call.tls, call.proxy, call.sockets


def _complete(call: Call) -> dict[str, str]:
    """Return the headers of a call, with those that HTTP requires."""
    headers = {"Host": call.url.host_port_subcomponent or "", "Accept": "*/*", **call.headers}
    if isinstance(call.data, bytes):
        headers.setdefault("Content-Length", str(len(call.data)))
    return headers
