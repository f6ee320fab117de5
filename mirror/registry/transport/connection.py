"""A blocking HTTP/1.1 connection for one thread at a time (RFC 9112), which another thread can interrupt.

The socket never blocks by itself: every wait is a `poll` with a timeout, so that a response can be noticed while a body
is sent. Errors are aiohttp's, so that both exchanges have the same; heads and chunked bodies are parsed by its parser.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from threading import Event
from time import monotonic
from typing import Any, TypeVar, cast

import aiohttp
from yarl import URL

from mirror.registry.transport.exchange import Body, Piece
from mirror.registry.transport.http1 import ResponseParser, request_head

T = TypeVar("T")
_HEAD = 64 * 1024  # bytes that are read at once until a head is complete
_GATHER = 0.25  # seconds that bytes wait for more to arrive, so that they are hashed and written together
_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})  # some file systems
_NO_ANSWER = "the server closed the connection before it answered"


@dataclass(frozen=True, slots=True)
class _Place:
    """The end of a connection, as aiohttp's errors describe it (its own type differs between versions)."""

    host: str
    port: int
    is_ssl: bool
    ssl: bool = True


def connection_key(url: URL) -> Any:
    """Return what aiohttp's connection errors need about a URL."""
    return cast(Any, _Place(url.raw_host or "", url.port or 0, url.scheme == "https"))


class Connection:
    """A connected socket, and TLS over it.

    `is_ready` is set once requests can be sent. `is_reusable` is True if the last response has been read completely,
    and the server keeps the connection open; `idle_since` is the monotonic time when that was.
    """

    def __init__(self, connected: socket.socket, make_parser: Callable[[str], ResponseParser]) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.interrupted = Event()
        self.is_ready = self.is_reusable = False
        self.idle_since = 0.0
        self.was_answered_early = False  # the last request was not sent as a whole
        self._socket, self._make_parser = connected, make_parser
        self._poll = select.poll()
        self._parser: ResponseParser | None = None  # of the response to the last request
        self._failure: OSError | None = None  # the next wait raises it

    # --- opening -------------------------------------------------------------------------------------------------

    def tunnel(self, url: URL, headers: Mapping[str, str], timeout: float) -> None:
        """Ask a proxy for a tunnel to the host of a URL (RFC 9110, 9.3.6)."""
        authority = f"{url.host_subcomponent}:{url.port}"
        self.send("CONNECT", request_head("CONNECT", authority, {"Host": authority, **headers}), None, timeout)
        head = self.receive_head(timeout).head
        if head.status != 200:
            info = aiohttp.RequestInfo(url, "CONNECT", cast(Any, headers), url)
            raise aiohttp.ClientHttpProxyError(info, (), status=head.status, message=head.reason, headers=head.headers)

    def start_tls(self, context: ssl.SSLContext, url: URL, timeout: float) -> None:
        """Make the TLS handshake."""
        name = (url.raw_host or "").rstrip(".")
        try:
            # Python would lose the socket if its connection has been reset.
            if code := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise OSError(code, os.strerror(code))
            self._socket = context.wrap_socket(self._socket, server_hostname=name, do_handshake_on_connect=False)
            self._attempt(self._socket.do_handshake, select.POLLIN, timeout)
        except ssl.CertificateError as error:
            raise aiohttp.ClientConnectorCertificateError(connection_key(url), error) from error
        except ssl.SSLError as error:
            raise aiohttp.ClientConnectorSSLError(connection_key(url), error) from error
        except TimeoutError:
            raise
        except OSError as error:
            raise aiohttp.ClientConnectorError(connection_key(url), error) from error

    # --- one exchange --------------------------------------------------------------------------------------------

    def send(self, method: str, head: bytes, data: bytes | Body | None, timeout: float) -> None:
        """Send a request; stop early if the server answers before it has the whole body."""
        self.is_reusable = self.was_answered_early = False
        self._parser = self._make_parser(method)
        start = head + data if isinstance(data, bytes) else head
        self.was_answered_early = not self._send(memoryview(start), timeout)
        if isinstance(data, Body) and not self.was_answered_early:
            self.was_answered_early = not self._send_body(data, timeout)

    def receive_head(self, timeout: float) -> ResponseParser:
        """Receive the head of a response, and what has arrived of its body.

        Raises:
            HttpProcessingError: it is not valid HTTP.
        """
        assert self._parser is not None, "a request was sent"
        buffer = memoryview(bytearray(_HEAD))
        while not self._parser.has_head:
            count = self._receive(buffer, timeout)
            if not count:
                raise aiohttp.ServerDisconnectedError(_NO_ANSWER)
            self._parser.feed(bytes(buffer[:count]))
        return self._parser

    def receive(self, view: memoryview, timeout: float, gather: float = _GATHER) -> int:
        """Fill a buffer, or return what has arrived in `gather` seconds; 0 at the end of the connection."""
        got = self._receive(view, timeout)
        until = monotonic() + gather
        while 0 < got < len(view):
            try:
                count = self._socket.recv_into(view[got:])
            except (BlockingIOError, ssl.SSLWantReadError):
                if not self._wait(select.POLLIN, until - monotonic()):
                    break
                continue
            except OSError as error:  # for the next call: the system reports it once, and then the end
                self._failure = error
                break
            if not count:
                break
            got += count
        return got

    def interrupt(self) -> None:
        """Make the thread that uses this connection fail at once."""
        self.interrupted.set()
        with suppress(OSError):  # it is not connected any more
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not that of SSLSocket, which drops its TLS state

    def close(self) -> None:
        """Close the socket; no thread may be using it."""
        self._socket.close()

    @property
    def is_stale(self) -> bool:
        """True if the server has closed this idle connection, or sent something without a request."""
        return self._wait(select.POLLIN, 0) or (isinstance(self._socket, ssl.SSLSocket) and self._socket.pending() > 0)

    # --- sending -------------------------------------------------------------------------------------------------

    def _send_body(self, body: Body, timeout: float) -> bool:
        assert body.pieces is not None, "chosen for it"
        try:
            for piece in body.pieces:
                limit = timeout if piece.timeout is None else piece.timeout
                if piece.file is None or isinstance(self._socket, ssl.SSLSocket):
                    is_sent = self._send(piece.view, limit)
                else:
                    is_sent = self._send_file(piece, piece.file, limit)
                if not is_sent:
                    return False
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return False  # `receive_head` finds out whether the server answered before it closed the connection
        return True

    def _send(self, view: memoryview, timeout: float) -> bool:
        """Send bytes; return False if the server has answered before it had them all."""
        deadline = monotonic() + timeout
        while view:
            count = self._attempt_to_send(partial(self._socket.send, view), deadline)
            if count is None:
                return False
            view = view[count:]
        return True

    def _send_file(self, piece: Piece, file: int, timeout: float) -> bool:
        deadline, sent, size = monotonic() + timeout, 0, len(piece.view)
        while sent < size:
            send = partial(os.sendfile, self._socket.fileno(), file, piece.offset + sent, size - sent)
            try:
                count = self._attempt_to_send(send, deadline)
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                return self._send(piece.view[sent:], timeout)
            if count is None:
                return False
            if not count:
                raise OSError("the file has become shorter while it was sent")
            sent += count
        return True

    def _attempt_to_send(self, send: Callable[[], int], deadline: float) -> int | None:
        """Send some bytes; return None if the server has answered."""
        while True:
            self._check()
            try:
                return send()
            except (BlockingIOError, ssl.SSLWantWriteError):
                wanted = select.POLLOUT | select.POLLIN
            except ssl.SSLWantReadError:
                wanted = select.POLLIN
            events = self._wait_for(wanted, deadline - monotonic())
            if not events:
                raise TimeoutError
            if events & select.POLLIN and self._has_answered():
                return None

    def _has_answered(self) -> bool:
        """Return whether the server has sent the head of its response, or the end of the connection."""
        assert self._parser is not None, "a request is being sent"
        try:
            data = self._socket.recv(_HEAD)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False  # such as a new session ticket of TLS
        except OSError:
            return False  # sending will fail, too
        return not data or self._parser.feed(data)

    # --- waiting -------------------------------------------------------------------------------------------------

    def _receive(self, view: memoryview, timeout: float) -> int:
        return self._attempt(partial(self._socket.recv_into, view), select.POLLIN, timeout)

    def _attempt(self, action: Callable[[], T], event: int, timeout: float) -> T:
        """Try an action until it need not wait for the network; raise TimeoutError after `timeout` seconds."""
        deadline = monotonic() + timeout
        while True:
            self._check()
            try:
                return action()
            except (BlockingIOError, ssl.SSLWantReadError):
                wanted = event
            except ssl.SSLWantWriteError:
                wanted = select.POLLOUT
            if not self._wait(wanted, deadline - monotonic()):
                raise TimeoutError

    def _wait(self, events: int, seconds: float) -> bool:
        return bool(self._wait_for(events, seconds))

    def _wait_for(self, events: int, seconds: float) -> int:
        """Wait until the socket is ready, and return for what; 0 after so many seconds. Errors count as ready."""
        self._poll.register(self._socket, events)
        found = self._poll.poll(max(0.0, seconds) * 1000)
        return found[0][1] if found else 0

    def _check(self) -> None:
        if self.interrupted.is_set():
            raise ConnectionAbortedError("interrupted")
        if self._failure:
            raise self._failure
