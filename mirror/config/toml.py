"""Reading TOML files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mirror.errors import ConfigError


def read_toml(path: Path, hint: str | None = None) -> dict[str, Any]:
    """Return the content of a TOML file; `hint` says what to do if it cannot be read."""
    import tomllib  # only if there is a file to read: the import takes 5 ms

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.", hint=hint) from None
    except (ValueError, RecursionError) as error:  # including invalid UTF-8, numbers of 5000 digits, deep nesting
        raise ConfigError(f"{path} is not valid TOML: {error}.") from None
