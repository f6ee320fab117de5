"""Everything that commands write: results to stdout, everything else to stderr.

These lines on stderr start with their kind:

    error:      why the command failed, or a part of it
    warning:    what the user should know before relying on the result
    hint:       what to do about the line above
    note:       a decision that changes what happens, such as which settings are used
    info:       with -v, a step or a retry

The summary at the end and the access log of `mirror serve` have no kind.

The kinds are coloured on a terminal, unless NO_COLOR is set (no-color.org). With --quiet, only results and errors are
written. `mirror.cli.bar` draws progress bars.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from mirror.cli.context import kept
from mirror.strictjson import JsonObject
from mirror.text import printable

_COLOURS = {"error": "1;31", "warning": "1;33", "hint": "1;36", "note": "1", "info": "2"}  # ECMA-48, SGR


def labelled(kind: str, text: str) -> str:
    """Return a line that starts with its kind. `text` may be hostile and is made printable."""
    plain = "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb" or not sys.stderr.isatty()
    label = f"{kind}:" if plain else f"\033[{_COLOURS[kind]}m{kind}:\033[0m"
    return f"{label} {printable(text)}"


def error(text: str, hint: str | None = None) -> None:
    """Write an error to stderr, even with --quiet."""
    write(labelled("error", text))
    if hint:
        write(labelled("hint", hint))


def warning(text: str) -> None:
    if not kept("quiet"):
        write(labelled("warning", text))


def note(text: str) -> None:
    if not kept("quiet"):
        write(labelled("note", text))


def status(text: str) -> None:
    """Write the line that sums up what was done, to stderr."""
    if not kept("quiet"):
        write(printable(text))


def write(line: str) -> None:
    """Write a line to stderr as it is."""
    print(line, file=sys.stderr, flush=True)


def result(lines: Sequence[str]) -> None:
    """Write result lines to stdout. They contain names and other text that may be hostile."""
    for line in lines:
        sys.stdout.write(printable(line) + "\n")
    sys.stdout.flush()


def result_json(document: JsonObject) -> None:
    """Write one JSON object to stdout, piece by piece, since it may be long. JSON escapes control characters."""
    for chunk in json.JSONEncoder(indent=2).iterencode(document):
        sys.stdout.write(chunk)
    sys.stdout.write("\n")
    sys.stdout.flush()
