"""Tests of work in threads: how many there are, what a cancellation waits for, and threads that hang."""

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextvars import ContextVar
from functools import partial

import pytest

from mirror.concurrency import (
    ThreadPool,
    gives_up,
    once_unused,
    settled,
    submit,
    threads,
    to_thread,
    to_thread_cancellable,
)
from mirror.errors import StorageError
from tests.support.fork import run_in_fork

variable: ContextVar[str] = ContextVar("variable", default="")


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Give threads up at once. They hang until the event is set, at the latest at the end of the test."""
    monkeypatch.setattr(threads, "PATIENCE", 0.01)
    event = threading.Event()
    yield event
    event.set()
    while gives_up():
        threading.Event().wait(0.001)


def test_function_runs_in_another_thread_and_its_result_is_returned() -> None:
    assert asyncio.run(to_thread(lambda: threading.current_thread() is threading.main_thread())) is False


def test_failure_in_a_thread_is_raised() -> None:
    def work() -> None:
        raise StorageError("The disk is full.")

    with pytest.raises(StorageError):
        asyncio.run(to_thread(work))


@pytest.mark.parametrize("failing", [False, True])
def test_cancellation_waits_until_the_thread_has_ended(failing: bool) -> None:
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


# The pool


def test_threads_are_used_again_and_are_daemons() -> None:
    pool = ThreadPool("test")
    seen = [pool.submit(threading.current_thread).result() for _ in range(20)]
    assert len(set(seen)) <= 2  # the first may not be waiting again when the second piece of work comes
    assert all(thread.daemon and thread.name.startswith("test-") for thread in seen)


def test_all_work_without_a_limit_runs_at_once() -> None:
    together = threading.Barrier(40)
    pool = ThreadPool("test")
    assert sorted(work.result() for work in [pool.submit(lambda: together.wait(10)) for _ in range(40)]) == [*range(40)]


def test_limit_of_threads_is_kept_and_work_waits_in_order() -> None:
    pool, may_go, done = ThreadPool("limited", 2), threading.Event(), list[int]()
    blocked = [pool.submit(partial(may_go.wait, 10)) for _ in range(2)]
    later = [pool.submit(partial(done.append, number)) for number in range(5)]
    assert not done
    may_go.set()
    assert all(work.result(10) for work in blocked)
    wait(later)
    assert sorted(done) == [*range(5)]
    assert len([thread for thread in threading.enumerate() if thread.name.startswith("limited")]) <= 2


def test_work_runs_in_the_context_of_the_caller() -> None:
    variable.set("ours")
    assert submit(variable.get).result() == "ours"


def test_pool_works_in_a_forked_process() -> None:
    assert submit(os.getpid).result() == os.getpid()
    ended = run_in_fork(lambda: submit(lambda: "done").result(10))
    assert ended.value == "done"


def test_thread_without_work_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_IDLE", 0.01)
    pool = ThreadPool("test")
    pool.submit(threading.current_thread).result().join(10)
    assert pool.submit(lambda: "done").result(10) == "done"


def test_without_any_thread_an_error_is_raised_and_the_work_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, done = ThreadPool("test"), list[int]()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.submit(lambda: done.append(1))
    pool.submit(lambda: done.append(2)).result()
    assert done == [2]


def test_work_waits_for_a_thread_if_no_more_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, may_go = ThreadPool("test"), threading.Event()
    first = pool.submit(lambda: may_go.wait(10))
    monkeypatch.setattr(threading.Thread, "start", no_thread)
    second = pool.submit(lambda: "done")
    may_go.set()
    assert (first.result(10), second.result(10)) == (True, "done")


def no_thread(_: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


# Threads that hang


def test_cancellation_ends_a_call_that_blocks() -> None:
    source, target = os.pipe()

    async def main() -> None:
        task = asyncio.create_task(to_thread_cancellable(lambda _: os.read(source, 1), lambda: os.close(target)))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    os.close(source)
    assert not gives_up()


def test_thread_that_hangs_is_given_up_and_files_stay_open_until_it_ends(hanging: threading.Event) -> None:
    began, closed = threading.Event(), list[str]()

    def hang() -> None:
        began.set()
        hanging.wait(60)

    async def main() -> None:
        task = asyncio.create_task(to_thread(hang, discard=lambda _: closed.append("result")))
        await to_thread(began.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    once_unused(lambda: closed.append("file"))
    assert gives_up()
    assert closed == []
    hanging.set()
    while len(closed) < 2:
        threading.Event().wait(0.001)
    assert sorted(closed) == ["file", "result"]
    assert not gives_up()


def test_files_stay_open_until_the_last_thread_has_ended(hanging: threading.Event) -> None:
    other, closed = threading.Event(), list[str]()
    works = [submit(partial(event.wait, 60)) for event in (hanging, other)]
    asyncio.run(settled(works))
    once_unused(lambda: closed.append("file"))
    other.set()
    works[1].result()
    assert closed == []
    hanging.set()
    while not closed:
        threading.Event().wait(0.001)


def test_cancelled_task_that_cleans_up_gives_up_a_thread_that_hangs(hanging: threading.Event) -> None:
    async def main() -> None:
        async def clean_up() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await to_thread(lambda: hanging.wait(60))

        task = asyncio.create_task(clean_up())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gives_up()

    asyncio.run(main())


def test_cancelled_task_can_clean_up_in_a_thread() -> None:
    done: list[str] = []

    async def main() -> None:
        async def clean_up() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                done.append(await to_thread(lambda: "cleaned up"))

        task = asyncio.create_task(clean_up())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert done == ["cleaned up"]


def test_file_is_closed_at_once_if_no_thread_hangs() -> None:
    closed: list[str] = []
    once_unused(lambda: closed.append("file"))
    assert closed == ["file"]


def test_second_cancellation_still_waits(hanging: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "PATIENCE", 60)

    async def main() -> bool:
        work: Future[bool] = submit(lambda: hanging.wait(60))
        task = asyncio.create_task(settled([work]))
        for _ in range(3):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.sleep(0.01)
        waits = not task.done()
        hanging.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        return waits

    assert asyncio.run(main())


def test_work_that_has_not_begun_never_begins_after_a_cancellation(hanging: threading.Event) -> None:
    pool, done = ThreadPool("test", 1), list[int]()

    async def main() -> None:
        blocked = pool.submit(lambda: hanging.wait(60))
        task = asyncio.create_task(threads.shielded(pool.submit(lambda: done.append(1))))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        hanging.set()
        blocked.result()
        pool.submit(lambda: done.append(2)).result()

    asyncio.run(main())
    assert done == [2]
    assert not gives_up()
