"""Where credentials have been put, or removed from: the result of `login` and `logout`. None of them is in it."""

from __future__ import annotations

from dataclasses import dataclass

from mirror.strictjson import JsonObject
from mirror.text import count


@dataclass(frozen=True, slots=True)
class Kept:
    """Where the credentials for `registry` (or for a path in it) are: in a file, or with a helper that it names."""

    registry: str
    file: str
    helper: str | None = None

    def __str__(self) -> str:
        return f"docker-credential-{self.helper}, which {self.file} names" if self.helper else self.file

    def to_json(self) -> JsonObject:
        return {"registry": self.registry, "file": self.file, "helper": self.helper}


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """`checked` is whether the registry has asked for the credentials and taken them; some ask nobody."""

    user: str
    kept: Kept
    checked: bool

    def to_json(self) -> JsonObject:
        return {"schema": "mirror.login/1", **self.kept.to_json(), "user": self.user, "checked": self.checked}

    def lines(self) -> list[str]:
        return [f"{self.kept.registry}: logged in as {self.user}"]

    def remarks(self) -> list[str]:
        if self.checked:
            return []
        return [f"{self.kept.registry} has not asked for credentials, so nobody knows whether these are right."]

    def summary(self) -> str:
        how = "" if self.kept.helper else ", readable for you alone (mode 0600) but not encrypted"
        return f"the credentials are in {self.kept}{how}."


@dataclass(frozen=True, slots=True)
class LoggedOut:
    """What has been forgotten."""

    removed: tuple[Kept, ...]

    def to_json(self) -> JsonObject:
        return {"schema": "mirror.logout/1", "removed": [kept.to_json() for kept in self.removed]}

    def lines(self) -> list[str]:
        return [f"{kept.registry}: removed from {kept}" for kept in self.removed]

    def summary(self) -> str:
        return f"{count(len(self.removed), 'login')} forgotten."
