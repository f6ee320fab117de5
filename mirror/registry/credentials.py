"""Who we are, to one registry."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Credentials:
    """A user and a password, or a token. None of them shows in a repr, so none shows in a traceback or a log.

    `identity_token` is what a token server takes in place of a password; `registry_token` what the registry itself
    takes. `source` says where they were found: a file, or a helper.
    """

    user: str = field(repr=False)
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)
    source: str = field(default="", compare=False)

    @property
    def basic(self) -> str:
        """The value of an Authorization header (RFC 7617); an identity token stands in for the password."""
        pair = f"{self.user}:{self.password or self.identity_token}"
        return "Basic " + base64.b64encode(pair.encode()).decode()

    def __bool__(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.user or self.password or self.identity_token or self.registry_token)
