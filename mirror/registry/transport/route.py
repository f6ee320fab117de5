"""Connections on behalf of one registry: proxy, TLS, and address rules."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import aiohttp
from yarl import URL

from mirror.config.hosts import HostSettings
from mirror.errors import ConfigError
from mirror.registry.options import RegistryOptions
from mirror.registry.transport.addresses import AddressInfo, AddressPolicy, parse_address
from mirror.registry.transport.errors import Endpoint
from mirror.registry.transport.proxy import proxy_for, proxy_headers
from mirror.registry.transport.tls import TlsConfig, TlsContexts, tls_config
from mirror.registry.transport.urls import Origin

SocketFactory = Callable[[AddressInfo], Any]
OpenSession = Callable[[SocketFactory | None], aiohttp.ClientSession]  # a session with sockets from that factory


class Route:
    """Connections to one registry, and to the hosts that it redirects to.

    `base` is the registry's own URL, set once its scheme is known. The registry and the other hosts have separate
    connection pools, which no other registry shares: an address allowed for one registry may be forbidden for another.
    """

    def __init__(
        self,
        registry: str,
        options: RegistryOptions,
        open_session: OpenSession,
        contexts: TlsContexts,
        *,
        insecure: bool,
    ) -> None:
        self.base: URL | None = None
        self._registry, self._options, self._open_session = registry, options, open_session
        self._insecure = insecure
        self._addresses = AddressPolicy(registry, options.host(registry).trusted_networks)
        self._default_tls = tls_config("", HostSettings(), is_registry=False, verify=True, ca_file=options.ca_file)
        self._sessions: dict[SocketFactory | None, aiohttp.ClientSession] = {}  # None: through a proxy
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
        buffer_size: int | None = None,
        read_timeout: float | None = None,
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Send one request, without following redirects, if the address rules allow it.

        `read_timeout` is the time without data after which it fails, in seconds; None: the session's.
        """
        proxy = proxy_for(url)
        for_proxy = proxy_headers(proxy)
        session = self._session(url, proxy)
        timeout = session.timeout
        if read_timeout:
            timeout = aiohttp.ClientTimeout(None, sock_connect=timeout.sock_connect, sock_read=read_timeout)
        return session.request(
            method,
            url,
            headers=headers if url.scheme == "https" else {**headers, **for_proxy},  # only TLS gets a tunnel
            data=data,
            read_bufsize=buffer_size,
            allow_redirects=False,
            ssl=self._ssl(url, proxy),
            proxy=proxy.with_user(None) if proxy else None,
            proxy_headers=for_proxy,
            timeout=timeout,
        )

    def has_answered(self, url: URL) -> None:
        """Record that there was a response from a URL: from now on, a failure to connect to its host is transient."""
        endpoint = proxy_for(url) or url
        self.answered.add((endpoint.raw_host, endpoint.port))

    def _session(self, url: URL, proxy: URL | None) -> aiohttp.ClientSession:
        is_registry = self.is_registry(url)
        sockets: SocketFactory | None = None
        if proxy is None:
            sockets = self._addresses.registry_socket if is_registry else self._addresses.redirect_socket
        # The user chose the proxy, which may be anywhere. It resolves names, so only literal IP addresses are checked.
        elif address := parse_address(url.host or ""):
            if is_registry:
                self._addresses.registry_is_at(address)
            else:
                self._addresses.check_redirect(address)
        if sockets not in self._sessions:
            self._sessions[sockets] = self._open_session(sockets)
        return self._sessions[sockets]

    def _ssl(self, url: URL, proxy: URL | None) -> ssl.SSLContext | bool:
        """Return aiohttp's `ssl` argument; never its own context for TLS, which differs between versions of Python."""
        is_https_proxy = proxy is not None and proxy.scheme == "https"
        if url.scheme == "http":
            return self._contexts.get(self._default_tls) if is_https_proxy else True
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

    def _tls_config(self, url: URL) -> TlsConfig:
        is_registry = self.is_registry(url)
        host = self._registry if is_registry else Origin.of(url).authority
        settings = self._options.host(host)
        # --insecure covers the registry's host, on any port, but not the hosts that it redirects to.
        flag = self._insecure or "*" in self._options.insecure
        by_flag = flag and self.base is not None and url.host == self.base.host
        verify = not (settings.insecure or host in self._options.insecure or by_flag)
        return tls_config(host, settings, is_registry=is_registry, verify=verify, ca_file=self._options.ca_file)
