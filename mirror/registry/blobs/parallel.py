"""Further connections to one large blob, if a single one is the bottleneck (docs/adr/0017).

The receiver opens them, and writes what they send where it belongs (`mirror.content.ranged`). Here are their requests,
and how many there are: all blobs share one budget of further connections.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

from yarl import URL

from mirror.content.stream import BlobReader
from mirror.errors import TransferError
from mirror.oci.descriptor import Descriptor
from mirror.registry.blobs import ranges
from mirror.registry.http import Registry
from mirror.registry.transport.exchange import Response

MIN_REMAINING = 16 * 1024 * 1024  # bytes that must be left for more connections to pay off
_MIN_INTERVAL = 0.3  # seconds of a measurement, at least
_MEASURED = 1024 * 1024  # bytes of each connection that make a measurement, at least
_FAST = 32 * 1024 * 1024  # bytes per second above which a connection is not the bottleneck
_MIN_SPEEDUP = 1.2  # the factor by which more connections must be faster
_MAX_CONNECTIONS = 8  # for one blob, unless the user sets a number


class BlobRanges:
    """`Ranges`: connections to the blob at `path`, whose first response came from `url`, perhaps after redirects."""

    def __init__(self, registry: Registry, path: str, scope: str, url: URL, blob: Descriptor, origin: str) -> None:
        self._registry, self._scope, self._blob, self._origin = registry, scope, blob, origin
        self._targets: list[URL | str] = [url, path]  # the first one saves the redirects, while its signature is valid
        self._scaler = ConnectionScaler(registry.options.connections_per_blob)
        self._budget, self._reserved = registry.limits.connections, 0
        self._opening = 0  # requests that have not been answered
        self._confirmed = False  # one range has been answered with this range

    @property
    def supported(self) -> bool:
        """`Ranges`: False once the registry has refused ranges for good."""
        return self._registry.supports_ranges

    async def connections(self, received: int, remaining: int) -> int:
        """`Ranges`: return how many connections to use, within the budget."""
        self._scaler.measure(received, remaining, steady=not self._opening)
        wanted = self._scaler.connections - 1 if self.supported else 0  # the first one is free
        while self._reserved < wanted and not self._budget.locked():
            await self._budget.acquire()
            self._reserved += 1
        self._return(self._reserved - wanted)
        return 1 + self._reserved

    def limit(self, connections: int) -> None:
        """`Ranges`: use at most so many connections from now on."""
        self._scaler.limit(connections)

    def skip(self, count: int) -> None:
        """`Ranges`: do nothing, since only what has been received is measured."""

    def close(self) -> None:
        """Return all connections to the budget."""
        self._return(self._reserved)

    def _return(self, count: int) -> None:
        for _ in range(count):
            self._budget.release()
            self._reserved -= 1

    @asynccontextmanager
    async def open(self, first: int, last: int) -> AsyncIterator[BlobReader]:
        """`Ranges`: request a range; any other response than this range is an error.

        A registry whose first answer to a range is something else does not support them.
        """
        registry = self._registry
        async with AsyncExitStack() as stack:
            self._opening += 1
            try:
                response = await self._request(stack, first, last)
            finally:
                self._opening -= 1
            if not ranges.matches(response, first, last, self._blob.size):
                registry.supports_ranges &= self._confirmed
                text = f"{response.url.host} did not answer a range request with that range."
                raise TransferError(text, transient=True)
            self._confirmed = True
            chunks, fill = registry.iter_body(response), registry.fill(response)
            yield BlobReader(chunks, self._origin, None, first, fill=fill, interrupt=response.close)

    async def _request(self, stack: AsyncExitStack, first: int, last: int) -> Response:
        """Request a range from the first target; if its signature has expired, perhaps, at once from the registry.

        Several connections may find that out at the same time, which does not count as failures.
        """
        headers, size = ranges.header(first, last), last - first + 1
        while True:
            target = self._targets[0]
            request = self._registry.send(
                "GET", target, scope=self._scope, headers=headers, expect=ranges.STATUSES, size=size
            )
            try:
                return await stack.enter_async_context(request)
            except TransferError as error:
                if not error.status:
                    raise
                if target is self._targets[-1]:
                    raise TransferError(str(error), status=error.status, transient=True) from None
                self._targets = self._targets[-1:]


class ConnectionScaler:
    """Decides how many connections a blob gets: more, as long as that makes it faster.

    A measurement begins and ends when bytes arrive, and includes no time in which a connection was being opened: an
    interval that begins with silence would make any further connection seem to help.
    """

    def __init__(self, fixed: int | None) -> None:
        self.connections = fixed or 1
        self._settled = fixed is not None
        self._since: float | None = None  # when the measurement began, and how much had been received then
        self._received = self._seen = 0
        self._previous, self._rate = 1, 0.0  # the number of connections before the latest increase, and their rate

    def limit(self, connections: int) -> None:
        """Use at most so many connections from now on."""
        self.connections, self._settled = min(self.connections, connections), True

    def measure(self, received: int, remaining: int, *, steady: bool = True) -> None:
        """Decide again, once enough bytes were `received` in enough time; `remaining` bytes are left.

        It is not `steady` while a connection is being opened.
        """
        has_grown, self._seen = received > self._seen, received
        if not steady:
            self._since = None
        if self._settled or not steady or not has_grown:
            return
        if self._since is None:
            self._since, self._received = monotonic(), received
            return
        seconds, count = monotonic() - self._since, received - self._received
        if seconds >= _MIN_INTERVAL and count >= self.connections * _MEASURED:
            self._decide(count / max(seconds, 0.001), remaining)

    def _decide(self, rate: float, remaining: int) -> None:
        self._since = None
        if self.connections > 1 and rate < self._rate * _MIN_SPEEDUP:
            self.connections, self._settled = self._previous, True
        elif self.connections >= _MAX_CONNECTIONS or rate > _FAST * self.connections or remaining < MIN_REMAINING:
            self._settled = True
        else:
            self._previous, self._rate = self.connections, rate
            self.connections = min(self.connections * 3, _MAX_CONNECTIONS)
