"""Where the server listens, and with which certificate."""

from __future__ import annotations

import os
import re
import socket
import ssl
from pathlib import Path

from mirror.errors import ListenError, UsageError
from mirror.oci.reference import is_host

_ADDRESS = re.compile(r"(?P<host>\[[^\[\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})", re.ASCII)
_BACKLOG = 1024  # connections that wait to be taken


def address(text: str) -> tuple[str, int]:
    """`HOST:PORT` taken apart; port 0 is any that is free.

    Raises:
        UsageError: it is no such thing.
    """
    found = _ADDRESS.fullmatch(text)
    if not found or int(found["port"]) >= 2**16 or not is_host(found["host"]):
        raise UsageError(
            f"{text!r} is no address to listen on.",
            hint="Addresses look like 127.0.0.1:5000, 0.0.0.0:5000 or [::1]:0; port 0 takes a free one.",
        )
    return found["host"].strip("[]"), int(found["port"])


def bound(host: str, port: int, patience: float) -> socket.socket:
    """A socket that listens; of the addresses that a name has, IPv4 first.

    A client that takes no byte for `patience` seconds is given up by the system, where it is Linux.

    Raises:
        ListenError: the system refuses.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, where = min(found, key=lambda one: one[0] != socket.AF_INET)
        listening = socket.create_server(where[:2], family=family, backlog=_BACKLOG)
    except OSError as error:
        why = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ListenError(
            f"{host}:{port} cannot be listened on: {why}.",
            hint="Choose another address with --listen; port 0 takes a free one.",
        ) from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted connections inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(patience * 1000))
    return listening


def shown(listening: socket.socket) -> str:
    """`HOST:PORT` of a socket, as it goes in front of the name of an image."""
    host, port = listening.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls(certificate: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The server's side of TLS; None where there is to be none. The key may be in the certificate's file.

    Raises:
        UsageError: the files are not there, or do not belong together.
    """
    if certificate is None:
        if key is not None:
            raise UsageError(f"{key} is a key without a certificate.", hint="Name the certificate with --cert.")
        return None
    files = " and ".join(str(file) for file in (certificate, key) if file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except ssl.SSLError as error:
        why = (error.reason or "no PEM").lower().replace("_", " ")
        raise UsageError(
            f"{files}: no certificate and key that can be used: {why}.",
            hint="Both are PEM files that belong together (--cert, --key), or one file; the key has no password.",
        ) from None
    except OSError as error:
        raise UsageError(f"{files} cannot be read: {os.strerror(error.errno or 0)}.") from None
    return context


def _no_password() -> str:
    """Asked for where the key is encrypted; OpenSSL would ask on the terminal."""
    return ""
