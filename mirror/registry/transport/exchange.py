"""The seam between what a request means and how its bytes travel: one exchange is one request and one response.

There are two implementations: aiohttp in the event loop (`loop_exchange`), and blocking sockets in threads, for large
bodies (`socket_exchange`). Authentication, redirects, address rules, retries and rates are above, and know neither.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from multidict import CIMultiDictProxy
from yarl import URL

from mirror.content.stream import ReadInto
from mirror.registry.transport.addresses import AddressInfo

SocketFactory = Callable[[AddressInfo], Any]


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes of a request's body. If they are at `offset` of the open `file`, a sender may send them from there.

    The receiver must take them in `timeout` seconds; None: in the time that it has for its response.
    """

    view: memoryview
    file: int | None = None
    offset: int = 0
    timeout: float | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """A request's body of a known length, which can be sent once.

    Attributes:
        size: bytes.
        chunks: the bytes, for the event loop.
        pieces: the same bytes, for a thread; only one of the two is used. Each is valid until the next one is asked
            for. None: there is only `chunks`.
        interrupt: makes a thread that waits for the next piece fail at once.
    """

    size: int
    chunks: AsyncIterator[memoryview]
    pieces: Iterator[Piece] | None = None
    interrupt: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class Call:
    """One request, complete: nothing is added to its headers but `Host`, and those that frame its body.

    Attributes:
        data: None, bytes, a form (a mapping), or a `Body`.
        read_timeout: seconds without data after which the call fails.
        tls: for the host, or for its proxy.
        sockets: creates the sockets that are connected, and checks their addresses; None: to a proxy, which may be
            anywhere.
    """

    method: str
    url: URL
    headers: Mapping[str, str]
    data: Any
    read_timeout: float
    proxy: URL | None
    proxy_headers: Mapping[str, str]
    tls: ssl.SSLContext | None
    sockets: SocketFactory | None


class Response(Protocol):
    """A response, whose body has not been read.

    Attributes:
        sent: the headers of its request.
        content_length: bytes; None if the body has another framing.
        content_type: the media type, without parameters.
        fill: reads the body in a thread, which it blocks; what has arrived is returned within half a second. None: it
            can only be read as `chunks`. It raises the errors that `chunks` does.
    """

    @property
    def method(self) -> str: ...
    @property
    def url(self) -> URL: ...
    @property
    def status(self) -> int: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def headers(self) -> CIMultiDictProxy[str]: ...
    @property
    def sent(self) -> Mapping[str, str]: ...
    @property
    def content_length(self) -> int | None: ...
    @property
    def content_type(self) -> str: ...
    @property
    def fill(self) -> ReadInto | None: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            aiohttp.ClientError, TimeoutError, OSError: it does not arrive as a whole.
        """
        ...

    def interrupt(self) -> None:
        """Make a blocked `fill` or `pause` end at once, from any thread. The response cannot be read afterwards."""
        ...

    def pause(self, seconds: float) -> None:
        """Sleep in a thread; `interrupt` ends it."""
        ...

    def close(self) -> None:
        """Close the connection without reading the rest."""
        ...


class Exchange(Protocol):
    """One way to carry out calls."""

    def open(self, call: Call) -> AbstractAsyncContextManager[Response]:
        """Send a request, and return its response when its headers are there. Redirects are not followed.

        Raises:
            aiohttp.ClientError, TimeoutError, OSError: no response was received.
            MirrorError: the body of the request could not be read.
        """
        ...

    async def close(self) -> None:
        """Close idle connections."""
        ...
