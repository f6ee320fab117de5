"""Forward proxies, as configured in the environment: HTTP_PROXY, HTTPS_PROXY and NO_PROXY.

The rules are those of Go (golang.org/x/net/http/httpproxy), as in docker, podman and skopeo: upper case before lower
case; NO_PROXY lists networks, addresses, and names including their subdomains, with or without a port.
"""

from __future__ import annotations

import base64
import ipaddress
import os
from contextlib import suppress
from urllib.parse import unquote_to_bytes

from yarl import URL

from mirror.errors import ConfigError
from mirror.registry.transport.addresses import Address, is_loopback
from mirror.registry.transport.urls import INVALID_URL
from mirror.text.redaction import hide

_CODES = "/ is %2F, ? is %3F, # is %23, @ is %40 and % is %25"


def proxy_for(url: URL) -> URL | None:
    """Return the proxy for a URL; None to connect directly, as always to loopback (like curl and Go)."""
    variable = f"{url.scheme.upper()}_PROXY"
    text, host = _environment(variable), (url.host or "").lower()
    if not text or is_loopback(host) or (url.scheme == "http" and "REQUEST_METHOD" in os.environ):
        return None  # in a CGI script, a client can set HTTP_PROXY with a `Proxy` header (CVE-2016-5388)
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        address = None
    exempt = [entry.strip().lower() for entry in _environment("NO_PROXY").split(",")]
    if any(entry == "*" or _matches(entry, host, url.port, address) for entry in exempt if entry):
        return None
    return _parse(text, variable)


def proxy_headers(proxy: URL | None) -> dict[str, str]:
    """Return the headers for a proxy: the credentials in its URL, byte for byte, as in curl.

    aiohttp itself would encode them as latin-1, and so refuse most passwords.
    """
    if proxy is None or proxy.raw_user is None:
        return {}
    user, password = (unquote_to_bytes(text or "") for text in (proxy.raw_user, proxy.raw_password))
    if b":" in user:  # RFC 7617
        raise ConfigError(f"The user name for the proxy {proxy.host} contains a colon.")
    return {"Proxy-Authorization": "Basic " + base64.b64encode(user + b":" + password).decode()}


def credentials_hint(url: URL) -> str:
    """Return what to do about a 407 of the proxy for a URL: it was given no credentials, or refused them."""
    variable, proxy = _name(f"{url.scheme.upper()}_PROXY"), proxy_for(url)
    if proxy and proxy.raw_user is not None:
        return f"The proxy refused the user name or the password in {variable}. In the password, {_CODES}."
    return f"Put the proxy's credentials into its URL: {variable}=http://user:password@proxy.internal:3128."


def _environment(variable: str) -> str:
    return os.environ.get(_name(variable), "")


def _name(variable: str) -> str:
    """Return the name under which a variable is set, in upper or lower case."""
    lower = variable.lower()
    return lower if os.environ.get(lower) and not os.environ.get(variable) else variable


def _parse(text: str, variable: str) -> URL:
    """Return a proxy's URL, by default http. Errors do not show it, since it may contain a password."""
    try:
        proxy = URL(text if "://" in text else f"http://{text}")
        usable = bool(proxy.host and proxy.port)
    except INVALID_URL:
        usable = False
    hint = "Set it to an HTTP proxy, such as http://proxy.internal:3128."
    if usable and "@" in f"{proxy.raw_path_qs}{proxy.raw_fragment}":  # the password ended the host, and would be shown
        usable, hint = False, f"Encode the password: {_CODES}."
    if usable and proxy.scheme.startswith("socks"):
        what = f"is a SOCKS proxy ({proxy.scheme}); SOCKS proxies are not supported"
        raise ConfigError(f"{variable} {what}.", hint=hint)
    if not usable or proxy.scheme not in ("http", "https"):
        raise ConfigError(f"{variable} is not a valid proxy URL.", hint=hint)
    if proxy.password:
        hide(proxy.password, proxy_headers(proxy)["Proxy-Authorization"].removeprefix("Basic "))
    return proxy


def _matches(entry: str, host: str, port: int | None, address: Address | None) -> bool:
    """Return whether an entry of NO_PROXY (a network, or an address or a name, with or without port) covers a host."""
    if address is not None:
        with suppress(ValueError):
            return address in ipaddress.ip_network(entry, strict=False)
    name, colon, entry_port = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
    if colon and entry_port != str(port):
        return False
    if address is not None:
        with suppress(ValueError):
            return address == ipaddress.ip_address(name.strip("[]"))
    name = name.removeprefix("*")
    return host.endswith(name) if name.startswith(".") else f".{host}".endswith(f".{name}") and name != ""
