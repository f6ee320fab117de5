"""Retries: how often and after how long, alone or together. Errors say themselves whether they are `transient`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from mirror.errors import MirrorError

T = TypeVar("T")
log = logging.getLogger(__name__)
READ_BACK_DELAYS = (0.5, 1.0, 2.0, 4.0)  # seconds
_PACE = 0.75  # seconds, somewhat more than the longest delay before a first retry
_PROGRESS = 1024 * 1024  # bytes that count as progress: a server that sends single bytes does not get more attempts


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries with exponential backoff and jitter.

    Attributes:
        retries: attempts after the first without progress.
        delay: the longest delay before the first retry in seconds; it doubles with every retry.
        max_delay: the longest delay in seconds, unless a server asks for a longer one (Retry-After). How long a server
            may ask for is a matter of its client: a longer delay makes the error one that is not transient.
    """

    retries: int = 4
    delay: float = 0.5
    max_delay: float = 60.0

    async def run(self, action: Callable[[], Awaitable[T]], progress: Callable[[], int] = lambda: 0) -> T:
        """Call `action` until it succeeds, fails with an error that is not transient, or has used up its attempts.

        Args:
            action: what to do.
            progress: returns the number of bytes transferred so far. An attempt that gets at least 1 MiB further than
                any before resets the count, so a blob that takes an hour survives a link that fails every minute.

        Raises:
            MirrorError: the last error of `action`, unchanged.
        """
        attempt, furthest = 0, progress()
        while True:
            try:
                return await action()
            except MirrorError as error:
                if progress() >= furthest + _PROGRESS:
                    attempt, furthest = 0, progress()
                if not error.transient or attempt >= self.retries:
                    raise
                from random import uniform  # only for retries

                # Jitter: forty blobs that failed together must not come back together.
                backoff = min(self.max_delay, self.delay * 2**attempt * uniform(0.5, 1.0))
                delay = max(backoff, getattr(error, "retry_after", None) or 0.0)
                log.info("%s Trying again in %.1f s.", error, delay)
            attempt += 1
            await asyncio.sleep(delay)


class SharedAttempts:
    """Attempts at what many callers need at the same time: one of them tries, the others get its result or its error.

    Each of them may try again after a transient error. They come back at different times, so the next attempt waits a
    moment: those that have come back by then share it.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._failure: MirrorError | None = None
        self._due = 0.0  # the monotonic time of the next attempt

    async def run(self, known: Callable[[], T | None], attempt: Callable[[], Awaitable[T]]) -> T:
        """Return what is `known`; if that is None, the result of `attempt`, which makes it known.

        Raises:
            MirrorError: the error of `attempt`, called here or, in the meantime, by another caller.
        """
        before = self._failure
        async with self._lock:
            if (found := known()) is not None:
                return found
            if self._failure is not None and self._failure is not before:
                raise self._failure
            await asyncio.sleep(self._due - time.monotonic())
            try:
                return await attempt()
            except MirrorError as error:
                self._failure = error
                self._due = time.monotonic() + _PACE if error.transient else 0.0
                raise


async def read_until(read: Callable[[], Awaitable[T]], accept: Callable[[T], bool]) -> T:
    """Read back what was written until it is accepted, for some seconds, and return it, or what was read last.

    With a cache in front, registries show new tags late.
    """
    for delay in READ_BACK_DELAYS:
        if accept(found := await read()):
            return found
        await asyncio.sleep(delay)
    return await read()


ONCE = RetryPolicy(retries=0)
