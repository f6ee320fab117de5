"""The form of results as text: how wide it is, and whether long lists are complete."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from mirror.text import printable

_DIGEST = re.compile(r"\b(sha(?:256|384|512):[0-9a-f]{12})[0-9a-f]{20,}")
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
        return cells(line if self.columns is None else _short(line)) <= (self.columns or _MAX_LINE)

    def fit(self, line: str) -> str:
        """Return a line for the terminal: its digests are shortened first, then it is cut."""
        line = printable(line)
        if self.columns is None or cells(line) <= self.columns:
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


def cells(text: str) -> int:
    """Return the number of columns that a text takes on a terminal (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    return sum(_cells(char) for char in text)


def clip(text: str, columns: int) -> str:
    """Return a text that takes at most so many columns; `…` stands for what was cut from its end."""
    if cells(text) <= columns:
        return text
    kept, free = "", columns - 1
    for char in text:
        free -= _cells(char)
        if free < 0:
            break
        kept += char
    return f"{kept}…"


def _short(line: str) -> str:
    return _DIGEST.sub(r"\1…", line)


def _cells(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
