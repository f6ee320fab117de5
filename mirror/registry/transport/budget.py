"""How many parts of blobs may be on their way at once, over everything that a command fetches."""

from __future__ import annotations

import asyncio

BUDGET = 10  # segments of all blobs together


class SegmentBudget:
    """How many segments there may be at once, over all blobs of a command."""

    def __init__(self, free: int = BUDGET) -> None:
        self._free = free
        self._freed = asyncio.Event()

    def take(self) -> bool:
        """Take one, if one is free."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def wait(self) -> None:
        """Take one, when one is free."""
        while not self.take():
            self._freed.clear()
            await self._freed.wait()

    def release(self) -> None:
        self._free += 1
        self._freed.set()
