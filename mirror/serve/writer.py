"""Responses to clients: only bytes that have just been verified, and without blocking other clients.

Threads send blobs (see `mirror.serve.transfer`), the event loop sends all else. `listen.bind` sets a shorter limit for
clients that accept nothing at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from aiohttp import web

from mirror.serve.blobs import BlobStore, OpenBlob
from mirror.serve.connection import Connection
from mirror.serve.responses import Response
from mirror.serve.transfer import Transfer

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
        self._accepted = 0  # bytes of the body, when the client was last seen to have accepted 128 KiB more
        self._patience = timeout  # seconds that are left for the next

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
        connection = self._request.transport
        if not isinstance(connection, Connection):
            raise ConnectionResetError
        async with asyncio.timeout(self._timeout):
            await response.prepare(self._request)
            await connection.flushed()
        start, count = self._response.start, self._response.count
        transfer = Transfer(blob, start, start + count)
        with connection.lent() as lent:
            while self.sent < count:
                try:
                    async with self._store.buffers() as buffers:
                        await self._store.run_in_thread(partial(transfer.send, lent, buffers))
                finally:
                    self.sent = transfer.position - start
                if self.sent < count:
                    await self._wait(connection)
        await response.write_eof()
        return response

    async def _wait(self, connection: Connection) -> None:
        """Wait until the client accepts more. Only acknowledged bytes count: the system holds megabytes."""
        started = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self._patience):
                await connection.writable()
        except TimeoutError:
            self._patience = 0.0
        else:
            self._patience -= asyncio.get_running_loop().time() - started
        accepted = self.sent - connection.unacknowledged
        if accepted - self._accepted >= _PACE:
            self._accepted, self._patience = accepted, self._timeout
        if self._patience <= 0:
            raise TimeoutError
