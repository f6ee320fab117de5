"""The history of a config, as lines of a Dockerfile.

Builders write what they ran: `/bin/sh -c #(nop)  CMD ["bash"]` is an instruction of Docker's classic builder, and
`|1 A=b /bin/sh -c make` has arguments; BuildKit writes `RUN /bin/sh -c make # buildkit` and `COPY a b # buildkit`.
A record shows what stood in the Dockerfile.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mirror.records.figures import DATE

FENCE = "```"
NO_DATE = "date unknown"

_ARGUMENTS = re.compile(r"\|[0-9]+ ")
_NOP = re.compile(r"#\(nop\) +")
_INSTRUCTION = re.compile(r"[A-Z]+ ")
_DEFAULT_SHELL = "/bin/sh -c "
_UNCLEAR = "# unable to parse image command string further:\n"


def instruction(created_by: str, shell: Sequence[str] = ()) -> str:
    """The instruction of one step of the history; `shell` is the config's own, in place of /bin/sh."""
    shells = [_DEFAULT_SHELL, *([" ".join(shell) + " "] if shell else [])]
    text = created_by.removeprefix("RUN ")
    arguments = ""
    if counted := _ARGUMENTS.match(text):
        split = _before_shell(text, counted.end(), shells)
        arguments, text = (f"# ARGS: {text[counted.end() : split]}\n", text[split + 1 :]) if split else ("", text)
    if text.startswith("|") and not arguments:
        return harmless(_UNCLEAR + text)  # arguments with spaces in them: nobody can tell where they end
    text = text.removeprefix(next(filter(text.startswith, shells), ""))
    if nop := _NOP.match(text):
        text = text[nop.end() :]
    elif not _INSTRUCTION.match(text):
        text = f"RUN {text}"
    return harmless(arguments + text)


def harmless(text: str) -> str:
    """The text with nothing in it that a terminal would obey, or that would be read as another part of a record.

    A history is the image's own claim. Without this, a step could end the block and go on with layers of its choice.
    """
    return "\n".join(map(_line, text.split("\n")))


def date_line(line: str) -> str | None:
    """The date that a line of a record's history is, in whatever state; None where it is part of a command."""
    text = line.removeprefix("# ")
    return text if text != line and (text == NO_DATE or DATE.fullmatch(text)) else None


def _line(line: str) -> str:
    if line == FENCE or date_line(line) is not None:
        return f"\\x{ord(line[0]):02x}{line[1:]}"
    if line.isprintable():
        return line
    return "".join(char if char.isprintable() or char == "\t" else _escaped(char) for char in line)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _before_shell(text: str, start: int, shells: Sequence[str]) -> int:
    """Where the space before the shell is, 0 where there is none. A pattern with a hostile shell could take forever."""
    end = text.find("\n", start)
    places = [text.find(f" {shell}", start) for shell in shells]
    return min((place for place in places if place > 0 and (end < 0 or place < end)), default=0)
