"""Tests of the minimum rate and the rate limit of downloads."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mirror.errors import TransferError
from mirror.registry.transport.rate_limit import MIN_RATE, RateLimit, rate_limited
from mirror.registry.transport.request_text import Request

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
