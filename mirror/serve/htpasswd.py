"""Basic authentication against an htpasswd file (RFC 7617).

Only bcrypt is supported, as written by `htpasswd -B`: other hashes can be guessed millions of times per second. A
correct password is cached as an HMAC under a random key, so bcrypt runs once and not for every blob. Wrong passwords
are checked with bcrypt each time, one at a time; an unknown user takes as long as a known one.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from mirror.config.files import read_file
from mirror.errors import UsageError

_BCRYPT = re.compile(rb"\$2[aby]\$(?:0[4-9]|1[0-9])\$[./A-Za-z0-9]{53}")
_OTHERS = {b"{SHA}": "SHA-1", b"$apr1$": "MD5 (apr1)", b"$1$": "MD5", b"$5$": "SHA-256", b"$6$": "SHA-512"}
_CAP = 1024 * 1024  # bytes of an htpasswd file
_HINT = "--htpasswd takes a file as written by htpasswd -B."
_MAX_CACHED = 1024  # correct passwords
_BCRYPT_BYTES = 72  # of a password; htpasswd ignores the rest too
_DUMMY_HASH = b"$2b$10$" + b"." * 53  # checked for unknown users

RunInThread = Callable[[Callable[[], bool]], Awaitable[bool]]


class BasicAuth:
    """Authentication of the `users` of an htpasswd file, given as user → bcrypt hash."""

    def __init__(self, users: Mapping[str, bytes], run_in_thread: RunInThread) -> None:
        self._users, self._run_in_thread = users, run_in_thread
        self._key = secrets.token_bytes(32)
        self._correct: dict[bytes, None] = {}
        self._checking = asyncio.Lock()

    async def authenticate(self, authorization: str | None) -> str | None:
        """Return the user that an Authorization header authenticates; None if it does not."""
        user, password = _parse(authorization)
        if not user:
            return None
        proof = hmac.digest(self._key, b"%d:%b:%b" % (len(user), user, password), hashlib.sha256)
        if proof not in self._correct:
            async with self._checking:  # so that guessing does not take every CPU from known users
                if proof not in self._correct and not await self._run_in_thread(partial(self._check, user, password)):
                    return None
            self._correct[proof] = None
            if len(self._correct) > _MAX_CACHED:
                del self._correct[next(iter(self._correct))]
        return user.decode()

    def _check(self, user: bytes, password: bytes) -> bool:
        import bcrypt  # only with --htpasswd

        known = self._users.get(user.decode())
        try:
            correct = bcrypt.checkpw(password[:_BCRYPT_BYTES], known or _DUMMY_HASH)
        except ValueError:  # a NUL in the password
            return False
        return correct and known is not None


def read_users(path: Path) -> dict[str, bytes]:
    """Read the users of an htpasswd file, and their bcrypt hashes.

    Raises:
        UsageError: the file cannot be read or is not an htpasswd file, or the package bcrypt is not installed.
    """
    if not find_spec("bcrypt"):  # an extra: no other command needs it
        raise UsageError(
            "--htpasswd needs the Python package bcrypt, which is not installed.",
            hint="Install it next to mirror: pip install bcrypt",
        )
    users: dict[str, bytes] = {}
    for number, line in enumerate(read_file(path, _CAP, _HINT).splitlines(), 1):
        text = line.strip()
        if text and not text.startswith(b"#"):
            user, hashed = _parse_line(text, path, number)
            users[user] = hashed
    if not users:
        raise UsageError(f"{path} has no users.", hint=f"Add one: htpasswd -B {path} NAME")
    return users


def _parse_line(line: bytes, path: Path, number: int) -> tuple[str, bytes]:
    where = f"{path}, line {number}"
    name, colon, hashed = line.partition(b":")
    user = name.decode()
    if not colon or not user:
        raise UsageError(f"{where}: expected NAME:HASH.")
    if not _BCRYPT.fullmatch(hashed):
        kind = next((f"an {name} hash" for prefix, name in _OTHERS.items() if hashed.startswith(prefix)), "invalid")
        raise UsageError(
            f"{where}: the password hash of {user!r} is {kind}; only bcrypt hashes are supported.",
            hint=f"Recreate the entry: htpasswd -B {path} {user}",
        )
    return user, hashed


def _parse(authorization: str | None) -> tuple[bytes, bytes]:
    """Return the user and the password in a header; both are empty if it has none."""
    scheme, _, text = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return b"", b""
    try:
        decoded = base64.b64decode(text.strip(), validate=True)
        decoded.decode()
    except (binascii.Error, ValueError):
        return b"", b""
    user, _, password = decoded.partition(b":")
    return user, password
