"""The registries of one command."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import cached_property, partial
from types import TracebackType
from typing import Self

import aiohttp

from mirror.config.registriesconf import RegistriesConf
from mirror.content.stream import batch_size
from mirror.oci.reference import Reference
from mirror.quota import QuotaUsage
from mirror.registry.auth.credential_store import CredentialStore
from mirror.registry.http import CONNECT_TIMEOUT, Registry, SharedLimits
from mirror.registry.options import RegistryOptions
from mirror.registry.transport.errors import MAX_HEADER
from mirror.registry.transport.exchange import SocketFactory
from mirror.registry.transport.loop_exchange import LoopExchange
from mirror.registry.transport.rate_limit import RateLimit
from mirror.registry.transport.route import Exchanges
from mirror.registry.transport.socket_exchange import SocketExchange
from mirror.registry.transport.tls import TlsContexts

_READ_BUFFER = 1024 * 1024  # bytes that aiohttp reads ahead on one connection, at most
_MORE_CONNECTIONS = 10  # of all blobs together, beside one for each blob; each has a buffer


class Client:
    """All registries of one command, and the connections to them; an asynchronous context manager.

    Open repositories with `open_source` and `open_target`, which apply the mirrors and `registries.conf`.
    """

    def __init__(self, options: RegistryOptions) -> None:
        self.options = options
        self.warnings: list[str] = []  # sentences, such as about a mirror that was skipped
        self.target: Reference | None = None  # the repository that is filled: as a mirror, it is not read from
        self._registries: dict[tuple[str, bool, bool], Registry] = {}
        self._limits = SharedLimits(asyncio.Semaphore(_MORE_CONNECTIONS), RateLimit(options.limit_rate))
        self._tls = TlsContexts()
        self._credentials = CredentialStore(
            options.authfile, options.credentials, lambda: self.registries_conf.credential_helpers
        )
        self._stack: AsyncExitStack | None = None

    @cached_property
    def registries_conf(self) -> RegistriesConf:
        """The content of `registries.conf`."""
        return RegistriesConf.load()

    async def __aenter__(self) -> Self:
        self._stack = AsyncExitStack()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stack:
            await self._stack.aclose()

    def quota_usage(self) -> list[QuotaUsage]:
        """Return the use of pull quotas, of the registries that have one."""
        found = self._registries.values()
        return [QuotaUsage(registry.name, registry.pulls, registry.quota) for registry in found if registry.quota]

    def registry(self, host: str, *, insecure: bool = False, explicit: bool = True) -> Registry:
        """Return the registry at a host, the same object for the same arguments; `registries.conf` is not consulted.

        `insecure` allows plain HTTP and any certificate. The wildcard `*` in the options applies only if the user named
        the host (`explicit`); it does not apply to mirrors.
        """
        if self._stack is None:
            raise RuntimeError("the client is not open")
        key = (host, insecure, explicit)
        if key not in self._registries:
            options = self.options if explicit else self.options.without_wildcards()
            find = partial(self._credentials.find, host)
            exchanges = Exchanges(LoopExchange(self._open_session, CONNECT_TIMEOUT), SocketExchange(CONNECT_TIMEOUT))
            self._stack.push_async_callback(exchanges.close)
            self._registries[key] = Registry(host, options, exchanges, find, self._limits, self._tls, insecure=insecure)
        return self._registries[key]

    @property
    def _read_buffer(self) -> int:
        """The bytes to read ahead on one connection; few with a limited rate, so that none is silent for long."""
        jobs, limit = self.options.jobs, self._limits.rate
        return min(_READ_BUFFER, batch_size(jobs), limit.piece(jobs) if self.options.limit_rate else _READ_BUFFER)

    def _open_session(self, sockets: SocketFactory | None) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, socket_factory=sockets),  # concurrency is limited by the callers
            auto_decompress=False,  # digests cover the bytes as transferred
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            read_bufsize=self._read_buffer,
            requote_redirect_url=False,
            trust_env=False,  # True would send credentials from ~/.netrc to redirect targets
        )
