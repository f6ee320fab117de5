"""Tests of retries: after which errors, how often, and after which pause."""

import asyncio
from collections.abc import Callable

import pytest

from mirror.errors import (
    ContentError,
    DigestMismatch,
    InvalidContent,
    MirrorError,
    NotFound,
    SizeMismatch,
    StorageError,
    TransferError,
    Unauthorized,
)
from mirror.retry import ONCE, RetryPolicy

BUSY = TransferError("busy", status=503, transient=True)
PATIENT = RetryPolicy(retries=4, delay=0.0)


class Action:
    """An action that raises each of the given errors, then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def __call__(self) -> str:
        self.calls += 1
        if self.failures:
            raise self.failures.pop(0)
        return "done"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace `asyncio.sleep`, and return the list of the requested pauses."""
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)

    monkeypatch.setattr("mirror.retry.asyncio.sleep", sleep)
    return asked


@pytest.mark.parametrize("failures", range(5))
def test_an_action_is_retried_until_it_succeeds(failures: int) -> None:
    action = Action(*[BUSY] * failures)
    assert asyncio.run(PATIENT.run(action)) == "done"
    assert action.calls == failures + 1


def test_the_last_error_is_raised_after_all_retries() -> None:
    action = Action(*[BUSY] * 4, last := SizeMismatch("It", want=2, got=1))
    with pytest.raises(SizeMismatch) as caught:
        asyncio.run(PATIENT.run(action))
    assert caught.value is last
    assert action.calls == 5


@pytest.mark.parametrize("retries", [0, 1])
def test_an_action_is_called_once_and_once_per_retry(retries: int) -> None:
    action = Action(BUSY, BUSY)
    with pytest.raises(TransferError):
        asyncio.run((RetryPolicy(retries, 0.0) if retries else ONCE).run(action))
    assert action.calls == retries + 1


@pytest.mark.parametrize(
    "error",
    [
        TransferError("no", status=400),
        TransferError("no", status=404),
        Unauthorized("no", status=401),
        NotFound("no"),
        StorageError("full"),
        InvalidContent("odd"),
        ContentError("odd"),
        DigestMismatch("It", want="a", got="b"),
        SizeMismatch("It", want=1, got=2),
        SizeMismatch("It", want=1, got=None),
        ValueError("a bug of ours"),
    ],
)
def test_an_error_that_is_not_transient_is_not_retried(error: Exception) -> None:
    action = Action(error)
    with pytest.raises(type(error)):
        asyncio.run(PATIENT.run(action))
    assert action.calls == 1


def test_pauses_double_and_half_of_each_is_random(pauses: list[float]) -> None:
    asyncio.run(RetryPolicy(retries=4, delay=1.0).run(Action(*[BUSY] * 4)))
    assert all(2**number / 2 <= pause <= 2**number for number, pause in enumerate(pauses))
    assert len(pauses) == 4


def test_pauses_after_the_same_error_differ(pauses: list[float]) -> None:
    """Clients that failed together should not retry together."""
    for _ in range(20):
        asyncio.run(RetryPolicy(retries=1, delay=1.0).run(Action(BUSY)))
    assert len(set(pauses)) > 1


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (None, lambda pause: pause <= 0.001),
        (0.0, lambda pause: pause <= 0.001),
        (7.0, lambda pause: pause == 7.0),
        (300.0, lambda pause: pause == 300.0),
    ],
)
def test_retry_after_is_respected(pauses: list[float], asked: float | None, given: Callable[[float], bool]) -> None:
    error = TransferError("busy", status=429, transient=True, retry_after=asked)
    asyncio.run(RetryPolicy(delay=0.001).run(Action(error)))
    assert len(pauses) == 1
    assert given(pauses[0])


def test_the_longest_pause_is_a_minute(pauses: list[float]) -> None:
    with pytest.raises(MirrorError):
        asyncio.run(RetryPolicy(retries=100).run(Action(*[BUSY] * 101)))
    assert len(pauses) == 100
    assert max(pauses) == 60.0


def test_cancellation_ends_a_pause() -> None:
    async def main() -> None:
        action = Action(BUSY)
        task = asyncio.create_task(RetryPolicy(delay=1000.0).run(action))
        while not action.calls:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_progress_resets_the_count_of_retries(pauses: list[float]) -> None:
    action = Action(*[BUSY] * 50)
    assert asyncio.run(PATIENT.run(action, lambda: action.calls * 2**20)) == "done"


def test_progress_of_a_few_bytes_does_not_reset_the_count() -> None:
    action = Action(*[BUSY] * 50)
    with pytest.raises(TransferError):
        asyncio.run(PATIENT.run(action, lambda: action.calls * 100))
    assert action.calls == 5


def test_attempts_without_progress_do_not_reset_the_count() -> None:
    action = Action(*[BUSY] * 50)
    with pytest.raises(TransferError):
        asyncio.run(PATIENT.run(action, lambda: 2**30))
    assert action.calls == 5
