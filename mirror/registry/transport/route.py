"""Connections on behalf of one registry: proxy, TLS, and address rules."""

from __future__ import annotations

import ssl
from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yarl import URL

from mirror.config.hosts import HostSettings
from mirror.errors import ConfigError
from mirror.registry.options import RegistryOptions
from mirror.registry.transport.addresses import AddressPolicy, parse_address
from mirror.registry.transport.errors import Endpoint
from mirror.registry.transport.exchange import Body, Call, Exchange, Response, SocketFactory
from mirror.registry.transport.proxy import proxy_for, proxy_headers
from mirror.registry.transport.socket_exchange import SocketExchange
from mirror.registry.transport.tls import TlsConfig, TlsContexts, tls_config
from mirror.registry.transport.urls import Origin

SMALLEST = 1024 * 1024  # bytes of a body that threads move; a smaller one costs less time in the event loop
_FEW_JOBS = 16  # with more, threads move smaller bodies too: over TLS, they need a quarter of the event loop's memory


@dataclass(frozen=True, slots=True)
class Exchanges:
    """The two ways to carry out requests to one registry, each with connections of its own."""

    loop: Exchange
    threads: Exchange

    async def close(self) -> None:
        """Close all connections."""
        await self.threads.close()  # first: it does not wait, so a cancellation does not leave its connections open
        await self.loop.close()


class Route:
    """Connections to one registry, and to the hosts that it redirects to.

    `base` is the registry's own URL, set once its scheme is known. The registry and the other hosts have separate
    connection pools, which no other registry shares: an address allowed for one registry may be forbidden for another.
    """

    def __init__(
        self,
        registry: str,
        options: RegistryOptions,
        exchanges: Exchanges,
        contexts: TlsContexts,
        *,
        insecure: bool,
    ) -> None:
        self.base: URL | None = None
        self._registry, self._options, self._exchanges = registry, options, exchanges
        self._insecure = insecure
        self._addresses = AddressPolicy(registry, options.host(registry).trusted_networks)
        self._default_tls = tls_config("", HostSettings(), is_registry=False, verify=True, ca_file=options.ca_file)
        self._tls_configs: dict[Origin, TlsConfig] = {}
        self.answered: set[Endpoint] = set()  # hosts that have sent a response, and proxies that have passed one on
        self._contexts = contexts

    def is_registry(self, url: URL) -> bool:
        """Return whether a URL has the registry's own origin: scheme, host and port."""
        return self.base is not None and Origin.of(url) == Origin.of(self.base)

    def request(
        self,
        method: str,
        url: URL,
        *,
        headers: dict[str, str],
        data: Any = None,
        expected: int = 0,
        read_timeout: float | None = None,
    ) -> AbstractAsyncContextManager[Response]:
        """Send one request, without following redirects, if the address rules allow it.

        `expected` is the size of the response's body in bytes, as far as it is known. `read_timeout` is the time
        without data after which it fails, in seconds; None: the options' timeout.
        """
        proxy = proxy_for(url)
        for_proxy = proxy_headers(proxy)
        constant = {"User-Agent": self._options.user_agent, "Accept-Encoding": "identity", "Accept": "*/*"}
        call = Call(
            method,
            url,
            headers={**constant, **headers, **({} if url.scheme == "https" else for_proxy)},  # only TLS gets a tunnel
            data=data,
            tls=self._tls(url, proxy),
            proxy=proxy.with_user(None) if proxy else None,
            proxy_headers=for_proxy,
            sockets=self._sockets(url, proxy),
            read_timeout=read_timeout or self._options.timeout,
        )
        size = max(expected, data.size if isinstance(data, Body) else 0)
        smallest = SMALLEST if self._options.jobs <= _FEW_JOBS else SMALLEST // 4
        exchange = self._exchanges.threads if size >= smallest and SocketExchange.takes(call) else self._exchanges.loop
        return exchange.open(call)

    def has_answered(self, url: URL) -> None:
        """Record that there was a response from a URL: from now on, a failure to connect to its host is transient."""
        endpoint = proxy_for(url) or url
        self.answered.add((endpoint.raw_host, endpoint.port))

    def _sockets(self, url: URL, proxy: URL | None) -> SocketFactory | None:
        """Return what creates the sockets for a URL, by the address rules; None to connect to a proxy."""
        is_registry = self.is_registry(url)
        if proxy is None:
            return self._addresses.registry_socket if is_registry else self._addresses.redirect_socket
        # The user chose the proxy, which may be anywhere. It resolves names, so only literal IP addresses are checked.
        if address := parse_address(url.host or ""):
            if is_registry:
                self._addresses.registry_is_at(address)
            else:
                self._addresses.check_redirect(address)
        return None

    def _tls(self, url: URL, proxy: URL | None) -> ssl.SSLContext | None:
        """Return the context for TLS, to the host or to its proxy; None if neither uses it."""
        is_https_proxy = proxy is not None and proxy.scheme == "https"
        if url.scheme == "http":
            return self._contexts.get(self._default_tls) if is_https_proxy else None
        origin = Origin.of(url)
        if origin not in self._tls_configs:
            self._tls_configs[origin] = self._tls_config(url)
        config = self._tls_configs[origin]
        if proxy and is_https_proxy and config != self._default_tls:  # aiohttp uses one context for both
            raise ConfigError(
                f"The TLS settings of {origin.authority} would also apply to the proxy {proxy.host}.",
                hint="Use an http:// URL for the proxy, or exempt the registry with NO_PROXY.",
            )
        return self._contexts.get(config)

    def ca_files(self, origin: Origin) -> Collection[Path]:
        """Return the files with CAs that are trusted for a host, or for a proxy, in addition to those of the system."""
        return self._tls_configs.get(origin, self._default_tls).ca_files

    def _tls_config(self, url: URL) -> TlsConfig:
        is_registry = self.is_registry(url)
        host = self._registry if is_registry else Origin.of(url).authority
        settings = self._options.host(host)
        # --insecure covers the registry's host, on any port, but not the hosts that it redirects to.
        flag = self._insecure or "*" in self._options.insecure
        by_flag = flag and self.base is not None and url.host == self.base.host
        verify = not (settings.insecure or host in self._options.insecure or by_flag)
        return tls_config(host, settings, is_registry=is_registry, verify=verify, ca_file=self._options.ca_file)
