"""Credentials for one registry."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from mirror.text.redaction import hide


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, or a token. The repr and all messages hide them.

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

    def __post_init__(self) -> None:
        hide(self.password, self.identity_token, self.registry_token)
        if self.password or self.identity_token:
            hide(self.basic.removeprefix("Basic "))  # not the user, who may have the name of a registry or an image

    @property
    def basic(self) -> str:
        """The Basic `Authorization` header (RFC 7617); without a password, with the identity token."""
        return "Basic " + base64.b64encode(self._pair.encode(errors="surrogatepass")).decode()

    @property
    def _pair(self) -> str:
        return f"{self.user}:{self.password or self.identity_token}"

    def __bool__(self) -> bool:
        """Return whether any part of them is set."""
        return bool(self.user or self.password or self.identity_token or self.registry_token)
