"""Trying again: what is transient, how often, and how long to wait in between."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from mirror.errors import MirrorError

T = TypeVar("T")
log = logging.getLogger("mirror")
_GAIN = 1024 * 1024  # bytes; a server that gives a byte at a time does not get a million attempts


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How stubborn to be: `times` further attempts after the first, the pause in seconds doubling from `pause`.

    A server that names a pause (Retry-After) gets it, up to `longest` seconds.
    """

    times: int = 4
    pause: float = 0.5
    longest: float = 60.0

    async def run(self, action: Callable[[], Awaitable[T]], reached: Callable[[], int] = lambda: 0) -> T:
        """Call `action` until it succeeds, fails for good, or has had its attempts.

        Args:
            action: what to do.
            reached: how many bytes it has come to. An attempt that came `_GAIN` bytes further than any before begins
                the count anew: a link that is cut every minute still carries a blob that takes an hour.

        Raises:
            MirrorError: the last error of `action`, unchanged.
        """
        attempt, furthest = 0, reached()
        while True:
            try:
                return await action()
            except MirrorError as error:
                if reached() >= furthest + _GAIN:
                    attempt, furthest = 0, reached()
                if not error.transient or attempt >= self.times:
                    raise
                pause = self._pause(attempt, getattr(error, "retry_after", None))
                log.info("%s Trying again in %.1f s.", error, pause)
            attempt += 1
            await asyncio.sleep(pause)

    def _pause(self, attempt: int, asked: float | None) -> float:
        # Half of it random: forty blobs that failed together must not come back together.
        own: float = self.pause * 2**attempt * random.uniform(0.5, 1.0)
        return min(self.longest, max(own, asked or 0.0))


ONCE = RetryPolicy(times=0)
