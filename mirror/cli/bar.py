"""Progress on a terminal: one bar for everything, and one line for each large blob on its way."""

from __future__ import annotations

import shutil
import sys
from typing import NoReturn

from tqdm import tqdm

from mirror.oci.descriptor import Descriptor
from mirror.text import count

_LARGE = 8 * 1024 * 1024  # bytes from which on a blob has a line of its own
_DELAY = 0.2  # seconds before a bar shows for what is local, and often over at once; a network may stall at once
_FORMAT = "{desc:<18} {percentage:3.0f}% |{bar}| {n_fmt}B of {total_fmt}B  {rate_fmt}  {remaining} left"
_NARROW = "{desc:<18} {percentage:3.0f}%  {remaining} left"  # where a bar and all numbers have no room
_TINY = "{percentage:3.0f}%  {remaining} left"
_ROOM, _LITTLE = 72, 44  # columns that these need
_MARGIN = 4  # columns that stay free, so that a ^C which the terminal echoes does not break the line


class Bars:
    """`Progress` drawn by tqdm on stderr."""

    def __init__(self) -> None:
        self._total: tqdm[NoReturn] | None = None
        self._lines: dict[str, tqdm[NoReturn]] = {}

    def plan(self, phase: str, blobs: int, size: int) -> None:
        self.close()
        what = count(blobs, "image" if phase == "surveying" else "blob")
        self._total = _bar(f"{phase} {what}", size, delay=0 if phase == "copying" else _DELAY)

    def begin(self, node: Descriptor) -> None:
        if node.size >= _LARGE:
            self._lines[node.digest] = _bar(f"  {node.digest.short}", node.size)

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


def _bar(title: str, size: int, *, delay: float = 0) -> tqdm[NoReturn]:
    screen = shutil.get_terminal_size()  # sensible where the terminal does not know its own size
    columns = screen.columns - _MARGIN
    return tqdm(
        desc=title,
        total=size,
        unit="B",
        unit_scale=True,
        bar_format=_FORMAT if columns >= _ROOM else _NARROW if columns >= _LITTLE else _TINY,
        leave=False,
        delay=delay,
        ncols=max(1, columns),
        nrows=screen.lines,
        file=sys.stderr,
    )
