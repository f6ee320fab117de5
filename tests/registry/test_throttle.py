"""Tests of the pause that all requests to an overloaded registry share."""

import asyncio
import logging
from collections.abc import Iterator
from itertools import pairwise

import pytest

from mirror.errors import TransferError
from mirror.registry.transport.throttle import Throttle, too_long

pytestmark = pytest.mark.usefixtures("each_exchange")


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
    asyncio.run(ask(Throttle("host", 300.0), clock, asked, []))
    assert asked == [1000.0]


def test_pause_beyond_the_limit_is_in_words() -> None:
    for seconds, words in ((60.0, "1 minute."), (61.0, "2 minutes."), (9000.0, "2.5 hours.")):
        hint = too_long(TransferError("throttled"), seconds).hint or ""
        assert hint.startswith(f"It asks to wait {words}")


def test_requested_pause_is_kept(clock: Clock) -> None:
    asked: list[float] = []
    asyncio.run(ask(Throttle("host", 300.0), clock, asked, [20.0]))
    assert asked[1] - asked[0] >= 20


@pytest.mark.parametrize("asked_for", [301.0, 3600.0, 1e9])
def test_requests_fail_while_a_pause_beyond_the_limit_lasts(clock: Clock, asked_for: float) -> None:
    throttle = Throttle("host", 300.0)
    with pytest.raises(TransferError, match=r"^host asked to slow down\.$") as caught:
        asyncio.run(ask(throttle, clock, [], [asked_for]))
    assert not caught.value.transient
    assert "--max-wait" in (caught.value.hint or "")
    clock.now += asked_for - 10
    asked: list[float] = []
    asyncio.run(ask(throttle, clock, asked, []))
    assert asked[0] >= 1000 + asked_for


def test_pause_at_the_limit_is_kept(clock: Clock) -> None:
    asked: list[float] = []
    asyncio.run(ask(Throttle("host", 300.0), clock, asked, [300.0]))
    assert asked[1] - asked[0] >= 300


@pytest.mark.parametrize(("pause", "level"), [(1.0, "INFO"), (30.0, "WARNING"), (900.0, "INFO")])
def test_long_pause_is_reported_when_it_starts(caplog: pytest.LogCaptureFixture, pause: float, level: str) -> None:
    with caplog.at_level(logging.INFO):
        Throttle("host", 300.0).throttled(pause)
    assert [record.levelname for record in caplog.records] == [level]


def test_pauses_without_a_requested_length_grow(clock: Clock) -> None:
    asked: list[float] = []
    asyncio.run(ask(Throttle("host", 300.0), clock, asked, [None] * 8))
    pauses = [after - before for before, after in pairwise(asked)]
    assert pauses[0] < 1.1
    assert pauses[4] > pauses[0]
    assert all(pause <= 60.1 for pause in pauses)


def test_only_one_of_forty_requests_is_tried_after_a_pause(clock: Clock) -> None:
    asked: list[float] = []

    async def main() -> None:
        backoff = Throttle("host", 300.0)
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
        backoff, asked = Throttle("host", 300.0), list[float]()
        async with backoff.slot():
            backoff.throttled(5.0)
        with pytest.raises(ConnectionError):
            async with backoff.slot():
                raise ConnectionError
        await ask(backoff, clock, asked, [])
        return asked

    assert len(asyncio.run(main())) == 1


def test_concurrent_refusals_count_once(clock: Clock) -> None:
    backoff = Throttle("host", 300.0)
    for _ in range(50):
        backoff.throttled(None)
    asked: list[float] = []
    asyncio.run(ask(backoff, clock, asked, []))
    assert asked[0] < 1002


def test_response_to_an_earlier_request_does_not_end_a_pause(clock: Clock) -> None:
    backoff, asked = Throttle("host", 300.0), list[float]()
    backoff.throttled(10.0)
    backoff.succeeded()
    asyncio.run(ask(backoff, clock, asked, []))
    assert asked[0] >= 1010
