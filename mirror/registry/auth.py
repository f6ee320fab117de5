"""Authentication against one registry: Basic, and the token flow (distribution, `docs/spec/auth/token.md`).

Nothing is sent before the registry asks. Once it has asked, the answer is kept: Basic for the whole registry, a token
for each scope until it expires, fetched once however many requests wait for it.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from yarl import URL

from mirror.errors import ContentError, TransferError
from mirror.registry.credentials import Credentials
from mirror.strictjson import load_object

_SEPARATORS = re.compile(r"[\s,]*")  # lists may have empty elements (RFC 9110, 5.6.1)
_PARAMETER = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s",]+))')
_SCHEME = re.compile(
    r"([A-Za-z][A-Za-z0-9_-]*)(?=[\s,]|$)(?:\s+[A-Za-z0-9._~+/-]+=*(?=\s*(?:,|$)))?"
)  # and its token68
_SHORTEST = 60.0  # seconds that a token lives at least; what the specification tells clients to assume
_LONGEST = 24 * 3600  # seconds that a token is believed to live at most
_MARGIN = 10.0  # seconds before its end at which a token is renewed

# Fetches a token: (URL with query, Authorization header or None) -> body
Fetch = Callable[[URL, str | None], Awaitable[bytes]]


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate that a 401 offers."""

    scheme: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Token:
    header: str
    expires: float


def parse_challenges(header: str) -> list[Challenge]:
    """The challenges in a `WWW-Authenticate` header (RFC 9110, 11.6.1); what cannot be understood ends the list."""
    found: list[Challenge] = []
    position = _skip(header, 0)
    while position < len(header):
        if found and (parameter := _PARAMETER.match(header, position)):
            name, quoted, bare = parameter.groups()
            found[-1].parameters[name.lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            position = _skip(header, parameter.end())
        elif scheme := _SCHEME.match(header, position):
            found.append(Challenge(scheme[1].lower(), {}))
            position = _skip(header, scheme.end())
        else:
            break
    return found


def _skip(header: str, position: int) -> int:
    separators = _SEPARATORS.match(header, position)
    return separators.end() if separators else position


class Authenticator:
    """Answers the challenges of one registry."""

    def __init__(self, base: URL, credentials: Credentials | None, fetch: Fetch) -> None:
        self._base, self._credentials, self._fetch = base, credentials, fetch
        self._basic: str | None = None
        self._tokens: dict[str, _Token] = {}
        self._busy = asyncio.Lock()

    def header(self, scope: str) -> str | None:
        """The Authorization header for a request with `scope`, if the registry has asked for one before."""
        token = self._tokens.get(scope)
        if token and token.expires > time.monotonic():
            return token.header
        return self._basic

    async def answer(self, challenges: list[Challenge], scope: str, refused: str | None) -> bool:
        """Get what the registry asks for.

        Args:
            challenges: what it offers.
            scope: what the request needs, such as `repository:library/redis:pull`.
            refused: the header that the request had, None where it had none.

        Returns:
            Whether there is now another header to try.

        Raises:
            TransferError: the token server could not be reached, or answered nonsense.
        """
        async with self._busy:
            if self.header(scope) not in (None, refused):  # somebody else has got it meanwhile
                return True
            for challenge in challenges:
                if challenge.scheme == "bearer" and "realm" in challenge.parameters:
                    self._tokens[scope] = await self._token(challenge, scope)
                    return self.header(scope) != refused
                if challenge.scheme == "basic" and self._credentials:
                    self._basic = self._credentials.basic
                    return self._basic != refused
        return False

    async def _token(self, challenge: Challenge, scope: str) -> _Token:
        realm = self._realm(challenge.parameters["realm"])
        query = [("service", challenge.parameters["service"])] if "service" in challenge.parameters else []
        # Some servers honour one scope only, so the one that was found missing comes first.
        scopes = dict.fromkeys(filter(None, (challenge.parameters.get("scope"), *scope.split(" "))))
        url = realm.extend_query([*query, *(("scope", one) for one in scopes)])
        body = await self._fetch(url, self._credentials.basic if self._credentials else None)
        return _parse_token(body, f"the token from {realm.host}")

    def _realm(self, text: str) -> URL:
        """Where tokens come from; credentials go there, so it must be no weaker than the registry itself."""
        try:
            realm = URL(text).with_user(None)
            realm = realm if realm.port else URL()
        except ValueError:
            realm = URL()
        if realm.scheme not in ("http", "https") or not realm.host:
            raise TransferError(f"{self._base.host} wants tokens from {text[:200]!r}, which is no web address.")
        if self._base.scheme == "https" and realm.scheme == "http":
            raise TransferError(f"{self._base.host} wants tokens from {text[:200]!r}, which is not encrypted.")
        return realm


def _parse_token(body: bytes, what: str) -> _Token:
    try:
        answer = load_object(body, what)
    except ContentError as error:
        raise TransferError(str(error)) from None
    token = answer.get("token") or answer.get("access_token")
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise TransferError(f"{what} is missing from the answer.")
    lifetime = answer.get("expires_in")
    seconds = min(lifetime, _LONGEST) if isinstance(lifetime, int | float) else 0
    return _Token(f"Bearer {token}", time.monotonic() + max(seconds, _SHORTEST) - _MARGIN)
