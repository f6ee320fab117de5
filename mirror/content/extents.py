"""The parts of some content that a store has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class Extents:
    """Parts of content, each from its first byte to the byte after its last; they neither overlap nor touch."""

    def __init__(self, parts: Iterable[tuple[int, int]] = ()) -> None:
        self._parts: list[tuple[int, int]] = []
        for start, end in parts:
            self.add(start, end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Iterate over the parts, in order."""
        return iter(self._parts)

    @property
    def total(self) -> int:
        """The number of bytes."""
        return sum(end - start for start, end in self._parts)

    def add(self, start: int, end: int) -> None:
        if start >= end:
            return
        apart = [part for part in self._parts if part[1] < start or end < part[0]]
        joined = [part for part in self._parts if part[1] >= start and end >= part[0]]
        start, end = min([start, *(part[0] for part in joined)]), max([end, *(part[1] for part in joined)])
        self._parts = sorted([*apart, (start, end)])

    def end_of(self, offset: int) -> int:
        """Return the end of the part that contains an offset; the offset itself if none does."""
        return next((end for start, end in self._parts if start <= offset < end), offset)

    def gaps(self, size: int) -> Iterator[tuple[int, int]]:
        """Yield the parts that are missing of so many bytes, in order."""
        at = 0
        for start, end in [*self._parts, (size, size)]:
            if at < min(start, size):
                yield at, min(start, size)
            at = max(at, end)
