"""Doing many things at once, with an end: all are done, or the first failure stops the rest and is raised itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager, suppress
from threading import Event
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def available_cpus() -> int:
    """The processors that this process may run on: a container, or taskset, may leave it few of the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


async def map_concurrently(items: Iterable[T], work: Callable[[T], Awaitable[R]], at_once: int) -> list[R]:
    """Run `work` on every item, at most `at_once` of them together, started in the given order.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: what the first failing `work` raised, after the others have been cancelled and have ended.
    """
    queue = enumerate(items)
    results: dict[int, R] = {}

    async def worker() -> None:
        for position, item in queue:
            results[position] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(at_once):
                group.create_task(worker())
    except BaseExceptionGroup as failed:
        raise _first(failed) from None
    return [results[position] for position in sorted(results)]


async def overlapped(
    items: Iterable[T], first: Callable[[T], Awaitable[R]], then: Callable[[R], Awaitable[None]]
) -> None:
    """Run `first` on every item and `then` on every result, in order; `first` runs up to two items ahead.

    Raises:
        Exception: what the first failing call raised, after the other has been cancelled and has ended.
    """
    results: asyncio.Queue[tuple[R] | None] = asyncio.Queue(1)

    async def produce() -> None:
        for item in items:
            await results.put((await first(item),))
        await results.put(None)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            while (result := await results.get()) is not None:
                await then(*result)
    except BaseExceptionGroup as failed:
        raise _first(failed) from None


async def to_thread(
    work: Callable[[], R], on_cancel: Callable[[], None] = lambda: None, unwanted: Callable[[R], None] = lambda _: None
) -> R:
    """Run `work` in a worker thread, and never leave the thread behind; see `shielded`."""
    return await shielded(asyncio.to_thread(work), on_cancel, unwanted)


class BackgroundTasks:
    """Tasks that help somebody, and end with the `async with` that they were started in."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside whatever goes on. What it raises is its own affair, so it has to tell whom it concerns."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        while self._tasks:
            with suppress(asyncio.CancelledError):  # the tasks are about to end; what they use must not end before
                await asyncio.wait(self._tasks)


@asynccontextmanager
async def background_tasks() -> AsyncIterator[BackgroundTasks]:
    """Somewhere to start tasks in that never outlive the body of the `async with`."""
    found = BackgroundTasks()
    try:
        yield found
    finally:
        await found.end()


async def to_thread_cancellable(work: Callable[[Callable[[int], None]], R]) -> R:
    """Run `work` in a worker thread; a cancellation ends it at its next call of the function that it is given."""
    stop = Event()

    def advance(_: int) -> None:
        if stop.is_set():
            raise asyncio.CancelledError

    return await to_thread(lambda: work(advance), on_cancel=stop.set)


async def shielded(
    doing: Awaitable[R], on_cancel: Callable[[], None] = lambda: None, unwanted: Callable[[R], None] = lambda _: None
) -> R:
    """Await something that a thread does, to its end.

    A cancelled task leaves its thread running. What the thread uses, open files and locks, belongs to the caller, who
    is going to close them. So a cancellation first calls `on_cancel`, which may make the thread end sooner, and waits.
    What it has opened all the same, and nobody gets, goes to `unwanted`.
    """
    task = asyncio.ensure_future(doing)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        on_cancel()
        while not task.done():
            with suppress(asyncio.CancelledError):  # whoever is in a hurry has been heard already
                await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:  # which nobody else is going to ask
            unwanted(task.result())
        raise


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = failed
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
