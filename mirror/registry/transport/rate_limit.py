"""How fast bytes come: not slower than a server that is alive, not faster than a person allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from mirror.errors import TransferError

SLOWEST = 1024  # bytes per second; a body that is slower, on an average, is a server that holds us up


class RateLimit:
    """So many bytes per second, of all transfers together; as many as come where `rate` is None."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._due = 0.0  # when what has been taken so far is paid for

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may pass."""
        if self._rate is None:
            return
        now = monotonic()
        self._due = max(self._due, now) + count / self._rate
        await asyncio.sleep(self._due - now)


async def paced(chunks: AsyncIterator[bytes], limit: RateLimit, window: float, request: str) -> AsyncIterator[bytes]:
    """Pass a body on, at the limit's pace.

    Only the time that is spent waiting for the server counts against it: a slow disk is not its fault. So many seconds
    of waiting as `window` says are what it is judged by.

    Raises:
        TransferError: it is slower than `SLOWEST` (a server that sends a byte now and then never runs into a timeout).
    """
    waited, came = 0.0, 0
    while True:
        before = monotonic()
        chunk = await anext(chunks, None)
        if chunk is None:
            return
        waited += monotonic() - before
        came += len(chunk)
        if waited >= window:
            if came < SLOWEST * waited:
                rate = int(came / waited)
                raise TransferError(f"{request}: the body comes at {rate} bytes per second.", transient=True)
            waited, came = 0.0, 0
        yield chunk
        await limit.take(len(chunk))
