"""Unexpected responses (HTTP statuses, error documents, HTML pages) as `TransferError`s in plain English."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp

from mirror.errors import InvalidContent, TransferError, Unauthorized
from mirror.registry.transport.errors import PROXY_AUTH_HINT, TRANSIENT
from mirror.registry.transport.request_text import Request
from mirror.text.redaction import REDACTED, excerpt, hide

HTML_HINT = "It may be a login page, or a proxy's error page. Open the URL in a browser, or check NO_PROXY."

_SUCCESS = range(200, 300)
_QUERY = re.compile(r"(https?://[^\s?]*)\?[^\s\"'<>]*")
_BODY_CAP = 64 * 1024  # bytes of an error's body that are read
_MESSAGE_CAP = 500  # characters of an error document that are quoted
# Reverse proxies in front of registries, by the names in their Server headers.
_PROXIES = re.compile(r"nginx|openresty|cloudflare|haproxy|envoy|istio-envoy|traefik|caddy|apache|varnish|squid|awselb")
# In responses to HTTP on an HTTPS port: Go's net/http, nginx, Apache.
_WANTS_TLS = re.compile(rb"HTTPS (?:server|port)|SSL-enabled server port", re.IGNORECASE)
_BEHIND_PROXY = "The registry behind a proxy may be down. Ask its administrator, or run the command again later."
_HINTS = {
    407: PROXY_AUTH_HINT,
    413: "Requests of this size are refused. Raise the limit: in nginx, client_max_body_size.",
    429: "Too many requests. Wait, or log in for a higher limit: mirror login {registry}",
    **dict.fromkeys((502, 503, 504), _BEHIND_PROXY),
}
_DISK_FULL = "The registry's log says why; its disk may be full."  # for a 500 without a message
_NOT_LOGGED_IN = "The image does not exist, or you are not logged in: mirror login {registry}"
_WRONG_CREDENTIALS = "Wrong user name or password, or no permission. Try: mirror login {registry}"
_USES_TLS = "{host} uses TLS: remove --plain-http, or plain_http from mirror.toml."


async def response_error(request: Request, response: aiohttp.ClientResponse, registry: str) -> TransferError:
    """Return the error for a response with an unexpected status; `request` is from before any redirects.

    The message quotes the error document (OCI distribution-spec, "Error Codes"), without credentials and signed
    queries of URLs. HTML pages are not quoted.
    """
    scheme, _, sent = response.request_info.headers.get("Authorization", "").rpartition(" ")
    hide(sent, is_token=True)  # a server may repeat it, as it may repeat the signed queries of URLs
    body = await response.content.read(_BODY_CAP)
    said = _error_document(body)
    is_page = is_html(body) or (not body and response.headers.get("Content-Type", "").startswith("text/html"))  # HEAD
    status = f"{response.status} {excerpt(response.reason or '', 200)}".strip(" .")
    if is_page and response.status in _SUCCESS:
        status += " with a web page"
    who = "the proxy" if response.status == 407 else _responder(response, is_page=is_page)
    text = f"{who} answered {status}{request.about}{': ' + said if said else ''}."
    text = _QUERY.sub(rf"\1?{REDACTED}", text)
    if response.status in (401, 403):
        logged_in = scheme.lower() == "basic"  # a Bearer token may be anonymous
        hint = (_WRONG_CREDENTIALS if logged_in else _NOT_LOGGED_IN).format(registry=registry)
        return Unauthorized(text, hint=hint, status=response.status, said=said)
    return TransferError(
        text,
        hint=_hint(response, body, said, registry, is_page=is_page),
        said=said,
        status=response.status,
        transient=response.status in TRANSIENT,
        retry_after=retry_after(response.headers.get("Retry-After")),
    )


def _hint(response: aiohttp.ClientResponse, body: bytes, said: str, registry: str, *, is_page: bool) -> str | None:
    if response.status == 400 and response.url.scheme == "http" and _WANTS_TLS.search(body):
        return _USES_TLS.format(host=response.url.authority)
    if response.status in _HINTS:
        return _HINTS[response.status].format(registry=registry)
    if is_page:
        return HTML_HINT
    return _DISK_FULL if response.status == 500 and not said else None


def _error_document(body: bytes) -> str:
    """Return the codes and messages in an error document; empty if it is not one."""
    try:
        errors = json.loads(body)["errors"]
        text = "; ".join(f"{error['code']} {error.get('message') or ''}".strip(" .") for error in errors)
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
        return ""
    return excerpt(text, _MESSAGE_CAP)


def _responder(response: aiohttp.ClientResponse, *, is_page: bool) -> str:
    """Return who answered: HTML is from a proxy in front of the registry, which the Server header may name."""
    host = response.url.authority
    if not is_page:
        return host
    proxy = _PROXIES.match(response.headers.get("Server", "").lower())
    return f"a proxy{f' ({proxy[0]})' if proxy else ''} in front of {host}"


def refuse_html(request: Request, response: aiohttp.ClientResponse, body: bytes) -> None:
    """Raise InvalidContent if a successful response is an HTML page."""
    if is_html(body):
        who = _responder(response, is_page=True)
        raise InvalidContent(f"{who} answered {response.status} with a web page{request.about}.", hint=HTML_HINT)


def is_html(body: bytes) -> bool:
    """Return whether a body is HTML or XML, not JSON."""
    return body.lstrip().startswith(b"<")


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
