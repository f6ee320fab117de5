"""Colours: only on a terminal, and not if NO_COLOR is set (no-color.org)."""

from __future__ import annotations

import os
import sys
from typing import TextIO

from mirror.cli.context import kept
from mirror.report.view import Labelled, View
from mirror.text import printable
from mirror.text.redaction import redact

_RED, _GREEN, _YELLOW, _CYAN = "1;31", "32", "1;33", "1;36"  # ECMA-48, SGR
_COLOURS = {
    "error": _RED,
    "not ok": _RED,
    "unverified": _YELLOW,
    "could not check": _YELLOW,
    "incomplete": _YELLOW,
    "warning": _YELLOW,
    "partly": _YELLOW,
    "hint": _CYAN,
    "ok": _GREEN,
    "structure ok": _GREEN,
    "sample ok": _GREEN,
    "agrees": _GREEN,
}


def view() -> View:
    """Return how results are shown: fitted to the terminal if there is one, and complete with --verbose."""
    verbose = bool(kept("verbose"))
    if not sys.stdout.isatty():
        return View(verbose=verbose)
    import shutil  # only for a terminal: the import takes 4 ms

    return View(shutil.get_terminal_size().columns, verbose)


def has_colours(stream: TextIO) -> bool:
    """Return whether a stream is a terminal, and the user has nothing against colours."""
    return can_draw(stream) and not os.environ.get("NO_COLOR")


def can_draw(stream: TextIO) -> bool:
    """Return whether a stream is a terminal that knows escape codes, such as those that move the cursor."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def painted(line: str) -> str:
    """Return a result line, which may be hostile, for stdout: printable, without secrets, its label in colour."""
    text, label = printable(redact(line)), line.label if isinstance(line, Labelled) else ""
    if label not in _COLOURS or not has_colours(sys.stdout):
        return text
    return f"\033[{_COLOURS[label]}m{label}\033[0m{text.removeprefix(label)}"
