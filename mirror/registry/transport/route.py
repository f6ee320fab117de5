"""The way from here to a URL, on behalf of one registry: straight or through a proxy, over TLS, and not to anywhere."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import Any

import aiohttp
from yarl import URL

from mirror.config.hosts import DEFAULTS
from mirror.errors import ConfigError
from mirror.registry.options import RegistryOptions
from mirror.registry.transport.addresses import AddressInfo, AddressPolicy, literal
from mirror.registry.transport.proxy import proxy_for
from mirror.registry.transport.tls import TlsConfig, trust

SocketFactory = Callable[[AddressInfo], Any]
# Opens a session whose sockets come from there.
Connect = Callable[[SocketFactory | None], aiohttp.ClientSession]


class Route:
    """How one registry, and whatever it sends us to, is reached.

    `base` is the registry's own URL, known when its scheme is. Connections to the registry itself and to elsewhere are
    kept apart: one that another registry may have is none that this one may have.
    """

    def __init__(self, name: str, options: RegistryOptions, connect: Connect, *, lenient: bool) -> None:
        self.base: URL | None = None
        self._name, self._options, self._connect, self._lenient = name, options, connect, lenient
        self._bounds = AddressPolicy(name, options.hosts.get(name, DEFAULTS).trusted_networks)
        self._everybody = trust("", DEFAULTS, own=False, verify=True, ca_file=options.ca_file)
        self._trusts: dict[URL, TlsConfig] = {}
        self._contexts: dict[TlsConfig, ssl.SSLContext] = {}

    def is_own(self, url: URL) -> bool:
        """Whether a URL has the registry's own origin: scheme, host and port."""
        return self.base is not None and url.origin() == self.base.origin()

    def request(
        self, method: str, url: URL, *, headers: dict[str, str], data: Any = None, read_ahead: int | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        """Make one request, following nothing.

        Raises:
            ConfigError: settings or files for the way cannot be used.
            Refused: the registry may not send us there.
        """
        proxy = proxy_for(url)
        return self._session(url, proxy).request(
            method,
            url,
            headers=headers,
            data=data,
            read_bufsize=read_ahead,
            allow_redirects=False,
            ssl=self._tls(url, proxy),
            proxy=proxy,
        )

    def _session(self, url: URL, proxy: URL | None) -> aiohttp.ClientSession:
        if proxy is None:
            return self._straight if self.is_own(url) else self._elsewhere
        # The proxy looks names up, so only what is no name can be checked.
        if address := literal(url.host or ""):
            if self.is_own(url):
                self._bounds.note(address)
            else:
                self._bounds.check(address)
        return self._proxied

    @cached_property
    def _straight(self) -> aiohttp.ClientSession:
        return self._connect(self._bounds.own)

    @cached_property
    def _elsewhere(self) -> aiohttp.ClientSession:
        return self._connect(self._bounds.other)

    @cached_property
    def _proxied(self) -> aiohttp.ClientSession:
        return self._connect(None)  # where the proxy is, the person has said

    def _tls(self, url: URL, proxy: URL | None) -> ssl.SSLContext | bool:
        """What the handshake needs; True is aiohttp's own context, with nothing special about it."""
        if url.scheme == "http":
            return True
        origin = url.origin()
        if origin not in self._trusts:
            self._trusts[origin] = self._trust(url)
        wanted = self._trusts[origin]
        if proxy and proxy.scheme == "https" and wanted != self._everybody:  # aiohttp has one context for both of them
            raise ConfigError(
                f"What is set for the TLS of {url.authority} would hold for the proxy {proxy.host} too.",
                hint="Reach the proxy by an http:// address, or except the registry with NO_PROXY.",
            )
        if wanted == TlsConfig() and "SSL_CERT_FILE" not in os.environ:
            return True
        if wanted not in self._contexts:
            self._contexts[wanted] = wanted.context()
        return self._contexts[wanted]

    def _trust(self, url: URL) -> TlsConfig:
        own = self.is_own(url)
        host = self._name if own else url.authority
        settings = self._options.hosts.get(host, DEFAULTS)
        unverified = settings.insecure or host in self._options.insecure or self._is_excused(url)
        return trust(host, settings, own=own, verify=not unverified, ca_file=self._options.ca_file)

    def _is_excused(self, url: URL) -> bool:
        """Whether a flag excuses the certificate: it speaks of the registry, on any port, not of where it sends us."""
        wide = self._lenient or "*" in self._options.insecure
        return wide and self.base is not None and url.host == self.base.host
