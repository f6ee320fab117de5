"""Settings files: `mirror.toml` in the current directory and in `~/.config/mirror`, or the file given with `--config`.

Precedence, highest first: flags, environment variables, the current directory's file, the user's file. The current
directory's file may have arrived with untrusted data, so keys that weaken security take effect only in the user's file
or in the one given with `--config`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from mirror.config.toml import read_toml
from mirror.errors import ConfigError
from mirror.oci.reference import is_host, is_location
from mirror.text.redaction import excerpt

if TYPE_CHECKING:
    from mirror.config.hosts import HostSettings

FILE = "mirror.toml"

_SHOWN = 80  # characters of an unknown key


class Settings(NamedTuple):
    """The merged content of the settings files."""

    values: Mapping[str, Any] = MappingProxyType({})  # defaults for the flags of the same names
    plain_http: frozenset[str] = frozenset()  # hosts to connect to without TLS
    insecure: frozenset[str] = frozenset()  # hosts whose certificates are not verified
    hosts: Mapping[str, HostSettings] = MappingProxyType({})  # the `[host."…"]` tables
    files: tuple[str, ...] = ()  # the paths of the files that took effect
    ignored: tuple[str, ...] = ()  # for each key that was ignored, a sentence with the reason


_Rule = tuple[Callable[[Any], bool], str]  # the check of a value, and what the value should be


def _is_string(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_list(value: object, is_valid: Callable[[str], bool] = lambda _: True) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) and is_valid(text) for text in value)


def _is_network(text: str) -> bool:
    try:
        return bool(ip_network(text))
    except ValueError:
        return False


_BOOLEAN: _Rule = (lambda value: isinstance(value, bool), "true or false")
_NUMBER: _Rule = (lambda value: type(value) is int and value >= 0, "a number")
_SECONDS: _Rule = (
    lambda value: isinstance(value, int | float) and value is not True and value > 0,
    "a number of seconds",
)
_FILE: _Rule = (_is_string, "a file")
_HOSTS: _Rule = (lambda value: _is_list(value, is_host), 'a list of hosts, such as ["registry.internal:5000"]')

_KEYS: Mapping[str, _Rule] = {
    "output": (_is_string, "a directory"),
    "chunk_size": (_is_string, 'a size, such as "8M"'),
    "jobs": _NUMBER,
    "retries": _NUMBER,
    "timeout": _SECONDS,
    "max_wait": _SECONDS,
    "limit_rate": (_is_string, 'a rate, such as "10M"'),
    "connections_per_blob": _NUMBER,
    "platform": (_is_list, 'a list of platforms, such as ["linux/amd64"]'),
    "all_platforms": _BOOLEAN,
    "sparse": _BOOLEAN,
    "referrers": _BOOLEAN,
    "keep_going": _BOOLEAN,
    "no_progress": _BOOLEAN,
    "log_format": (lambda value: value in ("text", "json"), '"text" or "json"'),
    "authfile": _FILE,
    "plain_http": _HOSTS,
    "insecure": _HOSTS,
    "ca_file": _FILE,
    "host": (
        lambda value: (
            isinstance(value, dict) and all(is_host(name) and isinstance(value[name], dict) for name in value)
        ),
        'tables such as [host."registry.internal:5000"]',
    ),
}
_HOST_KEYS: Mapping[str, _Rule] = {
    "plain_http": _BOOLEAN,
    "insecure": _BOOLEAN,
    "ca_file": _FILE,
    "client_cert": _FILE,
    "client_key": _FILE,
    "trusted_networks": (
        lambda value: _is_list(value, _is_network) and bool(value),
        'a list of networks, such as ["10.20.0.0/16"]',
    ),
    "mirrors": (
        lambda value: _is_list(value, is_location),
        'a list of locations, such as ["mirror.internal:5000/hub"]',
    ),
    "mirror_tags": _BOOLEAN,
}
_HOST_LISTS = ("plain_http", "insecure")
_WEAKENING = ("authfile", "ca_file", "host", *_HOST_LISTS)  # authfile: the file names programs to run


# Flags and commands read these; a name with the same prefix that is not among them is more likely a mistake.
VARIABLES = frozenset(
    {f"MIRROR_{key.upper()}" for key in _KEYS if key != "host"} | {"MIRROR_CONFIG", "MIRROR_INCLUDE_FOREIGN"}
)


def check_variables(names: Iterable[str], known: Iterable[str] = ()) -> None:
    """Raise ConfigError for the first name that begins with `MIRROR_` but is not a variable, nor among `known`."""
    variables = VARIABLES.union(known)
    for name in sorted(names):
        if name.startswith("MIRROR_") and name not in variables:
            import difflib  # only for this message: the import takes 5 ms

            suffixes = [known.removeprefix("MIRROR_") for known in sorted(variables)]
            near = difflib.get_close_matches(name.removeprefix("MIRROR_"), suffixes, n=1)
            hint = (
                f"Did you mean MIRROR_{near[0]}?"
                if near
                else "Unset it; names with this prefix are settings of mirror."
            )
            raise ConfigError(f"There is no setting {name} (an environment variable).", hint=hint)


def load(explicit: Path | None = None) -> Settings:
    """Read the settings files that exist; if `explicit` is given, only that one, which must exist."""
    if explicit:
        return _merge([(explicit, read(explicit, "Check --config, or MIRROR_CONFIG."), True)])
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    candidates = [(Path(home, "mirror", FILE), True), (Path(FILE), False)]
    try:
        existing = [(path, trusted) for path, trusted in candidates if path.is_file()]
    except OSError as error:
        raise ConfigError(f"{error.filename} cannot be read: {os.strerror(error.errno or 0)}.") from None
    return _merge([(path, read(path), trusted) for path, trusted in existing])


def read(path: Path, hint: str | None = None) -> dict[str, Any]:
    """Return the validated content of one settings file, with its `host` tables as `HostSettings`.

    `hint` says what to do if it cannot be read.
    """
    values = read_toml(path, hint)
    _check(str(path), values, _KEYS)
    if "ca_file" in values:
        values["ca_file"] = _relative_to(path, values["ca_file"])
    if "host" in values:
        values["host"] = {name: _host(path, name, table) for name, table in values["host"].items()}
    return values


def _check(where: str, values: Mapping[str, Any], rules: Mapping[str, _Rule]) -> None:
    for key, value in values.items():
        if key not in rules:
            import difflib  # only for this message: the import takes 5 ms

            shown = excerpt(key, _SHOWN)
            nearest = difflib.get_close_matches(shown, rules, n=1, cutoff=0)[0]
            raise ConfigError(f"{where} has the unknown key {shown!r}.", hint=f"Did you mean {nearest!r}?")
        is_valid, expected = rules[key]
        if not is_valid(value):
            raise ConfigError(f"{where}: {key} should be {expected}.")


def _host(path: Path, name: str, table: dict[str, Any]) -> HostSettings:
    where = f'{path}: [host."{name}"]'
    _check(where, table, _HOST_KEYS)
    if "client_key" in table and "client_cert" not in table:
        raise ConfigError(f"{where} has a client_key but no client_cert.")
    from mirror.config.hosts import HostSettings  # few files have such tables

    settings = dict(table)
    for key in ("ca_file", "client_cert", "client_key"):
        if key in table:
            settings[key] = _relative_to(path, table[key])
    settings["trusted_networks"] = tuple(map(ip_network, table.get("trusted_networks", ())))
    settings["mirrors"] = tuple(text.rstrip("/") for text in table.get("mirrors", ()))
    return HostSettings(**settings)


def _relative_to(path: Path, file: str) -> str:
    """Return the path of a file named in the settings file at `path`, relative to whose directory it is."""
    return str(path.parent / Path(file).expanduser())


def _weakening(values: Mapping[str, Any]) -> list[str]:
    """Return the keys that weaken security. Without referrers, signatures are left out."""
    return [key for key in values if key in _WEAKENING or (key == "referrers" and not values[key])]


def _merge(files: list[tuple[Path, dict[str, Any], bool]]) -> Settings:
    """Merge files in order of precedence, lowest first; each is a path, its content, and whether it is trusted."""
    merged: dict[str, Any] = {}
    used, ignored = [], []
    for path, values, trusted in files:
        for key in () if trusted else _weakening(values):
            del values[key]
            ignored.append(
                f"{path}: {key} is ignored, because it weakens security. Set it in your own settings, "
                "~/.config/mirror/mirror.toml, or in a file given with --config."
            )
        if values:
            used.append(str(path))
        if {"platform", "all_platforms"} & values.keys():  # they exclude each other
            merged = {key: value for key, value in merged.items() if key not in ("platform", "all_platforms")}
        merged.update(values)
    plain_http, insecure = (frozenset(merged.pop(key, ())) for key in _HOST_LISTS)
    hosts = merged.pop("host", {})
    return Settings(merged, plain_http, insecure, hosts, tuple(used), tuple(ignored))
