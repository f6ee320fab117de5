"""Credentials files: containers' `auth.json` (containers-auth.json(5)) and docker's `config.json`, in one format.

    {"auths": {"quay.io/team": {"auth": "base64 of user:password"}},
     "credHelpers": {"gcr.io": "gcloud"},       a credential helper for this registry
     "credsStore": "secretservice"}             the credential helper for all others

Keys are registries, registries with a path, or URLs of registries (docker's key for Docker Hub is
`https://index.docker.io/v1/`). Only containers' format allows paths; credential helpers do not know them.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mirror.errors import ConfigError, ContentError
from mirror.oci.reference import DOCKER_HUB, HUB_ALIASES
from mirror.registry.auth.credential_helpers import CredentialHelper
from mirror.registry.credentials import Credentials
from mirror.strictjson import JsonObject, load_object

AskHelper = Callable[[CredentialHelper, str], Awaitable[Credentials | None]]

_HUB_SERVER = "https://index.docker.io/v1/"


def normalize(key: str) -> str:
    """Return `REGISTRY[/PATH]` for a key of a credentials file, or for a registry as users type it."""
    bare = key.removeprefix("docker://").removeprefix("https://").removeprefix("http://").rstrip("/")
    host, slash, path = bare.partition("/")
    if key.startswith(("https://", "http://")):
        slash = path = ""  # the path of an API, such as /v1/ or /v2/
    host = host.lower()
    return f"{DOCKER_HUB if host in HUB_ALIASES else host}{slash}{path}"


def server_of(name: str) -> str:
    """Return the name of a registry in docker's files and in credential helpers."""
    return _HUB_SERVER if name == DOCKER_HUB else name


def prefixes(name: str) -> Iterator[str]:
    """Yield the keys that apply to a repository, the most specific first: `host/ns/repo`, `host/ns`, `host`."""
    while name:
        yield name
        name = name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class AuthFile:
    """The content of one credentials file; immutable."""

    path: Path
    document: JsonObject = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path) -> AuthFile | None:
        """Read the file at `path`; None if it does not exist."""
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
        return cls.parse(path, data)

    @classmethod
    def parse(cls, path: Path, data: bytes) -> AuthFile:
        """Parse the content of a file; `path` names it in errors."""
        try:
            return cls(path, load_object(data, str(path)) if data.strip() else {})
        except ContentError as error:
            raise ConfigError(str(error)) from None

    def names(self) -> list[str]:
        """Return every `REGISTRY[/PATH]` for which the file has an entry or a helper."""
        return list(dict.fromkeys(map(normalize, [*self._section("auths"), *self._section("credHelpers")])))

    async def find(self, name: str, ask_helper: AskHelper = CredentialHelper.get) -> Credentials | None:
        """Return the credentials for `REGISTRY[/REPOSITORY]`, from the most specific key that has any."""
        for key in prefixes(name):
            helper = self.helper(key)
            found = await ask_helper(helper, server_of(key)) if helper else None
            if found := found or self._stored(key):
                return found
        return None

    def helper(self, name: str) -> CredentialHelper | None:
        """Return the helper for a registry: its own, else the one for all others; None for a path."""
        if "/" in name:
            return None
        chosen: object = self.document.get("credsStore")
        for key, value in self._section("credHelpers").items():
            if normalize(key) == name:
                chosen = value  # if empty, the file has the credentials, in spite of credsStore
        if chosen is not None and not isinstance(chosen, str):
            raise ConfigError(f"{self.path}: the credential helper for {name} should be a string.")
        return CredentialHelper(chosen, self.path) if chosen else None

    def has(self, name: str) -> bool:
        """Return whether there is an entry, which is empty if a helper has the credentials."""
        return any(normalize(key) == name for key in self._section("auths"))

    def with_entry(self, name: str, credentials: Credentials | None) -> AuthFile:
        """Return this file with credentials for `name`; None: with an empty entry, since a helper has them."""
        entry = {"auth": credentials.basic.removeprefix("Basic ")} if credentials else {}
        rest = self.without_entry(name)
        auths = {**rest._section("auths"), server_of(name): entry}
        return AuthFile(self.path, {**rest.document, "auths": auths})

    def without_entry(self, name: str) -> AuthFile:
        """Return this file without any entry for `name`, under any spelling of its key."""
        kept = {key: entry for key, entry in self._section("auths").items() if normalize(key) != name}
        return AuthFile(self.path, {**self.document, "auths": kept})

    def to_bytes(self) -> bytes:
        """Return the file as docker writes it."""
        return json.dumps(self.document, indent="\t").encode() + b"\n"

    def _stored(self, name: str) -> Credentials | None:
        """Return credentials that the file itself has: under docker's key first, else under another spelling."""
        entries = self._section("auths")
        keys = [key for key in entries if normalize(key) == name]
        for key in sorted(keys, key=lambda key: key != server_of(name)):
            if found := _decode(entries[key], f"{self.path}: the auth entry of {key!r}", str(self.path)):
                return found
        return None

    def _section(self, name: str) -> JsonObject:
        section = self.document.get(name)
        return section if isinstance(section, dict) else {}


def _decode(entry: object, what: str, source: str) -> Credentials | None:
    """Return the credentials in an entry of `auths`; None if it is empty."""
    if not isinstance(entry, dict):
        return None
    fields = {name: entry.get(name) or "" for name in ("username", "password", "identitytoken", "registrytoken")}
    for name, value in fields.items():
        if not isinstance(value, str):
            raise ConfigError(f"{what} has a {name} that is not a string.")
    user, password = fields["username"], fields["password"]
    if entry.get("auth"):
        try:
            user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
        except ValueError:
            raise ConfigError(f"{what} is not valid base64.") from None
        if not colon:
            raise ConfigError(f"{what} has no password.")
        password = password.rstrip("\0")
    return Credentials(user, password, fields["identitytoken"], fields["registrytoken"], source) or None
