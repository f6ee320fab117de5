"""The maximum and minimum rate of transfers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from threading import Lock
from time import monotonic

from mirror.content.stream import ReadInto
from mirror.errors import TransferError
from mirror.registry.transport.errors import translate_errors
from mirror.registry.transport.request_text import Request

MIN_RATE = 1024  # bytes per second, below which a server is stalling
_MAX_SILENCE = 2.0  # seconds in which each connection transfers something: proxies close silent ones
_TURN = 0.1  # seconds of the whole rate that one transfer may use before others have a turn
_MAX_PIECE = 256 * 1024  # bytes


class RateLimit:
    """The maximum rate of all transfers together in bytes per second; None: unlimited. Transfers take turns.

    Coroutines and threads share it.
    """

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._due = 0.0  # the monotonic time until which the rate is used up
        self._lock = Lock()

    @property
    def is_limited(self) -> bool:
        return self._rate is not None

    def turns(self, count: int) -> Iterator[float]:
        """Yield how many seconds to wait, one turn after another, until `count` more bytes may be transferred."""
        while self._rate and count > 0:
            turn = min(count, max(1, int(self._rate * _TURN)))
            with self._lock:
                now = monotonic()
                self._due = max(self._due, now) + turn / self._rate
                wait = self._due - now
            yield wait
            count -= turn

    async def take(self, count: int) -> None:
        """Wait until `count` more bytes may be transferred."""
        for seconds in self.turns(count):
            await asyncio.sleep(seconds)

    def piece(self, connections: int) -> int:
        """Return the bytes that one of so many connections may send or read ahead, so that none is silent for long."""
        if self._rate is None:
            return _MAX_PIECE
        return max(1, min(_MAX_PIECE, int(self._rate * _MAX_SILENCE / connections)))


class MinimumRate:
    """Fails below `MIN_RATE`, which catches servers that send single bytes.

    The rate is averaged over `window` seconds spent waiting for the server; writing what arrived does not count.
    """

    def __init__(self, window: float, request: Request) -> None:
        self._window, self._request = window, request
        self._waited, self._received = 0.0, 0

    def received(self, count: int, waited: float) -> None:
        """Count bytes, and the seconds spent waiting for them; raise TransferError if they are too slow."""
        self._waited += waited
        self._received += count
        if self._waited < self._window:
            return
        if self._received < MIN_RATE * self._waited:
            rate = int(self._received / self._waited)
            text = f"{self._request.host} sends only {rate} bytes per second{self._request.about}."
            raise TransferError(text, transient=True)
        self._waited, self._received = 0.0, 0


async def rate_limited(
    chunks: AsyncIterator[bytes], limit: RateLimit, window: float, request: Request
) -> AsyncIterator[bytes]:
    """Yield a body, rate-limited; fail below the minimum rate over `window` seconds."""
    minimum = MinimumRate(window, request)
    while True:
        before = monotonic()
        chunk = await anext(chunks, None)
        if chunk is None:
            return
        minimum.received(len(chunk), monotonic() - before)
        yield chunk
        await limit.take(len(chunk))


def rate_limited_fill(
    fill: ReadInto,
    pause: Callable[[float], None],
    limit: RateLimit,
    window: float,
    request: Request,
    connections: int,
) -> ReadInto:
    """Return a `fill` for a thread that reads a body in the same way, beside so many `connections`."""
    minimum = MinimumRate(window, request)
    most = limit.piece(connections) if limit.is_limited else sys.maxsize

    def limited(view: memoryview) -> int:
        before = monotonic()
        with translate_errors(request):
            count = fill(view[:most])
        if count:
            minimum.received(count, monotonic() - before)
        for seconds in limit.turns(count):
            pause(seconds)
        return count

    return limited
