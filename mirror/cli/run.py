"""Running a coroutine until it is done, or until somebody says stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run `main`. SIGINT and SIGTERM cancel it, which cleans up, and end the process with 130; a second one at once."""
    interrupted = False

    async def guarded() -> T:
        nonlocal interrupted
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

    with asyncio.Runner() as runner:
        try:
            return runner.run(guarded())
        except asyncio.CancelledError:
            if not interrupted:
                raise
            print("mirror: interrupted; what is complete is kept. Run the same command to go on.", file=sys.stderr)
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit: a worker thread may be in an fsync for as long as the disk likes. What it writes has no
            # name yet, or has been verified; the layout is whole either way.
            os._exit(130)
