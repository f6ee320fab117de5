"""Responses to clients: only bytes that have just been verified, and without blocking other clients.

A blob is sent in units. A thread reads each unit into memory and verifies it, and these very bytes are sent, so that it
does not matter what happens to the file, or to its pages in the cache, at the same time. If the client is slower, the
rest of the unit is dropped, and verified again when the client has taken what there was: many slow clients must not
take much memory. `listen.bind` sets a shorter limit for clients that accept nothing at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import web

from mirror.serve.blobs import BlobStore, OpenBlob
from mirror.serve.checkpoints import UNIT
from mirror.serve.responses import Response

_PIECE = 32 * 1024  # bytes; at most so many wait in memory for a slow client
_PACE = 128 * 1024  # bytes that a client must accept in `timeout` seconds


class ResponseWriter:
    """A writer of one response from `store`, with additional `headers`. `sent` counts the bytes of the body.

    The client must accept 128 KiB within `timeout` seconds.
    """

    def __init__(
        self, request: web.BaseRequest, response: Response, headers: Mapping[str, str], timeout: float, store: BlobStore
    ) -> None:
        self.sent = 0
        self._request, self._response, self._headers = request, response, {**headers, **response.headers}
        self._timeout, self._store = timeout, store
        self._patience = timeout  # seconds that are left for the next 128 KiB

    async def send(self) -> web.StreamResponse:
        """Send the whole response. TimeoutError, ConnectionError or `ChangedError`: the client got only a part."""
        response, status = self._response, self._response.status
        if status != 304:
            self._headers["Content-Length"] = str(response.count)
        if self._request.method == "HEAD" or status == 304:
            return await self._send_at_once(web.Response(status=status, headers=self._headers))
        if isinstance(response.body, OpenBlob):
            return await self._send_blob(web.StreamResponse(status=status, headers=self._headers), response.body)
        data = response.body[response.start : response.start + response.count]
        sent = await self._send_at_once(web.Response(status=status, headers=self._headers, body=data))
        self.sent = len(data)
        return sent

    async def _send_at_once(self, response: web.StreamResponse) -> web.StreamResponse:
        async with asyncio.timeout(self._timeout):
            await response.prepare(self._request)
            await response.write_eof()
        return response

    async def _send_blob(self, response: web.StreamResponse, blob: OpenBlob) -> web.StreamResponse:
        async with asyncio.timeout(self._timeout):
            await response.prepare(self._request)
        transport = self._request.transport
        if transport is None:
            raise ConnectionResetError
        transport.set_write_buffer_limits(1)  # so that `drain` waits until all is sent; 0 would stop TLS for ever
        while self.sent < self._response.count:
            number, offset = divmod(self._response.start + self.sent, UNIT)
            async with self._store.unit(blob, number) as unit:
                self._write(transport, unit[offset : offset + self._response.count - self.sent])
            await self._drain()
        await response.write_eof()
        return response

    def _write(self, transport: asyncio.WriteTransport, data: memoryview) -> None:
        """Write data until some of it has to wait for the client."""
        for start in range(0, len(data), _PIECE):
            if transport.is_closing():
                raise ConnectionResetError
            piece = bytes(data[start : start + _PIECE])  # a copy, since the transport may keep it
            transport.write(piece)
            if self.sent // _PACE < (self.sent + len(piece)) // _PACE:
                self._patience = self._timeout
            self.sent += len(piece)
            if transport.get_write_buffer_size():
                return

    async def _drain(self) -> None:
        started = asyncio.get_running_loop().time()
        async with asyncio.timeout(self._patience):
            await self._request.writer.drain()
        self._patience -= asyncio.get_running_loop().time() - started
