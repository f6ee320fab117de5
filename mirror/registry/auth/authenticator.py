"""Authentication against one registry: Basic, and the token flow (distribution, `docs/spec/auth/token.md`, `oauth.md`).

Nothing is sent before the registry asks. Once it has asked, the answer is kept: Basic for each repository, a token for
each scope until it expires, fetched once however many requests wait for it.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from yarl import URL

from mirror.errors import TransferError, Unauthorized
from mirror.registry.auth.challenges import Challenge, parse_challenges
from mirror.registry.auth.tokens import Scopes, Token, bearer, parse_token
from mirror.registry.credentials import Credentials
from mirror.registry.transport.urls import web_address

# The credentials for a repository of the registry; "" is the registry as a whole
Find = Callable[[str], Awaitable[Credentials | None]]

_CLIENT = "oci-mirror"  # who asks, in the OAuth2 flow
# POST is not known everywhere: Google answered 404, Docker Hub 405, Artifactory 401 (containerd, docker/authorizer.go).
_NO_POST = frozenset({401, 404, 405})


class Fetch(Protocol):
    """Asks a token server: by POST where there is a form, else by GET. Gives the body of its answer."""

    async def __call__(self, url: URL, authorization: str | None, form: Mapping[str, str] | None = None) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a registry answered to a request with the Authorization `header`; `asks` are its `WWW-Authenticate`."""

    method: str
    status: int
    asks: Sequence[str] = ()
    header: str | None = field(default=None, repr=False)


class Authenticator:
    """Answers the challenges of one registry."""

    def __init__(self, base: URL, find: Find, fetch: Fetch) -> None:
        self._base, self._find, self._fetch = base, find, fetch
        self._tokens: dict[Scopes, Token] = {}  # by what was wanted of them
        self._fixed: dict[str, str] = {}  # by repository: headers that do not expire
        self._deaf: set[str] = set()  # scopes whose HEAD is refused with any token
        self._failed: dict[str, TransferError] = {}  # by scope: how the last attempt to get a token ended
        self._busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def header(self, scope: str) -> str | None:
        """The Authorization header for a request with `scope`, if the registry has asked for one before."""
        token = self._token(Scopes.parse(scope))
        return token.header if token else self._fixed.get(Scopes.parse(scope).repository)

    async def after(self, refusal: Refusal, scope: str, *, again: bool) -> str | None:
        """Another header, where an answer is a reason to try one; `again` as in `answer`.

        ECR Public answers 400, without a challenge, to a token that has expired (aws/containers-roadmap#2835). It
        answers 401 to every HEAD of a blob, and no number of tokens helps against that.

        Raises:
            MirrorError: as `answer`.
        """
        if refusal.status == 400 and not refusal.asks and not again:
            return await self.renew(scope, refusal.header)
        if refusal.status != 401 or (refusal.method == "HEAD" and scope in self._deaf):
            return None
        challenges = [challenge for text in refusal.asks for challenge in parse_challenges(text)]
        header = await self.answer(challenges, scope, refusal.header, again=again)
        if header is None and refusal.method == "HEAD":
            self._deaf.add(scope)
        return header

    async def answer(
        self, challenges: Iterable[Challenge], scope: str, refused: str | None, *, again: bool = False
    ) -> str | None:
        """Get what the registry asks for.

        Args:
            challenges: what it offers.
            scope: what the request needs, such as `repository:library/redis:pull`.
            refused: the header that the request had, None where it had none.
            again: the refused header has just been got for this request; only a scope that it lacks is a reason to
                get another one.

        Returns:
            Another header to try, None where there is none.

        Raises:
            Unauthorized: the token server does not take the credentials.
            TransferError: it could not be reached, or answered nonsense.
            ConfigError: the credentials cannot be read.
        """
        before = self._failed.get(scope)
        async with self._busy[scope]:
            header, failed = self.header(scope), self._failed.get(scope)
            if header not in (None, refused):  # somebody else has got it meanwhile
                return header
            if failed is not None and failed is not before:
                raise failed  # … or has just tried: a server in trouble is not asked fifty times
            try:
                return await self._first(challenges, Scopes.parse(scope), refused, again)
            except TransferError as error:
                self._failed[scope] = error
                raise

    async def renew(self, scope: str, refused: str | None) -> str | None:
        """Another token in place of `refused`, asked for as that one was; None where it was no token.

        Raises:
            TransferError: as `answer`.
        """
        token = self._issued(refused)
        return await self.answer([token.challenge], scope, refused) if token else None

    async def _first(
        self, challenges: Iterable[Challenge], scopes: Scopes, refused: str | None, again: bool
    ) -> str | None:
        """The first other header that one of the challenges leads to."""
        for challenge in challenges:
            header = await self._answer(challenge, scopes, refused, again)
            if header not in (None, refused):
                return header
        return None

    async def _answer(self, challenge: Challenge, scopes: Scopes, refused: str | None, again: bool) -> str | None:
        if challenge.scheme == "bearer" and "realm" in challenge.parameters:
            return await self._bearer(challenge, scopes, refused, again)
        if challenge.scheme != "basic" or again:
            return None
        found = await self._find(scopes.repository)
        if found and (found.password or not (found.identity_token or found.registry_token)):
            self._fixed[scopes.repository] = found.basic
        return self._fixed.get(scopes.repository)

    async def _bearer(self, challenge: Challenge, scopes: Scopes, refused: str | None, again: bool) -> str | None:
        # Some servers honour one scope only, so the one that was found missing comes first.
        wanted = Scopes.parse(challenge.parameters.get("scope", "")) | scopes
        old = self._issued(refused)
        if again and old:
            wanted |= old.asked
        if again and (old is None or old.asked == wanted):
            return None
        found = await self._find(scopes.repository)
        if found and found.registry_token:
            header = bearer(found.registry_token, f"The registrytoken in {found.source}")
            self._fixed[scopes.repository] = header
            return header
        token = await self._fetch_token(challenge, wanted, found)
        self._tokens = {key: kept for key, kept in self._tokens.items() if kept is not old}
        self._tokens[scopes] = token
        return token.header

    async def _fetch_token(self, challenge: Challenge, wanted: Scopes, found: Credentials | None) -> Token:
        realm = self._realm(challenge.parameters["realm"])
        service = {name: text for name, text in challenge.parameters.items() if name == "service"}
        try:
            body = await self._ask(realm, service, wanted, found)
        except Unauthorized as error:
            if found is None:
                raise
            where = f" from {found.source}" if found.source else ""
            hint = f"The credentials for {self._base.authority}{where} are not accepted there."
            raise Unauthorized(str(error), hint=hint, status=error.status) from None
        return parse_token(body, f"The token from {realm.host}", wanted, challenge)

    async def _ask(self, realm: URL, service: dict[str, str], wanted: Scopes, found: Credentials | None) -> bytes:
        if found and found.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": found.identity_token, "client_id": _CLIENT}
            try:
                return await self._fetch(realm, None, {**form, **service, "scope": str(wanted)})
            except TransferError as error:
                if error.status not in _NO_POST:
                    raise
        url = realm.extend_query([*service.items(), *(("scope", scope) for scope in wanted)])
        return await self._fetch(url, found.basic if found else None)

    def _realm(self, text: str) -> URL:
        """Where tokens come from; credentials go there, so it must be no weaker than the registry itself."""
        realm = web_address(text, encoded=False)
        if realm is None:
            raise TransferError(f"{self._base.host} wants tokens from {text[:200]!r}, which is no web address.")
        if self._base.scheme == "https" and realm.scheme == "http":
            raise TransferError(f"{self._base.host} wants tokens from {text[:200]!r}, which is not encrypted.")
        return realm

    def _issued(self, header: str | None) -> Token | None:
        return next((token for token in self._tokens.values() if token.header == header), None)

    def _token(self, scopes: Scopes) -> Token | None:
        """A token that was asked for with all of `scopes`, for this repository: others may have other credentials."""
        same = [
            (key, token) for key, token in self._tokens.items() if token.lives and key.repository == scopes.repository
        ]
        exact = [token for key, token in same if key == scopes]
        return next((token for token in (*exact, *(token for key, token in same if key >= scopes))), None)
