"""`registries.conf`, where podman, buildah, skopeo and CRI-O configure mirrors (containers-registries.conf(5)).

The `[[registry]]` tables of version 2 are read from the same files as in those tools; the longest matching prefix wins.
`credential-helpers` lists where credentials are looked up. Short-name aliases and search registries are ignored: short
names are resolved as by docker.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirror.config.toml import read_toml
from mirror.errors import ConfigError
from mirror.oci.reference import is_location

AUTH_FILES = "containers-auth.json"  # among the credential helpers, this stands for the credentials files
_SYSTEM = Path("/etc/containers")
_WILDCARD = re.compile(r"\*(?:\.[a-zA-Z0-9-]+)+", re.ASCII)
# By pull-from-mirror: whether a mirror is used for tags, and for digests
_PULL_FROM_MIRROR = {"": (True, True), "all": (True, True), "digest-only": (False, True), "tag-only": (True, False)}


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """The location of a registry or mirror, as configured."""

    location: str  # `HOST[:PORT][/PATH]`; empty if the table has none
    insecure: bool = False  # plain HTTP and unverified certificates are allowed
    tags: bool = True  # it is used to resolve tags
    digests: bool = True  # it is used for content by digest
    proxy: bool = False  # the table sets a proxy for this location, which `mirror` does not support


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """One `[[registry]]` table."""

    prefix: str  # of the names that it applies to; `*.example.com` matches all subdomains
    endpoint: EndpointConfig  # the registry itself; if it has no location, names are not rewritten
    mirrors: tuple[EndpointConfig, ...]  # in the order in which they are tried
    blocked: bool  # images of this registry must not be used
    file: str  # the path of the file with the table

    def matching_prefix(self, name: str) -> str | None:
        """Return the part of `name`, `REGISTRY/REPOSITORY`, that the prefix matches; None if it does not."""
        host = name.partition("/")[0]
        if self.prefix.startswith("*."):
            return host if host.partition(":")[0].endswith(self.prefix[1:]) else None
        return self.prefix if f"{name}/".startswith(f"{self.prefix}/") else None


class RegistriesConf:
    """The `[[registry]]` tables of this machine and this user, by prefix."""

    def __init__(
        self, tables: Mapping[str, RegistryConfig], credential_helpers: Sequence[tuple[str, Path]] = ()
    ) -> None:
        """Create it from its tables, and the names of credential helpers in order, each with the file that names it."""
        self._tables, self.credential_helpers = tables, credential_helpers

    @classmethod
    def load(cls) -> RegistriesConf:
        """Read the existing files; a table in a later file replaces an earlier one with the same prefix."""
        tables: dict[str, RegistryConfig] = {}
        helpers: list[tuple[str, Path]] = []
        for path in _files():
            in_file: dict[str, RegistryConfig] = {}
            document = read_toml(path)
            for table in _tables(document, path):
                in_file.setdefault(table.prefix, table)  # within one file, the first wins
            tables |= in_file
            helpers = _helpers(document, path) or helpers
        return cls(tables, helpers)

    def find(self, name: str) -> RegistryConfig | None:
        """Return the table with the longest prefix that matches `name`, `REGISTRY/REPOSITORY`, if there is one."""
        matching = [table for table in self._tables.values() if table.matching_prefix(name) is not None]
        return max(matching, key=lambda table: len(table.prefix), default=None)


def _files() -> Iterator[Path]:
    """Yield the main file, then the drop-ins; if the user has a main file, only the user's drop-ins."""
    own = Path(os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "containers")
    explicit = os.environ.get("CONTAINERS_REGISTRIES_CONF")
    main = Path(explicit) if explicit else own / "registries.conf"
    if explicit or main.is_file():
        yield main
    elif (_SYSTEM / "registries.conf").is_file():
        yield _SYSTEM / "registries.conf"
    directories = [own] if not explicit and main.is_file() else [_SYSTEM, own]
    for directory in directories:
        yield from sorted(path for path in (directory / "registries.conf.d").glob("*.conf") if path.is_file())


def _helpers(document: dict[str, Any], path: Path) -> list[tuple[str, Path]]:
    names = document.get("credential-helpers", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"{path}: credential-helpers should be a list of strings.")
    return [(name, path) for name in names]


def _tables(document: dict[str, Any], path: Path) -> Iterator[RegistryConfig]:
    # Version 1 is rejected only if it restricts registries; a mere list of search registries is harmless.
    old = document.get("registries")
    lists = [old.get(key) for key in ("insecure", "block")] if isinstance(old, dict) else []
    if any(isinstance(table, dict) and table.get("registries") for table in lists):
        raise ConfigError(
            f"{path} lists insecure or blocked registries in version 1 of its format; mirror reads version 2.",
            hint="Write a [[registry]] table for each: see containers-registries.conf(5).",
        )
    for table in _list(document, "registry", f"{path}: registry"):
        yield _registry(table, path)


def _registry(table: dict[str, Any], path: Path) -> RegistryConfig:
    endpoint = _endpoint(table, path)
    prefix = _string(table, "prefix", path).rstrip("/") or endpoint.location
    if not is_location(prefix) and not _WILDCARD.fullmatch(prefix):
        raise ConfigError(f"{path}: the prefix {prefix!r} is not a registry, namespace or repository.")
    if not endpoint.location and not prefix.startswith("*."):
        raise ConfigError(f"{path}: the registry {prefix!r} has no location.")
    by_digest = _boolean(table, "mirror-by-digest-only", path)
    mirrors = _list(table, "mirror", f"{path}: the mirror of {prefix!r}")
    endpoints = tuple(_mirror(mirror, by_digest, path) for mirror in mirrors)
    return RegistryConfig(prefix, endpoint, endpoints, _boolean(table, "blocked", path), str(path))


def _mirror(table: dict[str, Any], by_digest: bool, path: Path) -> EndpointConfig:
    endpoint = _endpoint(table, path)
    mode = _string(table, "pull-from-mirror", path)
    if not endpoint.location:
        raise ConfigError(f"{path}: a mirror has no location.")
    if mode not in _PULL_FROM_MIRROR:
        raise ConfigError(f"{path}: pull-from-mirror should be all, digest-only or tag-only, not {mode!r}.")
    tags, digests = (False, True) if by_digest else _PULL_FROM_MIRROR[mode]
    return EndpointConfig(endpoint.location, endpoint.insecure, tags, digests, endpoint.proxy)


def _endpoint(table: dict[str, Any], path: Path) -> EndpointConfig:
    location = _string(table, "location", path).rstrip("/")
    if location and not is_location(location):
        raise ConfigError(f"{path}: the location {location!r} is not a registry, namespace or repository.")
    return EndpointConfig(location, _boolean(table, "insecure", path), proxy=bool(_string(table, "proxy", path)))


def _list(table: dict[str, Any], key: str, what: str) -> list[dict[str, Any]]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise ConfigError(f"{what} should be a list of tables.")
    return value


def _string(table: dict[str, Any], key: str, path: Path) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        raise ConfigError(f"{path}: {key} should be a string.")
    return value


def _boolean(table: dict[str, Any], key: str, path: Path) -> bool:
    value = table.get(key, False)
    if not isinstance(value, bool):
        raise ConfigError(f"{path}: {key} should be true or false.")
    return value
