"""Run a coroutine until it is done or interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from mirror.cli import console, interrupt

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_CLEANUP_TIME = 0.8  # seconds; an fsync on a slow disk may take minutes


def run(main: Coroutine[Any, Any, T], *, resumable: bool = False) -> T:
    """Run `main`. SIGINT and SIGTERM cancel it, and it cleans up; a second one ends the process at once.

    If the cleanup takes too long, the process ends without it. That is safe: a thread that is killed during an fsync
    is writing a file that has no final name yet, or has been verified. The layout is consistent either way, and the
    next pull deletes what is left. Interrupted is raised without closing the event loop, which would wait for
    threads; `mirror.cli.main` exits without. With `resumable`, the user is told to run the same command again.
    """
    interrupted = False

    async def guarded() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            nonlocal interrupted
            if interrupted:
                os._exit(130)
            interrupted = True
            loop.call_later(_CLEANUP_TIME, _exit, resumable)
            if task:
                task.cancel()

        for number in _SIGNALS:
            loop.add_signal_handler(number, stop)
        return await main

    runner = asyncio.Runner()
    try:
        result = runner.run(guarded())
    except asyncio.CancelledError:
        if interrupted:
            raise interrupt.Interrupted(resumable=resumable) from None
        raise
    except BaseException:
        runner.close()
        raise
    runner.close()
    return result


def _exit(resumable: bool) -> None:
    text = console.error_text(
        interrupt.MESSAGE, interrupt.RESUME if resumable else None, code="interrupted", exitCode=130
    )
    with suppress(OSError):
        os.write(2, f"{text}\n".encode())
    os._exit(130)
