"""Network errors of aiohttp and the operating system as `TransferError`s in plain English.

Messages name the host; the method and the URL are logged at level INFO.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager

import aiohttp

from mirror.errors import MirrorError, TransferError
from mirror.registry.transport.addresses import ForbiddenAddress
from mirror.registry.transport.request_text import Request

log = logging.getLogger(__name__)

TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})  # statuses after which the same request may succeed
PROXY_AUTH_HINT = "Put the proxy's credentials into its URL: HTTPS_PROXY=http://user:password@proxy.internal:3128."
_HTTPS_PORT = 443  # the default, if the user gave no port
Endpoint = tuple[str | None, int | None]  # a host and a port, to which a connection is made
_NO_SUCH_HOST = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})
_UNKNOWN_CA = "is signed by a CA that is not trusted"
# Faults of certificates, by OpenSSL's X509_V_ERR_ codes (x509_vfy.h)
_CERTIFICATE_FAULTS = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed",
    19: _UNKNOWN_CA,
    20: _UNKNOWN_CA,
    21: _UNKNOWN_CA,
    23: "has been revoked",
    62: "is for another host name",
    64: "is for another IP address",
}


@contextmanager
def translate_errors(
    request: Request, answered: Collection[Endpoint] = (), *, is_tls_certain: bool = True
) -> Iterator[None]:
    """Translate errors during `request`; a MirrorError of the request's body, while it was sent, is raised as it is.

    A failure to connect is transient if the endpoint has `answered` before: it exists, and is restarting or cut off.
    So is a failed handshake if it is not certain that the server uses TLS.
    """
    try:
        yield
    except (aiohttp.ClientError, TimeoutError, OSError, EOFError) as error:
        # aiohttp wraps exceptions of the request's body in a connection error.
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MirrorError):
                raise cause from None
            cause = cause.__cause__
        failure = _network_error(request, error, answered)
        if isinstance(error, aiohttp.ClientSSLError) and not is_tls_certain:
            failure = TransferError(str(failure), hint=failure.hint, transient=True)
        log.info("%s: %s", request, failure)
        raise failure from error
    except ValueError as error:  # from yarl, idna or aiohttp, for URLs from a registry or the user
        raise TransferError(f"{request.host}: not a valid URL: {error}.") from error


async def iter_body(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield a body in chunks as they arrive; those before an error are valid."""
    with translate_errors(Request.of(response)):
        async for chunk in response.content.iter_any():
            yield chunk


def _network_error(request: Request, error: BaseException, answered: Collection[Endpoint]) -> TransferError:
    host, about = request.host, request.about
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError | ForbiddenAddress):
        return _connection_error(error, answered)
    if isinstance(error, TimeoutError):
        return TransferError(f"{host} stopped answering{about}.", transient=True)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | OSError | EOFError):
        hint = None
        reset = isinstance(error, ConnectionResetError) or getattr(error, "errno", None) == errno.ECONNRESET
        if request.url.startswith("https://") and (reset or isinstance(error, aiohttp.ServerDisconnectedError)):
            hint = f"If {host} requires a client certificate, put it in the host's certs.d directory."
        return TransferError(f"{host}: the connection was cut{about}.", hint=hint, transient=True)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        text = f"{host}: the proxy answered {error.status} {error.message.rstrip(' .')}."
        hint = PROXY_AUTH_HINT if error.status == 407 else None
        return TransferError(text, hint=hint, status=error.status, transient=error.status in TRANSIENT)
    if isinstance(error, aiohttp.ClientResponseError):
        hint = f"{host} may use TLS: try without --plain-http." if request.url.startswith("http://") else None
        return TransferError(f"{host}: the response is not valid HTTP{about}.", hint=hint, transient=True)
    what = f"{type(error).__name__}: {error}"
    if isinstance(error, aiohttp.InvalidURL):  # its text contains the whole URL, which may be signed
        what = f"not a valid URL{f': {error.description}' if error.description else ''}"
    return TransferError(f"{host}: {what}.")


def _connection_error(
    error: aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError | ForbiddenAddress,
    answered: Collection[Endpoint],
) -> TransferError:
    if isinstance(error, ForbiddenAddress):
        return TransferError(f"Not connecting: {error}.", hint=error.hint)
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _certificate_error(error)
    where = f"{error.host}:{error.port}"
    transient = (error.host, error.port) in answered
    if isinstance(error, aiohttp.ClientSSLError):
        return TransferError(
            f"{where}: the TLS handshake failed: {error.os_error}.",
            hint=f"If {error.host} does not use TLS, add --plain-http.",
            transient=transient,
        )
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


def _certificate_error(error: aiohttp.ClientConnectorCertificateError) -> TransferError:
    host = error.host if error.port == _HTTPS_PORT else f"{error.host}:{error.port}"
    cause = error.certificate_error
    code = getattr(cause, "verify_code", None)
    what = _CERTIFICATE_FAULTS.get(code or 0)
    if what is None:
        said = cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) and code else str(cause)
        what = f"cannot be verified: {said.rstrip('.')}"
    clock = "Check this machine's clock. " if code in (9, 10) else ""  # not valid yet, or expired
    return TransferError(
        f"The certificate of {host} {what}.",
        hint=f"{clock}Add its CA certificate with --ca-file FILE. To connect without verification: --insecure for the "
        f'registry itself; insecure = ["{host}"] in ~/.config/mirror/mirror.toml for a mirror, or a host that the '
        "registry redirects to.",
    )
