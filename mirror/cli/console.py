"""Everything that commands write: results to stdout, everything else to stderr.

These lines on stderr start with their kind:

    error:      why the command failed, or a part of it
    warning:    what the user should know before relying on the result
    hint:       what to do about the line above
    note:       a decision that changes what happens, such as which settings are used
    info:       with -v, a step or a retry

The summary at the end and the access log of `mirror serve` have no kind. With --log-format json, each line is one JSON
object instead; docs/reference/json.md lists its fields.

The kinds are coloured on a terminal, unless NO_COLOR is set and not empty (no-color.org). With --quiet, only results
and errors are written. `mirror.cli.bar` draws progress bars.

Secrets are redacted in all of it. A stream that cannot be written does not change the verdict of a command: see `write`
and `unwritten`.
"""

from __future__ import annotations

import io
import json
import os
import sys
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

from mirror.cli.colour import has_colours, painted
from mirror.cli.context import kept
from mirror.errors import MirrorError
from mirror.strictjson import JsonObject
from mirror.text import printable
from mirror.text.redaction import redact

_COLOURS = {"error": "1;31", "warning": "1;33", "hint": "1;36", "note": "1", "info": "2"}  # ECMA-48, SGR

# How the lines on stderr are written: `text` (or None) or `json`.
log_format: ContextVar[str | None] = ContextVar("log_format", default=None)
has_json: ContextVar[bool] = ContextVar("has_json", default=False)  # whether stdout has got its JSON object


_unwritten: list[Exception] = []  # why results could not be written to stdout, or to files beside it
_early: Counter[str] = Counter()  # result lines that have been written before the end


def prepare() -> None:
    """Prepare the streams at the start: write escapes for characters that their encoding lacks."""
    _unwritten.clear()
    _early.clear()
    log_format.set(_format_of(sys.argv[1:]))
    if sys.stderr is None:  # closed by the parent process
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    sys.excepthook = _crashed


def exit_code(verdict: int) -> int:
    """Return the exit code of a command with this verdict: 1 if only its result could not be written."""
    return verdict or int(bool(_unwritten))


def is_json_log() -> bool:
    """Return whether the lines on stderr are JSON objects."""
    return log_format.get() == "json"


def _format_of(arguments: Sequence[str]) -> str | None:
    """Return the format of the log, from flag or variable, for messages before the command has read its options."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    found = os.environ.get("MIRROR_LOG_FORMAT")
    for number, word in enumerate(options):
        if word == "--log-format":
            found = "".join(options[number + 1 : number + 2])
        elif word.startswith("--log-format="):
            found = word.partition("=")[2]
    return found


def json_line(level: str, message: str, **fields: object) -> str:
    """Return a line of the JSON log. All texts in it may be hostile; JSON in ASCII escapes control characters."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document = {"time": now, "level": level, "message": message, **fields}
    return json.dumps({key: redact(value) if isinstance(value, str) else value for key, value in document.items()})


def labelled(kind: str, text: str) -> str:
    """Return a line that starts with its kind. `text` may be hostile and is made safe."""
    if is_json_log():
        return json_line(kind, text)
    label = f"\033[{_COLOURS[kind]}m{kind}:\033[0m" if has_colours(sys.stderr) else f"{kind}:"
    return f"{label} {safe(text)}"


def safe(text: str) -> str:
    """Return text that may be hostile without secrets and control characters."""
    return printable(redact(text))


def error(text: str, hint: str | None = None, **fields: object) -> None:
    """Write an error to stderr, even with --quiet. A JSON log has the hint and more `fields` in the same object."""
    write(error_text(text, hint, **fields))


def error_text(text: str, hint: str | None = None, **fields: object) -> str:
    """Return the lines of an error."""
    if is_json_log():
        return json_line("error", text, hint=hint, **fields)
    return "\n".join(labelled(kind, line) for kind, line in (("error", text), ("hint", hint)) if line)


def warning(text: str) -> None:
    if not kept("quiet"):
        write(labelled("warning", text))


def note(text: str) -> None:
    if not kept("quiet"):
        write(labelled("note", text))


def status(text: str, level: str = "summary") -> None:
    """Write the line that sums up what was done, to stderr; `level` is for a JSON log."""
    if not kept("quiet"):
        write(json_line(level, text) if is_json_log() else safe(text))


def write(line: str) -> None:
    """Write a line to stderr as it is. If that fails, as on a full disk, this and later lines are lost."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _discard(2)


def result(lines: Sequence[str]) -> None:
    """Write result lines to stdout. They contain names and other text that may be hostile."""
    _write_result(painted(line) + "\n" for line in lines)


def early_result(line: str) -> None:
    """Write one result line before the others; with --json, there is only the object at the end."""
    if not kept("as_json"):
        _early[line] += 1
        result([line])


def later_results(lines: Sequence[str]) -> None:
    """Write the result lines that have not been written early."""
    early = Counter(_early)
    result([line for line in lines if not _take(early, line)])


def _take(early: Counter[str], line: str) -> bool:
    early[line] -= 1
    return early[line] >= 0


def result_json(document: JsonObject) -> None:
    """Write one JSON object to stdout, piece by piece, since it may be long. JSON escapes control characters.

    Only texts are redacted, before they are encoded: a secret that is a number or has quotes must not break the JSON.
    """
    has_json.set(True)
    _write_result(json.JSONEncoder(indent=2).iterencode(_redacted(document)))
    _write_result("\n")


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(key): _redacted(item) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, list | tuple) else value


def unwritten(error: OSError) -> None:
    """Report that a result could not be written, unless its reader just wanted no more. The verdict stays."""
    _unwritten.append(error)
    _discard(1)
    if not isinstance(error, BrokenPipeError):
        write(labelled("error", f"the result could not be written: {os.strerror(error.errno or 0)}."))


def unwritten_file(reason: MirrorError) -> None:
    """Report that a file beside the result could not be written. The verdict stays."""
    _unwritten.append(reason)
    error(str(reason), reason.hint)


def _write_result(texts: Iterable[str]) -> None:
    try:
        for text in texts:
            sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        unwritten(error)


def _discard(fd: int) -> None:
    """Discard what is written to a stream from now on, and what is still in its buffer."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, fd)
    os.close(null)


def _crashed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an uncaught exception, which is a fault of `mirror`."""
    text = "".join(traceback.format_exception(kind, error, trace)).rstrip()
    write(json_line("error", text) if is_json_log() else redact(text))
