"""Concurrent tasks: what a call starts has ended when the call returns or raises."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sized
from types import TracebackType
from typing import Any, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def available_cpus() -> int:
    """Return the number of CPUs that this process may use, which a container or taskset may restrict."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


async def map_concurrently(items: Iterable[T], work: Callable[[T], Awaitable[R]], limit: int) -> list[R]:
    """Run `work` on every item, on at most `limit` at a time, started in the given order.

    Returns:
        The results, in the order of the items.

    Raises:
        Exception: the first exception of `work`; all other calls have been cancelled and have ended.
    """
    limit = min(limit, len(items)) if isinstance(items, Sized) else limit
    if limit <= 1:
        return [await work(item) for item in items]
    queue = enumerate(items)
    results: dict[int, R] = {}

    async def worker() -> None:
        for position, item in queue:
            results[position] = await work(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(limit):
                group.create_task(worker())
    except BaseExceptionGroup as failed:
        raise _first(failed) from None
    return [results[position] for position in sorted(results)]


async def overlapped(
    items: Iterable[T], produce: Callable[[T], Awaitable[R]], consume: Callable[[R], Awaitable[None]]
) -> None:
    """Call `produce` on every item and `consume` on every result, in order; `produce` runs up to two items ahead.

    Raises:
        Exception: the first exception of either; the other has been cancelled and has ended.
    """
    results: asyncio.Queue[tuple[R] | None] = asyncio.Queue(1)

    async def producer() -> None:
        for item in items:
            await results.put((await produce(item),))
        await results.put(None)

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(producer())
            while (result := await results.get()) is not None:
                await consume(*result)
    except BaseExceptionGroup as failed:
        raise _first(failed) from None


class BackgroundTasks:
    """Tasks that are cancelled at the end of the `async with`, which waits for them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` in the background. Its exceptions are dropped, so it has to report failures itself."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await end_tasks(self._tasks)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until they have ended, even when cancelled."""
    left, cancelled = set(tasks), False
    for task in left:
        task.cancel()
    while left:
        try:
            _, left = await asyncio.wait(left)
        except asyncio.CancelledError:  # a second cancellation must not leave them running
            cancelled = True
    if cancelled:  # the caller must not go on as if nothing had happened
        raise asyncio.CancelledError


def _first(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = failed
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
