"""Responses to clients: sent with sendfile if there is no TLS, and without blocking other clients.

A blob is sent in chunks. Before each chunk, the file must still be in the state in which it was hashed. A chunk that is
not in the page cache is first read by a thread, since sendfile would block the event loop. The client must accept each
chunk in time; `listen.bind` sets a shorter limit for clients that accept nothing at all.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web

from mirror.serve.blobs import OpenBlob
from mirror.serve.responses import Response

_MIN_CHUNK, _MAX_CHUNK = 128 * 1024, 4 * 1024 * 1024  # bytes; larger chunks need fewer event loop iterations
_FAST, _SLOW = 0.5, 2.0  # seconds for a chunk: after a faster one the size doubles, after a slower one it halves
_READ = 256 * 1024  # bytes read at a time without sendfile
_NOWAIT = getattr(os, "RWF_NOWAIT", None)

RunInThread = Callable[[Callable[[], Any]], Awaitable[Any]]


class ChangedError(Exception):
    """The file has changed since it was hashed, so the client must not receive all of it."""


class ResponseWriter:
    """A writer of one response, with additional `headers`. `sent` counts the bytes of the body.

    The client must accept 128 KiB within `timeout` seconds. `run_in_thread` runs work that may block on a disk.
    """

    def __init__(
        self,
        request: web.BaseRequest,
        response: Response,
        headers: Mapping[str, str],
        timeout: float,
        run_in_thread: RunInThread,
    ) -> None:
        self.sent = 0
        self._request, self._response, self._headers = request, response, {**headers, **response.headers}
        self._timeout, self._run_in_thread = timeout, run_in_thread

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
        encrypted = transport is None or transport.get_extra_info("sslcontext") is not None
        send, size = self._copy if encrypted else self._sendfile, _MIN_CHUNK
        while self.sent < self._response.count:
            offset = self._response.start + self.sent
            count = min(size, self._response.count - self.sent)
            if not blob.unchanged:
                raise ChangedError
            if not _is_cached(blob.fd, offset, count):
                await self._run_in_thread(partial(_read_ahead, blob.fd, offset, count))
            started = time.monotonic()
            async with asyncio.timeout(self._timeout * max(1, count / _MIN_CHUNK)):
                try:
                    await send(response, blob, offset, count)
                except (NotImplementedError, asyncio.SendfileNotAvailableError):
                    send = self._copy  # not supported by the file system or the event loop; nothing has been sent
                    continue
            self.sent += count
            duration = time.monotonic() - started
            if duration < _FAST:
                size = min(_MAX_CHUNK, 2 * size)
            elif duration > _SLOW:
                size = max(_MIN_CHUNK, size // 2)
        await response.write_eof()
        return response

    async def _sendfile(self, _: web.StreamResponse, blob: OpenBlob, offset: int, count: int) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        loop = asyncio.get_running_loop()
        if await loop.sendfile(transport, blob, offset, count, fallback=False) < count:  # type: ignore[arg-type]
            raise ChangedError

    async def _copy(self, response: web.StreamResponse, blob: OpenBlob, offset: int, count: int) -> None:
        end = offset + count
        while offset < end:
            data = await self._run_in_thread(partial(os.pread, blob.fd, min(_READ, end - offset), offset))
            if not data:
                raise ChangedError
            await response.write(data)
            offset += len(data)


def _is_cached(fd: int, offset: int, count: int) -> bool:
    """Return True if both ends of a chunk are in the page cache; False if the system cannot tell."""
    if _NOWAIT is None:
        return False
    try:
        return all(os.preadv(fd, [bytearray(1)], end, _NOWAIT) == 1 for end in (offset, offset + count - 1))
    except OSError:
        return False


def _read_ahead(fd: int, offset: int, count: int) -> None:
    """Read a chunk into the page cache."""
    buffer = bytearray(min(_READ, count))
    for position in range(offset, offset + count, _READ):
        os.preadv(fd, [buffer], position)
