"""Credentials for one registry."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, or a token. The repr hides them, so that tracebacks and logs do too.

    Attributes:
        user: the user name.
        password: the password.
        identity_token: a refresh token, which a token server accepts in place of a password (`identitytoken`).
        registry_token: a Bearer token for the registry itself (`registrytoken`).
        source: the file or credential helper that they are from, for messages.
    """

    user: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)

    @property
    def basic(self) -> str:
        """The Basic `Authorization` header (RFC 7617); without a password, with the identity token."""
        pair = f"{self.user}:{self.password or self.identity_token}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def __bool__(self) -> bool:
        """Return whether any part of them is set."""
        return bool(self.user or self.password or self.identity_token or self.registry_token)
