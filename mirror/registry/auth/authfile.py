"""Credentials files: containers' `auth.json` and docker's `config.json`, which have one form.

    {"auths": {"quay.io/team": {"auth": "base64 of user:password"}},
     "credHelpers": {"gcr.io": "gcloud"},       a helper for this registry
     "credsStore": "secretservice"}             the helper for every other

Keys are registries, registries with a path, or URLs with a registry in them (docker's, for Docker Hub, is
`https://index.docker.io/v1/`). Helpers know registries only; a path in a key is containers' addition to docker's form.
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

Ask = Callable[[CredentialHelper, str], Awaitable[Credentials | None]]

_HUB_SERVER = "https://index.docker.io/v1/"


def normal(key: str) -> str:
    """`REGISTRY[/PATH]`: what a key of a file, or a registry as people type it, stands for."""
    bare = key.removeprefix("docker://").removeprefix("https://").removeprefix("http://").rstrip("/")
    host, slash, path = bare.partition("/")
    if key.startswith(("https://", "http://")):
        slash = path = ""  # the path of an API, such as /v1/ or /v2/
    host = host.lower()
    return f"{DOCKER_HUB if host in HUB_ALIASES else host}{slash}{path}"


def server(name: str) -> str:
    """The name by which docker, and so every helper, calls a registry."""
    return _HUB_SERVER if name == DOCKER_HUB else name


def prefixes(name: str) -> Iterator[str]:
    """`host/ns/repo`, `host/ns`, `host`: the keys that are for a repository, the most exact first."""
    while name:
        yield name
        name = name.rpartition("/")[0]


@dataclass(frozen=True, slots=True)
class AuthFile:
    """The content of one credentials file. It is never changed: `with_` and `without` give another one."""

    path: Path
    document: JsonObject = field(default_factory=dict, repr=False)

    @classmethod
    def read(cls, path: Path) -> AuthFile | None:
        """The file at `path`; None where there is none.

        Raises:
            ConfigError: it cannot be read, or cannot be understood.
        """
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
        try:
            return cls(path, load_object(data, str(path)) if data.strip() else {})
        except ContentError as error:
            raise ConfigError(str(error)) from None

    def names(self) -> list[str]:
        """Every `REGISTRY[/PATH]` that the file has something to say about."""
        keys = [*self._part("auths"), *self._part("credHelpers")]
        return list(dict.fromkeys(map(normal, keys)))

    async def find(self, name: str, ask: Ask = CredentialHelper.get) -> Credentials | None:
        """The credentials for the repository, or the registry, `name`; `ask` asks a helper about a server.

        Raises:
            ConfigError: an entry is broken, or a helper fails.
        """
        for key in prefixes(name):
            helper = self.helper(key)
            found = (await ask(helper, server(key)) if helper else None) or self._stored(key)
            if found:
                return found
        return None

    def helper(self, name: str) -> CredentialHelper | None:
        """The helper that keeps a registry's credentials: its own, else the one for all. None knows about paths."""
        if "/" in name:
            return None
        chosen: object = self.document.get("credsStore")
        for key, value in self._part("credHelpers").items():
            if normal(key) == name:
                chosen = value  # an empty one says: in this file, though there is a credsStore
        if chosen is not None and not isinstance(chosen, str):
            raise ConfigError(f"{self.path}: the credential helper for {name} should be a name.")
        return CredentialHelper(chosen, self.path) if chosen else None

    def has(self, name: str) -> bool:
        """Whether there is an entry, which may be the empty one that says that a helper has it."""
        return any(normal(key) == name for key in self._part("auths"))

    def with_(self, name: str, credentials: Credentials | None) -> AuthFile:
        """This file with credentials for `name`; with None, the empty entry that says that a helper has them."""
        entry = {"auth": credentials.basic.removeprefix("Basic ")} if credentials else {}
        rest = self.without(name)
        return AuthFile(self.path, {**rest.document, "auths": {**rest._part("auths"), server(name): entry}})

    def without(self, name: str) -> AuthFile:
        """This file without any entry for `name`, under whichever key; everything else stays."""
        kept = {key: entry for key, entry in self._part("auths").items() if normal(key) != name}
        return AuthFile(self.path, {**self.document, "auths": kept})

    def to_bytes(self) -> bytes:
        """The file as docker writes it."""
        return json.dumps(self.document, indent="\t").encode() + b"\n"

    def _stored(self, name: str) -> Credentials | None:
        """What the file itself says. The exact key counts most; an empty entry does not hide a full one."""
        entries = self._part("auths")
        keys = [key for key in entries if normal(key) == name]
        for key in sorted(keys, key=lambda key: key != server(name)):
            if found := _decode(entries[key], f"{self.path}: the auth entry of {key!r}", str(self.path)):
                return found
        return None

    def _part(self, name: str) -> JsonObject:
        part = self.document.get(name)
        return part if isinstance(part, dict) else {}


def _decode(entry: object, what: str, source: str) -> Credentials | None:
    """One entry of `auths`; None where there is nothing in it.

    Raises:
        ConfigError: it cannot be understood.
    """
    if not isinstance(entry, dict):
        return None
    texts = {name: entry.get(name) or "" for name in ("username", "password", "identitytoken", "registrytoken")}
    for name, text in texts.items():
        if not isinstance(text, str):
            raise ConfigError(f"{what} has a {name} that is no text.")
    user, password = _pair(entry["auth"], what) if entry.get("auth") else (texts["username"], texts["password"])
    found = Credentials(user, password, texts["identitytoken"], texts["registrytoken"], source)
    return found if found else None


def _pair(text: object, what: str) -> tuple[str, str]:
    try:
        user, colon, password = base64.b64decode(str(text), validate=True).decode().partition(":")
    except ValueError:
        raise ConfigError(f"{what} is no base64.") from None
    if not colon:
        raise ConfigError(f"{what} has no password.")
    return user, password.rstrip("\0")
