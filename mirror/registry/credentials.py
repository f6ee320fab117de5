"""Credentials for one registry."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, or a token. The repr shows neither, so no traceback or log does.

    Attributes:
        user: the user name.
        password: the password.
        identity_token: a refresh token, which a token server accepts in place of a password (`identitytoken`).
        registry_token: a Bearer token for the registry itself (`registrytoken`).
        source: where they were found, for messages: a file or a credential helper.
    """

    user: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)

    @property
    def basic(self) -> str:
        """The Basic `Authorization` header (RFC 7617); an identity token takes the place of the password."""
        pair = f"{self.user}:{self.password or self.identity_token}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def __bool__(self) -> bool:
        """Return whether any part of them is set."""
        return bool(self.user or self.password or self.identity_token or self.registry_token)
