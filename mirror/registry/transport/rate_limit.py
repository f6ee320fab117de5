"""How fast bodies are transferred: not above the limit that the user set, not below a minimum."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from mirror.errors import TransferError
from mirror.registry.transport.request import Request

MIN_RATE = 1024  # bytes per second; a server that sends more slowly, on average, is stalling


class RateLimit:
    """A limit in bytes per second for all transfers together; None: unlimited."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._due = 0.0  # when everything taken so far has been paid for

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may pass."""
        if self._rate is None:
            return
        now = monotonic()
        self._due = max(self._due, now) + count / self._rate
        await asyncio.sleep(self._due - now)


async def rate_limited(
    chunks: AsyncIterator[bytes], limit: RateLimit, window: float, request: Request
) -> AsyncIterator[bytes]:
    """Yield a body, rate-limited; fail if it arrives below the minimum rate.

    Only time spent waiting for the server counts against it: a slow disk is not its fault.

    Args:
        chunks: the body.
        limit: the maximum rate.
        window: seconds of waiting over which the rate is averaged.
        request: what was requested.

    Raises:
        TransferError: it is slower than `MIN_RATE`. A timeout alone does not catch a server that sends a byte now and
            then.
    """
    waited, received = 0.0, 0
    while True:
        before = monotonic()
        chunk = await anext(chunks, None)
        if chunk is None:
            return
        waited += monotonic() - before
        received += len(chunk)
        if waited >= window:
            if received < MIN_RATE * waited:
                rate = int(received / waited)
                text = f"{request.host} sends only {rate} bytes per second{request.about}."
                raise TransferError(text, transient=True)
            waited, received = 0.0, 0
        yield chunk
        await limit.take(len(chunk))
