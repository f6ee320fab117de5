"""Settings files: `mirror.toml` in the current folder and in `~/.config/mirror`, or the one that `--config` names.

A flag beats an environment variable beats the current folder's file beats the user's. A file in the current folder may
have come with the data, from a stranger: what weakens security counts only from the user's own file or `--config`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirror.errors import ConfigError
from mirror.reference import is_host

FILE = "mirror.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the settings files say. `values` are defaults for flags of the same name.

    `files` are the files that were used, `ignored` the keys that were not, and why, as sentences.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    plain_http: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _count(value: object) -> bool:
    return type(value) is int and value >= 0


def _seconds(value: object) -> bool:
    return isinstance(value, int | float) and value is not True and value > 0


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _hosts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(host, str) and is_host(host) for host in value)


_KEYS: Mapping[str, tuple[Callable[[object], bool], str]] = {
    "output": (_text, "a folder"),
    "chunk_size": (_text, 'a size, such as "8M"'),
    "jobs": (_count, "a number"),
    "retries": (_count, "a number"),
    "timeout": (_seconds, "a number of seconds"),
    "limit_rate": (_text, 'a rate, such as "10M"'),
    "connections_per_blob": (_count, "a number"),
    "platform": (_texts, 'a list of platforms, such as ["linux/amd64"]'),
    "all_platforms": (_flag, "true or false"),
    "sparse": (_flag, "true or false"),
    "keep_going": (_flag, "true or false"),
    "no_progress": (_flag, "true or false"),
    "plain_http": (_hosts, 'a list of hosts, such as ["registry.internal:5000"]'),
    "insecure": (_hosts, 'a list of hosts, such as ["registry.internal:5000"]'),
}
_WEAKENING = ("plain_http", "insecure")


def load(explicit: Path | None = None) -> Settings:
    """Read the settings files that are there, or only the one that a person named.

    Raises:
        ConfigError: the named file is not there, or a file is broken, has an unknown key or a value of the wrong kind.
    """
    if explicit:
        return _merge([(explicit, read(explicit), True)])
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    candidates = [(Path(home, "mirror", FILE), True), (Path(FILE), False)]
    return _merge([(path, read(path), trusted) for path, trusted in candidates if _is_file(path)])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None


def read(path: Path) -> dict[str, Any]:
    """One file, its keys checked.

    Raises:
        ConfigError: as `load`.
    """
    import difflib  # only where there is a file to read: they take 10 ms together
    import tomllib

    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
    except (
        ValueError,
        RecursionError,
    ) as error:  # TOMLDecodeError, UnicodeDecodeError, numbers of 5000 digits, nesting
        raise ConfigError(f"{path} is no valid TOML: {error}.") from None
    for key, value in values.items():
        if key not in _KEYS:
            near = difflib.get_close_matches(key, _KEYS, n=1, cutoff=0)[0]
            raise ConfigError(f"{path} has the unknown key {key!r}.", hint=f"Did you mean {near!r}?")
        fits, wanted = _KEYS[key]
        if not fits(value):
            raise ConfigError(f"{path}: {key} should be {wanted}.")
    return values


def _merge(files: list[tuple[Path, dict[str, Any], bool]]) -> Settings:
    """One after the other, the later beating the earlier."""
    merged: dict[str, Any] = {}
    used, ignored = [], []
    for path, values, trusted in files:
        for key in _WEAKENING:
            if key in values and not trusted:
                del values[key]
                ignored.append(
                    f"{path}: {key} is ignored: it weakens security, so it counts only in your own settings."
                )
        if values:
            used.append(str(path))
        if {"platform", "all_platforms"} & values.keys():  # one answer to one question: they replace each other
            merged = {key: value for key, value in merged.items() if key not in ("platform", "all_platforms")}
        merged.update(values)
    hosts = [frozenset(merged.pop(key, ())) for key in _WEAKENING]
    return Settings(merged, hosts[0], hosts[1], tuple(used), tuple(ignored))
