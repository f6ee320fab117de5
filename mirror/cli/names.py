"""Lists of image names in files: the option --from-file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from mirror.cli.options import Place
from mirror.config.files import check_content, read_file
from mirror.errors import InvalidReference
from mirror.oci.reference import Reference

_CAP = 16 * 1024 * 1024  # bytes: more than 100,000 names
_HINT = "--from-file takes a file with one image name per line."

with_names = click.option(
    "--from-file",
    type=Place(allow_dash=True),
    metavar="FILE",
    help="Read image names from FILE (- for stdin), one per line; # starts a comment.",
)


def read_names(file: Path | None, *, registry: bool = True) -> list[str]:
    """Return the image names in a file; none if there is no file. With `registry`, they are checked.

    Raises:
        InvalidReference: a name is not valid; the message has its line.
        ConfigError: the file cannot be read, or is not a text file.
    """
    if file is None:
        return []
    if file == Path("-"):
        where, data = "stdin", sys.stdin.buffer.read(_CAP + 1) if sys.stdin else b""  # None if it is closed
        check_content(data, where, _CAP, _HINT)
    else:
        where, data = str(file), read_file(file, _CAP, _HINT)
    names = list(_names(data))
    for number, name in names if registry else ():
        try:
            Reference.parse(name)
        except InvalidReference as error:
            raise InvalidReference(f"{where}, line {number}: {error}", hint=error.hint) from None
    return [name for _, name in names]


def _names(data: bytes) -> Iterator[tuple[int, str]]:
    """Yield the names with the numbers of their lines. Windows' editors put a byte order mark in front of the first."""
    for number, line in enumerate(data.splitlines(), 1):
        if name := line.decode().removeprefix("\ufeff").partition("#")[0].strip():
            yield number, name
