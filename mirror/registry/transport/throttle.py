"""One pause for all requests to one registry, so that forty blobs do not each find out that it is overloaded.

1. a 429 (or a 503 that names a pause) closes the gate: for as long as the registry asks, else for longer each time
2. when the pause is over, one request goes ahead; the others wait for what it finds
3. it is answered: the gate is open. It is refused: the next pause
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

_FIRST, _LONGEST = 1.0, 60.0  # seconds; the longest is containers/image's too
log = logging.getLogger("mirror")


class Throttle:
    """The gate before one registry, whose name is `host`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._until = 0.0
        self._refusals = 0
        self._ahead = False  # whether somebody has gone ahead, and has no answer yet
        self._news = asyncio.Event()

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait until it is this request's turn; inside, it says what became of it."""
        leads = await self._wait()
        try:
            yield
        finally:
            if leads:
                self._ahead = False
                self._news.set()

    def refuse(self, pause: float | None) -> None:
        """The registry wants to be left alone, for `pause` seconds where it says so."""
        now = monotonic()
        own = _FIRST * 2 ** min(self._refusals, 10) * random.uniform(0.5, 1.0)
        seconds = min(_LONGEST, own if pause is None else pause)
        if now >= self._until:  # what was refused together is one refusal
            self._refusals += 1
            log.info("%s is left alone for %.1f s.", self._host, seconds)
        self._until = max(self._until, now + seconds)

    def succeeded(self) -> None:
        """The registry has answered."""
        if monotonic() >= self._until:  # answers to what was asked before the pause do not end it
            self._refusals = 0
            self._news.set()

    async def _wait(self) -> bool:
        """Wait for the gate to open, or for being the one that goes ahead."""
        while self._refusals:
            pause = self._until - monotonic()
            if pause > 0:
                await asyncio.sleep(pause)
            elif not self._ahead:
                self._ahead = True
                return True
            else:
                self._news.clear()
                await self._news.wait()
        return False
