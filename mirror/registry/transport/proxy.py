"""The way through a forward proxy, as the environment describes it: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

The rules are those of Go (golang.org/x/net/http/httpproxy), because the tools next to this one are written in it: upper
case before lower case, and in NO_PROXY networks, ports, and names with all that is below them.
"""

from __future__ import annotations

import ipaddress
import os
from contextlib import suppress

from yarl import URL

from mirror.errors import ConfigError
from mirror.registry.transport.addresses import Address, is_loopback
from mirror.registry.transport.urls import NO_URL


def proxy_for(url: URL) -> URL | None:
    """The proxy for a URL; this machine itself is reached directly, as in curl and Go.

    Raises:
        ConfigError: the environment names one that cannot be used.
    """
    variable = f"{url.scheme.upper()}_PROXY"
    text = _environment(variable)
    if not text or is_loopback(url.host or "") or (url.scheme == "http" and "REQUEST_METHOD" in os.environ):
        return None  # a CGI script gets HTTP_PROXY from whoever sends it a header `Proxy`
    return None if _is_exempt(url) else _parse(text, variable)


def _environment(variable: str) -> str:
    return os.environ.get(variable) or os.environ.get(variable.lower()) or ""


def _parse(text: str, variable: str) -> URL:
    """The address of a proxy, by itself or without a scheme. It may have a password in it, so it is not shown."""
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
        usable = bool(proxy.host and proxy.port)
    except NO_URL:
        usable = False
    if usable and proxy.scheme.startswith("socks"):
        raise ConfigError(
            f"{variable} names a SOCKS proxy ({proxy.scheme}), which mirror cannot use.",
            hint="Name an HTTP proxy, such as http://proxy.internal:3128.",
        )
    if not usable or proxy.scheme not in ("http", "https"):
        raise ConfigError(
            f"{variable} is no address of a proxy.", hint="It should look like http://proxy.internal:3128."
        )
    return proxy


def _is_exempt(url: URL) -> bool:
    entries = [entry.strip().lower() for entry in _environment("NO_PROXY").split(",")]
    host = (url.host or "").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    return any(entry == "*" or _matches(entry, host, url.port, address) for entry in entries if entry)


def _matches(entry: str, host: str, port: int | None, address: Address | None) -> bool:
    """Whether an entry of NO_PROXY means this host: a network, an address, a name; the last two maybe with a port."""
    if address is not None:
        with suppress(ValueError):
            return address in ipaddress.ip_network(entry, strict=False)
    name, colon, only = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
    if colon and only != str(port):
        return False
    if address is not None:
        with suppress(ValueError):
            return address == ipaddress.ip_address(name.strip("[]"))
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else f".{host}".endswith(f".{name}") and name != ""
