"""The history of a config, as lines of a Dockerfile.

Builders record what they ran: `/bin/sh -c #(nop)  CMD ["bash"]` is an instruction of Docker's classic builder, and
`|1 A=b /bin/sh -c make` has build arguments; BuildKit writes `RUN /bin/sh -c make # buildkit` and
`COPY a b # buildkit`. A record shows the line of the Dockerfile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mirror.records.formatting import HTTP_DATE

FENCE = "```"
NO_DATE = "date unknown"

_ARGUMENTS = re.compile(r"\|[0-9]+ ")
_NOP = re.compile(r"#\(nop\) +")
_INSTRUCTION = re.compile(r"[A-Z]+ ")
_DEFAULT_SHELL = "/bin/sh -c "
_UNCLEAR = "# unable to parse image command string further:\n"


def instruction(created_by: str, shell: Sequence[str] = ()) -> str:
    """Return the Dockerfile instruction of one history entry, escaped. The `SHELL` of a config replaces /bin/sh."""
    shells = [_DEFAULT_SHELL, *([" ".join(shell) + " "] if shell else [])]
    text = created_by.removeprefix("RUN ")
    arguments = ""
    if counted := _ARGUMENTS.match(text):
        split = _find_shell(text, counted.end(), shells)
        arguments, text = (f"# ARGS: {text[counted.end() : split]}\n", text[split + 1 :]) if split else ("", text)
    if text.startswith("|") and not arguments:
        return escape(_UNCLEAR + text)  # arguments may contain spaces, so their end is unknown
    text = text.removeprefix(next(filter(text.startswith, shells), ""))
    if nop := _NOP.match(text):
        text = text[nop.end() :]
    elif not _INSTRUCTION.match(text):
        text = f"RUN {text}"
    return escape(arguments + text)


def escape(text: str) -> str:
    """Escape terminal sequences, and lines that would be parsed as another part of a record.

    The image's author writes the history. Unescaped, an entry could end the block and continue with forged layers.
    """
    return "\n".join(map(_escape_line, text.split("\n")))


def date_line(line: str) -> str | None:
    """Return the date, valid or not, of a date line in a record's history; None for a line of a command."""
    text = line.removeprefix("# ")
    return text if text != line and (text == NO_DATE or HTTP_DATE.fullmatch(text)) else None


def _escape_line(line: str) -> str:
    if line == FENCE or date_line(line) is not None:
        return f"\\x{ord(line[0]):02x}{line[1:]}"
    if line.isprintable():
        return line
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode() for char in line
    )


def _find_shell(text: str, start: int, shells: Sequence[str]) -> int:
    """Return the position of the space before the shell, or 0 if there is no shell on the first line.

    A regular expression could take exponential time with a hostile shell.
    """
    end = text.find("\n", start)
    positions = [text.find(f" {shell}", start) for shell in shells]
    return min((found for found in positions if found > 0 and (end < 0 or found < end)), default=0)
