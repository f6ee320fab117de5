"""The budget of segments in flight, shared by all blobs that a command fetches over several connections."""

from __future__ import annotations

import asyncio

MAX_SEGMENTS = 10


class SegmentBudget:
    """A semaphore that can also be acquired without waiting."""

    def __init__(self, free: int = MAX_SEGMENTS) -> None:
        self._free = free
        self._freed = asyncio.Event()

    def try_acquire(self) -> bool:
        """Acquire a segment if one is free; return whether one was."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def acquire(self) -> None:
        """Acquire a segment, waiting until one is free."""
        while not self.try_acquire():
            self._freed.clear()
            await self._freed.wait()

    def release(self) -> None:
        """Return an acquired segment."""
        self._free += 1
        self._freed.set()
