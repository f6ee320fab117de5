"""The listening socket of the server, and its TLS certificate."""

from __future__ import annotations

import os
import re
import socket
import ssl
from pathlib import Path

from mirror.errors import ListenError, UsageError
from mirror.oci.reference import is_host

_ADDRESS = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})", re.ASCII)
_BACKLOG = 1024  # connections waiting to be accepted


def parse_address(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`."""
    found = _ADDRESS.fullmatch(text)
    if not found or int(found["port"]) >= 2**16 or not is_host(found["host"]):
        raise UsageError(
            f"Not a valid address to listen on: {text!r}.",
            hint="Use HOST:PORT, such as 127.0.0.1:5000, 0.0.0.0:5000 or [::1]:0; port 0 picks a free port.",
        )
    return found["host"].strip("[]"), int(found["port"])


def bind(host: str, port: int, timeout: float) -> socket.socket:
    """Return a listening socket. If a name has several addresses, IPv4 is preferred.

    On Linux, the system closes connections to clients that accept no byte for `timeout` seconds.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        listening = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ListenError(
            f"Cannot listen on {host}:{port}: {reason}.",
            hint="Choose another address with --listen; port 0 picks a free port.",
        ) from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted connections inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout * 1000))
    return listening


def tls_context(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Load a certificate and its key, which may be in the same file; return None without a certificate."""
    if certificate is None:
        if key is not None:
            raise UsageError(f"{key} is a key without a certificate.", hint="Name the certificate with --cert.")
        return None
    files = " and ".join(str(file) for file in (certificate, key) if file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # Without `password`, OpenSSL would ask on the terminal for the password of an encrypted key.
        context.load_cert_chain(certificate, key, password=lambda: "")
    except ssl.SSLError as error:
        reason = (error.reason or "not PEM").lower().replace("_", " ")
        raise UsageError(
            f"{files}: cannot load the certificate and its key: {reason}.",
            hint="Both must be PEM, match each other, and the key must not be encrypted (--cert, --key).",
        ) from None
    except OSError as error:
        raise UsageError(f"{files} cannot be read: {os.strerror(error.errno or 0)}.") from None
    return context
