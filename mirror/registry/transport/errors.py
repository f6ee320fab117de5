"""Network errors of aiohttp and the operating system as `TransferError`s in plain English.

Messages name the host; the method and the URL are logged at level INFO.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
from aiohttp.http_exceptions import LineTooLong
from yarl import URL

from mirror.errors import MirrorError, TransferError
from mirror.registry.transport.addresses import ForbiddenAddress
from mirror.registry.transport.exchange import Response
from mirror.registry.transport.proxy import credentials_hint
from mirror.registry.transport.request_text import Request
from mirror.registry.transport.urls import Origin
from mirror.text import printable

log = logging.getLogger(__name__)

MAX_HEADER = 64 * 1024  # bytes of one header of a response: signed redirects and upload Locations are long
TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})  # statuses after which the same request may succeed
_HTTPS_PORT = 443  # the default, if the user gave no port
Endpoint = tuple[str | None, int | None]  # a host and a port, to which a connection is made
_MAY_USE_TLS = "{} may use TLS: try without --plain-http."
_NO_SUCH_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_ADD_CA = "Add its CA certificate with --ca-file FILE."
_RENEW = "Check this machine's clock, or ask the registry's administrator for a new certificate."
_UNKNOWN_CA = "is signed by a CA that is not trusted", _ADD_CA
_NO_ANCHOR = frozenset({2, 7, 18, 19, 20, 21})  # no CA, not this certificate, or a CA of the same name with another key
_OTHER_NAME = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH and _IP_ADDRESS_MISMATCH
_NAMES_CAP = 300  # characters of the names in a certificate that are shown
_WEAK = "Ask the registry's administrator for a stronger certificate."
# Faults of certificates and what to do, by OpenSSL's X509_V_ERR_ codes (x509_vfy.h)
_CERTIFICATE_FAULTS = {
    **dict.fromkeys((2, 19, 20, 21), _UNKNOWN_CA),
    9: ("is not valid yet", _RENEW),
    10: ("has expired", _RENEW),
    18: ("is self-signed", "Trust it with --ca-file FILE, a copy of the certificate."),
    23: ("has been revoked", _RENEW),
    26: ("is not for servers", _RENEW),
    62: ("is for another host name", "Use the name in the certificate."),
    64: ("is for another IP address", "Use the name or address in the certificate."),
    66: ("has a key that is too short", _WEAK),
    67: ("is signed by a CA whose key is too short", _WEAK),
    68: ("is signed with an outdated hash", _WEAK),
}
_NOT_TLS = "it does not use TLS"
_OLD_TLS = "it uses a version of TLS that is too old"
_REJECTED = "it rejected the client certificate"
# Faults of handshakes, by the names of OpenSSL's reasons
_HANDSHAKE_FAULTS = {
    **dict.fromkeys(("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNKNOWN_PROTOCOL"), _NOT_TLS),
    **dict.fromkeys(("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "DH_KEY_TOO_SMALL"), _OLD_TLS),
    "UNEXPECTED_EOF_WHILE_READING": "it closed the connection",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it requires a client certificate",
    **dict.fromkeys(
        ("SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "TLSV1_ALERT_UNKNOWN_CA"), _REJECTED
    ),
}


@contextmanager
def translate_errors(
    request: Request,
    answered: Collection[Endpoint] = (),
    *,
    is_tls_certain: bool = True,
    ca_files: Callable[[Origin], Collection[Path]] = lambda _: (),
) -> Iterator[None]:
    """Translate errors during `request`; a MirrorError of the request's body, while it was sent, is raised as it is.

    A failure to connect is transient if the endpoint has `answered` before: it exists, and is restarting or cut off.
    So is a failed handshake if it is not certain that the server uses TLS. `ca_files` returns the files with CAs that
    were given for a host.
    """
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, EOFError) as error:
        for cause in _causes(error):  # aiohttp wraps exceptions of the request's body in a connection error
            if isinstance(cause, MirrorError):
                raise cause from None
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            failure = _certificate_error(error, ca_files)
        else:
            failure = _network_error(request, error, answered)
        if _is_handshake(error) and not is_tls_certain:
            failure = TransferError(str(failure), hint=failure.hint, transient=True)
        log.info("%s: %s", request, failure)
        raise failure from error
    except ValueError as error:  # from yarl, idna or aiohttp, for URLs from a registry or the user
        # What cannot be encoded is not shown: it may be part of a password.
        what = error.reason if isinstance(error, UnicodeEncodeError | UnicodeDecodeError) else error
        raise TransferError(f"{request.host}: not a valid URL: {what}.") from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


async def iter_body(response: Response) -> AsyncIterator[bytes]:
    """Yield a body in chunks as they arrive; those before an error are valid."""
    with translate_errors(Request.of(response)):
        async for chunk in response.chunks():
            yield chunk


def _network_error(request: Request, error: BaseException, answered: Collection[Endpoint]) -> TransferError:
    host, about = request.host, request.about
    if isinstance(error, aiohttp.ClientConnectorError | ForbiddenAddress):
        return _connection_error(error, answered)
    if isinstance(error, TimeoutError):
        return TransferError(f"{host} stopped answering{about}.", transient=True)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | OSError | EOFError):
        hint = _cut_hint(request, error, answered)
        return TransferError(f"{host}: the connection was cut{about}.", hint=hint, transient=True)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        text = f"{host}: the proxy answered {error.status} {error.message.rstrip(' .')}."
        url = URL(request.url).with_scheme("https")  # only TLS gets a tunnel, perhaps after a redirect
        hint = credentials_hint(url) if error.status == 407 else None
        return TransferError(text, hint=hint, status=error.status, transient=error.status in TRANSIENT)
    if isinstance(error, aiohttp.ClientResponseError):
        return _invalid_response(request, error)
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, aiohttp.InvalidURL):  # its text contains the whole URL, which may be signed
        what = f"not a valid URL{f': {error.description}' if error.description else ''}"
    return TransferError(f"{host}: {what}.")


def _cut_hint(request: Request, error: BaseException, answered: Collection[Endpoint]) -> str | None:
    """Return what may be wrong if a server closes a connection without a response."""
    reset = isinstance(error, ConnectionResetError) or getattr(error, "errno", None) in (errno.ECONNRESET, errno.EPIPE)
    refused = any(isinstance(cause, ssl.SSLError) for cause in _causes(error))  # by TLS 1.3, after the handshake
    if isinstance(error, aiohttp.ClientPayloadError):
        return None
    if not (reset or refused or isinstance(error, aiohttp.ServerDisconnectedError)):
        return None
    url = URL(request.url)
    if url.scheme == "https":
        return f"If {request.host} requires a client certificate, put it in the host's certs.d directory."
    return None if (url.raw_host, url.port) in answered else _MAY_USE_TLS.format(request.host)


def _invalid_response(request: Request, error: aiohttp.ClientResponseError) -> TransferError:
    if any(isinstance(cause, LineTooLong) for cause in _causes(error)):
        text = f"{request.host}: a header of the response has more than {MAX_HEADER // 1024} KiB{request.about}."
        return TransferError(text)
    hint = _MAY_USE_TLS.format(request.host) if request.url.startswith("http://") else None
    return TransferError(f"{request.host}: the response is not valid HTTP{request.about}.", hint=hint, transient=True)


def _connection_error(
    error: aiohttp.ClientConnectorError | ForbiddenAddress, answered: Collection[Endpoint]
) -> TransferError:
    if isinstance(error, ForbiddenAddress):
        return TransferError(f"Not connecting: {error}.", hint=error.hint)
    where = f"{error.host}:{error.port}"
    transient = (error.host, error.port) in answered
    if _is_handshake(error):
        return _handshake_error(error, transient=transient)
    if isinstance(error.os_error, ForbiddenAddress):
        forbidden = error.os_error
        return TransferError(f"Not connecting to {where}: {forbidden}.", hint=forbidden.hint)
    who = "the proxy " if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    hint = "Is it running, and is the address right?"
    if isinstance(error.os_error, socket.gaierror):
        known = error.os_error.errno not in _NO_SUCH_HOST
        why = (error.os_error.strerror or "the name cannot be resolved") if known else "name not known"
        hint = "There is no such host, or no network."
        transient = transient or error.os_error.errno == socket.EAI_AGAIN  # a name server that is busy or unreachable
    else:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error.os_error)
    if isinstance(error.os_error, ConnectionRefusedError) and error.port == _HTTPS_PORT and not who:
        hint += " A registry without TLS needs --plain-http."
    return TransferError(f"Cannot connect to {who}{where}: {why[:1].lower()}{why[1:]}.", hint=hint, transient=transient)


def _is_handshake(error: BaseException) -> bool:
    """Return whether a TLS handshake failed; a connection is reset after it was made, so during the handshake."""
    if isinstance(error, aiohttp.ClientConnectorError):
        return isinstance(error, aiohttp.ClientSSLError) or isinstance(error.os_error, ConnectionResetError)
    return isinstance(error, aiohttp.ClientSSLError)


def _handshake_error(error: aiohttp.ClientConnectorError, *, transient: bool) -> TransferError:
    reason = getattr(error.os_error, "reason", None) or error.os_error.strerror or str(error.os_error)
    if isinstance(error.os_error, ConnectionResetError):
        reason = "UNEXPECTED_EOF_WHILE_READING"
    fault = _HANDSHAKE_FAULTS.get(reason, reason.replace("_", " ").rstrip(".").lower())
    host = Origin("https", error.host, error.port).authority
    hint = None if fault in (_OLD_TLS, _REJECTED) else f"If {host} does not use TLS, add --plain-http."
    if "client certificate" in fault:
        hint = f"Put the right client certificate in the certs.d directory of {host}."
    text = f"{error.host}:{error.port}: the TLS handshake failed: {fault}."
    return TransferError(text, hint=hint, transient=transient)


def _certificate_error(
    error: aiohttp.ClientConnectorCertificateError, ca_files: Callable[[Origin], Collection[Path]]
) -> TransferError:
    origin = Origin("https", error.host, error.port)
    host, given = origin.authority, ", ".join(map(str, ca_files(origin)))
    cause = error.certificate_error
    code = getattr(cause, "verify_code", None)
    said = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) and code else str(cause)
    unknown = f"cannot be verified: {said.rstrip('.')}", _ADD_CA
    what, advice = _CERTIFICATE_FAULTS.get(code or 0, unknown)
    names = printable(next(iter(getattr(cause, "__notes__", ())), "")[:_NAMES_CAP])
    if code in _OTHER_NAME and names:
        what += f": {names}"
    if code in _NO_ANCHOR and given:
        advice = f"No certificate in {given} matches it. {advice}"
    return TransferError(
        f"The certificate of {host} {what}.",
        hint=f"{advice} To connect without verification: --insecure; for a mirror or a redirect, "
        f'insecure = ["{host}"] in ~/.config/mirror/mirror.toml.',
    )
