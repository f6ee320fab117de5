"""`registries.conf`, where podman, buildah, skopeo and CRI-O are told of mirrors (containers-registries.conf(5)).

Read are the `[[registry]]` tables of version 2, from where those tools read them, the longest prefix deciding. Not used
are short-name aliases and search registries: a name here means what it means to docker.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror.config.hosts import is_place
from mirror.config.toml import read_toml
from mirror.errors import ConfigError

_SYSTEM = Path("/etc/containers")
_WILDCARD = re.compile(r"\*(?:\.[a-zA-Z0-9-]+)+", re.ASCII)
_KINDS = {"": (True, True), "all": (True, True), "digest-only": (False, True), "tag-only": (True, False)}


@dataclass(frozen=True, slots=True)
class Place:
    """Where content may be, `HOST[:PORT][/PATH]`, and for which names it is asked.

    An `insecure` one may have any certificate, or no TLS at all. `proxy` says that it wants a proxy of its own.
    """

    location: str
    insecure: bool = False
    tags: bool = True
    digests: bool = True
    proxy: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One `[[registry]]` table: for names that begin with `prefix`; `*.example.com` is every host below that one.

    `origin` has no location where the name is to be used as it is.
    """

    prefix: str
    origin: Place
    mirrors: tuple[Place, ...]
    blocked: bool
    file: str

    def matched(self, name: str) -> str | None:
        """The beginning of `name`, a `REGISTRY/REPOSITORY`, for which the rule is; None where it is not for it."""
        host = name.partition("/")[0]
        if self.prefix.startswith("*."):
            return host if host.partition(":")[0].endswith(self.prefix[1:]) else None
        return self.prefix if f"{name}/".startswith(f"{self.prefix}/") else None


class Rules:
    """All rules of this machine and this user."""

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        self._rules = rules

    @classmethod
    def load(cls) -> Rules:
        """Read the files that are there; in a later one, a table replaces the one with the same prefix.

        Raises:
            ConfigError: one of them cannot be used.
        """
        rules: dict[str, Rule] = {}
        for path in _files():
            fresh: dict[str, Rule] = {}
            for rule in _rules(path):
                fresh.setdefault(rule.prefix, rule)  # within a file, the first counts
            rules |= fresh
        return cls(rules)

    def find(self, name: str) -> Rule | None:
        """The rule for `name`, a `REGISTRY/REPOSITORY`: of those that match, the one with the longest prefix."""
        matching = [rule for rule in self._rules.values() if rule.matched(name) is not None]
        return max(matching, key=lambda rule: len(rule.prefix), default=None)


def _files() -> Iterator[Path]:
    """The main file, then what is dropped in: with a main file of their own, a user has only drop-ins of their own."""
    own = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "containers")
    explicit = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    main = Path(explicit) if explicit else own / "registries.conf"
    if explicit or main.is_file():
        yield main
    elif (_SYSTEM / "registries.conf").is_file():
        yield _SYSTEM / "registries.conf"
    folders = [own] if not explicit and main.is_file() else [_SYSTEM, own]
    for folder in folders:
        yield from sorted(path for path in (folder / "registries.conf.d").glob("*.conf") if path.is_file())


def _rules(path: Path) -> Iterator[Rule]:
    document = read_toml(path)
    old = document.get("registries")
    if isinstance(old, dict) and any(_lists_something(old.get(key)) for key in ("insecure", "block")):
        raise ConfigError(
            f"{path} says in version 1 of its format what is insecure or blocked, and mirror reads version 2.",
            hint="Write a [[registry]] table for each: see containers-registries.conf(5).",
        )
    tables = document.get("registry", [])
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigError(f"{path}: registry should be a list of tables.")
    for table in tables:
        yield _rule(table, path)


def _lists_something(old: object) -> bool:
    return isinstance(old, dict) and bool(old.get("registries"))


def _rule(table: dict[str, Any], path: Path) -> Rule:
    origin = _place(table, path)
    prefix = _text(table, "prefix", path).rstrip("/") or origin.location
    if not is_place(prefix) and not _WILDCARD.fullmatch(prefix):
        raise ConfigError(f"{path}: the prefix {prefix!r} is no registry, namespace or repository.")
    if not origin.location and not prefix.startswith("*."):
        raise ConfigError(f"{path}: the registry {prefix!r} has no location.")
    by_digest = _flag(table, "mirror-by-digest-only", path)
    mirrors = table.get("mirror", [])
    if not isinstance(mirrors, list) or not all(isinstance(mirror, dict) for mirror in mirrors):
        raise ConfigError(f"{path}: the mirror of {prefix!r} should be a list of tables.")
    places = tuple(_mirror(mirror, by_digest, path) for mirror in mirrors)
    return Rule(prefix, origin, places, _flag(table, "blocked", path), str(path))


def _mirror(table: dict[str, Any], by_digest: bool, path: Path) -> Place:
    place = _place(table, path)
    kind = _text(table, "pull-from-mirror", path)
    if not place.location:
        raise ConfigError(f"{path}: a mirror has no location.")
    if kind not in _KINDS:
        raise ConfigError(f"{path}: pull-from-mirror should be all, digest-only or tag-only, not {kind!r}.")
    tags, digests = (False, True) if by_digest else _KINDS[kind]
    return Place(place.location, place.insecure, tags, digests, place.proxy)


def _place(table: dict[str, Any], path: Path) -> Place:
    location = _text(table, "location", path).rstrip("/")
    if location and not is_place(location):
        raise ConfigError(f"{path}: the location {location!r} is no registry, namespace or repository.")
    return Place(location, _flag(table, "insecure", path), proxy=bool(_text(table, "proxy", path)))


def _text(table: dict[str, Any], key: str, path: Path) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} should be a text.")
    return value


def _flag(table: dict[str, Any], key: str, path: Path) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{path}: {key} should be true or false.")
    return value
