"""Tests of the pause that all requests to an overloaded registry share."""

import asyncio
from collections.abc import Iterator
from itertools import pairwise

import pytest

from mirror.registry.transport.throttle import Throttle


class Clock:
    """A clock that advances only while a task sleeps."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self._sleep = asyncio.sleep
        monkeypatch.setattr("mirror.registry.transport.throttle.monotonic", lambda: self.now)
        monkeypatch.setattr("mirror.registry.transport.throttle.asyncio.sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        await self._sleep(0)
        self.now = max(self.now, until)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    found = Clock(monkeypatch)
    yield found
    monkeypatch.undo()


async def ask(backoff: Throttle, clock: Clock, asked: list[float], refusals: list[float | None]) -> None:
    """Make one request, and repeat it as long as there are refusals."""
    while True:
        async with backoff.slot():
            asked.append(clock.now)
            await clock.sleep(0.01)
            if not refusals:
                backoff.succeeded()
                return
            backoff.throttled(refusals.pop(0))


def test_request_without_a_pause_does_not_wait(clock: Clock) -> None:
    asked: list[float] = []
    asyncio.run(ask(Throttle("host"), clock, asked, []))
    assert asked == [1000.0]


def test_requested_pause_is_kept(clock: Clock) -> None:
    asked: list[float] = []
    asyncio.run(ask(Throttle("host"), clock, asked, [20.0]))
    assert asked[1] - asked[0] >= 20


@pytest.mark.parametrize("asked_for", [61.0, 1e9])
def test_pause_is_limited_to_a_minute(clock: Clock, asked_for: float) -> None:
    asked: list[float] = []
    asyncio.run(ask(Throttle("host"), clock, asked, [asked_for]))
    assert 60 <= asked[1] - asked[0] < 61


def test_pauses_without_a_requested_length_grow(clock: Clock) -> None:
    asked: list[float] = []
    asyncio.run(ask(Throttle("host"), clock, asked, [None] * 8))
    pauses = [after - before for before, after in pairwise(asked)]
    assert pauses[0] < 1.1
    assert pauses[4] > pauses[0]
    assert all(pause <= 60.1 for pause in pauses)


def test_only_one_of_forty_requests_is_tried_after_a_pause(clock: Clock) -> None:
    asked: list[float] = []

    async def main() -> None:
        backoff = Throttle("host")
        async with backoff.slot():
            backoff.throttled(30.0)
        async with asyncio.TaskGroup() as group:
            for _ in range(40):
                group.create_task(ask(backoff, clock, asked, refusals))

    refusals: list[float | None] = [30.0, 30.0]
    asyncio.run(main())
    assert len(asked) == 42
    assert asked[0] >= 1030
    assert asked[1] >= asked[0] + 30  # a single request was tried, twice
    assert asked[2] >= asked[1] + 30
    assert asked[3] >= asked[2]


def test_next_request_is_tried_if_the_first_one_is_cut(clock: Clock) -> None:
    async def main() -> list[float]:
        backoff, asked = Throttle("host"), list[float]()
        async with backoff.slot():
            backoff.throttled(5.0)
        with pytest.raises(ConnectionError):
            async with backoff.slot():
                raise ConnectionError
        await ask(backoff, clock, asked, [])
        return asked

    assert len(asyncio.run(main())) == 1


def test_concurrent_refusals_count_once(clock: Clock) -> None:
    backoff = Throttle("host")
    for _ in range(50):
        backoff.throttled(None)
    asked: list[float] = []
    asyncio.run(ask(backoff, clock, asked, []))
    assert asked[0] < 1002


def test_response_to_an_earlier_request_does_not_end_a_pause(clock: Clock) -> None:
    backoff, asked = Throttle("host"), list[float]()
    backoff.throttled(10.0)
    backoff.succeeded()
    asyncio.run(ask(backoff, clock, asked, []))
    assert asked[0] >= 1010
