"""Progress on a terminal: one bar for the whole transfer, and one line for each large blob in progress."""

from __future__ import annotations

import shutil
import sys
from typing import NoReturn

from tqdm import tqdm

from mirror.oci.descriptor import Descriptor
from mirror.text import count

_LARGE = 8 * 1024 * 1024  # bytes from which a blob gets its own line
_DELAY = 0.2  # seconds before the bar of local work appears, which is often over at once; transfers show one at once
_FORMAT = "{desc:<18} {percentage:3.0f}% |{bar}| {n_fmt}B of {total_fmt}B  {rate_fmt}  {remaining} left"
_NARROW = "{desc:<18} {percentage:3.0f}%  {remaining} left"
_TINY = "{percentage:3.0f}%  {remaining} left"
_FORMAT_WIDTH, _NARROW_WIDTH = 72, 44  # columns
_MARGIN = 4  # columns that stay free, so that a ^C echoed by the terminal does not break the line


class Bars:
    """`Progress` drawn by tqdm on stderr."""

    def __init__(self) -> None:
        self._total: tqdm[NoReturn] | None = None
        self._blobs: dict[str, tqdm[NoReturn]] = {}

    def plan(self, phase: str, blobs: int, size: int) -> None:
        self.close()
        what = count(blobs, "image" if phase == "walking" else "blob")
        self._total = _bar(f"{phase} {what}", size, delay=0 if phase == "copying" else _DELAY)

    def begin(self, node: Descriptor) -> None:
        if node.size >= _LARGE:
            self._blobs[node.digest] = _bar(f"  {node.digest.short}", node.size)

    def advance(self, node: Descriptor | None, count: int) -> None:
        for bar in (self._total, self._blobs.get(node.digest) if node else None):
            if bar is not None:
                bar.update(count)

    def end(self, node: Descriptor) -> None:
        bar = self._blobs.pop(node.digest, None)
        if bar is not None:
            bar.close()

    def write(self, line: str) -> None:
        """Write a line above the bars."""
        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        for bar in (*self._blobs.values(), self._total):
            if bar is not None:
                bar.close()
        self._blobs.clear()
        self._total = None


def _bar(title: str, size: int, *, delay: float = 0) -> tqdm[NoReturn]:
    screen = shutil.get_terminal_size()  # has defaults for terminals that do not know their size
    columns = screen.columns - _MARGIN
    return tqdm(
        desc=title,
        total=size,
        unit="B",
        unit_scale=True,
        bar_format=_FORMAT if columns >= _FORMAT_WIDTH else _NARROW if columns >= _NARROW_WIDTH else _TINY,
        leave=False,
        delay=delay,
        ncols=max(1, columns),
        nrows=screen.lines,
        file=sys.stderr,
    )
