"""Where credentials are found: those that a command was given, else the files, in the order of containers-auth.json(5).

1. the file that is named, by `--authfile`, else by `REGISTRY_AUTH_FILE`
2. `$XDG_RUNTIME_DIR/containers/auth.json`, where podman and skopeo log in
3. `$XDG_CONFIG_HOME/containers/auth.json`
4. `$DOCKER_CONFIG/config.json`, where docker logs in

The first file that has credentials for a repository, or for its registry, decides.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from mirror.errors import ConfigError
from mirror.registry.auth.authfile import AuthFile
from mirror.registry.auth.credential_helpers import CredentialHelper
from mirror.registry.credentials import Credentials

_FRESH = 60.0  # seconds that a helper is believed; some take a second for an answer, and forty repositories ask


class CredentialStore:
    """Finds credentials. `given` are those for whole registries that beat every file."""

    def __init__(self, named: Path | None = None, given: Mapping[str, Credentials] | None = None) -> None:
        self._named = named
        self._given = given or {}
        self._told: dict[tuple[CredentialHelper, str], tuple[float, Credentials | None]] = {}

    async def find(self, registry: str, repository: str = "") -> Credentials | None:
        """The credentials for a repository, or for a registry as a whole; None where there are none.

        Raises:
            ConfigError: a file cannot be understood, or a helper fails.
        """
        if registry in self._given:
            return self._given[registry]
        for file in files(self._named):
            if found := await file.find(f"{registry.lower()}/{repository}".rstrip("/"), self._ask):
                return found
        return None

    async def _ask(self, helper: CredentialHelper, server: str) -> Credentials | None:
        until, found = self._told.get((helper, server), (0.0, None))
        if until <= time.monotonic():
            found = await helper.get(server)
            self._told[helper, server] = time.monotonic() + _FRESH, found
        return found


def files(named: Path | None = None) -> Iterator[AuthFile]:
    """The credentials files that are there, in their order.

    Raises:
        ConfigError: one of them cannot be understood; one that a person has named is not there.
    """
    if chosen := named_file(named):
        file = AuthFile.read(chosen)
        if file is None:
            raise ConfigError(f"The credentials file {chosen} is not there.", hint="mirror login makes one.")
        yield file
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    for path in (*_runtime_files(), Path(home, "containers", "auth.json"), docker_file()):
        if file := AuthFile.read(path):
            yield file


def _runtime_files() -> list[Path]:
    """Where podman and skopeo log in. Without a session, as under cron, they fall back to a folder by user id."""
    if folder := os.environ.get("XDG_RUNTIME_DIR"):
        return [Path(folder, "containers", "auth.json")]
    fallback = Path(f"/run/containers/{os.getuid()}/auth.json")
    return [fallback] if os.access(fallback, os.R_OK) else []


def named_file(named: Path | None) -> Path | None:
    """The credentials file that a person has named, by a flag or in the environment."""
    variable = os.environ.get("REGISTRY_AUTH_FILE")
    return named or (Path(variable) if variable else None)


def docker_file() -> Path:
    """Docker's own, which podman, skopeo, buildah and oras read too."""
    return Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")
