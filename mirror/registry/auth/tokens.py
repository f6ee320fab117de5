"""Token scopes, and tokens with their lifetimes (distribution, `docs/spec/auth/token.md` and `scope.md`)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from mirror.errors import ContentError, TransferError
from mirror.registry.auth.challenges import Challenge
from mirror.strictjson import load_object
from mirror.text.redaction import hide

_MIN_LIFETIME = 60.0  # seconds; also what the specification tells clients to assume
_MAX_LIFETIME = 24 * 3600  # seconds
_MARGIN = 10.0  # seconds before its expiry at which a token is renewed


@dataclass(frozen=True, slots=True)
class Scopes:
    """Resources, each with actions: `repository:a:pull,push repository:b:pull`.

    Resources may have no actions, such as `aws` at ECR Public.
    """

    parts: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    @lru_cache(maxsize=1024)  # each request needs those of its repository
    def parse(cls, text: str) -> Scopes:
        """Parse scopes separated by spaces; actions on the same resource are merged."""
        scopes = cls()
        for scope in text.split():
            resource, colon, actions = scope.rpartition(":")
            if resource or not colon:
                scopes |= cls(((resource, tuple(filter(None, actions.split(",")))) if colon else (scope, ()),))
        return scopes

    @property
    def repository(self) -> str:
        """The first repository, whose credentials are used; empty if there is none."""
        names = (resource for resource, _ in self.parts if resource.startswith("repository:"))
        return next(names, "").partition(":")[2]

    def __or__(self, other: Scopes) -> Scopes:
        """Return the union, with the resources of this one first."""
        merged: dict[str, dict[str, None]] = {}
        for resource, actions in (*self.parts, *other.parts):
            merged.setdefault(resource, {}).update(dict.fromkeys(actions))
        return Scopes(tuple((resource, tuple(actions)) for resource, actions in merged.items()))

    def __ge__(self, other: Scopes) -> bool:
        """Return whether these include all of the other's."""
        own = dict(self.parts)
        return all(resource in own and set(actions) <= set(own[resource]) for resource, actions in other.parts)

    def __iter__(self) -> Iterator[str]:
        """Yield each scope in its textual form."""
        return (f"{resource}:{','.join(actions)}" if actions else resource for resource, actions in self.parts)

    def __str__(self) -> str:
        return " ".join(self)


@dataclass(frozen=True, slots=True)
class Token:
    """A token from a token server, as an `Authorization` header."""

    header: str = field(repr=False)
    expires: float  # the monotonic time from which it is renewed
    requested: Scopes
    challenge: Challenge  # which it answers

    @property
    def is_valid(self) -> bool:
        return self.expires > time.monotonic()


def parse_token(body: bytes, what: str, requested: Scopes, challenge: Challenge) -> Token:
    """Return the token in the response of a token server, which has just arrived; `what` is the subject of errors."""
    try:
        answer = load_object(body, what)
    except ContentError as error:
        raise TransferError(str(error)) from None
    secrets = [answer.get(name) for name in ("token", "access_token", "refresh_token")]
    hide(*(secret for secret in secrets if isinstance(secret, str)), is_token=True)
    header = bearer(secrets[0] or secrets[1], what)
    expires_in = answer.get("expires_in")
    lifetime = float(min(expires_in, _MAX_LIFETIME)) if isinstance(expires_in, int | float) else 0.0
    # `issued_at` in the past shortens the lifetime, for responses from caches. Clocks may differ, so the lifetime is at
    # least a minute, and `issued_at` in the future is ignored. A token that is kept too long is rejected and renewed.
    try:
        age = max(0.0, time.time() - datetime.fromisoformat(str(answer.get("issued_at"))).timestamp())  # RFC 3339
    except (ValueError, OverflowError, OSError):
        age = 0.0
    expires = time.monotonic() + max(lifetime - age, _MIN_LIFETIME) - _MARGIN
    return Token(header, expires, requested, challenge)


def bearer(token: object, what: str) -> str:
    """Return the `Authorization` header for a token (RFC 6750, 2.1), which must be a printable ASCII string."""
    if not isinstance(token, str) or not token.isascii() or not token.isprintable() or not token:
        raise TransferError(f"{what} is missing or not a valid token.")
    return f"Bearer {token}"
