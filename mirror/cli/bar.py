"""Progress on a terminal: one bar for everything, and one line for each large blob on its way."""

from __future__ import annotations

import sys
from typing import NoReturn

from tqdm import tqdm

from mirror.descriptor import Descriptor

_LARGE = 8 * 1024 * 1024  # bytes from which on a blob has a line of its own
_DELAY = 0.2  # seconds before a bar shows: what is over at once needs none
_FORMAT = "{desc:<20} {percentage:3.0f}%|{bar:25}| {n_fmt:>6}/{total_fmt} {rate_fmt} {remaining}"


class Bars:
    """`Progress` drawn by tqdm on stderr."""

    def __init__(self) -> None:
        self._total: tqdm[NoReturn] | None = None
        self._lines: dict[str, tqdm[NoReturn]] = {}

    def plan(self, phase: str, blobs: int, size: int) -> None:
        self.close()
        self._total = _bar(f"{phase} {blobs}", size, leave=False)

    def begin(self, node: Descriptor) -> None:
        if node.size >= _LARGE:
            self._lines[node.digest] = _bar(f"  {node.digest.short}", node.size, leave=False)

    def advance(self, node: Descriptor | None, count: int) -> None:
        for bar in (self._total, self._lines.get(node.digest) if node else None):
            if bar is not None:
                bar.update(count)

    def end(self, node: Descriptor) -> None:
        line = self._lines.pop(node.digest, None)
        if line is not None:
            line.close()

    def say(self, text: str) -> None:
        """A line above the bars."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        for bar in (*self._lines.values(), self._total):
            if bar is not None:
                bar.close()
        self._lines.clear()
        self._total = None


def _bar(title: str, size: int, *, leave: bool) -> tqdm[NoReturn]:
    return tqdm(
        desc=title,
        total=size,
        unit="B",
        unit_scale=True,
        bar_format=_FORMAT,
        leave=leave,
        delay=_DELAY,
        dynamic_ncols=True,
        file=sys.stderr,
    )
