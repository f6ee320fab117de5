"""Tests of concurrent tasks, their failures and their cancellation, and of the number of CPUs."""

import asyncio
import os
import subprocess
import sys

import pytest

from mirror.concurrency import BackgroundTasks, map_concurrently
from mirror.errors import MirrorError, StorageError


def test_results_have_the_order_of_the_items() -> None:
    async def later(number: int) -> int:
        for _ in range(10 - number):
            await asyncio.sleep(0)
        return number * 2

    assert asyncio.run(map_concurrently(range(10), later, 4)) == [number * 2 for number in range(10)]


def test_no_items_give_no_results() -> None:
    async def work(_: int) -> None: ...

    assert asyncio.run(map_concurrently([], work, 4)) == []


@pytest.mark.parametrize("at_once", [1, 3, 100])
def test_number_of_items_that_run_at_once_is_limited(at_once: int) -> None:
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


def test_first_failure_is_raised_after_the_other_items_have_ended() -> None:
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


def test_only_the_first_of_several_failures_is_raised() -> None:
    async def work(number: int) -> None:
        raise MirrorError(f"number {number}")

    with pytest.raises(MirrorError, match="number 0"):
        asyncio.run(map_concurrently(range(5), work, 3))


def test_cancellation_ends_all_items() -> None:
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


def test_cancellation_during_the_end_of_background_tasks_is_not_lost() -> None:
    ended: list[str] = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            ended.append("background")

    async def main() -> None:
        async with BackgroundTasks() as tasks:
            tasks.start(background())
            await asyncio.sleep(0)
        ended.append("main")

    async def run() -> None:
        task = asyncio.create_task(main())
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert ended == ["background"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="others have no way to leave a process few processors")
def test_available_cpus_are_those_that_the_process_may_use() -> None:
    one = min(os.sched_getaffinity(0))
    code = (
        f"import os; os.sched_setaffinity(0, [{one}]); from mirror import concurrency as c; print(c.available_cpus())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"1\n"
