"""Work in threads, which a call waits for before it returns or raises, unless they hang.

A thread that hangs in the kernel, such as in a write to a file server that is gone, cannot be ended. So threads are
daemons, which neither the event loop nor the interpreter waits for at its end, and a call that is cancelled gives its
thread up after `PATIENCE`. Such a thread may still use files, so they stay open: see `once_unused`.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from threading import Condition, Event, Lock, Thread
from time import monotonic
from typing import Any, TypeVar

R = TypeVar("R")
Running = Future[R] | asyncio.Future[R]

PATIENCE = 5.0  # seconds after a cancellation that a thread has to end
_IDLE = 10.0  # seconds after which a thread without work ends


class ThreadPool:
    """Daemon threads, started when they are needed and used again; `limit` is how many there are at most.

    Without a limit, no work waits for other work: callers limit how much they start.
    """

    def __init__(self, name: str, limit: int | None = None) -> None:
        self._name, self._limit = name, limit
        self._forget()

    def _forget(self) -> None:
        """Begin without threads: a process that was forked has none of its parent's."""
        self._process, self._changed = os.getpid(), Condition()
        self._waiting: deque[Callable[[], None]] = deque()
        self._threads = self._idle = 0

    def submit(self, work: Callable[[], R]) -> Future[R]:
        """Run `work` in a thread, in the context of the caller.

        Raises:
            RuntimeError: no thread is running, and the system does not allow a new one.
        """
        if self._process != os.getpid():
            self._forget()
        future: Future[R] = Future()
        with self._changed:
            self._waiting.append(partial(copy_context().run, _run, work, future))
            if self._idle >= len(self._waiting):
                self._changed.notify()
            elif self._limit is None or self._threads < self._limit:
                self._start_thread()
        return future

    def _start_thread(self) -> None:
        try:
            Thread(target=self._serve, name=f"{self._name}-{self._threads + 1}", daemon=True).start()
        except RuntimeError:  # the limit of the system, or of a container
            if not self._threads:
                self._waiting.pop()
                raise
        else:
            self._threads += 1

    def _serve(self) -> None:
        while self._take_one():
            pass

    def _take_one(self) -> bool:
        """Wait for work and do it; return False if there has been none for a while."""
        with self._changed:
            self._idle += 1
            found = self._changed.wait_for(lambda: self._waiting, _IDLE)
            self._idle -= 1
            if not found:
                self._threads -= 1
                return False
            work = self._waiting.popleft()
        work()
        return True


_POOL = ThreadPool("mirror")


def submit(work: Callable[[], R]) -> Future[R]:
    """Run `work` in a thread of its own. Await the result with `to_thread`, `shielded` or `asyncio.wrap_future`."""
    return _POOL.submit(work)


async def to_thread(
    work: Callable[[], R], on_cancel: Callable[[], None] = lambda: None, discard: Callable[[R], None] = lambda _: None
) -> R:
    """Run `work` in a thread, and wait for the thread even when cancelled; see `shielded`."""
    return await shielded(submit(work), on_cancel, discard)


async def to_thread_cancellable(
    work: Callable[[Callable[[int], None]], R], on_cancel: Callable[[], None] = lambda: None
) -> R:
    """Run `work` in a thread. Its argument is a function that raises CancelledError once this is cancelled.

    `on_cancel` is called on cancellation, to end a call that blocks.
    """
    stop = Event()

    def advance(_: int) -> None:
        if stop.is_set():
            raise asyncio.CancelledError

    def cancel() -> None:
        stop.set()
        on_cancel()

    return await to_thread(partial(work, advance), on_cancel=cancel)


async def shielded(
    work: Future[R] | Awaitable[R],
    on_cancel: Callable[[], None] = lambda: None,
    discard: Callable[[R], None] = lambda _: None,
) -> R:
    """Await the work of a thread to its end, even when cancelled.

    Cancelling a task does not stop its thread, which goes on using files and locks that the caller is about to close.
    Therefore a cancellation waits for the thread before it is raised again, but not for longer than `PATIENCE`. The
    same holds for work that a cancelled task starts, to clean up: there may be no second cancellation.

    Args:
        work: the future of the thread, from `ThreadPool.submit`, or what awaits the thread of another library.
        on_cancel: called on cancellation, to make the thread end sooner.
        discard: called with the result after a cancellation, to close what the thread has opened.
    """
    running = work if isinstance(work, Future) else asyncio.ensure_future(work)
    try:
        await _ended_in_time(running)
    except asyncio.CancelledError:
        if not (running.done() or (isinstance(running, Future) and running.cancel())):  # it has begun
            on_cancel()
        try:
            await settled([running])
        finally:
            running.add_done_callback(partial(_discard, discard))
        raise
    try:
        return running.result()
    finally:
        del work, running  # as in `_run`


async def _ended_in_time(work: Running[Any]) -> None:
    """Wait for the end of work; in a task that has been cancelled, raise CancelledError after `PATIENCE`."""
    task = asyncio.current_task()
    if not (task and task.cancelling()):
        await _ended(work)
    elif not (await asyncio.wait([_ended(work)], timeout=PATIENCE))[0]:
        raise asyncio.CancelledError


async def settled(works: Iterable[Running[Any]]) -> None:
    """Wait until threads have ended, even when cancelled. Those that take longer than `PATIENCE` are given up."""
    end, cancelled = monotonic() + PATIENCE, False
    for work in works:
        ended = _ended(work)
        while not ended.done() and (left := end - monotonic()) > 0:
            try:
                await asyncio.wait([ended], timeout=left)
            except asyncio.CancelledError:
                cancelled = True
        if not work.done():
            _LOST.add(work)
    if cancelled:
        raise asyncio.CancelledError


def once_unused(close: Callable[[], object]) -> None:
    """Close a file or a directory: now, or, while a thread that was given up may still use it, when that has ended.

    The kernel would give its descriptor to the next file, and the thread would write to that one.
    """
    _LOST.call_when_empty(close)


def gives_up() -> bool:
    """Return whether a thread that was given up still hangs. Cleaning up must not wait for the same disk."""
    return bool(_LOST)


class _Lost:
    """The threads that were given up and have not ended, and what is to be done when all of them have."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._works = set[Running[Any]]()
        self._calls: list[Callable[[], object]] = []

    def __bool__(self) -> bool:
        return bool(self._works)

    def add(self, work: Running[Any]) -> None:
        with self._lock:
            self._works.add(work)
        work.add_done_callback(self._remove)

    def call_when_empty(self, call: Callable[[], object]) -> None:
        with self._lock:
            if self._works:
                self._calls.append(call)
                return
        call()

    def _remove(self, work: Running[Any]) -> None:
        if work.cancelled():  # by the end of its event loop, while its thread may go on
            return
        with self._lock:
            self._works.discard(work)
            calls, self._calls = ([], self._calls) if self._works else (self._calls, [])
        for call in calls:
            with suppress(Exception):  # the caller is gone
                call()


_LOST = _Lost()


def _run(work: Callable[[], R], future: Future[R]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            result = work()
        except BaseException as error:  # raised again where the result is awaited
            future.set_exception(error)
            del future  # the error's traceback refers to this call: together they would be garbage only later
        else:
            future.set_result(result)


def _ended(work: Running[Any]) -> asyncio.Future[None]:
    """Return a future of the event loop that is done when a thread is. Cancelling it has no effect on the thread."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()

    def tell() -> None:
        if not ended.done():
            ended.set_result(None)

    def tell_loop(_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the thread was given up
            loop.call_soon_threadsafe(tell)

    work.add_done_callback(tell_loop)
    return ended


def _discard(discard: Callable[[R], None], work: Running[R]) -> None:
    if not work.cancelled() and work.exception() is None:
        discard(work.result())
