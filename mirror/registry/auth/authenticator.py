"""Authentication to one registry: Basic, and Bearer tokens (distribution, `docs/spec/auth/token.md` and `oauth.md`).

No credentials are sent before the registry asks for them. If there are any, it is asked first, at `/v2/`: some
registries send a challenge only there, and answer anonymous requests with 404, 403 or 429, or with less. From then on,
Basic credentials are kept per repository, and tokens per scope until they expire. A challenge and a token are fetched
only once, even if many requests wait for them, and so is their failure.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from yarl import URL

from mirror.errors import TransferError, Unauthorized
from mirror.registry.auth.challenges import Challenge, parse_challenges
from mirror.registry.auth.tokens import Scopes, Token, bearer, parse_token
from mirror.registry.credentials import Credentials
from mirror.registry.transport.urls import Origin, parse_http_url
from mirror.retry import SharedAttempts
from mirror.text.redaction import excerpt

# Returns the credentials for a repository of the registry; "" is the registry as a whole.
FindCredentials = Callable[[str], Awaitable[Credentials | None]]
# Returns the `WWW-Authenticate` headers of the registry's response at `/v2/`; none if it does not require credentials.
FetchChallenges = Callable[[], Awaitable[Sequence[str]]]

_CLIENT_ID = "oci-mirror"
# Not all token servers support POST: Google answers 404, Docker Hub 405, Artifactory 401 (containerd, authorizer.go).
_NO_POST = frozenset({401, 404, 405})


class FetchToken(Protocol):
    """Request a token from a token server, by POST if there is a form, else by GET; return the response's body."""

    async def __call__(self, url: URL, authorization: str | None, form: Mapping[str, str] | None = None) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Rejection:
    """A response that may require other credentials."""

    method: str
    status: int
    challenges: Sequence[str] = ()  # the `WWW-Authenticate` headers
    authorization: str | None = field(default=None, repr=False)  # the header of the request


class Authenticator:
    """Answers the challenges of one registry, whose URL is `base`."""

    def __init__(
        self,
        base: URL,
        find_credentials: FindCredentials,
        fetch_token: FetchToken,
        fetch_challenges: FetchChallenges,
    ) -> None:
        self._base, self._find_credentials = base, find_credentials
        self._fetch_token, self._fetch_challenges = fetch_token, fetch_challenges
        self._challenges: list[Challenge] | None = None  # of `/v2/`; None until they were fetched
        self._fetching = SharedAttempts()
        self._has_credentials: dict[str, bool] = {}  # by repository
        self._tokens: defaultdict[str, dict[Scopes, Token]] = defaultdict(dict)  # by repository, and by scopes
        self._permanent: dict[str, str] = {}  # headers that do not expire, by repository
        self._no_head: set[str] = set()  # scopes for which HEAD requests are rejected with any token
        self._answering: defaultdict[str, SharedAttempts] = defaultdict(SharedAttempts)  # by scope

    def authorization(self, scope: str) -> str | None:
        """Return the `Authorization` header for a request with `scope`; None if none has been required."""
        if not (self._tokens or self._permanent):
            return None
        scopes = Scopes.parse(scope)
        usable = {  # for the same repository: others may have other credentials
            key: token.header
            for key, token in self._tokens.get(scopes.repository, {}).items()
            if token.is_valid and key >= scopes
        }
        return usable.get(scopes) or next(iter(usable.values()), self._permanent.get(scopes.repository))

    async def authorization_before(self, scope: str) -> str | None:
        """Return the `Authorization` header for the first attempt of a request with `scope`.

        If there are credentials for its repository, the challenge of `/v2/` is fetched first, once, and answered.
        """
        header, repository = self.authorization(scope), Scopes.parse(scope).repository
        if header or self._challenges == []:
            return header
        if repository not in self._has_credentials:
            self._has_credentials[repository] = bool(await self._find_credentials(repository))
        if not self._has_credentials[repository]:
            return None
        challenges = await self._fetching.run(lambda: self._challenges, self._fetch)
        return await self.answer(challenges, scope, None)

    async def _fetch(self) -> list[Challenge]:
        self._challenges = _parsed(await self._fetch_challenges())
        return self._challenges

    async def authorization_after(self, rejection: Rejection, scope: str, *, renewed: bool) -> str | None:
        """Return another header to try after a response; None if that would not help.

        ECR Public answers 400, without a challenge, to an expired token (aws/containers-roadmap#2835), and 401 to every
        HEAD of a blob.
        """
        if rejection.status == 400 and not rejection.challenges and not renewed:
            token = self._issued(rejection.authorization)
            return await self.answer([token.challenge], scope, rejection.authorization) if token else None
        if rejection.status != 401 or (rejection.method == "HEAD" and scope in self._no_head):
            return None
        challenges = _parsed(rejection.challenges)
        authorization = await self.answer(challenges, scope, rejection.authorization, renewed=renewed)
        if authorization is None and rejection.method == "HEAD":
            self._no_head.add(scope)
        return authorization

    async def answer(
        self, challenges: Iterable[Challenge], scope: str, rejected: str | None, *, renewed: bool = False
    ) -> str | None:
        """Return another header than `rejected` to try; None if there is none.

        If `renewed`, the rejected header was fetched for this request: another is fetched only if it lacks a scope, or
        if another token server is named now.
        """

        def known() -> str | None:
            """Return what another request has fetched in the meantime."""
            current = self.authorization(scope)
            return None if current == rejected else current

        async def attempt() -> str | None:
            for challenge in challenges:
                header = await self._answer(challenge, Scopes.parse(scope), rejected, renewed)
                if header not in (None, rejected):
                    return header
            return None

        return await self._answering[scope].run(known, attempt)

    async def _answer(self, challenge: Challenge, scopes: Scopes, rejected: str | None, renewed: bool) -> str | None:
        if challenge.scheme == "bearer" and "realm" in challenge.parameters:
            return await self._bearer(challenge, scopes, rejected, renewed)
        if challenge.scheme != "basic" or renewed:
            return None
        found = await self._find_credentials(scopes.repository)
        if found and (found.password or not (found.identity_token or found.registry_token)):
            self._permanent[scopes.repository] = found.basic
        return self._permanent.get(scopes.repository)

    async def _bearer(self, challenge: Challenge, scopes: Scopes, rejected: str | None, renewed: bool) -> str | None:
        # Some servers honour only the first scope, so the missing one comes first.
        wanted = Scopes.parse(challenge.parameters.get("scope", "")) | scopes
        old = self._issued(rejected)
        if renewed and old:
            wanted |= old.requested
        if renewed and (old is None or (old.requested == wanted and _is_alike(old.challenge, challenge))):
            return None
        found = await self._find_credentials(scopes.repository)
        if found and found.registry_token:
            header = bearer(found.registry_token, f"The registrytoken in {found.source}")
            self._permanent[scopes.repository] = header
            return header
        token = await self._request_token(challenge, wanted, found)
        for tokens in self._tokens.values() if old else ():
            for key in [key for key, kept in tokens.items() if kept is old]:
                del tokens[key]
        self._tokens[scopes.repository][scopes] = token
        return token.header

    async def _request_token(self, challenge: Challenge, wanted: Scopes, found: Credentials | None) -> Token:
        text = challenge.parameters["realm"]
        realm = parse_http_url(text, encoded=False)
        # The token server must be as secure as the registry, since it gets the credentials.
        if realm is None or (self._base.scheme == "https" and realm.scheme == "http"):
            fault = "not encrypted" if realm else "not an http(s) URL"
            raise TransferError(f"{self._base.host} requires a token from {excerpt(text, 200)!r}, which is {fault}.")
        service = {name: text for name, text in challenge.parameters.items() if name == "service"}
        try:
            body = await self._request_token_body(realm, service, wanted, found)
        except Unauthorized as error:
            if found is None:
                raise
            source = f" from {found.source}" if found.source else ""
            hint = f"The token server rejected the credentials for {Origin.of(self._base).authority}{source}."
            raise Unauthorized(str(error), hint=hint, status=error.status) from None
        return parse_token(body, f"The token from {realm.host}", wanted, challenge)

    async def _request_token_body(
        self, realm: URL, service: dict[str, str], wanted: Scopes, found: Credentials | None
    ) -> bytes:
        if found and found.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": found.identity_token, "client_id": _CLIENT_ID}
            try:
                return await self._fetch_token(realm, None, {**form, **service, "scope": str(wanted)})
            except TransferError as error:
                if error.status not in _NO_POST:
                    raise
        url = realm.extend_query([*service.items(), *(("scope", scope) for scope in wanted)])
        return await self._fetch_token(url, found.basic if found else None)

    def _issued(self, header: str | None) -> Token | None:
        if header is None:
            return None
        issued = (token for tokens in self._tokens.values() for token in tokens.values())
        return next((token for token in issued if token.header == header), None)


def _parsed(headers: Iterable[str]) -> list[Challenge]:
    return [challenge for header in headers for challenge in parse_challenges(header)]


def _is_alike(one: Challenge, other: Challenge) -> bool:
    """Return whether two challenges ask for tokens of the same server, for the same service."""
    return all(one.parameters.get(name) == other.parameters.get(name) for name in ("realm", "service"))
