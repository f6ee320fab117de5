"""Where a registry may send us, and what a host's address says about it."""

from __future__ import annotations

import ipaddress

import aiohttp
from yarl import URL

from mirror.errors import TransferError
from mirror.registry import errors


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name alone: nothing is looked up."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def location(response: aiohttp.ClientResponse) -> URL:
    """Where a redirect leads, or an upload goes on: a signed URL must stay as it is, to the last byte.

    Raises:
        TransferError: nowhere, or somewhere that no registry should lead to.
    """
    text = response.headers.get("Location", "")
    try:
        target = response.url.join(URL(text, encoded=True)).with_user(
            None
        )  # which credentials to use is ours to choose
        target = target if target.port else URL()
    except ValueError:
        target = URL()
    if not text or target.scheme not in ("http", "https") or not target.host:
        raise TransferError(f"{errors.shown(response.url)}: sent on to {text[:200]!r}, which is no web address.")
    if response.url.scheme == "https" and target.scheme == "http":
        raise TransferError(f"{errors.shown(response.url)}: sent on to {target.host} without encryption.")
    return target
