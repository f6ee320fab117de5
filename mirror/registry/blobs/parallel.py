"""Downloading one large blob over several connections, if a single one is the bottleneck (docs/adr/0017).

The bytes are delivered in order, so the reader sees one stream. Segments that arrive early are buffered in memory; all
blobs share one budget of segments. A kill loses the buffered bytes, so segments are small on a slow link.

    1. read the first response, which has the whole blob, and measure its speed
    2. if it is slow, and much is left: request segments, starting a little ahead of it
    3. when the first response reaches the first segment: if the server has confirmed that segment, and thereby that it
       supports ranges, continue with the segments; otherwise with the first response alone
    4. at regular intervals: if more connections made the download faster, open more; else go back to the number before

If the connection of a segment is cut, the whole download fails with a transient error; the next attempt resumes it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

from mirror.concurrency import BackgroundTasks
from mirror.errors import TransferError
from mirror.registry.blobs import ranges
from mirror.registry.blobs.segment import SEGMENT, Segment
from mirror.registry.http import Registry
from mirror.registry.transport.errors import iter_body
from mirror.registry.transport.exchange import Response

_MIN_INTERVAL = 0.7  # seconds between two measurements, at least
_MIN_REMAINING = 16 * 1024 * 1024  # bytes that must be left for more connections to pay off
_FAST = 32 * 1024 * 1024  # bytes per second above which a connection is not the bottleneck
_MIN_SPEEDUP = 1.2  # the factor by which more connections must be faster
_MAX_CONNECTIONS = 8  # for one blob, unless the user sets a number
_AHEAD, _AHEAD_SECONDS = 768 * 1024, 0.5  # what segments may buffer: bytes for each connection, and seconds of traffic


@asynccontextmanager
async def chunks(
    registry: Registry, scope: str, first: Response, start: int, size: int
) -> AsyncIterator[AsyncIterator[bytes]]:
    """Yield an iterator over the bytes of a blob of `size` bytes, from `start` on; `first` is the response, unread."""
    if size - start < _MIN_REMAINING or registry.options.connections_per_blob == 1:
        yield iter_body(first)
        return
    async with BackgroundTasks() as tasks:
        download = _ParallelDownload(registry, scope, first, start, size, tasks)
        try:
            yield download.chunks(iter_body(first))
        finally:
            download.close()


class _ParallelDownload:
    """The download of one blob: its first response, and its segments in order."""

    def __init__(
        self,
        registry: Registry,
        scope: str,
        first: Response,
        start: int,
        size: int,
        tasks: BackgroundTasks,
    ) -> None:
        self._registry, self._scope, self._first, self._tasks = registry, scope, first, tasks
        self._budget = registry.limits.segments
        self._url = first.url  # after redirects, which the segments skip
        self._size = size
        self._delivered = self._requested = start  # offsets of the first byte not yet delivered, or requested
        self._received = 0  # bytes, over all connections
        self._segments: deque[Segment] = deque()
        self._scaler = ConnectionScaler(registry.options.connections_per_blob)

    async def chunks(self, first: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield all bytes in order."""
        async for chunk in self._single(first):
            yield chunk
        while self._segments or self._delivered < self._size:
            if not self._segments:
                await self._request_segment()  # waits if other blobs have used up the budget
            async for chunk in self._segments[0].chunks():
                self._delivered += len(chunk)
                yield chunk
                await self._scale(other_connections=0)
            self._segments.popleft()
            self._budget.release()
            await self._scale(other_connections=0)

    def close(self) -> None:
        """Drop the segments, and return them to the budget."""
        while self._segments:
            self._segments.popleft()
            self._budget.release()

    async def _single(self, first: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the first response, to its end or to the first confirmed segment (steps 1 to 3)."""
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
                self._requested = end + self._segment_size
            await self._scale(other_connections=1)
        self._delivered = self._size  # if it was too short, the reader notices
        self.close()

    async def _scale(self, other_connections: int) -> None:
        """Decide on the number of connections, and request segments; `other_connections` are not used by segments."""
        if not self._registry.supports_ranges:
            return
        self._scaler.measure(self._received, self._size - self._requested)
        wanted = self._scaler.connections
        while (
            self._requested < self._size
            and len(self._segments) < self._max_segments
            and other_connections + sum(not segment.done for segment in self._segments) < wanted
            and not self._budget.locked()
        ):
            await self._request_segment()

    @property
    def _max_segments(self) -> int:
        """The number of segments in flight: complete ones may have to wait for one that is not."""
        return self._scaler.connections + self._scaler.connections // 2

    @property
    def _segment_size(self) -> int:
        """The bytes of the next segment: on a slow link, all segments together hold no more than the limit above."""
        limit = self._scaler.connections * _AHEAD + self._scaler.rate * _AHEAD_SECONDS
        return min(SEGMENT, int(limit / self._max_segments))

    async def _request_segment(self) -> None:
        """Start to fetch the next segment, within the budget; if there is to be one connection, all that is left."""
        await self._budget.acquire()
        end = self._size if self._scaler.is_single else min(self._requested + self._segment_size, self._size)
        segment = Segment(self._requested, end - 1)
        self._requested = end
        self._segments.append(segment)
        self._tasks.start(segment.fetch(self._open_range, self._count))

    @asynccontextmanager
    async def _open_range(self, first: int, last: int) -> AsyncIterator[Response]:
        request = self._registry.send(
            "GET",
            self._url,
            scope=self._scope,
            headers=ranges.header(first, last),
            expect=ranges.STATUSES,
        )
        try:
            async with request as response:
                if not ranges.matches(response, first, last, self._size):
                    self._registry.supports_ranges = False
                    raise TransferError(f"{response.url.host} does not support range requests.", transient=True)
                yield response
        except TransferError as error:
            if error.status:  # the next attempt starts at the registry's own URL, and if need be without a range
                raise TransferError(str(error), status=error.status, transient=True) from None
            raise

    def _count(self, count: int) -> None:
        self._received += count


class ConnectionScaler:
    """Decides how many connections a blob gets: more, as long as that makes it faster.

    `rate` is the bytes per second of all its connections, in the last second or so.
    """

    def __init__(self, fixed: int | None) -> None:
        self.connections = fixed or 1
        self._settled = fixed is not None
        self._since, self._received = monotonic(), 0
        self.rate, self._rated = 0.0, (monotonic(), 0)
        self._previous, self._rate = 1, 0.0  # the number of connections before the latest increase, and their rate

    @property
    def is_single(self) -> bool:
        """True once the decision for a single connection is final."""
        return self._settled and self.connections == 1

    def stop(self) -> None:
        """Use one connection from now on."""
        self.connections, self._settled = 1, True

    def measure(self, received: int, remaining: int) -> None:
        """Decide again, once enough bytes were `received` in enough time; `remaining` bytes are not requested yet."""
        if (elapsed := monotonic() - self._rated[0]) > _MIN_INTERVAL:
            self.rate, self._rated = (received - self._rated[1]) / elapsed, (monotonic(), received)
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
