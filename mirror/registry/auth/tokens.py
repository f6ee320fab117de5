"""Tokens: what they are asked for with, and how long they live."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from mirror.errors import ContentError, TransferError
from mirror.registry.auth.challenges import Challenge
from mirror.strictjson import load_object

_SHORTEST = 60.0  # seconds that a token lives at least; what the specification tells clients to assume
_LONGEST = 24 * 3600  # seconds that a token is believed to live at most
_MARGIN = 10.0  # seconds before its end at which a token is renewed


@dataclass(frozen=True, slots=True)
class Scopes:
    """Resources, each with the actions that are wanted on it: `repository:a:pull,push repository:b:pull`.

    What has no actions, such as the `aws` of ECR Public, is a resource as well.
    """

    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Scopes:
        """Read scopes that are separated by spaces; those of one resource become one."""
        found = cls()
        for scope in text.split():
            resource, colon, actions = scope.rpartition(":")
            if resource or not colon:
                found |= cls(((resource, tuple(filter(None, actions.split(",")))) if colon else (scope, ()),))
        return found

    @property
    def repository(self) -> str:
        """The first repository, whose credentials count; empty where there is none."""
        names = (resource for resource, _ in self.parts if resource.startswith("repository:"))
        return next(names, "").partition(":")[2]

    def __or__(self, other: Scopes) -> Scopes:
        """All of both, without repeating any, this one's resources first."""
        merged: dict[str, dict[str, None]] = {}
        for resource, actions in (*self.parts, *other.parts):
            merged.setdefault(resource, {}).update(dict.fromkeys(actions))
        return Scopes(tuple((resource, tuple(actions)) for resource, actions in merged.items()))

    def __ge__(self, other: Scopes) -> bool:
        """Whether the other's are all among these."""
        own = dict(self.parts)
        return all(resource in own and set(actions) <= set(own[resource]) for resource, actions in other.parts)

    def __iter__(self) -> Iterator[str]:
        """Each scope as it is written."""
        return (f"{resource}:{','.join(actions)}" if actions else resource for resource, actions in self.parts)

    def __str__(self) -> str:
        return " ".join(self)


@dataclass(frozen=True, slots=True)
class Token:
    """An Authorization header that a token server gave, how it was `asked` for, and because of which challenge."""

    header: str = field(repr=False)
    expires: float
    asked: Scopes
    challenge: Challenge

    @property
    def lives(self) -> bool:
        return self.expires > time.monotonic()


def parse_token(body: bytes, what: str, asked: Scopes, challenge: Challenge) -> Token:
    """The token in a token server's answer, which has just come; `what` it is, for messages.

    Raises:
        TransferError: there is none in it.
    """
    try:
        answer = load_object(body, what)
    except ContentError as error:
        raise TransferError(str(error)) from None
    header = bearer(answer.get("token") or answer.get("access_token"), what)
    return Token(header, time.monotonic() + _lifetime(answer) - _MARGIN, asked, challenge)


def bearer(token: object, what: str) -> str:
    """The Authorization header for a token.

    Raises:
        TransferError: it is none, or cannot stand in a header.
    """
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise TransferError(f"{what} is missing, or is no token.")
    return f"Bearer {token}"


def _lifetime(answer: dict[str, object]) -> float:
    """Seconds from now. An `issued_at` in the past shortens it, for an answer out of a cache.

    Two clocks are compared, and one may be wrong: so a token lives a minute at least, and an `issued_at` in the future
    changes nothing. A token that is believed too long is refused, and then renewed.
    """
    given = answer.get("expires_in")
    seconds = float(min(given, _LONGEST)) if isinstance(given, int | float) else 0.0
    return max(seconds - _age(answer.get("issued_at")), _SHORTEST)


def _age(issued: object) -> float:
    """Seconds since an RFC 3339 time; 0 where it is none, or is to come."""
    try:
        return max(0.0, time.time() - datetime.fromisoformat(str(issued)).timestamp())
    except (ValueError, OverflowError, OSError):
        return 0.0
