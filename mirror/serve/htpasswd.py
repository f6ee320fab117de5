"""Who may ask: Basic authentication against an htpasswd file (RFC 7617).

Only bcrypt is taken, as `htpasswd -B` writes it: what a stolen file can be tried against a million times a second is no
secret. A right password is remembered under a key that dies with the process, so that it costs its bcrypt once and not
with every blob; a wrong one costs it every time, one at a time, and an unknown user as much as a known one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path

from mirror.errors import UsageError

_BCRYPT = re.compile(rb"\$2[aby]\$(?:0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}")
_OTHERS = {b"{SHA}": "SHA-1", b"$apr1$": "MD5 (apr1)", b"$1$": "MD5", b"$5$": "SHA-256", b"$6$": "SHA-512"}
_CAP = 1024 * 1024  # bytes of an htpasswd file
_MOST = 1024  # right passwords remembered
_BCRYPT_BYTES = 72  # of a password; htpasswd cuts off the rest, and so did the one who wrote the file
_NOBODY = b"$2b$10$" + b"." * 53

Hop = Callable[[Callable[[], bool]], Awaitable[bool]]


class BasicAuth:
    """The users of a file, and which of their passwords have been right."""

    def __init__(self, users: Mapping[str, bytes], hop: Hop) -> None:
        self._users, self._hop = users, hop
        self._key = secrets.token_bytes(32)
        self._right: dict[bytes, None] = {}
        self._checking = asyncio.Lock()

    async def user(self, authorization: str | None) -> str | None:
        """Who it is, by the Authorization header; None for nobody that we know."""
        name, password = _credentials(authorization)
        if not name:
            return None
        proof = hmac.digest(self._key, b"%d:%b:%b" % (len(name), name, password), hashlib.sha256)
        if proof not in self._right:
            async with self._checking:  # threads of bcrypt would take every core from those who are known already
                if proof not in self._right and not await self._hop(partial(self._check, name, password)):
                    return None
            self._right[proof] = None
            if len(self._right) > _MOST:
                del self._right[next(iter(self._right))]
        return name.decode()

    def _check(self, name: bytes, password: bytes) -> bool:
        import bcrypt  # only where there is a file

        known = self._users.get(name.decode())
        try:
            right = bcrypt.checkpw(password[:_BCRYPT_BYTES], known or _NOBODY)
        except ValueError:  # a NUL in the password
            return False
        return right and known is not None


def read(path: Path) -> dict[str, bytes]:
    """The users of an htpasswd file and their hashes.

    Raises:
        UsageError: it cannot be read, has no users, or has a line that is no user with a bcrypt hash.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_CAP + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {os.strerror(error.errno or 0)}.") from None
    if len(data) > _CAP:
        raise UsageError(f"{path} has more than {_CAP} bytes, and should be an htpasswd file.")
    users: dict[str, bytes] = {}
    for number, line in enumerate(data.splitlines(), 1):
        text = line.strip()
        if text and not text.startswith(b"#"):
            name, hashed = _user(text, f"{path}, line {number}")
            users[name] = hashed
    if not users:
        raise UsageError(f"{path} has no users, so nobody could get in.", hint=f"Add one: htpasswd -B {path} NAME")
    return users


def _user(line: bytes, where: str) -> tuple[str, bytes]:
    name, colon, hashed = line.partition(b":")
    try:
        user = name.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{where}: the user's name is not UTF-8.") from None
    if not colon or not user:
        raise UsageError(f"{where}: it should be NAME:HASH.")
    if not _BCRYPT.fullmatch(hashed):
        kind = next((text for prefix, text in _OTHERS.items() if hashed.startswith(prefix)), "no bcrypt hash")
        raise UsageError(
            f"{where}: the password of {user!r} is {kind}, and only bcrypt is taken.",
            hint="Write it again with htpasswd -B; the others are guessed too fast.",
        )
    return user, hashed


def _credentials(authorization: str | None) -> tuple[bytes, bytes]:
    """User and password; empty where the header has none that could be anybody's."""
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        decoded = base64.b64decode(text.strip(), validate=True)
        decoded.decode()
    except (binascii.Error, ValueError):
        return b"", b""
    name, _, password = decoded.partition(b":")
    return name, password
