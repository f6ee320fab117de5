"""Access to the embedded registry: anonymous, HTTP Basic, or a Bearer token from its own `/token`."""

import base64
import binascii
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

from tests.support.registry.messages import Answer, Call, answer_json, refusal


class Auth(Protocol):
    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        """Return a 401 if a call does not have the rights that it needs (`repository:name:pull` …), else None."""

    async def serve(self, call: Call) -> Answer | None:
        """Answer a call to an endpoint of authentication, such as `/token`; return None for other calls."""


class Open:
    """Every request is allowed."""

    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        return None

    async def serve(self, call: Call) -> Answer | None:
        return None


def _credentials(call: Call) -> tuple[str, str] | None:
    """Return the user and password of an Authorization: Basic header."""
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

    async def serve(self, call: Call) -> Answer | None:
        return None


@dataclass
class Discreet:
    """Keppel, zot and others: a challenge at `/v2/` only. Elsewhere, an anonymous request gets `status`."""

    auth: Auth
    status: int = 404

    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        refused = self.auth.refuse(call, needs)
        if refused is None or call.path == "/v2/" or "authorization" in call.headers:
            return refused
        return refusal(self.status, "DENIED", "not for you")

    async def serve(self, call: Call) -> Answer | None:
        return await self.auth.serve(call)


@dataclass(frozen=True)
class _Token:
    grants: frozenset[str]
    expires: float


def scopes(needs: Iterable[str]) -> str:
    """Join grants as in a challenge: `repository:a:pull`, `repository:a:push` → `repository:a:pull,push`."""
    actions: dict[str, list[str]] = {}
    for need in needs:
        resource, _, action = need.rpartition(":")
        actions.setdefault(resource, []).append(action)
    return " ".join(f"{resource}:{','.join(of)}" for resource, of in actions.items())


def _grants(texts: Iterable[str]) -> frozenset[str]:
    """Split scopes into single grants."""
    split = (text.rpartition(":") for text in texts)
    return frozenset(f"{resource}:{action}" for resource, _, actions in split for action in actions.split(","))


@dataclass(frozen=True)
class Asked:
    """A request that the token server got; `form` is empty for a GET."""

    method: str
    scopes: tuple[str, ...]
    credentials: tuple[str, str] | None
    form: dict[str, str]


@dataclass
class Bearer:
    """Opaque tokens that grant the requested scopes; clients without credentials get pull, with `anonymous_pull`.

    `identity_tokens` are accepted by POST, each for its user; without any, POST gets the status `no_post`. `never` are
    grants that no client gets, though requesting them is not an error. `fields` replace those of the token response;
    None removes one. With `one_scope` only the first scope is granted.
    """

    users: dict[str, str] = field(default_factory=dict)
    anonymous_pull: bool = False
    expires_in: float = 300
    service: str = "embedded"
    token_realm: str | None = None  # the URL of another token server; by default the registry's own /token
    identity_tokens: dict[str, str] = field(default_factory=dict)
    no_post: int = 404
    never: frozenset[str] = frozenset()
    fields: dict[str, object] = field(default_factory=dict)
    one_scope: bool = False
    asked: list[Asked] = field(default_factory=list, repr=False)
    _tokens: dict[str, _Token] = field(default_factory=dict, repr=False)

    def expire(self) -> None:
        """Invalidate all tokens that were issued so far."""
        self._tokens.clear()

    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        scheme, _, text = call.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return self._challenge(call, needs)
        token = self._tokens.get(text)
        if token is None or token.expires <= time.monotonic():
            return self._expired(call, needs)
        if not token.grants.issuperset(needs):
            return self._challenge(call, needs, "insufficient_scope")
        return None

    async def serve(self, call: Call) -> Answer | None:
        if call.path != "/token":
            return None
        body = b"".join([chunk async for chunk in call.body])
        form = dict(parse_qsl(body.decode())) if call.method == "POST" else {}
        scopes = tuple(" ".join([form.get("scope", ""), *call.query.get("scope", ())]).split())
        asked = Asked(call.method, scopes, _credentials(call), form)
        self.asked.append(asked)
        if form and not self.identity_tokens:
            return refusal(self.no_post, "UNSUPPORTED", "only GET")
        return self._grant(call, asked)

    def _expired(self, call: Call, needs: tuple[str, ...]) -> Answer:
        return self._challenge(call, needs, "invalid_token")

    def _challenge(self, call: Call, needs: tuple[str, ...], error: str | None = None) -> Answer:
        fields = {"realm": self.token_realm or f"{call.origin}/token", "service": self.service}
        fields |= {"scope": self._scope(needs)} if needs else {}
        fields |= {"error": error} if error else {}
        return _unauthorized("Bearer " + ",".join(f'{name}="{value}"' for name, value in fields.items()))

    def _scope(self, needs: tuple[str, ...]) -> str:
        return scopes(needs)

    def _grant(self, call: Call, asked: Asked) -> Answer:
        if asked.form:
            allowed = asked.form.get("refresh_token") in self.identity_tokens
        elif asked.credentials:
            _, password = asked.credentials
            allowed = _known(self.users, asked.credentials) or password in self.identity_tokens
        else:
            allowed = self.anonymous_pull and "authorization" not in call.headers
        if not allowed:
            return _unauthorized('Basic realm="token"')
        known = bool(asked.form or asked.credentials)
        grants = _grants(asked.scopes[:1] if self.one_scope else asked.scopes) - self.never
        text = secrets.token_urlsafe(24)
        self._tokens[text] = self._token(frozenset(one for one in grants if known or one.endswith(":pull")))
        answer = {"token": text, "expires_in": self.expires_in, **self.fields}
        answer |= {"access_token": text} if "token" in self.fields else {}
        return answer_json(200, {name: value for name, value in answer.items() if value is not None})

    def _token(self, grants: frozenset[str]) -> _Token:
        return _Token(grants, time.monotonic() + self.expires_in)


class _Everything(frozenset[str]):
    """Grants that include every other grant."""

    def issuperset(self, s: Iterable[object]) -> bool:
        return True


class EcrPublic(Bearer):
    """Amazon ECR Public: the scope `aws` grants everything, an invalid token gets a 400, HEAD of a blob a 401."""

    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        if call.method == "HEAD" and "/blobs/" in call.path:
            return self._challenge(call, needs)
        return super().refuse(call, needs)

    def _expired(self, call: Call, needs: tuple[str, ...]) -> Answer:
        return refusal(400, "DENIED", "Your Authorization Token is invalid.")

    def _scope(self, needs: tuple[str, ...]) -> str:
        return "aws"

    def _token(self, grants: frozenset[str]) -> _Token:
        return _Token(_Everything(), time.monotonic() + self.expires_in)
