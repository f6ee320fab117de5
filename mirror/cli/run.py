"""Run a coroutine until it is done or interrupted."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 0.8  # seconds to clean up in; a disk may take minutes for an fsync


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main`. SIGINT and SIGTERM cancel it, and it cleans up; a second one ends the process at once.

    Where cleaning up takes too long, the process ends without: a thread that is killed in an fsync has been writing
    what has no name yet, or has been verified. The layout is whole either way, and the next pull clears what is left.

    Raises:
        KeyboardInterrupt: it was cancelled. The loop is left as it is, since closing it is waiting for threads too;
            `mirror.cli.main` exits without.
    """
    interrupted = False

    async def guarded() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()

        def stop() -> None:
            nonlocal interrupted
            if interrupted:
                os._exit(130)
            interrupted = True
            loop.call_later(_PATIENCE, _leave)
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


def _leave() -> None:
    os.write(2, b"error: interrupted.\n")
    os._exit(130)
