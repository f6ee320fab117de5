"""Settings files: `mirror.toml` in the current directory and in `~/.config/mirror`, or the file given with `--config`.

Precedence, highest first: a flag, an environment variable, the current directory's file, the user's file. The current
directory's file may have arrived with the data, from a stranger: keys that weaken security are honoured only in the
user's own file or in the one given with `--config`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

from mirror.config.hosts import HostSettings, is_location
from mirror.config.toml import read_toml
from mirror.errors import ConfigError
from mirror.oci.reference import is_host

FILE = "mirror.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """The merged content of the settings files.

    Attributes:
        values: defaults for the flags of the same names.
        plain_http: hosts that are reached without TLS.
        insecure: hosts whose certificates are not verified.
        hosts: the `[host."…"]` tables.
        files: the paths of the files that were used.
        ignored: for each key that was not used, a sentence that says why.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    plain_http: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()


def _is_boolean(value: object) -> bool:
    return isinstance(value, bool)


def _is_string(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _is_duration(value: object) -> bool:
    return isinstance(value, int | float) and value is not True and value > 0


def _is_strings(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def _is_hosts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(host, str) and is_host(host) for host in value)


def _is_networks(value: object) -> bool:
    try:
        return _is_strings(value) and bool([ip_network(text) for text in cast(list[str], value)])
    except ValueError:
        return False


def _is_locations(value: object) -> bool:
    return _is_strings(value) and all(map(is_location, cast(list[str], value)))


def _is_host_tables(value: object) -> bool:
    return isinstance(value, dict) and all(is_host(name) and isinstance(value[name], dict) for name in value)


Keys = Mapping[str, tuple[Callable[[object], bool], str]]  # the check of a value, and what to say if it fails

_KEYS: Keys = {
    "output": (_is_string, "a directory"),
    "chunk_size": (_is_string, 'a size, such as "8M"'),
    "jobs": (_is_count, "a number"),
    "retries": (_is_count, "a number"),
    "timeout": (_is_duration, "a number of seconds"),
    "limit_rate": (_is_string, 'a rate, such as "10M"'),
    "connections_per_blob": (_is_count, "a number"),
    "platform": (_is_strings, 'a list of platforms, such as ["linux/amd64"]'),
    "all_platforms": (_is_boolean, "true or false"),
    "sparse": (_is_boolean, "true or false"),
    "referrers": (_is_boolean, "true or false"),
    "keep_going": (_is_boolean, "true or false"),
    "no_progress": (_is_boolean, "true or false"),
    "authfile": (_is_string, "a file"),
    "plain_http": (_is_hosts, 'a list of hosts, such as ["registry.internal:5000"]'),
    "insecure": (_is_hosts, 'a list of hosts, such as ["registry.internal:5000"]'),
    "ca_file": (_is_string, "a file"),
    "host": (_is_host_tables, 'tables such as [host."registry.internal:5000"]'),
}
_HOST_KEYS: Keys = {
    "plain_http": (_is_boolean, "true or false"),
    "insecure": (_is_boolean, "true or false"),
    "ca_file": (_is_string, "a file"),
    "client_cert": (_is_string, "a file"),
    "client_key": (_is_string, "a file"),
    "trusted_networks": (_is_networks, 'a list of networks, such as ["10.20.0.0/16"]'),
    "mirrors": (_is_locations, 'a list of locations, such as ["mirror.internal:5000/hub"]'),
    "mirror_tags": (_is_boolean, "true or false"),
}
_HOST_LISTS = ("plain_http", "insecure")
_WEAKENING = ("authfile", "ca_file", "host", *_HOST_LISTS)  # a credentials file names programs that are run


def load(explicit: Path | None = None) -> Settings:
    """Read the settings files that exist; if `explicit` is given, only that one.

    Raises:
        ConfigError: the explicit file does not exist, or a file is broken, has an unknown key or a value of the wrong
            type.
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
    """Return the content of one settings file, its keys and values checked, its `host` tables as `HostSettings`.

    Raises:
        ConfigError: as `load`.
    """
    values = read_toml(path)
    _check(str(path), values, _KEYS)
    if "ca_file" in values:
        values["ca_file"] = _relative_to(path, values["ca_file"])
    if "host" in values:
        values["host"] = {name: _host(path, name, table) for name, table in values["host"].items()}
    return values


def _check(where: str, values: Mapping[str, Any], keys: Keys) -> None:
    for key, value in values.items():
        if key not in keys:
            import difflib  # only for this message: the import takes 5 ms

            nearest = difflib.get_close_matches(key, keys, n=1, cutoff=0)[0]
            raise ConfigError(f"{where} has the unknown key {key!r}.", hint=f"Did you mean {nearest!r}?")
        is_valid, expected = keys[key]
        if not is_valid(value):
            raise ConfigError(f"{where}: {key} should be {expected}.")


def _host(path: Path, name: str, table: dict[str, Any]) -> HostSettings:
    where = f'{path}: [host."{name}"]'
    _check(where, table, _HOST_KEYS)
    if "client_key" in table and "client_cert" not in table:
        raise ConfigError(f"{where} has a client_key but no client_cert.")
    settings = dict(table)
    for key in ("ca_file", "client_cert", "client_key"):
        if key in table:
            settings[key] = _relative_to(path, table[key])
    settings["trusted_networks"] = tuple(map(ip_network, table.get("trusted_networks", ())))
    settings["mirrors"] = tuple(text.rstrip("/") for text in table.get("mirrors", ()))
    return HostSettings(**settings)


def _relative_to(path: Path, file: str) -> str:
    """Return the path of a file that the settings file at `path` mentions, relative to the latter's directory."""
    return str(path.parent / Path(file).expanduser())


def _merge(files: list[tuple[Path, dict[str, Any], bool]]) -> Settings:
    """Merge files, the later overriding the earlier; each is a path, its content, and whether it is trusted."""
    merged: dict[str, Any] = {}
    used, ignored = [], []
    for path, values, trusted in files:
        for key in _WEAKENING:
            if key in values and not trusted:
                del values[key]
                ignored.append(
                    f"{path}: {key} is ignored, because it weakens security. Set it in your own settings, "
                    "~/.config/mirror/mirror.toml, or in a file given with --config."
                )
        if values:
            used.append(str(path))
        if {"platform", "all_platforms"} & values.keys():  # they answer the same question, so each replaces the other
            merged = {key: value for key, value in merged.items() if key not in ("platform", "all_platforms")}
        merged.update(values)
    plain_http, insecure = (frozenset(merged.pop(key, ())) for key in _HOST_LISTS)
    hosts = merged.pop("host", {})
    return Settings(merged, plain_http, insecure, hosts, tuple(used), tuple(ignored))
