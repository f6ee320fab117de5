"""Bodies on their way: by sendfile where there is no TLS, without holding up anybody else.

A piece is sent at a time. Before each, the file must be as it was when it was hashed, and in the page cache: sendfile
on a cold file would wait for the disk with the whole event loop, so a cold piece is first read by a thread. Each piece
has to be taken in time; that a client takes nothing at all, the system finds out sooner (`listen.bound`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from aiohttp import web

from mirror.serve.responses import Response
from mirror.serve.store import Opened

_LARGEST, _SMALLEST = 4 * 1024 * 1024, 128 * 1024  # bytes of one piece: the larger, the fewer turns of the event loop
_BRISK, _SLOW = 0.5, 2.0  # seconds that a piece took: then the next one is larger, or smaller
_READ = 256 * 1024  # bytes read at a time where sendfile cannot be used
_NOWAIT = getattr(os, "RWF_NOWAIT", None)

Hop = Callable[[Callable[[], Any]], Awaitable[Any]]


class ChangedError(Exception):
    """A blob is no longer what was hashed: the client must not get all of it."""

    def __init__(self) -> None:
        super().__init__("the file has changed")


class BlobResponse:
    """One answer on its way to one client. `sent` are the bytes of the body that have been handed to the system."""

    def __init__(
        self, request: web.BaseRequest, answer: Response, common: Mapping[str, str], patience: float, hop: Hop
    ) -> None:
        self.sent = 0
        self._request, self._answer, self._common = request, answer, common
        self._patience, self._hop = patience, hop

    async def run(self) -> web.StreamResponse:
        """Send it all.

        Raises:
            TimeoutError: the client does not take it.
            ConnectionError: the client has gone.
            ChangedError: the file has changed.
        """
        answer = self._answer
        headers = {**self._common, **answer.headers}
        if answer.status != 304:
            headers["Content-Length"] = str(answer.count)
        if self._request.method == "HEAD" or answer.status == 304:
            return await self._at_once(web.Response(status=answer.status, headers=headers))
        if isinstance(answer.body, bytes):
            data = answer.body[answer.start : answer.start + answer.count]
            response = await self._at_once(web.Response(status=answer.status, headers=headers, body=data))
            self.sent = len(data)
            return response
        return await self._in_pieces(web.StreamResponse(status=answer.status, headers=headers), answer.body)

    async def _at_once(self, response: web.StreamResponse) -> web.StreamResponse:
        async with asyncio.timeout(self._patience):
            await response.prepare(self._request)
            await response.write_eof()
        return response

    async def _in_pieces(self, response: web.StreamResponse, blob: Opened) -> web.StreamResponse:
        async with asyncio.timeout(self._patience):
            await response.prepare(self._request)
        size = _SMALLEST
        encrypted = self._request.transport is None or self._request.transport.get_extra_info("sslcontext") is not None
        work = self._copy if encrypted else self._sendfile
        while self.sent < self._answer.count:
            at = self._answer.start + self.sent
            count = min(size, self._answer.count - self.sent)
            if not blob.unchanged:
                raise ChangedError
            if not _cached(blob.fd, at, count):
                await self._hop(partial(_touch, blob.fd, at, count))
            started = time.monotonic()
            async with asyncio.timeout(self._patience * max(1, count / _SMALLEST)):
                try:
                    await work(response, blob, at, count)
                except (NotImplementedError, asyncio.SendfileNotAvailableError):
                    work = self._copy  # this file system or this event loop has none; nothing has been sent
                    continue
            self.sent += count
            took = time.monotonic() - started
            size = min(_LARGEST, 2 * size) if took < _BRISK else max(_SMALLEST, size // 2) if took > _SLOW else size
        await response.write_eof()
        return response

    async def _sendfile(self, _: web.StreamResponse, blob: Opened, at: int, count: int) -> None:
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        loop = asyncio.get_running_loop()
        if await loop.sendfile(transport, blob, at, count, fallback=False) < count:  # type: ignore[arg-type]
            raise ChangedError

    async def _copy(self, response: web.StreamResponse, blob: Opened, at: int, count: int) -> None:
        end = at + count
        while at < end:
            data = await self._hop(partial(os.pread, blob.fd, min(_READ, end - at), at))
            if not data:
                raise ChangedError
            await response.write(data)
            at += len(data)


def _cached(fd: int, at: int, count: int) -> bool:
    """Whether the ends of a piece can be read without waiting for a disk; where nobody can tell, no."""
    if _NOWAIT is None:
        return False
    try:
        return all(os.preadv(fd, [bytearray(1)], place, _NOWAIT) == 1 for place in (at, at + count - 1))
    except OSError:
        return False


def _touch(fd: int, at: int, count: int) -> None:
    """Read a piece, so that it is in memory."""
    buffer = bytearray(min(_READ, count))
    for place in range(at, at + count, _READ):
        os.preadv(fd, [buffer], place)
