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


@dataclass(frozen=True, slots=True)
class Retry:
    """How stubborn to be: `times` further attempts after the first, the pause in seconds doubling from `pause`.

    A server that names a pause (Retry-After) gets it, up to `longest` seconds.
    """

    times: int = 4
    pause: float = 0.5
    longest: float = 60.0

    async def run(self, action: Callable[[], Awaitable[T]]) -> T:
        """Call `action` until it succeeds, fails for good, or has had its attempts.

        Raises:
            MirrorError: the last error of `action`, unchanged.
        """
        for attempt in range(self.times):
            try:
                return await action()
            except MirrorError as error:
                if not error.transient:
                    raise
                pause = self._pause(attempt, getattr(error, "retry_after", None))
                log.info("%s Trying again in %.1f s.", error, pause)
            await asyncio.sleep(pause)
        return await action()

    def _pause(self, attempt: int, asked: float | None) -> float:
        # Half of it random: forty blobs that failed together must not come back together.
        own: float = self.pause * 2**attempt * random.uniform(0.5, 1.0)
        return min(self.longest, max(own, asked or 0.0))


ONCE = Retry(times=0)
