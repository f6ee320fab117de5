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
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Self

import aiohttp
from yarl import URL

from mirror.config.hosts import DEFAULTS
from mirror.config.registriesconf import RegistriesConf
from mirror.content.stream import batch_size
from mirror.errors import InvalidContent, TransferError
from mirror.oci.reference import DOCKER_HUB
from mirror.ratelimit import Quota, Usage
from mirror.registry import refusals
from mirror.registry.auth.authenticator import Authenticator, Find, Refusal
from mirror.registry.auth.credential_store import CredentialStore
from mirror.registry.options import RegistryOptions
from mirror.registry.transport import errors
from mirror.registry.transport.addresses import is_loopback, location
from mirror.registry.transport.budget import SegmentBudget
from mirror.registry.transport.rate_limit import RateLimit, paced
from mirror.registry.transport.route import Connect, Route, SocketFactory
from mirror.registry.transport.throttle import Throttle
from mirror.registry.transport.tls import speaks_plain_http

log = logging.getLogger("mirror")
_API_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MOST_REDIRECTS = 10
_TOKEN_CAP = 1024 * 1024  # bytes of a token server's answer
_READ_BUFFER = 1024 * 1024  # bytes that aiohttp reads ahead for one connection, at most
_CONNECT = 30.0  # seconds for a connection to come about


class Client:
    """All registries of one command, and the connections to them. Use it in `async with`.

    `notes` are what a person should know of how it went, as sentences.
    """

    def __init__(self, options: RegistryOptions) -> None:
        self.options = options
        self.notes: list[str] = []
        self._registries: dict[tuple[str, bool, bool], Registry] = {}
        self._shared = Shared(SegmentBudget(), RateLimit(options.limit_rate))
        self._keyring = CredentialStore(options.authfile, options.credentials)
        self._sessions: AsyncExitStack | None = None

    @cached_property
    def rules(self) -> RegistriesConf:
        """What `registries.conf` says.

        Raises:
            ConfigError: it cannot be used.
        """
        return RegistriesConf.load()

    async def __aenter__(self) -> Self:
        self._sessions = AsyncExitStack()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sessions:
            await self._sessions.aclose()

    def quotas(self) -> list[Usage]:
        """What has been used of the quotas of the registries that have one."""
        found = self._registries.values()
        return [Usage(registry.name, registry.pulls, registry.quota) for registry in found if registry.quota]

    def registry(self, host: str, *, lenient: bool = False, named: bool = True) -> Registry:
        """The registry with this name, always the same object for the same name.

        A `lenient` one may do without TLS, or have any certificate. Flags are about those that are `named` by the
        person, and not about their mirrors.
        """
        if self._sessions is None:
            raise RuntimeError("the client is not open")
        key = (host, lenient, named)
        if key not in self._registries:
            options = self.options if named else self.options.for_mirrors()
            find = partial(self._keyring.find, host)
            self._registries[key] = Registry(host, self._connect, options, self._shared, find, lenient=lenient)
        return self._registries[key]

    def _connect(self, sockets: SocketFactory | None) -> aiohttp.ClientSession:
        assert self._sessions is not None, "open"
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=sockets),  # how much at once is decided above
            auto_decompress=False,  # digests are of the bytes as they are
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": self.options.agent, "Accept-Encoding": "identity"},
            read_bufsize=min(_READ_BUFFER, batch_size(self.options.jobs)),
            requote_redirect_url=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT, sock_read=self.options.timeout),
            trust_env=False,  # it would send ~/.netrc to wherever we are redirected
        )
        self._sessions.push_async_callback(session.close)
        return session


@dataclass(frozen=True, slots=True)
class Shared:
    """What all registries of one command share: the parts of blobs that may be on their way, and the pace of bytes."""

    segments: SegmentBudget
    limit: RateLimit


class Registry:
    """One registry.

    `known` remembers in which repository a blob is known to be, for mounting; `ranges` whether, for all that is known,
    it sends parts of blobs; `quota` what it last said of how much may be pulled; `pulls` how many manifests it has
    sent, which is what such quotas count; `largest` how many bytes an upload's body may have.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        options: RegistryOptions,
        shared: Shared,
        find: Find,
        *,
        lenient: bool = False,
    ) -> None:
        self.name, self.options, self.shared = name, options, shared
        self.ranges = True
        self.known: dict[str, str] = {}
        self.quota: Quota | None = None
        self.pulls = 0
        self.largest = options.chunk_size or sys.maxsize
        self._backoff = Throttle(name)
        self._find = find
        self._host = _API_HOSTS.get(name, name)
        self._plain = bool({"*", name} & options.plain_http) or options.hosts.get(name, DEFAULTS).plain_http
        self._lenient = lenient
        self._way = Route(name, options, connect, lenient=lenient)
        self._auth: Authenticator | None = None
        self._opening = asyncio.Lock()

    @asynccontextmanager
    async def send(
        self,
        method: str,
        path: str | URL,
        *,
        scope: str | None,
        expect: frozenset[int] = frozenset({200}),
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        read_ahead: int | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make one request, authenticated and with redirects followed.

        Args:
            method: GET, HEAD, POST or PUT.
            path: a path below `/v2/`, or a whole URL that the registry has given.
            scope: what the request needs, for the token; None where nobody is to learn who we are.
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
                async with self._backoff.slot(), self._patience(data):
                    response = await self._authenticated(
                        stack, method, url, scope, dict(headers or {}), data, read_ahead
                    )
                    self._note(response)
                if response.status not in expect:
                    raise refusals.of_push(await errors.refusal(request, response), method, self.name, scope)
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
            if self._way.is_own(response.url):  # whoever we were sent on to speaks for itself
                self._backoff.refuse(pause)
        else:
            self._backoff.succeeded()
        if response.status == 200 and response.method == "GET" and "/manifests/" in response.url.path:
            self.pulls += 1
        quota = Quota.from_headers(response.headers)
        if quota and quota != self.quota:
            log.info("%s: %s.", self.name, quota)
            self.quota = quota

    async def _authenticated(
        self,
        stack: AsyncExitStack,
        method: str,
        url: URL,
        scope: str | None,
        headers: dict[str, str],
        data: Any,
        read_ahead: int | None,
    ) -> aiohttp.ClientResponse:
        """Ask, and ask again with what a refusal asks for. A stream is never sent twice: it is gone."""
        if scope is None:
            return await self._follow(stack, method, url, None, headers, data, read_ahead)
        auth = self._auth
        assert auth is not None, "opened before"
        header = auth.header(scope)
        response = await self._follow(stack, method, url, header, headers, data, read_ahead)
        for again in (False, True):
            # A stranger, to whom the registry has sent us on, asks for what is the registry's alone.
            if not isinstance(data, bytes | None) or not self._way.is_own(response.url):
                break
            asks = response.headers.getall("WWW-Authenticate", [])
            header = await auth.after(Refusal(method, response.status, asks, header), scope, again=again)
            if header is None:
                break
            response = await self._follow(stack, method, url, header, headers, data, read_ahead)
        return response

    async def _follow(
        self,
        stack: AsyncExitStack,
        method: str,
        url: URL,
        authorization: str | None,
        headers: dict[str, str],
        data: Any,
        read_ahead: int | None,
        home: URL | None = None,
    ) -> aiohttp.ClientResponse:
        """Ask, and follow redirects; `authorization` is for the origin of `home`, by default the registry's own."""
        origin = (home or self._way.base or URL()).origin()
        for _ in range(_MOST_REDIRECTS):
            own = {"Authorization": authorization} if authorization and url.origin() == origin else {}
            response = await stack.enter_async_context(
                self._way.request(method, url, headers={**headers, **own}, data=data, read_ahead=read_ahead)
            )
            if response.status not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response
            url = location(response)
        raise TransferError(f"{method} {errors.shown(url)}: more than {_MOST_REDIRECTS} redirects.")

    async def _opened(self) -> URL:
        async with self._opening:
            if self._way.base is None:
                scheme = "http" if self._plain or await self._does_without_tls() else "https"
                base = URL(f"{scheme}://{self._host}")
                self._auth = Authenticator(base, self._find, self._fetch_token)
                self._way.base = base
        return self._way.base

    async def _does_without_tls(self) -> bool:
        """Registries on loopback may do without TLS, and those that `registries.conf` calls insecure."""
        url = URL(f"https://{self._host}")
        return (self._lenient or is_loopback(url.host or "")) and await speaks_plain_http(url)

    async def _fetch_token(self, url: URL, authorization: str | None, form: Mapping[str, str] | None = None) -> bytes:
        method = "POST" if form else "GET"
        request = f"{method} {errors.shown(url)}"
        with errors.translated(request):
            async with AsyncExitStack() as stack:
                response = await self._follow(stack, method, url, authorization, {}, form, None, home=url)
                if response.status != 200:
                    scope = (form or url.query).get("scope")
                    raise refusals.of_push(await errors.refusal(request, response), "", self.name, scope)
                try:
                    return await self.read(response, _TOKEN_CAP, request)
                except InvalidContent as error:
                    raise TransferError(str(error)) from None
