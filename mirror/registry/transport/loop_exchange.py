"""Exchanges by aiohttp, in the event loop: everything but large bodies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from time import sleep

import aiohttp
from multidict import CIMultiDictProxy
from yarl import URL

from mirror.registry.transport.exchange import Body, Call, Response, SocketFactory

OpenSession = Callable[[SocketFactory | None], aiohttp.ClientSession]  # a session with sockets from that factory


class LoopResponse:
    """A response of aiohttp."""

    fill = None

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.method: str = response.method
        self.url: URL = response.url
        self.status: int = response.status
        self.reason: str | None = response.reason
        self.headers: CIMultiDictProxy[str] = response.headers
        self.sent: Mapping[str, str] = response.request_info.headers

    @property
    def content_length(self) -> int | None:
        return self._response.content_length

    @property
    def content_type(self) -> str:
        return self._response.content_type

    async def chunks(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.content.iter_any():
            yield chunk

    def interrupt(self) -> None:
        """Do nothing: no thread reads this response."""

    def pause(self, seconds: float) -> None:
        """Sleep."""
        sleep(seconds)

    def close(self) -> None:
        self._response.close()


class LoopExchange:
    """`Exchange`: sessions of aiohttp, one for each socket factory."""

    def __init__(self, open_session: OpenSession, connect_timeout: float) -> None:
        self._open_session, self._connect_timeout = open_session, connect_timeout
        self._sessions: dict[SocketFactory | None, aiohttp.ClientSession] = {}

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncIterator[Response]:
        """`Exchange`: carry out a call."""
        if call.sockets not in self._sessions:
            self._sessions[call.sockets] = self._open_session(call.sockets)
        async with self._sessions[call.sockets].request(
            call.method,
            call.url,
            headers=call.headers,
            data=call.data.chunks if isinstance(call.data, Body) else call.data,
            allow_redirects=False,
            ssl=call.tls or True,
            proxy=call.proxy,
            proxy_headers=call.proxy_headers,
            timeout=aiohttp.ClientTimeout(None, sock_connect=self._connect_timeout, sock_read=call.read_timeout),
        ) as response:
            yield LoopResponse(response)

    async def close(self) -> None:
        """`Exchange`: close all sessions."""
        while self._sessions:
            await self._sessions.popitem()[1].close()
