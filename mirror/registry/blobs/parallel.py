"""One large blob over several connections at once, where one connection is the limit.

A blob begins as a single stream. While it runs slowly and much of it is left, further connections fetch segments ahead
of it; as long as more of them bring more, there are more of them. What they bring is delivered in order, so whoever
hashes sees one stream. Segments wait in memory for their turn, and share one budget, whatever the number of blobs.

    1. the first answer is read, and measured
    2. slow, and much is left: segments are asked for, from a little ahead of it
    3. the first answer has come to where they begin. One of them has proved that the server knows ranges: the segments
       take over. It has not: the first answer goes on alone
    4. every so often: did more connections help? Then more, else as before

A segment that is cut ends the whole with a transient error; the next attempt begins where this one stopped.
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
from mirror.registry.client import Registry
from mirror.registry.transport import errors

_LOOK = 0.7  # seconds between two looks at how fast it goes, at least
_WORTH = 16 * 1024 * 1024  # bytes that have to be left for another connection to be worth its while
_FAST = 32 * 1024 * 1024  # bytes per second from which on a connection is not the limit
_HELPS = 1.2  # how many times faster it has to be for more connections to have helped
_MOST = 8  # connections for one blob, where nobody says otherwise
_BUFFER = 256 * 1024  # bytes that are read ahead for the connection of a segment
_EXPIRED = frozenset({400, 401, 403, 404, 410})  # what storage says to an address whose signature has expired


@asynccontextmanager
async def chunks(
    registry: Registry, scope: str, first: aiohttp.ClientResponse, start: int, size: int
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes from `start` to the end of a blob of `size` bytes, whose answer `first` has just begun."""
    if size - start < _WORTH or registry.options.connections_per_blob == 1:
        yield errors.chunks(first)
        return
    async with background_tasks() as tasks:
        spread = _Spread(registry, scope, first, start, size, tasks)
        try:
            yield spread.deliver(errors.chunks(first))
        finally:
            spread.close()


class _Spread:
    """One blob, its first answer, and its segments."""

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
        self._url = first.url  # where the registry has led to just now: the segments save its redirects
        self._size, self._position, self._next = size, start, start
        self._received = 0
        self._ahead: deque[Segment] = deque()
        self._pace = _Pace(registry.options.connections_per_blob)

    async def deliver(self, first: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in self._alone(first):
            yield chunk
        while self._ahead or self._position < self._size:
            async for chunk in self._together():
                yield chunk

    def close(self) -> None:
        """Return what the segments have of the budget."""
        while self._ahead:
            self._ahead.popleft()
            self._registry.shared.segments.release()

    async def _alone(self, first: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Steps 1 to 3: the first answer, to its end, or to where the segments take over."""
        async for chunk in first:
            self._count(len(chunk))
            end = self._position + len(chunk)
            if self._ahead and end >= self._ahead[0].first:
                if await self._ahead[0].answered():
                    yield chunk[: self._ahead[0].first - self._position]
                    self._position = self._ahead[0].first
                    self._first.close()
                    return
                self._pace.stop()
                self.close()
            self._position = end
            yield chunk
            if not self._ahead:
                self._next = end + SEGMENT
            self._look(others=1)
        self._position = self._size  # or it was too short, which whoever counts is going to see
        self.close()

    async def _together(self) -> AsyncIterator[bytes]:
        """Step 4: the next segment in its order, while others come."""
        if not self._ahead:
            await self._registry.shared.segments.wait()  # the others are other blobs', which are going to return them
            self._ask()
        head = self._ahead[0]
        async for chunk in head.deliver():
            self._position += len(chunk)
            yield chunk
            self._look(others=0)
        self._ahead.popleft()
        self._registry.shared.segments.release()
        self._look(others=0)

    def _look(self, others: int) -> None:
        """Decide how many connections there should be, and use them; `others` of them fetch no segment."""
        if self._registry.ranges:
            self._pace.look(self._received, self._size - self._next)
        most = self._pace.lanes + self._pace.lanes // 2  # some that are here may wait for one that is not
        while (
            self._registry.ranges
            and self._next < self._size
            and len(self._ahead) < most
            and others + sum(not segment.done for segment in self._ahead) < self._pace.lanes
            and self._registry.shared.segments.take()
        ):
            self._ask()

    def _ask(self) -> None:
        """Begin the next segment; the last one where there is going to be one connection only."""
        last = self._size if self._pace.alone else min(self._next + SEGMENT, self._size)
        segment = Segment(self._next, last - 1, self._size)
        self._next = last
        self._ahead.append(segment)
        self._tasks.start(segment.fetch(self._part, self._count, self._refuse))

    @asynccontextmanager
    async def _part(self, first: int, last: int) -> AsyncIterator[aiohttp.ClientResponse]:
        asked = self._registry.send(
            "GET",
            self._url,
            scope=self._scope,
            headers=ranges.header(first, last),
            expect=ranges.STATUSES,
            read_ahead=_BUFFER,
        )
        try:
            async with asked as response:
                yield response
        except TransferError as error:
            if error.status in _EXPIRED:  # the next attempt begins at the registry
                raise TransferError(str(error), status=error.status, transient=True) from None
            raise

    def _count(self, count: int) -> None:
        self._received += count

    def _refuse(self) -> None:
        self._registry.ranges = False


class _Pace:
    """How many connections a blob should have (`lanes`), by what more of them have brought so far."""

    def __init__(self, fixed: int | None) -> None:
        self.lanes = fixed or 1
        self._settled = fixed is not None
        self._since, self._received = monotonic(), 0
        self._before, self._rate = 1, 0.0

    @property
    def alone(self) -> bool:
        """Whether one connection is enough, and stays so."""
        return self._settled and self.lanes == 1

    def stop(self) -> None:
        self.lanes, self._settled = 1, True

    def look(self, received: int, left: int) -> None:
        """Take note of how much has been received by now; `left` bytes have not been asked for yet."""
        seconds, count = monotonic() - self._since, received - self._received
        if self._settled or seconds < _LOOK or count < (self.lanes - 1) * SEGMENT:
            return
        rate = count / seconds
        self._since, self._received = monotonic(), received
        if self.lanes > 1 and rate < self._rate * _HELPS:
            self.lanes, self._settled = self._before, True
        elif self.lanes >= _MOST or rate > _FAST * self.lanes or left < _WORTH:
            self._settled = True
        else:
            self._before, self._rate = self.lanes, rate
            self.lanes = min(self.lanes * 3, _MOST)
