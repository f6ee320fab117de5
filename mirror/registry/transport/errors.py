"""What aiohttp raises and what registries answer, in our words."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import aiohttp
from yarl import URL

from mirror.errors import InvalidContent, MirrorError, TransferError, Unauthorized

_FINE = range(200, 300)
_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_QUERY = re.compile(r"(https?://[^\s?]*)\?[^\s\"'<>]*")
_PROXY_HINT = "Its credentials go into its address: HTTPS_PROXY=http://user:password@proxy.internal:3128."
_CERTIFICATE_HINT = "A registry that wants a client certificate does this, too: it goes into its certs.d folder."
_HTTPS = 443  # nobody has named another port, so plain HTTP would be at another one
_ERROR_CAP = 64 * 1024  # bytes that are read of an error's body
PAGE_HINT = "It may be a login page, or a proxy's. Open the address in a browser, or see NO_PROXY."
# What stands in front of registries, by the names in their Server headers.
_PROXIES = re.compile(r"nginx|openresty|cloudflare|haproxy|envoy|istio-envoy|traefik|caddy|apache|varnish|squid|awselb")
_BEHIND = "The registry behind a proxy may be down. Ask its administrator, or run the command again later."
_HINTS = {
    407: _PROXY_HINT,
    413: "It takes no bodies of this size. Raise its limit: in nginx, client_max_body_size.",
    **dict.fromkeys((502, 503, 504), _BEHIND),
}
_MUTE = {500: "The registry's log says why: its disk may be full, for one."}  # where it does not say why itself
_DEAF = "Is it running, and is the address right?"
_PLAIN = "A registry that speaks plain HTTP needs --plain-http."


class Refused(OSError):
    """A connection that is not made: whoever sent us there has no business with that address."""

    def __init__(self, why: str, *, hint: str | None = None) -> None:
        super().__init__(why)
        self.hint = hint


@contextmanager
def translated(request: str) -> Iterator[None]:
    """Turn aiohttp's errors, during `request`, into ours.

    Raises:
        TransferError: for whatever the network did.
        MirrorError: our own errors, out of the body that aiohttp was sending.
    """
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, EOFError) as error:
        # A body that fails while it is sent comes wrapped in a connection error.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MirrorError):
                raise cause from None
            cause = cause.__cause__
        raise _network(request, error) from error
    except ValueError as error:  # out of yarl, idna or aiohttp, for addresses that a registry or a person gave
        raise TransferError(f"{request}: this is no address that can be used: {error}.") from error


async def chunks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """A body; its errors come in our words while it is read, since what came before a cut is of use.

    Raises:
        TransferError: as `os_errors`.
    """
    with translated(request_of(response)):
        async for chunk in response.content.iter_any():
            yield chunk


def request_of(response: aiohttp.ClientResponse) -> str:
    """What was asked, for people."""
    return f"{response.method} {shown(response.url)}"


def _network(request: str, error: BaseException) -> TransferError:
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError | Refused):
        return _unreachable(request, error)
    if isinstance(error, TimeoutError):
        return TransferError(f"{request}: the registry stopped answering.", transient=True)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | OSError | EOFError):
        reset = isinstance(error, ConnectionResetError) or getattr(error, "errno", None) == errno.ECONNRESET
        mute = " https://" in request and (reset or isinstance(error, aiohttp.ServerDisconnectedError))
        return TransferError(
            f"{request}: the connection was cut.", hint=_CERTIFICATE_HINT if mute else None, transient=True
        )
    if isinstance(error, aiohttp.ClientHttpProxyError):
        text = f"{request}: the proxy answered {error.status} {error.message.rstrip(' .')}."
        hint = _PROXY_HINT if error.status == 407 else None
        return TransferError(text, hint=hint, status=error.status, transient=error.status in _TRANSIENT)
    if isinstance(error, aiohttp.ClientResponseError):
        return TransferError(f"{request}: the answer is no HTTP that can be understood.", transient=True)
    if isinstance(error, aiohttp.InvalidURL):
        why = f"no address that can be used: {error.description}"  # its own text has the whole URL, maybe a signed one
    else:
        why = f"{type(error).__name__}: {error}"
    return TransferError(f"{request}: {why}.")


def _unreachable(
    request: str, error: aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError | Refused
) -> TransferError:
    if isinstance(error, Refused):
        return TransferError(f"{request}: sent on where it may not: {error}.", hint=error.hint)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return TransferError(
            f"{request}: the certificate of {error.host} cannot be verified: {error.certificate_error}.",
            hint=f"--ca-file names its authority. Without verification: --insecure for the registry itself, "
            f'insecure = ["{error.host}"] in your own mirror.toml for a host that it sends you to.',
        )
    if isinstance(error, aiohttp.ClientSSLError):
        return TransferError(
            f"{request}: no TLS connection: {error.os_error}.",
            hint="If the registry speaks plain HTTP, use --plain-http.",
        )
    if isinstance(error.os_error, Refused):
        where = f"{request}: sent on to {error.host}:{error.port}"
        return TransferError(f"{where}, where it may not: {error.os_error}.", hint=error.os_error.hint)
    who = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error.os_error)
    refused = isinstance(error.os_error, ConnectionRefusedError) and error.port == _HTTPS and not who
    hint = f"{_DEAF} {_PLAIN}" if refused else _DEAF
    return TransferError(f"{request}: cannot connect to {who}{error.host}:{error.port}: {why}.", hint=hint)


_NEEDS_CREDENTIALS = (
    "The image does not exist, or it needs credentials: mirror login keeps them where mirror finds them."
)
_REFUSED = "The credentials that it was given are wrong, or may not do this. mirror login keeps others."


async def refusal(request: str, response: aiohttp.ClientResponse) -> TransferError:
    """The error for an answer that nobody expected; the caller adds what it means to the person."""
    body = await response.content.read(_ERROR_CAP)
    said = _message(body)
    page = is_page(body) or (not body and response.headers.get("Content-Type", "").startswith("text/html"))  # a HEAD's
    status = f"{response.status} {response.reason or ''}".strip(" .")
    what = f"{status} with a web page" if page and response.status in _FINE else status
    who = "the proxy" if response.status == 407 else _speaker(response, page=page)
    text = _redacted(f"{request}: {who} answered {what}{': ' + said if said else ''}.", response)
    if response.status in (401, 403):
        return Unauthorized(
            text,
            status=response.status,
            hint=_REFUSED if _had_credentials(response) else _NEEDS_CREDENTIALS,
            said=said,
        )
    return TransferError(
        text,
        hint=_hint(response.status, said, page=page),
        said=said,
        status=response.status,
        transient=response.status in _TRANSIENT,
        retry_after=retry_after(response.headers.get("Retry-After")),
    )


def _hint(status: int, said: str, *, page: bool) -> str | None:
    return _HINTS.get(status) or (PAGE_HINT if page else None) or (None if said else _MUTE.get(status))


def _had_credentials(response: aiohttp.ClientResponse) -> bool:
    """Whether somebody's user and password went with the request; a token may be anybody's."""
    return response.request_info.headers.get("Authorization", "").lower().startswith("basic ")


def _redacted(text: str, response: aiohttp.ClientResponse) -> str:
    """What a server says without what it may have from us, or from others: our token, the signatures of addresses."""
    secret = response.request_info.headers.get("Authorization", "").rpartition(" ")[2]
    if secret:
        text = text.replace(secret, "[redacted]")
    return _QUERY.sub(r"\1?[redacted]", text)


def _speaker(response: aiohttp.ClientResponse, *, page: bool) -> str:
    """Who answered: a page in HTML is from a proxy in front of the registry, which may be one that we know by name."""
    host = response.url.authority
    if not page:
        return host
    found = _PROXIES.match(response.headers.get("Server", "").lower())
    return f"a proxy{f' ({found[0]})' if found else ''} in front of {host}"


def refuse_page(request: str, response: aiohttp.ClientResponse, body: bytes) -> None:
    """Refuse a web page that came where JSON should be, as if all were well.

    Raises:
        InvalidContent: it is one.
    """
    if is_page(body):
        raise InvalidContent(
            f"{request}: {_speaker(response, page=True)} answered {response.status} with a web page.", hint=PAGE_HINT
        )


def is_page(body: bytes) -> bool:
    """Whether it is HTML, or XML, and not the JSON that registries speak."""
    return body.lstrip().startswith(b"<")


def _message(body: bytes) -> str:
    """What the registry says, if it says it in the specification's form; an HTML page from a proxy is not quoted."""
    try:
        errors = json.loads(body)["errors"]
        return "; ".join(f"{error['code']} {error.get('message') or ''}".strip(" .") for error in errors)[:500]
    except (ValueError, TypeError, KeyError, RecursionError, AttributeError):
        return ""


def retry_after(text: str | None) -> float | None:
    """Seconds, or a date (RFC 9110, 10.2.3). What is neither is ignored."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def shown(url: URL) -> str:
    """A URL for people: signed queries and passwords are nobody's business."""
    return str(url.with_query(None).with_user(None))
