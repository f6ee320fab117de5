"""Throttling: when a registry asks to slow down, all requests to it pause.

1. a 429, or a 503 with Retry-After, starts a pause, as long as the registry asks, by default longer each time
2. after the pause, one request is sent as a probe; the others wait for its result
3. if it succeeds, all continue; if it is throttled, the next pause starts
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

_FIRST_PAUSE, _MAX_PAUSE = 1.0, 60.0  # seconds; the maximum is the same in containers/image
log = logging.getLogger(__name__)


class Throttle:
    """The throttle of one registry."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._paused_until = 0.0  # monotonic time
        self._pauses = 0  # in a row, without a success
        self._probing = False  # a probe has no response yet
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until a request may be sent; inside, call `throttled` or `succeeded` when it has a response."""
        is_probe = False
        while self._pauses and not is_probe:
            remaining = self._paused_until - monotonic()
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
        seconds = min(_MAX_PAUSE, backoff if pause is None else pause)
        if now >= self._paused_until:  # requests that were sent together count once
            self._pauses += 1
            log.info("%s asked to slow down; pausing all requests to it for %.1f s.", self._registry, seconds)
        self._paused_until = max(self._paused_until, now + seconds)

    def succeeded(self) -> None:
        """End the pauses, after any other response."""
        if monotonic() >= self._paused_until:  # not for a request from before the pause
            self._pauses = 0
            self._changed.set()
