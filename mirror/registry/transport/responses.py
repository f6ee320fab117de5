"""Unexpected responses (HTTP statuses, error documents, HTML pages) as `TransferError`s in plain English."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from mirror.errors import InvalidContent, TransferError, Unauthorized
from mirror.registry.transport.addresses import is_loopback
from mirror.registry.transport.error_text import error_text
from mirror.registry.transport.errors import TRANSIENT
from mirror.registry.transport.exchange import Response
from mirror.registry.transport.proxy import credentials_hint
from mirror.registry.transport.request_text import Request
from mirror.registry.transport.urls import Origin
from mirror.text.redaction import REDACTED, excerpt, hide

HTML_HINT = "It may be a login page, or a proxy's error page. Open the URL in a browser, or check NO_PROXY."

_SUCCESS = range(200, 300)
_QUERY = re.compile(r"(https?://[^\s?]*)\?[^\s\"'<>]*")
_BODY_CAP = 64 * 1024  # bytes of an error's body that are read
_BODY_TIMEOUT = 10.0  # seconds for it to arrive
_MESSAGE_CAP = 500  # characters of an error's text that are quoted
_QUOTA = re.compile(r"\bquota|storage limit|insufficient storage", re.IGNORECASE)
_POLICY = re.compile(r"\bpolic(?:y|ies)\b|\bblocked by\b|\bimmutable\b|\bvulnerabilit", re.IGNORECASE)
# Reverse proxies in front of registries, by the names in their Server headers.
_PROXIES = re.compile(r"nginx|openresty|cloudflare|haproxy|envoy|istio-envoy|traefik|caddy|apache|varnish|squid|awselb")
# In responses to HTTP on an HTTPS port: Go's net/http, nginx, Apache.
_WANTS_TLS = re.compile(rb"HTTPS (?:server|port)|SSL-enabled server port", re.IGNORECASE)
_BEHIND_PROXY = "The registry behind a proxy may be down. Ask its administrator, or run the command again later."
_HINTS = {
    413: "Requests of this size are refused. Raise the limit: in nginx, client_max_body_size.",
    429: "Too many requests. Wait, or log in for a higher limit: mirror login {registry}",
    **dict.fromkeys((502, 503, 504), _BEHIND_PROXY),
}
_DISK_FULL = "The registry's log says why; its disk may be full."  # for a 500 without a message
_NOT_LOGGED_IN = "The image does not exist, or you are not logged in: mirror login {registry}"
_WRONG_CREDENTIALS = "Wrong user name or password, or no permission. Try: mirror login {registry}"
_USES_TLS = "{host} uses TLS: remove --plain-http, or plain_http from mirror.toml."


async def response_error(request: Request, response: Response, registry: str) -> TransferError:
    """Return the error for a response with an unexpected status; `request` is from before any redirects.

    The message quotes the text of the response, whatever its form, without credentials and signed queries of URLs.
    HTML pages are not quoted.
    """
    scheme, _, sent = response.sent.get("Authorization", "").rpartition(" ")
    hide(sent, is_token=True)  # a server may repeat it, as it may repeat the signed queries of URLs
    body = await _read(response)
    text = error_text(body)
    if response.status == 401 or (response.status == 404 and request.method in ("GET", "HEAD")):
        text = replace(text, details="")  # just what was requested
    said, quoted = excerpt(text.said, _MESSAGE_CAP), excerpt(str(text), _MESSAGE_CAP)
    is_page = is_html(body) or (not body and response.headers.get("Content-Type", "").startswith("text/html"))  # HEAD
    status = f"{response.status} {excerpt(response.reason or '', 200)}".strip(" .")
    if is_page and response.status in _SUCCESS:
        status += " with a web page"
    who = "the proxy" if response.status == 407 else _responder(response, is_page=is_page)
    message = f"{who} answered {status}{request.about}{': ' + quoted if quoted else ''}."
    message = _QUERY.sub(rf"\1?{REDACTED}", message)
    if response.status in (401, 403):
        logged_in = scheme.lower() == "basic"  # a Bearer token may be anonymous
        hint = rule_hint(said) or (_WRONG_CREDENTIALS if logged_in else _NOT_LOGGED_IN).format(registry=registry)
        return Unauthorized(message, hint=hint, status=response.status, said=said)
    return TransferError(
        message,
        hint=_hint(response, body, said, registry, is_page=is_page),
        said=said,
        status=response.status,
        transient=response.status in TRANSIENT,
        retry_after=retry_after(response.headers.get("Retry-After")),
    )


def _hint(response: Response, body: bytes, said: str, registry: str, *, is_page: bool) -> str | None:
    if response.status == 400 and response.url.scheme == "http" and _WANTS_TLS.search(body):
        return _USES_TLS.format(host=Origin.of(response.url).authority)
    if hint := rule_hint(said) or (credentials_hint(response.url) if response.status == 407 else None):
        return hint
    if response.status in _HINTS:
        return _HINTS[response.status].format(registry=registry)
    # On loopback, TLS is tried first.
    is_plain = response.url.scheme == "http" and not is_loopback(response.url.host or "")
    if response.status == 400 and is_plain and not body.lstrip().startswith(b"{"):
        return f"{Origin.of(response.url).authority} may use TLS: try without --plain-http."
    if is_page:
        return HTML_HINT
    return _DISK_FULL if response.status == 500 and not said else None


async def _read(response: Response) -> bytes:
    """Return the body of an error response, or what arrives of it: a broken connection must not hide the error."""
    body = bytearray()
    with suppress(aiohttp.ClientError, OSError, TimeoutError):
        async with asyncio.timeout(_BODY_TIMEOUT):
            async for chunk in response.chunks():
                body += chunk
                if len(body) >= _BODY_CAP:
                    break
    return bytes(body[:_BODY_CAP])


def rule_hint(said: str) -> str | None:
    """Return a hint if a rule of the registry is the reason, and not the request or its credentials."""
    if _QUOTA.search(said):
        return "The registry's storage quota is used up. Delete images there, or ask its administrator to raise it."
    if _POLICY.search(said):
        return "A policy of the registry forbids this: its message says which. Ask its administrator."
    return None


def _responder(response: Response, *, is_page: bool) -> str:
    """Return who answered: HTML is from a proxy in front of the registry, which the Server header may name."""
    host = Origin.of(response.url).authority
    if not is_page:
        return host
    proxy = _PROXIES.match(response.headers.get("Server", "").lower())
    return f"a proxy{f' ({proxy[0]})' if proxy else ''} in front of {host}"


def refuse_html(request: Request, response: Response, body: bytes) -> None:
    """Raise InvalidContent if a successful response is an HTML page."""
    if is_html(body):
        who = _responder(response, is_page=True)
        raise InvalidContent(f"{who} answered {response.status} with a web page{request.about}.", hint=HTML_HINT)


def is_html(body: bytes) -> bool:
    """Return whether a body is HTML or XML, not JSON; errors of storage services, which are XML, do not count."""
    return body.lstrip().startswith(b"<") and not error_text(body).said


def retry_after(text: str | None) -> float | None:
    """Return the delay in a `Retry-After` header in seconds (RFC 9110, 10.2.3); None if it is absent or malformed."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None
