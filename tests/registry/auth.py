"""Who may do what: nobody is asked, HTTP Basic, or a Bearer token from the registry's own `/token`."""

import base64
import binascii
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from tests.registry.messages import Answer, Call, answer_json, refusal


class Auth(Protocol):
    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        """The 401 for a call that may not have what it needs (`repository:name:pull` …), else None."""

    def serve(self, call: Call) -> Answer | None:
        """The answer of an endpoint of its own, such as `/token`."""


class Open:
    """Everybody may do everything."""

    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        return None

    def serve(self, call: Call) -> Answer | None:
        return None


def _credentials(call: Call) -> tuple[str, str] | None:
    """The user and password of an Authorization: Basic header."""
    scheme, _, encoded = call.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user, password


def _known(users: dict[str, str], credentials: tuple[str, str]) -> bool:
    return users.get(credentials[0]) == credentials[1]


def _unauthorized(challenge: str, detail: object = None) -> Answer:
    return refusal(401, "UNAUTHORIZED", "authentication required", detail, WWW_Authenticate=challenge)


@dataclass
class Basic:
    users: dict[str, str]
    realm: str = "embedded"

    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        credentials = _credentials(call)
        if credentials and _known(self.users, credentials):
            return None
        return _unauthorized(f'Basic realm="{self.realm}"')

    def serve(self, call: Call) -> Answer | None:
        return None


@dataclass(frozen=True)
class _Token:
    grants: frozenset[str]
    expires: float


def scopes(needs: Iterable[str]) -> str:
    """`repository:a:pull`, `repository:a:push` → `repository:a:pull,push`, as a challenge spells it."""
    actions: dict[str, list[str]] = {}
    for need in needs:
        resource, _, action = need.rpartition(":")
        actions.setdefault(resource, []).append(action)
    return " ".join(f"{resource}:{','.join(of)}" for resource, of in actions.items())


def _asked(call: Call) -> frozenset[str]:
    """The single grants of every scope parameter of a token request."""
    texts = " ".join(call.query.get("scope", ())).split()
    split = (text.rpartition(":") for text in texts)
    return frozenset(f"{resource}:{action}" for resource, _, actions in split for action in actions.split(","))


@dataclass
class Bearer:
    """Opaque tokens that grant exactly what was asked for; without credentials only pull, if that."""

    users: dict[str, str] = field(default_factory=dict)
    anonymous_pull: bool = False
    expires_in: float = 300
    service: str = "embedded"
    token_realm: str | None = None  # another server's; by default the registry's own /token
    _tokens: dict[str, _Token] = field(default_factory=dict, repr=False)

    def expire(self) -> None:
        """Every token that was given so far is void."""
        self._tokens.clear()

    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        scheme, _, text = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return self._challenge(call, needs)
        token = self._tokens.get(text)
        if token is None or token.expires <= time.monotonic():
            return self._challenge(call, needs, "invalid_token")
        if not token.grants.issuperset(needs):
            return self._challenge(call, needs, "insufficient_scope")
        return None

    def serve(self, call: Call) -> Answer | None:
        if call.path != "/token":
            return None
        # 404 for the OAuth2 form makes clients fall back to GET, as the older token servers do.
        return self._grant(call) if call.method == "GET" else refusal(404, "UNSUPPORTED", "only GET")

    def _challenge(self, call: Call, needs: tuple[str, ...], error: str | None = None) -> Answer:
        fields = {"realm": self.token_realm or f"{call.origin}/token", "service": self.service}
        fields |= {"scope": scopes(needs)} if needs else {}
        fields |= {"error": error} if error else {}
        return _unauthorized("Bearer " + ",".join(f'{name}="{value}"' for name, value in fields.items()))

    def _grant(self, call: Call) -> Answer:
        credentials = _credentials(call)
        if credentials:
            allowed = _known(self.users, credentials)
        else:
            allowed = self.anonymous_pull and "authorization" not in call.headers
        if not allowed:
            return _unauthorized('Basic realm="token"')
        grants = frozenset(one for one in _asked(call) if credentials or one.endswith(":pull"))
        text = secrets.token_urlsafe(24)
        self._tokens[text] = _Token(grants, time.monotonic() + self.expires_in)
        return answer_json(200, {"token": text, "expires_in": self.expires_in})
