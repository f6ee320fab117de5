"""Credential helpers: programs called `docker-credential-*` that keep passwords in a keychain.

The protocol is that of docker-credential-helpers: the action is the one argument; `get` and `erase` read the server
from stdin, `store` reads JSON, `get` writes JSON. What a helper prints is never repeated: it may be the secret.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mirror.concurrency import to_thread
from mirror.errors import ConfigError, ContentError
from mirror.registry.credentials import Credentials
from mirror.strictjson import load_object

PATIENCE = 30.0  # seconds; a person may have to unlock a keychain, and no request waits much longer than that

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)  # part of a program's name, never a path
_TOKEN = "<token>"  # the user whose password is an identity token
_NOT_FOUND = b"credentials not found in native keychain"


@dataclass(frozen=True, slots=True)
class CredentialHelper:
    """One helper by its short name; `file` is the credentials file that names it."""

    name: str
    file: Path

    @property
    def program(self) -> str:
        return f"docker-credential-{self.name}"

    async def get(self, server: str) -> Credentials | None:
        """What the helper knows about a server; None where it knows nothing.

        Raises:
            ConfigError: the helper is not there, fails, does not end, or says what cannot be understood.
        """
        code, output = await self._run("get", server)
        if code:
            if _NOT_FOUND in output:
                return None
            raise self._failed("get", server, f"failed with exit status {code}")
        try:
            answer = load_object(output, self.program)
        except ContentError:
            raise self._failed("get", server, "printed something else than JSON") from None
        user, secret = answer.get("Username"), answer.get("Secret")
        if not isinstance(user, str) or not isinstance(secret, str):
            raise self._failed("get", server, "printed no Username and Secret")
        token = {"identity_token": secret} if user == _TOKEN else {}
        return Credentials(user, "" if token else secret, source=self.program, **token) if secret else None

    async def store(self, server: str, credentials: Credentials) -> None:
        """Keep a user and a password.

        Raises:
            ConfigError: as `get`.
        """
        document = {"ServerURL": server, "Username": credentials.user, "Secret": credentials.password}
        code, _ = await self._run("store", json.dumps(document))
        if code:
            raise self._failed("store", server, f"failed with exit status {code}")

    async def erase(self, server: str) -> None:
        """Forget a server; one that is not known is fine.

        Raises:
            ConfigError: as `get`.
        """
        code, output = await self._run("erase", server)
        if code and _NOT_FOUND not in output:
            raise self._failed("erase", server, f"failed with exit status {code}")

    async def _run(self, action: str, stdin: str) -> tuple[int, bytes]:
        """Run the helper to its end, which comes in time or by force. What it says on stderr is not repeated either."""
        if not _NAME.fullmatch(self.name):
            raise self._broken("is no program's name")
        program = shutil.which(self.program)
        if program is None:
            raise self._broken("is not installed")
        try:
            with _start(program, action) as process:
                try:
                    output, _ = await to_thread(lambda: process.communicate(stdin.encode(), PATIENCE), process.kill)
                finally:
                    process.kill()
        except subprocess.TimeoutExpired:
            raise self._broken(f"has not answered for {PATIENCE:g} s") from None
        except OSError as error:
            raise self._broken(f"cannot be run: {os.strerror(error.errno or 0)}") from None
        return process.returncode, output

    def _broken(self, what: str) -> ConfigError:
        return ConfigError(
            f"The credential helper {self.program}, named in {self.file}, {what}.",
            hint=f"Install it, or remove it from {self.file}.",
        )

    def _failed(self, action: str, server: str, what: str) -> ConfigError:
        return ConfigError(
            f"The credential helper {self.program}, named in {self.file}, {what}, asked to {action} {server}.",
            hint=f"Try it by hand: printf %s {server} | {self.program} get",
        )


def _start(program: str, action: str) -> subprocess.Popen[bytes]:
    """It may ask the person on the terminal, so it stays in our session."""
    pipe = subprocess.PIPE
    return subprocess.Popen([program, action], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
