"""Text formatting that all results share."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

_UNITS = ("kB", "MB", "GB", "TB", "PB")


def size(count: int) -> str:
    """Return a number of bytes in decimal units, as registries and docker print them: 74.5 MB."""
    if count < 1000:
        return f"{count} B"
    value, power = count / 1000, 0
    while value >= 999.95 and power < len(_UNITS) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.1f} {_UNITS[power]}"


def count(number: int, noun: str) -> str:
    """Return a number with its noun: `1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def brief(items: Sequence[str], most: int) -> str:
    """Return a list of at most so many items, and the number of the others: `a, b and 3 more`."""
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


def seconds(duration: float) -> str:
    """Return a duration with its unit: 0.03 s, 2.4 s."""
    return f"{duration:.2f} s" if duration < 1 else f"{duration:.1f} s"


def printable(text: str) -> str:
    """Return text from an untrusted source with its control characters escaped, so that it is safe on a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def columns(text: str) -> int:
    """Return the number of columns that a text takes on a terminal (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    return sum(map(columns_of, text))


def columns_of(char: str) -> int:
    """Return the number of columns that a character takes: 0, 1 or 2."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _padded(cell: str, width: int, *, flush: bool) -> str:
    space = " " * (width - columns(cell))
    return space + cell if flush else cell + space


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Return the lines of a table; `right` are the numbers of the right-aligned columns."""
    cells = [list(head), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(columns(row[column]) for row in cells) for column in range(len(head))]
    flush = set(right)
    return [
        "  ".join(
            _padded(cell, width, flush=column in flush)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    ]
