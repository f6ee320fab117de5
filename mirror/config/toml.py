"""TOML files, read so that every way in which one can be broken is a sentence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mirror.errors import ConfigError


def read_toml(path: Path) -> dict[str, Any]:
    """The document in a file.

    Raises:
        ConfigError: it cannot be read, or is no TOML.
    """
    import tomllib  # only where there is a file to read: it takes 5 ms

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # TOMLDecodeError, UnicodeDecodeError, numbers of 5000 digits, nesting
        raise ConfigError(f"{path} is no valid TOML: {error}.") from None
