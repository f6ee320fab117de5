"""One pause for all requests to one registry, so that forty blobs do not each find out that it is overloaded.

1. a 429, or a 503 with Retry-After, closes the gate for as long as the registry asks, else for longer each time
2. when the pause is over, one request goes first; the others wait for its result
3. if it succeeds, the gate opens; if it is throttled again, the next pause begins
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
    """The gate in front of one registry."""

    def __init__(self, registry: str) -> None:
        self._registry = registry
        self._paused_until = 0.0  # monotonic time
        self._pauses = 0  # in a row, without a success
        self._probing = False  # a request has gone first, and has no response yet
        self._changed = asyncio.Event()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until a request may be sent; inside, call `throttled` or `succeeded` when it has a response."""
        is_probe = await self._wait()
        try:
            yield
        finally:
            if is_probe:
                self._probing = False
                self._changed.set()

    def throttled(self, pause: float | None) -> None:
        """Close the gate: the registry asked for a pause, of `pause` seconds if it said so."""
        now = monotonic()
        backoff = _FIRST_PAUSE * 2 ** min(self._pauses, 10) * random.uniform(0.5, 1.0)
        seconds = min(_MAX_PAUSE, backoff if pause is None else pause)
        if now >= self._paused_until:  # responses to requests that were sent together count once
            self._pauses += 1
            log.info("%s asked to slow down; pausing all requests to it for %.1f s.", self._registry, seconds)
        self._paused_until = max(self._paused_until, now + seconds)

    def succeeded(self) -> None:
        """Open the gate: the registry answered."""
        if monotonic() >= self._paused_until:  # a response to a request from before the pause does not end it
            self._pauses = 0
            self._changed.set()

    async def _wait(self) -> bool:
        """Wait for the gate to open. Return True if this request is the one that goes first."""
        while self._pauses:
            remaining = self._paused_until - monotonic()
            if remaining > 0:
                await asyncio.sleep(remaining)
            elif not self._probing:
                self._probing = True
                return True
            else:
                self._changed.clear()
                await self._changed.wait()
        return False
