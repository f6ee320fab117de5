"""The way through a forward proxy, as the environment describes it."""

from __future__ import annotations

import os

from yarl import URL

from mirror.registry.addresses import is_loopback


def proxy_for(url: URL) -> URL | None:
    """The proxy by HTTP_PROXY, HTTPS_PROXY and NO_PROXY; this machine itself is reached directly, as in curl and Go."""
    host = url.host or ""
    if is_loopback(host) or not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies_environment, proxy_bypass  # an HTTP client of its own: 20 ms to import

    found = getproxies_environment()
    return None if url.scheme not in found or proxy_bypass(host, found) else URL(found[url.scheme])
