"""The places of blobs that are in flight: so many are received, and twice as many others are made durable.

A commit may take seconds on a slow disk. Meanwhile the network goes on with other blobs.
"""

from __future__ import annotations

from asyncio import Semaphore
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

IN_FLIGHT = 4  # blobs for each job; those that wait for their commit take no memory, only a file descriptor


class Places:
    """Places for `jobs` blobs that are received, and for twice as many that are committed: they wait for two fsyncs.

    With one job, everything happens in order: what comes before a failure is complete.
    """

    def __init__(self, jobs: int) -> None:
        self.receiving = Semaphore(jobs)
        self.committing = self.receiving if jobs == 1 else Semaphore(2 * jobs)

    @asynccontextmanager
    async def free(self) -> AsyncIterator[Place]:
        """Wait for a place to receive, and leave it at the end, or the other that was taken instead."""
        place = Place(self)
        await place.receive()
        try:
            yield place
        finally:
            place.leave()


class Place:
    """The place of one blob."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._held: Semaphore | None = None

    async def receive(self) -> None:
        """Take a place to receive, and leave one to commit."""
        await self._take(self._places.receiving)

    async def commit(self) -> None:
        """Take a place to commit, and leave the one to receive."""
        await self._take(self._places.committing)

    async def _take(self, wanted: Semaphore) -> None:
        if self._held is not wanted:
            self.leave()
            await wanted.acquire()
            self._held = wanted

    def leave(self) -> None:
        if self._held:
            self._held.release()
        self._held = None
