"""Settings files: `mirror.toml` in the current folder and in `~/.config/mirror`, or the one that `--config` names.

A flag beats an environment variable beats the current folder's file beats the user's. A file in the current folder may
have come with the data, from a stranger: what weakens security counts only from the user's own file or `--config`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from typing import Any, cast

from mirror.config.hosts import Host, is_place
from mirror.config.toml import read_toml
from mirror.errors import ConfigError
from mirror.oci.reference import is_host

FILE = "mirror.toml"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the settings files say. `values` are defaults for flags of the same name.

    `files` are the files that were used, `ignored` the keys that were not, and why, as sentences.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    plain_http: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    hosts: Mapping[str, Host] = field(default_factory=dict)
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


def _networks(value: object) -> bool:
    try:
        return _texts(value) and bool([ip_network(text) for text in cast(list[str], value)])
    except ValueError:
        return False


def _places(value: object) -> bool:
    return _texts(value) and all(map(is_place, cast(list[str], value)))


def _tables(value: object) -> bool:
    return isinstance(value, dict) and all(is_host(name) and isinstance(value[name], dict) for name in value)


Keys = Mapping[str, tuple[Callable[[object], bool], str]]  # what a value has to be, and how to say so

_KEYS: Keys = {
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
    "referrers": (_flag, "true or false"),
    "keep_going": (_flag, "true or false"),
    "no_progress": (_flag, "true or false"),
    "authfile": (_text, "a file"),
    "plain_http": (_hosts, 'a list of hosts, such as ["registry.internal:5000"]'),
    "insecure": (_hosts, 'a list of hosts, such as ["registry.internal:5000"]'),
    "ca_file": (_text, "a file"),
    "host": (_tables, 'tables such as [host."registry.internal:5000"]'),
}
_HOST_KEYS: Keys = {
    "plain_http": (_flag, "true or false"),
    "insecure": (_flag, "true or false"),
    "ca_file": (_text, "a file"),
    "client_cert": (_text, "a file"),
    "client_key": (_text, "a file"),
    "trusted_networks": (_networks, 'a list of networks, such as ["10.20.0.0/16"]'),
    "mirrors": (_places, 'a list of places, such as ["mirror.internal:5000/hub"]'),
    "mirror_tags": (_flag, "true or false"),
}
_HOSTS = ("plain_http", "insecure")
_WEAKENING = ("authfile", "ca_file", "host", *_HOSTS)  # a credentials file names programs, which are run


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
    values = read_toml(path)
    _check(str(path), values, _KEYS)
    if "ca_file" in values:
        values["ca_file"] = _beside(path, values["ca_file"])
    if "host" in values:
        values["host"] = {name: _host(path, name, table) for name, table in values["host"].items()}
    return values


def _check(where: str, values: Mapping[str, Any], keys: Keys) -> None:
    for key, value in values.items():
        if key not in keys:
            import difflib  # only where there is something to say: it takes 5 ms

            near = difflib.get_close_matches(key, keys, n=1, cutoff=0)[0]
            raise ConfigError(f"{where} has the unknown key {key!r}.", hint=f"Did you mean {near!r}?")
        fits, wanted = keys[key]
        if not fits(value):
            raise ConfigError(f"{where}: {key} should be {wanted}.")


def _host(path: Path, name: str, table: dict[str, Any]) -> Host:
    """One `[host."…"]` table."""
    where = f'{path}: [host."{name}"]'
    _check(where, table, _HOST_KEYS)
    if "client_key" in table and "client_cert" not in table:
        raise ConfigError(f"{where} has a client_key and no client_cert.")
    settings = dict(table)
    for key in ("ca_file", "client_cert", "client_key"):
        if key in table:
            settings[key] = _beside(path, table[key])
    settings["trusted_networks"] = tuple(map(ip_network, table.get("trusted_networks", ())))
    settings["mirrors"] = tuple(text.rstrip("/") for text in table.get("mirrors", ()))
    return Host(**settings)


def _beside(path: Path, file: str) -> str:
    """A file that a settings file names: relative to its folder."""
    return str(path.parent / Path(file).expanduser())


def _merge(files: list[tuple[Path, dict[str, Any], bool]]) -> Settings:
    """One after the other, the later beating the earlier."""
    merged: dict[str, Any] = {}
    used, ignored = [], []
    for path, values, trusted in files:
        for key in _WEAKENING:
            if key in values and not trusted:
                del values[key]
                ignored.append(
                    f"{path}: {key} is ignored: it weakens security, so it counts only in your own settings: "
                    "~/.config/mirror/mirror.toml, or those that --config names."
                )
        if values:
            used.append(str(path))
        if {"platform", "all_platforms"} & values.keys():  # one answer to one question: they replace each other
            merged = {key: value for key, value in merged.items() if key not in ("platform", "all_platforms")}
        merged.update(values)
    plain, insecure = (frozenset(merged.pop(key, ())) for key in _HOSTS)
    hosts = merged.pop("host", {})
    return Settings(merged, plain, insecure, hosts, tuple(used), tuple(ignored))
