"""URLs from untrusted sources: headers and manifests."""

from __future__ import annotations

import re
from dataclasses import dataclass

from yarl import URL

from mirror.errors import TransferError
from mirror.registry.transport.exchange import Response
from mirror.text import redaction

_NO_BASE = URL()
_DEFAULT_PORTS = {"http": 80, "https": 443}
INVALID_URL = (ValueError, IndexError)  # raised by yarl; the latter for `//[]::@`


@dataclass(frozen=True, slots=True)
class Origin:
    """The scheme, host and port of a URL (RFC 6454, 4), with the port of its scheme if it names none.

    Compare origins with this type alone: yarl's URLs differ if only one of them spells out the default port.
    """

    scheme: str
    host: str
    port: int | None

    @classmethod
    def of(cls, url: URL) -> Origin:
        return cls(url.scheme, url.host_subcomponent or "", url.port)

    @property
    def authority(self) -> str:
        """`HOST[:PORT]`, with the port unless it is the scheme's default."""
        return self.host if self.port == _DEFAULT_PORTS.get(self.scheme) else f"{self.host}:{self.port}"


def parse_http_url(text: str, *, base: URL = _NO_BASE, encoded: bool = True) -> URL | None:
    """Return the http or https URL in `text`, resolved against `base` (RFC 3986, 5); None if it is not one.

    User and password are removed: a URL must not decide which credentials are sent. If `encoded`, the rest is kept byte
    for byte, as signed URLs require.
    """
    try:
        url = base.join(URL(text, encoded=encoded)).with_user(None)
        usable = bool(url.scheme in ("http", "https") and url.host and url.port)
    except INVALID_URL:
        return None
    return url if usable else None


def location_of(response: Response) -> URL:
    """Return the URL in the `Location` of a redirect or an upload session, byte for byte, since it may be signed."""
    text = response.headers.get("Location", "")
    who = Origin.of(response.url).authority
    if not text:
        raise TransferError(f"{who} answered without the URL of the next request: there is no Location header.")
    target = parse_http_url(text, base=response.url)
    if target is None:
        bare = re.sub(r"//[^/@]*@", "//", text.partition("?")[0])  # without parts that may be secret
        shown = redaction.excerpt(bare, 200)
        raise TransferError(f"{who} redirected to {shown!r}, which is not an http(s) URL.")
    host = (target.host or "").lower()
    if host in text.lower() and host not in redaction.redact(text).lower():
        redaction.hide(host)  # messages will name it, and it is a part of a secret
    if response.url.scheme == "https" and target.scheme == "http":
        raise TransferError(f"{who} redirected from https to unencrypted http, to {target.host}.")
    return target


def redact(url: URL) -> str:
    """Return a URL for messages and the log, without its query and user, which may be secret."""
    return str(url.with_query(None).with_user(None))
