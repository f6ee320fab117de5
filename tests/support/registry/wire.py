"""Conversion between aiohttp and the requests and responses of the embedded registry."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import parse_qs

from aiohttp import web

from tests.support.registry.messages import Answer, Call

_PIECE = 1 << 20


@dataclass(frozen=True)
class Seen:
    """A request that the registry got. `status` is 0 if the connection ended without a response."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    target: str
    status: int
    sent: int
    received: int


class Record:
    """A request in progress; `seen()` returns its current state."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.method = request.method
        self.path = request.path
        self.target = request.raw_path
        self.query = parse_qs(request.rel_url.raw_query_string, keep_blank_values=True)
        self.headers = {name.lower(): value for name, value in request.headers.items()}
        self.status = self.sent = self.received = 0

    def seen(self) -> Seen:
        return Seen(**vars(self))

    def call(self, request: web.BaseRequest) -> Call:
        origin = f"{request.scheme}://{request.host}"
        return Call(self.method, self.path, self.query, self.headers, origin, self._body(request))

    async def _body(self, request: web.BaseRequest) -> AsyncIterator[bytes]:
        async for chunk in request.content.iter_any():
            self.received += len(chunk)
            yield chunk


class _Response(web.StreamResponse):
    """Sends the given headers only: no computed Content-Length, no default Content-Type."""

    _length_check = False

    def __init__(self, given: Answer) -> None:
        super().__init__(status=given.status)
        for name, value in given.headers:
            self.headers.add(name, value)
        self._typed = given.header("Content-Type") is not None
        if given.chunked:
            self.enable_chunked_encoding()

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        if not self._typed:
            self.headers.popall("Content-Type", None)


async def send(request: web.BaseRequest, given: Answer, record: Record) -> web.StreamResponse:
    """Send a response, or the part of it before its ending. A client that has disconnected is not an error."""
    try:
        return await _send(request, given, record)
    except ConnectionError:
        return web.StreamResponse()  # aiohttp notices that the client has disconnected


async def _send(request: web.BaseRequest, given: Answer, record: Record) -> web.StreamResponse:
    transport = request.transport
    if transport is None or transport.is_closing():
        raise ConnectionResetError
    await asyncio.sleep(given.delay)
    while not given.is_due():
        await asyncio.sleep(0.01)
    ending = given.ending
    if ending and ending.after is None:
        await ending.leave(transport)
        raise ConnectionResetError
    record.status = given.status
    response = _Response(given)
    await response.prepare(request)
    if request.method != "HEAD":
        body = given.body if ending is None else given.body[: ending.after]
        await (_trickle(response, body, record, given.rate) if given.rate else _write(response, body, record))
    if ending:
        await ending.leave(transport)
    elif not given.chunked and given.header("Content-Length") != str(len(given.body)):
        transport.close()  # the length is unknown or wrong: the end of the connection marks the end of the body
    await response.write_eof()
    return response


async def _write(response: web.StreamResponse, body: bytes, record: Record) -> None:
    """Write a body, and count bytes before they are sent: the log is complete when the client has them all."""
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        record.sent += len(piece)
        await response.write(piece)


async def _trickle(response: web.StreamResponse, body: bytes, record: Record, rate: int) -> None:
    """Write a body at no more than `rate` bytes per second on average."""
    loop = asyncio.get_running_loop()
    began, piece = loop.time(), max(1, rate // 50)
    for start in range(0, len(body), piece):
        data = body[start : start + piece]
        record.sent += len(data)
        await response.write(data)
        await asyncio.sleep(max(0.0, began + record.sent / rate - loop.time()))
