"""Many things at once: all are done, or the first failure ends the rest."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest

from mirror.concurrency import map_concurrently, to_thread
from mirror.errors import MirrorError, StorageError


def test_results_come_in_the_order_of_the_items() -> None:
    async def later(number: int) -> int:
        for _ in range(10 - number):
            await asyncio.sleep(0)
        return number * 2

    assert asyncio.run(map_concurrently(range(10), later, 4)) == [number * 2 for number in range(10)]


def test_nothing_is_done_of_nothing() -> None:
    async def work(_: int) -> None: ...

    assert asyncio.run(map_concurrently([], work, 4)) == []


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_no_more_run_together_than_may(at_once: int) -> None:
    running = most = 0

    async def work(_: int) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    asyncio.run(map_concurrently(range(20), work, at_once))
    assert most == min(at_once, 20)


def test_items_start_in_their_order() -> None:
    started: list[int] = []

    async def work(number: int) -> None:
        started.append(number)
        await asyncio.sleep(0)

    asyncio.run(map_concurrently(range(20), work, 3))
    assert started == list(range(20))


def test_the_first_failure_is_raised_itself_and_the_others_have_ended() -> None:
    ended: list[int] = []

    async def work(number: int) -> None:
        if number == 1:
            raise StorageError("The disk is full.")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    with pytest.raises(StorageError, match="The disk is full") as caught:
        asyncio.run(map_concurrently(range(5), work, 3))
    assert sorted(ended) == [0, 2]
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_of_two_failures_one_is_raised() -> None:
    async def work(number: int) -> None:
        raise MirrorError(f"number {number}")

    with pytest.raises(MirrorError, match="number 0"):
        asyncio.run(map_concurrently(range(5), work, 3))


def test_what_is_cancelled_ends_all() -> None:
    running = 0

    async def work(_: int) -> None:
        nonlocal running
        running += 1
        try:
            await asyncio.Event().wait()
        finally:
            running -= 1

    async def main() -> None:
        task = asyncio.create_task(map_concurrently(range(5), work, 3))
        while running < 3:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert running == 0


# Threads


def test_a_thread_gives_its_result() -> None:
    assert asyncio.run(to_thread(lambda: threading.current_thread() is threading.main_thread())) is False


def test_a_thread_gives_its_failure() -> None:
    def work() -> None:
        raise StorageError("The disk is full.")

    with pytest.raises(StorageError):
        asyncio.run(to_thread(work))


@pytest.mark.parametrize("failing", [False, True])
def test_a_cancelled_thread_has_ended_before_anybody_goes_on(failing: bool) -> None:
    begun, stop, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        stop.wait(10)
        ended.set()
        if failing:
            raise StorageError("The disk is full.")

    async def main() -> bool:
        task = asyncio.create_task(to_thread(work, on_cancel=stop.set))
        await asyncio.to_thread(begun.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return ended.is_set()

    assert asyncio.run(main())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="others have no way to leave a process few processors")
def test_only_the_processors_that_are_left_to_us_count() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{one}]); from mirror import concurrency as c; print(c.available_cpus())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"1\n"
