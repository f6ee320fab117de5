"""HTTP/1.1 messages without I/O: heads of requests, and responses by aiohttp's parser, whose strictness they share."""

from __future__ import annotations

import re
from asyncio import AbstractEventLoop
from collections.abc import Mapping
from dataclasses import dataclass, replace

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import HttpResponseParser
from multidict import CIMultiDictProxy

from mirror.registry.transport.errors import MAX_HEADER

_FORBIDDEN = re.compile(r"[\r\n\0]")  # would end a header, and begin one of an attacker's choice
_SWITCHING = 101  # to another protocol: the last response, although in the range of interim ones
_NO_BODY = frozenset({_SWITCHING, 204, 304})
_BUFFER = 4 * 1024 * 1024  # bytes of a body in the parser before it asks to pause; more than is ever fed at once


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """Return a request up to its body; raise ValueError if a part of it would end its line."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if any(map(_FORBIDDEN.search, lines)):
        raise ValueError("a header of the request has a line break")
    return "\r\n".join([*lines, "", ""]).encode(errors="surrogateescape")  # byte for byte, as received


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a response. `length` is the size of its body; None: it is chunked, or ends with the connection."""

    status: int
    reason: str
    headers: CIMultiDictProxy[str]
    length: int | None
    keeps_open: bool


class ResponseParser:
    """Parses one response to a request with `method`.

    Bodies of known length need not be fed beyond the head. Others are, until `is_complete`.
    """

    head: Head

    def __init__(self, method: str, loop: AbstractEventLoop) -> None:
        self._method = method
        self._parser = HttpResponseParser(
            BaseProtocol(loop),
            loop,
            _BUFFER,
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            payload_exception=aiohttp.ClientPayloadError,
            response_with_body=method not in ("HEAD", "CONNECT"),
            read_until_eof=True,
            auto_decompress=False,  # digests cover the bytes as transferred
        )
        self._payload: aiohttp.StreamReader | None = None

    def feed(self, data: bytes) -> bool:
        """Take bytes; return True once the head is complete. Interim responses (1xx) are skipped."""
        if self._payload is not None:
            messages, _, rest = self._parser.feed_data(data)
            if messages or rest:  # what follows the body is for no request
                self.head = replace(self.head, keeps_open=False)
            return True
        # After the head of a response to CONNECT, there is a tunnel, or the body of an error, which is not read.
        return any(map(self._feed_head, data.splitlines(keepends=True) if self._method == "CONNECT" else [data]))

    def _feed_head(self, data: bytes) -> bool:
        messages, _, _ = self._parser.feed_data(data)
        for position, (message, payload) in enumerate(messages, 1):
            if not 100 <= message.code < 200 or message.code == _SWITCHING:
                self._payload = payload
                length = self._length(message.code, message.headers, is_chunked=message.chunked)
                is_last = position == len(messages) and message.code != _SWITCHING  # the rest is for no request
                keeps_open = not message.should_close and is_last
                self.head = Head(message.code, message.reason, message.headers, length, keeps_open)
                return True
        return False

    def _length(self, status: int, headers: CIMultiDictProxy[str], *, is_chunked: bool) -> int | None:
        if self._method == "HEAD" or status in _NO_BODY or (self._method == "CONNECT" and status == 200):
            return 0
        text = headers.get("Content-Length")
        return None if is_chunked or text is None else int(text)

    @property
    def has_head(self) -> bool:
        """True if `head` is complete."""
        return self._payload is not None

    def end(self) -> None:
        """Take the end of the connection."""
        self._parser.feed_eof()

    @property
    def is_complete(self) -> bool:
        return self._payload is not None and self._payload.is_eof()

    def take(self) -> bytes:
        """Return what has been parsed of the body since the last call."""
        assert self._payload is not None, "the head is complete"
        return self._payload.read_nowait(-1)
