"""Running a coroutine until it is done, or until somebody says stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main`. SIGINT and SIGTERM cancel it, and it cleans up; a second one ends the process at once.

    Raises:
        KeyboardInterrupt: it was cancelled. The loop is left as it is: to close it would be to wait for worker threads,
            and one may be in an fsync for as long as the disk likes. What such a thread writes has no name yet, or has
            been verified; the layout is whole either way, and `mirror.cli.main` exits without waiting.
    """
    interrupted = False

    async def guarded() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            nonlocal interrupted
            if interrupted:
                os._exit(130)
            interrupted = True
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
            raise KeyboardInterrupt from None
        raise
    except BaseException:
        runner.close()
        raise
    runner.close()
    return result
