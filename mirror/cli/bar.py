"""Progress on a terminal: one bar for the whole transfer, one line for the images, and one for each large blob.

The total never goes backwards: what has to be transferred again counts when it gets further than before. A rate, and
the time left, are shown when there is one: what an earlier attempt has left is done, but was not fast. When nothing has
arrived for a moment, the bar says what it waits for instead.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from contextlib import suppress
from select import select
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn, Self

from tqdm import tqdm

from mirror.cli import console
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.report.view import clip, clip_start
from mirror.text import columns, count, printable

if TYPE_CHECKING:
    _Tqdm = tqdm[NoReturn]
else:  # tqdm is generic only in its stubs
    _Tqdm = tqdm

_LARGE = 8 * 1024 * 1024  # bytes from which a blob gets its own line
_DELAY = 0.2  # seconds before the bar of local work appears, which is often over at once; transfers show one at once
_STALLED, _TICK = 1.5, 0.25  # seconds without a byte after which the bar says so, and between two looks
_FORMATS = {  # by the columns that they need; the rate and the time left follow, if they are known
    72: ("{desc:<18} {percentage:3.0f}% |{bar}| {n_fmt}B of {total_fmt}B", "  {rate_fmt}  {remaining} left"),
    44: ("{desc:<18} {percentage:3.0f}%", "  {remaining} left"),
    22: ("{percentage:3.0f}%", "  {remaining} left"),
    0: ("{percentage:3.0f}%", ""),
}
_MIN_NAME = 12  # columns of the name of an image
_STDERR = 2  # the file descriptor
_PATIENCE = 0.1  # seconds for which the drawing of a bar may hold up the end of the process
_MARGIN = 4  # columns that stay free, so that a ^C echoed by the terminal does not break the line


class Bars:
    """`Progress` drawn by tqdm on stderr."""

    def __init__(self) -> None:
        self._total: _Bar | None = None
        self._blobs: dict[Digest, _Bar] = {}
        self._started: dict[Digest, None] = {}  # the blobs in progress, in order
        self._done, self._moved_at = 0, monotonic()  # bytes of this phase, and when the last one came
        self._ticking: asyncio.TimerHandle | None = None
        self._images, self._images_done = 0, 0
        self._planned_at = self._moved_at  # when this phase began
        self._places: dict[Digest, tuple[str, str]] = {}  # of the blobs in progress: the image, and the registry
        self._names: _Line | None = None

    def plan(self, phase: str, blobs: int, size: int) -> None:
        self.close()
        what = count(blobs, "image" if phase == "walking" else "blob")
        self._total = _Bar.of(f"{phase} {what}", size, delay=0 if phase == "copying" else _DELAY)
        if phase == "copying" and self._images:
            self._names = _Line.of("", 0)
            self._show_images()
        self._done, self._moved_at = 0, monotonic()
        self._planned_at = self._moved_at
        self._tick()

    def begin(self, node: Descriptor) -> None:
        self._started[node.digest] = None
        if node.size >= _LARGE:
            self._blobs[node.digest] = _Bar.of(f"  {node.digest.short}", node.size)

    def skip(self, node: Descriptor, count: int) -> None:
        if self._total is not None:
            self._total.skip(max(0, self._done + count - self._total.n))
        if blob := self._blobs.get(node.digest):
            blob.skip(count)

    def advance(self, node: Descriptor | None, count: int) -> None:
        self._done += count
        if count > 0:
            self._moved_at = monotonic()
        if self._total is not None:
            self._total.waiting = ("", 0)
            self._total.update(max(0, self._done - self._total.n))
        blob = self._blobs.get(node.digest) if node else None
        if blob is not None:
            blob.waiting = ("", 0)
            blob.skip(min(0, count))
            blob.update(count)

    def end(self, node: Descriptor) -> None:
        self._started.pop(node.digest, None)
        self._places.pop(node.digest, None)
        self._show_images()
        bar = self._blobs.pop(node.digest, None)
        if bar is not None:
            bar.close()

    def expect_images(self, count: int) -> None:
        self._images += count

    def locate(self, node: Descriptor, image: str, host: str) -> None:
        if node.digest not in self._started:  # a verification: only one blob at a time is shown
            self._places.clear()
        self._places[node.digest] = image, host
        self._show_images()

    def end_image(self) -> None:
        self._images_done += 1
        self._show_images()

    def result(self, line: str) -> None:
        with tqdm.external_write_mode(file=sys.stdout):
            console.early_result(line)

    def write(self, line: str) -> None:
        """Write a line above the bars."""
        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        if self._ticking:
            self._ticking.cancel()
        bars = [bar for bar in (*self._blobs.values(), self._names, self._total) if bar is not None]
        for bar in bars:
            bar.close()
        if bars:
            sys.stderr.write("\033[K")  # remove a ^C that the terminal has echoed behind them
        self._blobs.clear()
        self._started.clear()
        self._places.clear()
        self._names = self._total = None

    def erase(self) -> None:
        """Erase the bars from another thread, before the process ends at once: nothing draws them again.

        Between two drawings, the cursor is at the first bar. A terminal that takes nothing now, as after a Ctrl-S,
        keeps them.
        """
        if self._total is None or not select([], [_STDERR], [], 0)[1]:
            return
        tqdm.get_lock().acquire(timeout=_PATIENCE)  # type: ignore[no-untyped-call]
        with suppress(OSError):
            os.write(_STDERR, b"\r\033[J")

    def _tick(self) -> None:
        """Look again and again whether the transfer stands still, and show what `skip` has moved."""
        self._ticking = asyncio.get_running_loop().call_later(_TICK, self._tick)
        still = monotonic() - self._moved_at
        if self._total is not None and self._started:
            for digest, bar in ((next(iter(self._started)), self._total), *self._blobs.items()):
                if still >= _STALLED:
                    bar.waiting = digest.short, int(still)
                if still >= _STALLED or not bar.delay:
                    bar.refresh()
        self._show_images(stalled=still >= _STALLED)

    def _show_images(self, *, stalled: bool = False) -> None:
        """Show how many images are done, the image of the oldest blob, and when that stalls, the registry too."""
        image, host = next(iter(self._places.values()), ("", ""))
        if self._names is None and image and monotonic() - self._planned_at >= _DELAY:
            self._names = _Line.of("", 0)
        if self._names is None:
            return
        if not self._images:
            self._names.show(f"  {next(iter(self._places)).short}, of " if image else "", image)
        else:
            done = f"  {self._images_done} of {count(self._images, 'image')}"
            done += f", waiting for {host}" if stalled and host else ""
            self._names.show(f"{done}: " if image else done, image)


class _Bar(_Tqdm):
    """A bar that shows a rate only if there is one. `waiting` is for which blob it has waited how many seconds."""

    waiting = ("", 0)

    @classmethod
    def of(cls, title: str, size: int, *, delay: float = 0) -> Self:
        screen = shutil.get_terminal_size()  # has defaults for terminals that do not know their size
        columns = max(1, screen.columns - _MARGIN)
        return cls(
            desc=title,
            total=size,
            unit="B",
            unit_scale=True,
            miniters=1,  # or tqdm learns from a fast moment how many bytes to wait for
            leave=False,
            delay=delay,
            ncols=columns,
            nrows=screen.lines,
            file=sys.stderr,
        )

    def skip(self, count: float) -> None:
        """Leave the next so many bytes out of the rate; a negative count takes back what is done again."""
        self.initial = max(0, self.initial + count)
        self.last_print_n += max(0, count)  # tqdm does it for negative counts

    def close(self) -> None:
        """Clear the bar, and return to the start of the line: tqdm returns only from the bar at the top."""
        was_open = not self.disable
        super().close()
        if was_open:
            self.fp.write("\r")

    @property
    def format_dict(self) -> dict[str, Any]:
        values = dict(super().format_dict)
        shown, rate = next(both for width, both in _FORMATS.items() if values["ncols"] >= width)
        blob, seconds = self.waiting
        if blob:
            return values | {"prefix": f"waiting for {blob}", "bar_format": f"{shown}  for {seconds} s"}
        is_known = values["n"] > self.initial and values["elapsed"]
        return values | {"bar_format": shown + rate if is_known else shown}


class _Line(_Bar):
    """A line of text among the bars."""

    text = ""

    def show(self, text: str, name: str) -> None:
        """Show a text and a name. If both do not fit, the start of the name is cut."""
        room = self.ncols or 0
        shown = clip(text + clip_start(printable(name), max(_MIN_NAME, room - columns(text))), room)
        if shown != self.text:
            self.text = shown
            self.refresh()

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "bar_format": "{desc}", "prefix": self.text}
