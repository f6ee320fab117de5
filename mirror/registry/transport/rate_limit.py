"""The maximum and minimum rate of transfers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic

from mirror.errors import TransferError
from mirror.registry.transport.request_text import Request

MIN_RATE = 1024  # bytes per second, below which a server is stalling


_MAX_SILENCE = 2.0  # seconds in which each connection transfers something: proxies close silent ones
_TURN = 0.1  # seconds of the whole rate that one transfer may use before others have a turn
_MAX_PIECE = 256 * 1024  # bytes


class RateLimit:
    """The maximum rate of all transfers together in bytes per second; None: unlimited. Transfers take turns."""

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._due = 0.0  # the monotonic time until which the rate is used up

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may be transferred."""
        while self._rate and count > 0:
            turn = min(count, max(1, int(self._rate * _TURN)))
            now = monotonic()
            self._due = max(self._due, now) + turn / self._rate
            await asyncio.sleep(self._due - now)
            count -= turn

    def piece(self, connections: int) -> int:
        """Return the bytes that one of so many connections may send or read ahead, so that none is silent for long."""
        if self._rate is None:
            return _MAX_PIECE
        return max(1, min(_MAX_PIECE, int(self._rate * _MAX_SILENCE / connections)))


async def rate_limited(
    chunks: AsyncIterator[bytes], limit: RateLimit, window: float, request: Request
) -> AsyncIterator[bytes]:
    """Yield a body, rate-limited; fail below `MIN_RATE`, which catches servers that send single bytes.

    The rate is averaged over `window` seconds spent waiting for the server; writing the chunks does not count.
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
