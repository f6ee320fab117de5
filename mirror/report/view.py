"""The form of results as text: how wide it is, and whether long lists are complete."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mirror.text import columns, columns_of, printable

_DIGEST = r"\b(sha(?:256|384|512):[0-9a-f]{12})[0-9a-f]{20,}"  # compiled on first use: only a terminal needs it
_MAX_LINE = 140  # characters of a line in a file


@dataclass(frozen=True, slots=True)
class View:
    """The size of the output.

    Attributes:
        width: columns of the terminal, which lines are fitted to; None for a file or a pipe: nothing is shortened.
        verbose: long lists are complete, and nothing is shortened.
    """

    width: int | None = None
    verbose: bool = False

    @property
    def columns(self) -> int | None:
        """The columns that lines are fitted to; None if they are not."""
        return None if self.verbose else self.width

    def fits(self, line: str) -> bool:
        """Return whether a line fits, perhaps with shortened digests; in a file, up to 140 characters fit."""
        line = printable(line)
        return columns(line if self.columns is None else _short(line)) <= (self.columns or _MAX_LINE)

    def fit(self, line: str) -> str:
        """Return a line for the terminal: its digests are shortened first, then it is cut."""
        line = printable(line)
        if self.columns is None or columns(line) <= self.columns:
            return line
        return clip(_short(line), self.columns)


class Labelled(str):
    """A line that begins with a label, such as `error` or `not ok`, which a terminal may colour."""

    __slots__ = ("label",)

    label: str

    def __new__(cls, label: str, text: str) -> Labelled:
        line = super().__new__(cls, text)
        line.label = label
        return line


def clip(text: str, width: int) -> str:
    """Return a text that takes at most so many columns; `…` stands for what was cut from its end."""
    if columns(text) <= width:
        return text
    kept, free = "", width - 1
    for char in text:
        free -= columns_of(char)
        if free < 0:
            break
        kept += char
    return f"{kept}…"


def clip_start(text: str, width: int) -> str:
    """Return a text that takes at most so many columns; `…` stands for what was cut from its start.

    The end of an image name, its repository and tag, says more than the start, its registry.
    """
    return clip(text[::-1], width)[::-1]


def _short(line: str) -> str:
    return re.sub(_DIGEST, r"\1…", line)
