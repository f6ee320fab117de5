"""Who we are: the `auth` entries of docker's `config.json`."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass, field
from pathlib import Path

from mirror.errors import ConfigError, ContentError
from mirror.reference import DOCKER_HUB
from mirror.strictjson import load_object

_HUB_KEY = "index.docker.io"  # docker writes https://index.docker.io/v1/ for Docker Hub


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password. Neither shows in a repr, so neither shows in a traceback or a log."""

    user: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def find(registry: str) -> Credentials | None:
    """The credentials for a registry host; None where there are none.

    Raises:
        ConfigError: the file is there and cannot be understood.
    """
    path = Path(os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker"), "config.json")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
    try:
        entries = load_object(data, str(path)).get("auths") or {}
    except ContentError as error:
        raise ConfigError(str(error)) from None
    wanted = _HUB_KEY if registry == DOCKER_HUB else registry
    for key, entry in entries.items() if isinstance(entries, dict) else ():
        if _host(key) == wanted and isinstance(entry, dict) and entry.get("auth"):
            return _decode(entry["auth"], f"{path}: the auth entry of {key!r}")
    return None


def _host(key: str) -> str:
    """Keys are hosts, or URLs with a host in them."""
    return key.removeprefix("https://").removeprefix("http://").partition("/")[0]


def _decode(text: object, what: str) -> Credentials:
    try:
        user, colon, password = base64.b64decode(str(text), validate=True).decode().partition(":")
    except ValueError:
        raise ConfigError(f"{what} is no base64.") from None
    if not colon:
        raise ConfigError(f"{what} has no password.")
    return Credentials(user, password.rstrip("\0"))
