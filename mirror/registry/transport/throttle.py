"""Throttling: when a registry asks to slow down, all requests to it pause.

1. a 429, or a 503 with Retry-After, starts a pause, as long as the registry asks, by default longer each time; if the
   registry asks for a longer one than the limit, requests fail until it is over
2. after the pause, one request is sent as a probe; the others wait for its result
3. if it succeeds, all continue; if it is throttled, the next pause starts
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import ceil
from time import monotonic

from mirror.errors import TransferError
from mirror.text import count

_FIRST_PAUSE, _MAX_PAUSE = 1.0, 60.0  # seconds, if the registry does not say how long; containers/image has the same
_WORTH_REPORTING = 5.0  # seconds of a pause
log = logging.getLogger(__name__)


class Throttle:
    """The throttle of one registry."""

    def __init__(self, registry: str, max_wait: float) -> None:
        """Create the throttle; `max_wait` is the longest pause in seconds that the registry may ask for."""
        self._registry, self._max_wait = registry, max_wait
        self._paused_until = 0.0  # monotonic time
        self._pauses = 0  # in a row, without a success
        self._probing = False  # a probe has no response yet
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until a request may be sent; inside, call `throttled` or `succeeded` when it has a response.

        Raise TransferError if the registry asked for a pause beyond the limit, and it is not over.
        """
        is_probe = False
        while self._pauses and not is_probe:
            remaining = self._paused_until - monotonic()
            if remaining > self._max_wait:
                raise too_long(TransferError(f"{self._registry} asked to slow down.", status=429), remaining)
            if remaining > 0:
                await asyncio.sleep(remaining)
            elif self._probing:
                self._changed.clear()
                await self._changed.wait()
            else:
                self._probing = is_probe = True
        try:
            yield
        finally:
            if is_probe:
                self._probing = False
                self._changed.set()

    def throttled(self, pause: float | None) -> None:
        """Start a pause, of `pause` seconds if the registry said so."""
        now = monotonic()
        backoff = _FIRST_PAUSE * 2 ** min(self._pauses, 10) * random.uniform(0.5, 1.0)
        seconds = min(_MAX_PAUSE, backoff) if pause is None else pause
        if now >= self._paused_until:  # requests that were sent together count once
            self._pauses += 1
            report(self._registry, seconds, self._max_wait)
        self._paused_until = max(self._paused_until, now + seconds)

    @property
    def is_paused(self) -> bool:
        """True if a request would have to wait."""
        return self._paused_until > monotonic()

    def succeeded(self) -> None:
        """End the pauses, after any other response."""
        if monotonic() >= self._paused_until:  # not for a request from before the pause
            self._pauses = 0
            self._changed.set()


def report(host: str, seconds: float, max_wait: float) -> None:
    """Report a pause when it starts, if it is long enough to be noticed; one beyond the limit is an error instead."""
    write = log.warning if _WORTH_REPORTING <= seconds <= max_wait else log.info
    write("%s asked to slow down; pausing requests to it for %.1f s.", host, seconds)


def too_long(error: TransferError, pause: float) -> TransferError:
    """Return an error like this one for a pause beyond the limit, which is reported at once."""
    seconds = ceil(pause)
    shown = f"{seconds / 3600:.1f} hours" if seconds >= 7200 else count(ceil(seconds / 60), "minute")
    hint = f"It asks to wait {shown}. Run the command again then, or let it wait: --max-wait {seconds}."
    return TransferError(str(error), hint=hint, status=error.status, said=error.said, retry_after=pause)
