"""Lists of image names in files: the option --from-file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TextIO

import click

from mirror.errors import InvalidReference
from mirror.oci.reference import Reference

with_names = click.option(
    "--from-file",
    type=click.File("r"),
    metavar="FILE",
    help="Read image names from FILE (- for stdin), one per line; # starts a comment.",
)


def read_names(file: TextIO | None, *, registry: bool = True) -> list[str]:
    """Return the image names in a file; none if there is no file. With `registry`, they are checked.

    Raises:
        InvalidReference: a name is not valid; the message has its line.
        click.UsageError: it is not a text file.
    """
    if file is None:
        return []
    where = "stdin" if file.fileno() == 0 else file.name
    try:
        lines = list(_names(file))
    except UnicodeDecodeError:
        raise click.UsageError(f"{where} is not a text file.") from None
    for number, name in lines if registry else ():
        try:
            Reference.parse(name)
        except InvalidReference as error:
            raise InvalidReference(f"{where}, line {number}: {error}", hint=error.hint) from None
    return [name for _, name in lines]


def _names(file: TextIO) -> Iterator[tuple[int, str]]:
    """Yield the names with the numbers of their lines. Windows' editors put a byte order mark in front of the first."""
    for number, line in enumerate(file, 1):
        if name := line.removeprefix("\ufeff").partition("#")[0].strip():
            yield number, name
