"""One large blob over several connections, where a single connection is the bottleneck (docs/adr/0017).

A blob starts as a single stream. While it is slow and much of it is left, further connections fetch segments ahead of
it; as long as more connections make it faster, more are opened. The bytes are delivered in order, so the reader sees
one stream. Segments are buffered in memory, and all blobs share one budget of them.

    1. the first response is read, and its speed is measured
    2. it is slow, and much is left: segments are requested, from a little ahead of it
    3. the first response reaches the first segment. If the server has confirmed that segment, which proves that it
       supports ranges, the segments take over; otherwise the first response goes on alone
    4. at regular intervals: did more connections make it faster? Then open more, else keep the previous number

A segment that is cut ends the whole download with a transient error; the next attempt resumes where this one stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import aiohttp

from mirror.concurrency import BackgroundTasks, background_tasks
from mirror.errors import TransferError
from mirror.registry.blobs import ranges
from mirror.registry.blobs.segment import SEGMENT, Segment
from mirror.registry.http import Registry
from mirror.registry.transport.errors import iter_body

_MIN_INTERVAL = 0.7  # seconds between two measurements, at least
_MIN_REMAINING = 16 * 1024 * 1024  # bytes that must be left for another connection to pay off
_FAST = 32 * 1024 * 1024  # bytes per second at which a connection is not the bottleneck
_MIN_SPEEDUP = 1.2  # more connections must be faster by this factor
_MAX_CONNECTIONS = 8  # for one blob, unless the user sets a number
_BUFFER = 256 * 1024  # bytes that are read ahead on a segment's connection
_EXPIRED = frozenset({400, 401, 403, 404, 410})  # how storage answers a URL whose signature has expired


@asynccontextmanager
async def chunks(
    registry: Registry, scope: str, first: aiohttp.ClientResponse, start: int, size: int
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Open the bytes of a blob from `start` on.

    Args:
        registry: the registry.
        scope: what requests for the blob need, for the token.
        first: the response to a request for all of these bytes, of which none has been read.
        start: the offset in bytes of the first response's body.
        size: the size of the blob in bytes.
    """
    if size - start < _MIN_REMAINING or registry.options.connections_per_blob == 1:
        yield iter_body(first)
        return
    async with background_tasks() as tasks:
        download = _ParallelDownload(registry, scope, first, start, size, tasks)
        try:
            yield download.chunks(iter_body(first))
        finally:
            download.close()


class _ParallelDownload:
    """One blob: its first response, and its segments in order."""

    def __init__(
        self,
        registry: Registry,
        scope: str,
        first: aiohttp.ClientResponse,
        start: int,
        size: int,
        tasks: BackgroundTasks,
    ) -> None:
        self._registry, self._scope, self._first, self._tasks = registry, scope, first, tasks
        self._budget = registry.limits.segments
        self._url = first.url  # after redirects, which the segments skip
        self._size = size
        self._delivered = self._requested = start  # offsets: up to where
        self._received = 0  # bytes, over all connections
        self._segments: deque[Segment] = deque()
        self._scaler = ConnectionScaler(registry.options.connections_per_blob)

    async def chunks(self, first: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield all bytes in order."""
        async for chunk in self._single(first):
            yield chunk
        while self._segments or self._delivered < self._size:
            async for chunk in self._next_segment():
                yield chunk

    def close(self) -> None:
        """Drop the segments, and return them to the budget."""
        while self._segments:
            self._segments.popleft()
            self._budget.release()

    async def _single(self, first: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Steps 1 to 3: yield the first response, to its end, or to where the segments take over."""
        async for chunk in first:
            self._count(len(chunk))
            end = self._delivered + len(chunk)
            if self._segments and end >= self._segments[0].first:
                takeover = self._segments[0].first
                if await self._segments[0].is_confirmed():
                    yield chunk[: takeover - self._delivered]
                    self._delivered = takeover
                    self._first.close()
                    return
                self._scaler.stop()
                self.close()
            self._delivered = end
            yield chunk
            if not self._segments:
                self._requested = end + SEGMENT
            self._scale(other_connections=1)
        self._delivered = self._size  # or it was too short, which its reader notices
        self.close()

    async def _next_segment(self) -> AsyncIterator[bytes]:
        """Step 4: yield the next segment, while others are fetched."""
        if not self._segments:
            await self._budget.acquire()  # other blobs have all segments, and will return them
            self._request_segment()
        head = self._segments[0]
        async for chunk in head.chunks():
            self._delivered += len(chunk)
            yield chunk
            self._scale(other_connections=0)
        self._segments.popleft()
        self._budget.release()
        self._scale(other_connections=0)

    def _scale(self, other_connections: int) -> None:
        """Decide how many connections there should be, and open them; `other_connections` fetch no segment."""
        if self._registry.supports_ranges:
            self._scaler.measure(self._received, self._size - self._requested)
        wanted = self._scaler.connections
        most = wanted + wanted // 2  # segments that are complete may wait for one that is not
        while (
            self._registry.supports_ranges
            and self._requested < self._size
            and len(self._segments) < most
            and other_connections + sum(not segment.done for segment in self._segments) < wanted
            and self._budget.try_acquire()
        ):
            self._request_segment()

    def _request_segment(self) -> None:
        """Start to fetch the next segment; all that is left if there will be only one connection."""
        end = self._size if self._scaler.is_single else min(self._requested + SEGMENT, self._size)
        segment = Segment(self._requested, end - 1, self._size)
        self._requested = end
        self._segments.append(segment)
        self._tasks.start(segment.fetch(self._open_range, self._count, self._ranges_unsupported))

    @asynccontextmanager
    async def _open_range(self, first: int, last: int) -> AsyncIterator[aiohttp.ClientResponse]:
        request = self._registry.send(
            "GET",
            self._url,
            scope=self._scope,
            headers=ranges.header(first, last),
            expect=ranges.STATUSES,
            buffer_size=_BUFFER,
        )
        try:
            async with request as response:
                yield response
        except TransferError as error:
            if error.status in _EXPIRED:  # the next attempt starts at the registry
                raise TransferError(str(error), status=error.status, transient=True) from None
            raise

    def _count(self, count: int) -> None:
        self._received += count

    def _ranges_unsupported(self) -> None:
        self._registry.supports_ranges = False


class ConnectionScaler:
    """Decides how many connections a blob should have, by whether more of them have made it faster."""

    def __init__(self, fixed: int | None) -> None:
        self.connections = fixed or 1
        self._settled = fixed is not None
        self._since, self._received = monotonic(), 0
        self._previous, self._rate = 1, 0.0  # the number of connections before the latest increase, and their rate

    @property
    def is_single(self) -> bool:
        """Whether one connection is enough, and this is final."""
        return self._settled and self.connections == 1

    def stop(self) -> None:
        """Use one connection from now on."""
        self.connections, self._settled = 1, True

    def measure(self, received: int, remaining: int) -> None:
        """Decide again, once enough time has passed and enough bytes have arrived.

        Args:
            received: bytes received so far.
            remaining: bytes that have not been requested yet.
        """
        seconds, count = monotonic() - self._since, received - self._received
        if self._settled or seconds < _MIN_INTERVAL or count < (self.connections - 1) * SEGMENT:
            return
        rate = count / seconds
        self._since, self._received = monotonic(), received
        if self.connections > 1 and rate < self._rate * _MIN_SPEEDUP:
            self.connections, self._settled = self._previous, True
        elif self.connections >= _MAX_CONNECTIONS or rate > _FAST * self.connections or remaining < _MIN_REMAINING:
            self._settled = True
        else:
            self._previous, self._rate = self.connections, rate
            self.connections = min(self.connections * 3, _MAX_CONNECTIONS)
