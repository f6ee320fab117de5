"""The results of `login` and `logout`: where credentials were stored, or removed from, without the credentials."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.strictjson import JsonObject
from mirror.text import count


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """Where the credentials for a registry, or for a path in it, are stored.

    Attributes:
        registry: `REGISTRY[/PATH]`.
        file: the path of the credentials file.
        helper: the short name of the credential helper in that file that has them; None: the file itself has them.
    """

    registry: str
    file: str
    helper: str | None = None

    def __str__(self) -> str:
        return f"docker-credential-{self.helper} (set in {self.file})" if self.helper else self.file

    def to_json(self) -> JsonObject:
        return {"registry": self.registry, "file": self.file, "helper": self.helper}


@dataclass(frozen=True, slots=True)
class LoginResult:
    """A login. `checked`: the registry required the credentials and accepted them; some require none."""

    user: str
    stored: StoredLogin
    checked: bool

    def to_json(self) -> JsonObject:
        return {"schema": "mirror.login/1", **self.stored.to_json(), "user": self.user, "checked": self.checked}

    def lines(self) -> list[str]:
        return [f"{self.stored.registry}: logged in as {self.user}"]

    def remarks(self) -> list[str]:
        if self.checked:
            return []
        return [
            f"{self.stored.registry} does not require a login; the credentials were saved but could not be checked."
        ]

    def summary(self) -> str:
        unencrypted = "" if self.stored.helper else ", readable only by you (mode 0600), but not encrypted"
        return f"the credentials are in {self.stored}{unencrypted}."


@dataclass(frozen=True, slots=True)
class LogoutResult:
    """The logins that were removed."""

    removed: tuple[StoredLogin, ...]

    def to_json(self) -> JsonObject:
        return {"schema": "mirror.logout/1", "removed": [stored.to_json() for stored in self.removed]}

    def lines(self) -> list[str]:
        return [f"{stored.registry}: removed from {stored}" for stored in self.removed]

    def summary(self) -> str:
        return f"{count(len(self.removed), 'login')} removed."
