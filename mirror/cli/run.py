"""Run a coroutine until it is done or interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from threading import Lock, Thread
from typing import Any, Self, TypeVar

from mirror.cli import console, interrupt
from mirror.concurrency import submit

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CLEANUP_TIME = 0.8  # seconds; an fsync on a slow disk may take minutes


def run(main: Coroutine[Any, Any, T], *, again: str | None = None) -> T:
    """Run `main`. SIGINT and SIGTERM cancel it, and it cleans up; a second one ends the process at once.

    If the cleanup takes too long, the process ends without it. That is safe: a thread that is killed during an fsync
    is writing a file that has no final name yet, or has been verified. The layout is consistent either way, and the
    next pull deletes what is left. Interrupted is raised without closing the event loop, which would wait for
    tasks; `mirror.cli.main` exits without. `again` is the hint to run the same command again.
    """
    runner = asyncio.Runner(loop_factory=_Loop)
    loop = runner.get_loop()

    async def guarded() -> T:
        task = asyncio.current_task()
        assert task
        signals.cancel = partial(loop.call_soon_threadsafe, task.cancel)
        return await main

    with _Signals(again) as signals:
        try:
            result = runner.run(guarded())
        except asyncio.CancelledError:
            if signals.received:
                raise interrupt.Interrupted(hint=again) from None
            raise
        except BaseException:
            runner.close()
            raise
        runner.close()
        return result


class _Loop(asyncio.SelectorEventLoop):
    """An event loop whose threads are daemons: nothing waits for one that hangs, such as in a look-up of a name."""

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        if executor is not None:
            return super().run_in_executor(executor, func, *args)
        return asyncio.wrap_future(submit(partial(func, *args)), loop=self)


class _Signals:
    """SIGINT and SIGTERM, received by a thread, because the event loop itself may hang in the kernel.

    The first one calls `cancel`; afterwards, `received` is True.
    """

    def __init__(self, hint: str | None) -> None:
        self.cancel: Callable[[], object] = lambda: None
        self.received = False
        self._text = console.error_text(interrupt.MESSAGE, hint, code="interrupted", exitCode=130)
        self._ending = Lock()  # the thread that has it says how the command ended

    def __enter__(self) -> Self:
        self._source, self._target = socket.socketpair()
        self._target.setblocking(False)
        self._before = signal.set_wakeup_fd(self._target.fileno(), warn_on_full_buffer=False)
        self._handlers = [signal.signal(number, _ignore) for number in _SIGNALS]
        self._thread = Thread(target=self._watch, name="signals", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.acquire()
        signal.set_wakeup_fd(self._before)
        if not self.received:  # otherwise the process is about to end
            for number, handler in zip(_SIGNALS, self._handlers, strict=True):
                signal.signal(number, handler)
        self._target.close()
        self._thread.join()
        self._source.close()

    def _watch(self) -> None:
        if not self._wait():
            return
        self.received = True
        self.cancel()
        self._source.settimeout(_CLEANUP_TIME)
        try:
            again = self._wait()
        except TimeoutError:
            if self._ending.acquire(blocking=False):
                self._exit()
        else:
            if again:
                self._exit()

    def _wait(self) -> bool:
        """Wait for a signal; return False at the end of the command."""
        while number := self._source.recv(1):
            if number[0] in _SIGNALS:
                return True
        return False

    def _exit(self) -> None:
        interrupt.erase()
        with suppress(OSError):
            os.write(2, f"{self._text}\n".encode())
        os._exit(130)


def _ignore(*_: object) -> None:
    """Handle a signal by doing nothing: the thread of `_Signals` is told of it."""
