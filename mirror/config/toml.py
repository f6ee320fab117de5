"""Reading TOML files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mirror.config.files import read_file
from mirror.errors import ConfigError

_CAP = 256 * 1024  # bytes; the parser takes a second for the worst file of this size
_MAX_DOTS = 500  # in one line; the cost of a dotted key grows with the square of its parts


def read_toml(path: Path, hint: str | None = None) -> dict[str, Any]:
    """Return the content of a TOML file, which may come from an attacker.

    `hint` says what to do if it cannot be read. ConfigError: it cannot be read or parsed, or would take long to parse.
    """
    import tomllib  # only if there is a file to read: the import takes 5 ms

    data = read_file(path, _CAP, hint)
    if any(line.count(b".") > _MAX_DOTS for line in data.split(b"\n")):
        raise ConfigError(f"{path} has a line with more than {_MAX_DOTS} dots, so it is not read.")
    try:
        return tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:  # including numbers of 5000 digits, and deep nesting
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
