"""Requests to one registry: authenticated, throttled, with redirects followed.

Credentials are sent to the registry's own origin (scheme, host and port) and to the token server that it names, nowhere
else: redirects are followed here, and not by aiohttp, without `Authorization` as soon as the origin changes. Headers
of all requests are set in `mirror.registry.client`.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from yarl import URL

from mirror.content.stream import ReadInto
from mirror.errors import InvalidContent, TransferError
from mirror.oci.reference import DOCKER_HUB
from mirror.quota import Quota
from mirror.registry import push_errors
from mirror.registry.auth.authenticator import Authenticator, FindCredentials, Rejection
from mirror.registry.options import RegistryOptions
from mirror.registry.transport.addresses import is_loopback
from mirror.registry.transport.errors import TRANSIENT, iter_body, translate_errors
from mirror.registry.transport.exchange import Response
from mirror.registry.transport.rate_limit import RateLimit, rate_limited, rate_limited_fill
from mirror.registry.transport.request_text import Request
from mirror.registry.transport.responses import response_error, retry_after
from mirror.registry.transport.route import Exchanges, Route
from mirror.registry.transport.throttle import Throttle, report, too_long
from mirror.registry.transport.tls import TlsContexts, speaks_plain_http
from mirror.registry.transport.urls import Origin, location_of

log = logging.getLogger(__name__)
CONNECT_TIMEOUT = 30.0  # seconds
_API_HOSTS = {DOCKER_HUB: "registry-1.docker.io"}
SAME_METHOD = frozenset({307, 308})
_REDIRECTS = SAME_METHOD | {301, 302, 303}
_MAX_REDIRECTS = 10
_TOKEN_CAP = 1024 * 1024  # bytes of a token server's response


@dataclass(frozen=True, slots=True)
class SharedLimits:
    """Limits that all registries of one command share: the number of further connections to blobs, and the rate."""

    connections: asyncio.Semaphore
    rate: RateLimit


@dataclass(frozen=True, slots=True)
class _Message:
    """A request, which may be sent several times: with other credentials, to other URLs."""

    method: str
    url: URL
    headers: Mapping[str, str]
    data: Any = None
    expected: int = 0
    read_timeout: float | None = None

    @property
    def is_repeatable(self) -> bool:
        """False if the body is a stream, which is used up when sent."""
        return isinstance(self.data, bytes | None)

    def follows(self, status: int) -> bool:
        """Return whether a redirect is followed, with the same method and body (RFC 9110, 15.4)."""
        return status in (_REDIRECTS if self.method in ("GET", "HEAD") else SAME_METHOD) and self.is_repeatable


class Registry:
    """One registry over HTTP; `name` is as in image names, `HOST[:PORT]`."""

    def __init__(
        self,
        name: str,
        options: RegistryOptions,
        exchanges: Exchanges,
        find_credentials: FindCredentials,
        limits: SharedLimits,
        contexts: TlsContexts,
        *,
        insecure: bool = False,
    ) -> None:
        self.name, self.options, self.limits = name, options, limits
        self.supports_ranges = True  # until a range request fails
        self.blob_repositories: dict[str, str] = {}  # by digest, a repository from which the blob can be mounted
        self.max_body_size = options.chunk_size or sys.maxsize  # bytes of an upload request, as set or as found out
        self.takes_whole_blobs = options.chunk_size is None  # in one PUT, until one is refused
        self.quota: Quota | None = None  # in the latest response that had one
        self.pulls = 0  # the number of manifests fetched, which pull quotas count
        self._host = _API_HOSTS.get(name, name)
        self._insecure = insecure
        self._find_credentials = find_credentials
        self._throttle = Throttle(name, options.max_wait)
        self._route = Route(name, options, exchanges, contexts, insecure=insecure)
        self._auth: Authenticator | None = None
        self._is_open = False  # the scheme is known
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
        size: int = 0,
        read_timeout: float | None = None,
    ) -> AsyncIterator[Response]:
        """Send a request with authentication, follow redirects, and yield the response.

        Redirects of other methods than GET and HEAD are followed if they keep the method and the body (307, 308), and
        the body is not a stream.

        Args:
            method: the HTTP method.
            path: a path below `/v2/`, or a whole URL from the registry.
            scope: the token scope that the request needs; None: send no credentials.
            expect: the statuses to return; all others are errors.
            headers: additional headers.
            data: bytes, or a `Body`, which can be sent only once.
            size: the size of the response's body in bytes, if it is known: threads receive a large one.
            read_timeout: seconds without data after which the request fails; None: the options' timeout.
        """
        base = self._route.base if self._is_open else None
        if base is None:
            with self._translated(Request(method, f"https://{self._host}", self._host)):
                base = await self._open()
        url = path if isinstance(path, URL) else URL(f"{base}/v2/{path}", encoded=True)
        message = _Message(method, url, headers or {}, data, size, read_timeout)
        request = Request.to(method, url)
        with self._translated(request):
            async with AsyncExitStack() as stack:
                # Limits the time until the response begins. An upload may take as long as it needs.
                silence = read_timeout or self.options.timeout
                timeout = CONNECT_TIMEOUT + 2 * silence if message.is_repeatable else None
                async with self._throttle.slot(), asyncio.timeout(timeout):
                    response = await self._send_authenticated(stack, message, scope)
                    self._observe(response)
                if response.status not in expect:
                    error = await self.error(request, response)
                    raise push_errors.explain_status(error, method, self.name, scope)
                yield response

    @property
    def is_paused(self) -> bool:
        """True if a request would have to wait, because the registry asked to slow down."""
        return self._throttle.is_paused

    async def error(self, request: Request, response: Response) -> TransferError:
        """Return the error for a response with an unexpected status, and log it with its URL."""
        error = await response_error(request, response, self.name)
        if error.retry_after is not None and error.retry_after > self.options.max_wait:
            error = too_long(error, error.retry_after)
        log.info("%s: %s", request, error)
        return error

    def iter_body(self, response: Response) -> AsyncIterator[bytes]:
        """Return the body of a response, rate-limited; it fails below the minimum rate."""
        return rate_limited(iter_body(response), self.limits.rate, self.options.timeout, Request.of(response))

    def fill(self, response: Response) -> ReadInto | None:
        """Return what reads the body of a response in a thread, as `iter_body` does; None if only that can be used."""
        if response.fill is None:
            return None
        limits, options = self.limits, self.options
        about = Request.of(response)
        return rate_limited_fill(response.fill, response.pause, limits.rate, options.timeout, about, options.jobs)

    async def read(self, response: Response, cap: int, what: str) -> bytes:
        """Return the whole body of a small response, of at most `cap` bytes; `what` is the subject of errors."""
        chunks, size = [], 0
        async for chunk in self.iter_body(response):
            chunks.append(chunk)
            size += len(chunk)
            if size > cap:
                raise InvalidContent(f"{what} has more than {cap} bytes.")
        return b"".join(chunks)

    async def _open(self) -> URL:
        """Return the registry's base URL; its scheme is chosen once, when the registry can be reached."""
        before = self._auth
        async with self._opening:
            if not self._is_open and self._auth is before:  # otherwise another request has just tried
                base, self._is_open = await self._choose_base()
                self._auth = Authenticator(base, self._find_credentials, self._fetch_token, self._fetch_challenges)
                self._route.base = base
        return self._route.base or URL()

    async def _choose_base(self) -> tuple[URL, bool]:
        """Return the registry's base URL, and whether that is certain.

        It is http if the settings say so, or if TLS is optional (loopback or insecure) and the server does not use it.
        """
        secure, plain = (URL(f"{scheme}://{self._host}") for scheme in ("https", "http"))
        if {"*", self.name} & self.options.plain_http or self.options.host(self.name).plain_http:
            return plain, True
        if not (self._insecure or is_loopback(secure.host or "")):
            return secure, True
        is_plain = await speaks_plain_http(secure)
        return plain if is_plain else secure, is_plain is not None

    async def _send_authenticated(self, stack: AsyncExitStack, message: _Message, scope: str | None) -> Response:
        """Send a request; answer a challenge, and send it again."""
        if scope is None:
            return await self._follow_redirects(stack, message, None)
        auth = self._auth
        assert auth is not None, "opened before"
        before, authorization = auth.authorization(scope), await auth.authorization_before(scope)
        response = await self._follow_redirects(stack, message, authorization)
        for renewed in (authorization != before, True):
            # The registry's credentials must not answer the challenge of another host, after a redirect.
            if not message.is_repeatable or not self._route.is_registry(response.url):
                break
            challenges = response.headers.getall("WWW-Authenticate", [])
            rejection = Rejection(message.method, response.status, challenges, authorization)
            authorization = await auth.authorization_after(rejection, scope, renewed=renewed)
            if authorization is None:
                break
            response = await self._follow_redirects(stack, message, authorization)
        return response

    async def _follow_redirects(
        self, stack: AsyncExitStack, message: _Message, authorization: str | None, origin: URL | None = None
    ) -> Response:
        """Send a request and follow redirects. Only `origin`, by default the registry's, gets `authorization`."""
        home, url = Origin.of(origin or self._route.base or URL()), message.url
        for _ in range(_MAX_REDIRECTS):
            headers = dict(message.headers)
            if authorization and Origin.of(url) == home:
                headers["Authorization"] = authorization
            response = await stack.enter_async_context(
                self._route.request(
                    message.method,
                    url,
                    headers=headers,
                    data=message.data,
                    expected=message.expected,
                    read_timeout=message.read_timeout,
                )
            )
            self._route.has_answered(url)
            if not message.follows(response.status):
                return response
            url = location_of(response)
        raise TransferError(f"{home.authority}: more than {_MAX_REDIRECTS} redirects.")

    def _translated(self, request: Request) -> AbstractContextManager[None]:
        route = self._route
        return translate_errors(request, route.answered, is_tls_certain=self._is_open, ca_files=route.ca_files)

    def _observe(self, response: Response) -> None:
        """Record what a response says about throttling and the pull quota."""
        pause = retry_after(response.headers.get("Retry-After"))
        if response.status == 429 or (response.status == 503 and pause is not None):
            if self._route.is_registry(response.url):  # not if another host answered, after a redirect
                self._throttle.throttled(pause)
            elif pause is not None:
                report(Origin.of(response.url).authority, pause, self.options.max_wait)
        else:
            self._throttle.succeeded()
        if response.status == 200 and response.method == "GET" and "/manifests/" in response.url.path:
            self.pulls += 1
        quota = Quota.from_headers(response.headers)
        if quota and quota != self.quota:
            log.info("%s: %s.", self.name, quota)
            self.quota = quota

    async def _fetch_challenges(self) -> list[str]:
        """Return the `WWW-Authenticate` headers of `/v2/`: see `FetchChallenges`."""
        message = _Message("GET", URL(f"{self._route.base}/v2/", encoded=True), {})
        request = Request.to(message.method, message.url)
        with self._translated(request):
            async with AsyncExitStack() as stack:
                response = await self._follow_redirects(stack, message, None)
                if response.status in TRANSIENT:
                    self._observe(response)
                    raise await self.error(request, response)
                is_challenge = response.status == 401 and self._route.is_registry(response.url)
                return response.headers.getall("WWW-Authenticate", []) if is_challenge else []

    async def _fetch_token(self, url: URL, authorization: str | None, form: Mapping[str, str] | None = None) -> bytes:
        """Request a token: see `FetchToken`."""
        message = _Message("POST" if form else "GET", url, {}, form)
        request = replace(Request.to(message.method, url), subject="token request")
        with self._translated(request):
            async with AsyncExitStack() as stack:
                response = await self._follow_redirects(stack, message, authorization, origin=url)
                if response.status != 200:
                    scope = (form or url.query).get("scope")
                    error = await self.error(request, response)
                    raise push_errors.explain_status(error, "", self.name, scope)
                try:
                    return await self.read(response, _TOKEN_CAP, f"The token from {url.host}")
                except InvalidContent as error:
                    raise TransferError(str(error)) from None
