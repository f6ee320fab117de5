"""One registry over HTTP: where it is, how to get there, who we are, and what it answers.

Credentials go to the registry's own origin (scheme, host and port) and to the token server that it names, nowhere
else: redirects are followed by hand, without Authorization as soon as the origin changes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from mirror.errors import InvalidContent, TransferError
from mirror.quota import Quota, Usage
from mirror.reference import DOCKER_HUB
from mirror.registry import credentials, errors
from mirror.registry.addresses import location
from mirror.registry.auth import Authenticator, parse_challenges
from mirror.registry.backoff import Backoff
from mirror.registry.pace import Limit, paced
from mirror.registry.proxy import proxy_for
from mirror.registry.segment import Budget
from mirror.registry.tls import speaks_plain_http
from mirror.stream import batch_size

log = logging.getLogger("mirror")
_API_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_TOKEN_CAP = 1024 * 1024  # bytes of a token server's answer
_READ_BUFFER = 1024 * 1024  # bytes that aiohttp reads ahead for one connection, at most
_CONNECT = 30.0  # seconds for a connection to come about


@dataclass(frozen=True, slots=True)
class Options:
    """How to talk to registries.

    `plain_http` and `insecure` (TLS without verification) are the hosts that they apply to; `*` is every host.
    `jobs` is how many blobs move at once; their read buffers share one budget of memory. `connections_per_blob` is how
    many connections fetch one large blob; as many as help where it is None. `timeout` is how many seconds a registry
    may be silent. `limit_rate` is how many bytes per second all bodies together may have; no limit where it is None.
    `chunk_size` is how many bytes of a blob one upload request carries; where it is None, all of them, and fewer where
    that turns out to be too much.
    """

    plain_http: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    jobs: int = 4
    agent: str = "oci-mirror"
    connections_per_blob: int | None = None
    timeout: float = 60.0
    limit_rate: int | None = None
    chunk_size: int | None = None


class Client:
    """All registries of one command, and the connections to them. Use it in `async with`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._registries: dict[str, Registry] = {}
        self._shared = Shared(Budget(), Limit(options.limit_rate))
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # how much happens at once is decided above
            auto_decompress=False,  # digests are of the bytes as they are
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self.options.agent, "Accept-Encoding": "identity"},
            read_bufsize=min(_READ_BUFFER, batch_size(self.options.jobs)),
            requote_redirect_url=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=self.options.timeout),
            trust_env=False,  # it would send ~/.netrc to wherever we are redirected
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session:
            await self._session.close()

    def quotas(self) -> list[Usage]:
        """What has been used of the quotas of the registries that have one."""
        found = self._registries.values()
        return [Usage(registry.name, registry.pulls, registry.quota) for registry in found if registry.quota]

    def registry(self, host: str) -> Registry:
        """The registry with this name, always the same object for the same name."""
        if self._session is None:
            raise RuntimeError("the client is not open")
        if host not in self._registries:
            self._registries[host] = Registry(host, self._session, self.options, self._shared)
        return self._registries[host]


@dataclass(frozen=True, slots=True)
class Shared:
    """What all registries of one command share: the parts of blobs that may be on their way, and the pace of bytes."""

    segments: Budget
    limit: Limit


class Registry:
    """One registry.

    `known` remembers in which repository a blob is known to be, for mounting; `ranges` whether, for all that is known,
    it sends parts of blobs; `quota` what it last said of how much may be pulled; `pulls` how many manifests it has
    sent, which is what such quotas count; `largest` how many bytes an upload's body may have.
    """

    def __init__(self, name: str, session: aiohttp.ClientSession, options: Options, shared: Shared) -> None:
        self.name, self.options, self.shared = name, options, shared
        self.ranges = True
        self.known: dict[str, str] = {}
        self.quota: Quota | None = None
        self.pulls = 0
        self.largest = options.chunk_size or sys.maxsize
        self._backoff = Backoff(name)
        self._session = session
        self._host = _API_HOSTS.get(name, name)
        self._plain = bool({"*", name} & options.plain_http)
        self._insecure, self._insecure_everywhere = name in options.insecure, "*" in options.insecure
        self._base: URL | None = None
        self._auth: Authenticator | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def send(
        self,
        method: str,
        path: str | URL,
        *,
        scope: str,
        expect: frozenset[int] = frozenset({200}),
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        read_ahead: int | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make one request, authenticated and with redirects followed.

        Args:
            method: GET, HEAD, POST or PUT.
            path: a path below `/v2/`, or a whole URL that the registry has given.
            scope: what the request needs, for the token.
            expect: the statuses that are answers; every other one is an error.
            headers: to be sent along.
            data: bytes, or an asynchronous iterator, which can be sent only once.
            read_ahead: bytes of the answer that are read ahead, at most; the client's own number where it is None.

        Raises:
            Unauthorized: credentials are wanted, or others.
            TransferError: the network, or any other status.
        """
        with errors.translated(f"{method} https://{self._host}"):
            base = await self._opened()
        url = path if isinstance(path, URL) else URL(f"{base}/v2/{path}", encoded=True)
        request = f"{method} {errors.shown(url)}"
        with errors.translated(request):
            async with AsyncExitStack() as stack:
                async with self._backoff.turn(), self._patience(data):
                    response = await self._authenticated(
                        stack, method, url, scope, dict(headers or {}), data, read_ahead
                    )
                    self._note(response)
                if response.status not in expect:
                    raise await errors.refusal(request, response)
                yield response

    def paced(self, chunks: AsyncIterator[bytes], response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """The body of an answer, at the pace that is wanted of it and allowed to it.

        Raises:
            TransferError: it comes so slowly that nobody should wait for it.
        """
        return paced(chunks, self.shared.limit, self.options.timeout, errors.request_of(response))

    async def read(self, response: aiohttp.ClientResponse, cap: int, what: str) -> bytes:
        """The whole body of a small answer.

        Raises:
            InvalidContent: it has more than `cap` bytes.
            TransferError: as `paced`, or it was cut.
        """
        found, held = [], 0
        async for chunk in self.paced(errors.chunks(response), response):
            found.append(chunk)
            held += len(chunk)
            if held > cap:
                raise InvalidContent(f"{what}: the answer has more than {cap} bytes.")
        return b"".join(found)

    def _patience(self, data: Any) -> asyncio.Timeout:
        """How long an answer may take to begin, however it is spread; an upload may take as long as it goes on."""
        waits = isinstance(data, bytes | None)
        return asyncio.timeout(_CONNECT + 2 * self.options.timeout if waits else None)

    def _note(self, response: aiohttp.ClientResponse) -> None:
        """What every answer says about this registry, whatever was asked."""
        pause = errors.retry_after(response.headers.get("Retry-After"))
        if response.status == 429 or (response.status == 503 and pause is not None):
            self._backoff.refuse(pause)
        else:
            self._backoff.welcome()
        if response.status == 200 and response.method == "GET" and "/manifests/" in response.url.path:
            self.pulls += 1
        quota = Quota.of(response.headers)
        if quota and quota != self.quota:
            log.info("%s: %s.", self.name, quota)
            self.quota = quota

    async def _authenticated(
        self,
        stack: AsyncExitStack,
        method: str,
        url: URL,
        scope: str,
        headers: dict[str, str],
        data: Any,
        read_ahead: int | None,
    ) -> aiohttp.ClientResponse:
        """Ask, and ask once more with what a 401 asks for. A stream is never sent twice: it is gone."""
        auth = self._auth
        assert auth is not None, "opened before"
        header = auth.header(scope)
        response = await self._follow(stack, method, url, header, headers, data, read_ahead)
        challenge = ", ".join(response.headers.getall("WWW-Authenticate", []))
        if response.status != 401 or not challenge or not isinstance(data, bytes | None):
            return response
        if not self._is_own(response.url):
            return response  # a stranger, to whom the registry has sent us on, asks for what is the registry's alone
        if not await auth.answer(parse_challenges(challenge), scope, header):
            return response
        return await self._follow(stack, method, url, auth.header(scope), headers, data, read_ahead)

    async def _follow(
        self,
        stack: AsyncExitStack,
        method: str,
        url: URL,
        authorization: str | None,
        headers: dict[str, str],
        data: Any,
        read_ahead: int | None,
    ) -> aiohttp.ClientResponse:
        for _ in range(_MOST_REDIRECTS):
            own = {"Authorization": authorization} if authorization and self._is_own(url) else {}
            response = await stack.enter_async_context(
                self._session.request(
                    method,
                    url,
                    headers={**headers, **own},
                    data=data,
                    read_bufsize=read_ahead,
                    allow_redirects=False,
                    ssl=self._verified(url),
                    proxy=proxy_for(url),
                )
            )
            if response.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response
            url = location(response)
        raise TransferError(f"{method} {errors.shown(url)}: more than {_MOST_REDIRECTS} redirects.")

    def _is_own(self, url: URL) -> bool:
        return self._base is not None and url.origin() == self._base.origin()

    def _verified(self, url: URL) -> bool:
        """Whether to verify the certificate. What is said of one registry is not said of where it redirects to."""
        return not (self._insecure_everywhere or (self._insecure and self._is_own(url)))

    async def _opened(self) -> URL:
        async with self._opening:
            if self._base is None:
                scheme = "http" if self._plain or await speaks_plain_http(URL(f"https://{self._host}")) else "https"
                self._base = URL(f"{scheme}://{self._host}")
                self._auth = Authenticator(self._base, credentials.find(self.name), self._fetch_token)
        return self._base

    async def _fetch_token(self, url: URL, authorization: str | None) -> bytes:
        request = f"GET {errors.shown(url)}"
        headers = {"Authorization": authorization} if authorization else {}
        with errors.translated(request):
            async with self._session.get(
                url, headers=headers, allow_redirects=False, ssl=self._verified(url), proxy=proxy_for(url)
            ) as response:
                if response.status != 200:
                    raise await errors.refusal(request, response)
                try:
                    return await self.read(response, _TOKEN_CAP, request)
                except InvalidContent as error:
                    raise TransferError(str(error)) from None
