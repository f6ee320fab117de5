"""Tests of the minimum rate and the rate limit of downloads."""

import asyncio
from collections.abc import AsyncIterator
from heapq import heappop, heappush

import pytest

from mirror.errors import TransferError
from mirror.registry.transport.rate_limit import MIN_RATE, RateLimit, rate_limited
from mirror.registry.transport.request_text import Request

pytestmark = pytest.mark.usefixtures("each_exchange")

REQUEST = Request("GET", "https://registry.example/x", "registry.example")


class Clock:
    """A clock that tests move, and that `asyncio.sleep` moves without waiting."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr("mirror.registry.transport.rate_limit.monotonic", lambda: self.now)
        monkeypatch.setattr("mirror.registry.transport.rate_limit.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.now += max(0.0, seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


async def pieces(clock: Clock, count: int, size: int, seconds: float) -> AsyncIterator[bytes]:
    """A server that sends `size` bytes every so many seconds."""
    for _ in range(count):
        clock.now += seconds
        yield bytes(size)


def take(clock: Clock, chunks: AsyncIterator[bytes], limit: int | None = None, disk: float = 0.0) -> int:
    """Read all chunks, on a disk that needs `disk` seconds for each, and return their size."""

    async def main() -> int:
        got = 0
        async for chunk in rate_limited(chunks, RateLimit(limit), 60.0, REQUEST):
            got += len(chunk)
            clock.now += disk
        return got

    return asyncio.run(main())


def test_server_below_the_minimum_rate_is_an_error(clock: Clock) -> None:
    with pytest.raises(TransferError, match=r"registry\.example sends only 0 bytes per second") as caught:
        take(clock, pieces(clock, 1000, 1, 5.0))
    assert caught.value.transient
    assert clock.now < 120


@pytest.mark.slow
def test_server_that_becomes_slow_is_an_error(clock: Clock) -> None:
    async def tired() -> AsyncIterator[bytes]:
        async for chunk in pieces(clock, 100, 10_000_000, 1.0):
            yield chunk
        async for chunk in pieces(clock, 1000, 1, 5.0):
            yield chunk

    with pytest.raises(TransferError):
        take(clock, tired())


def test_slow_link_above_the_minimum_rate_is_accepted(clock: Clock) -> None:
    assert take(clock, pieces(clock, 1000, 2 * MIN_RATE, 1.0)) == 2000 * MIN_RATE


def test_slow_disk_does_not_count_as_a_slow_server(clock: Clock) -> None:
    assert take(clock, pieces(clock, 100, 10, 0.001), disk=1000.0) == 1000


def test_rate_does_not_exceed_the_limit(clock: Clock) -> None:
    assert take(clock, pieces(clock, 100, 1000, 0.0), limit=500) == 100_000
    assert clock.now == pytest.approx(200)


def test_limit_is_shared_by_concurrent_downloads(clock: Clock) -> None:
    async def main() -> None:
        limit = RateLimit(1000)
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(drain(limit))

    async def drain(limit: RateLimit) -> None:
        async for _ in rate_limited(pieces(clock, 10, 100, 0.0), limit, 60.0, REQUEST):
            pass

    asyncio.run(main())
    assert clock.now >= 4.0


class Timetable:
    """A clock and timers for several tasks: time passes only when all of them sleep."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        monkeypatch.setattr("mirror.registry.transport.rate_limit.monotonic", lambda: self.now)
        monkeypatch.setattr("mirror.registry.transport.rate_limit.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(self._sleepers, (self.now + max(0.0, seconds), len(self._sleepers), woken))
        asyncio.get_running_loop().call_soon(self._advance)
        await woken

    def _advance(self) -> None:
        at, _, woken = heappop(self._sleepers)
        self.now = max(self.now, at)
        woken.set_result(None)


@pytest.mark.parametrize("connections", [1, 4, 64])
@pytest.mark.parametrize("rate", [100, 10_000, 1_000_000])
def test_no_connection_is_silent_for_more_than_a_few_seconds(
    monkeypatch: pytest.MonkeyPatch, connections: int, rate: int
) -> None:
    timetable, limit = Timetable(monkeypatch), RateLimit(rate)
    silences = []

    async def upload() -> None:
        last = timetable.now
        for _ in range(5):
            await limit.take(limit.piece(connections))
            silences.append(timetable.now - last)
            last = timetable.now

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(connections):
                group.create_task(upload())

    asyncio.run(main())
    assert max(silences) < 3.0


def test_large_chunk_of_a_download_does_not_hold_up_an_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    timetable, limit = Timetable(monkeypatch), RateLimit(10_000)

    async def main() -> float:
        download = asyncio.ensure_future(limit.take(1_000_000))
        await asyncio.tasks.sleep(0)
        await limit.take(1000)
        sent = timetable.now
        await download
        return sent

    assert asyncio.run(main()) < 3.0
    assert timetable.now == pytest.approx(100.1)
