"""Credential helpers: programs named `docker-credential-*` that store passwords, often in a keychain.

The protocol is that of docker-credential-helpers: the action is the only argument; `get` and `erase` read the server
from stdin, `store` reads JSON, `get` writes JSON. A helper's output is never shown, since it may contain a secret.
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

TIMEOUT = 30.0  # seconds; the user may have to unlock a keychain

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*", re.ASCII)  # part of a program's name, never a path
_TOKEN = "<token>"  # the user name that marks an identity token
_NOT_FOUND = b"credentials not found in native keychain"


@dataclass(frozen=True, slots=True)
class CredentialHelper:
    """A helper by its short name; `file` is the credentials file that names it."""

    name: str
    file: Path

    @property
    def program(self) -> str:
        return f"docker-credential-{self.name}"

    async def get(self, server: str) -> Credentials | None:
        """Return the credentials for a server; None if the helper has none. If it fails, raise ConfigError."""
        code, output = await self._run("get", server)
        if code:
            if _NOT_FOUND in output:
                return None
            raise self._failed("get", server, f"failed with exit status {code}")
        try:
            answer = load_object(output, self.program)
        except ContentError:
            raise self._failed("get", server, "did not print a JSON object") from None
        user, secret = answer.get("Username"), answer.get("Secret")
        if not isinstance(user, str) or not isinstance(secret, str):
            raise self._failed("get", server, "printed no Username or no Secret")
        token = {"identity_token": secret} if user == _TOKEN else {}
        return Credentials(user, "" if token else secret, source=self.program, **token) if secret else None

    async def store(self, server: str, credentials: Credentials) -> None:
        """Store a user and a password."""
        document = {"ServerURL": server, "Username": credentials.user, "Secret": credentials.password}
        code, _ = await self._run("store", json.dumps(document))
        if code:
            raise self._failed("store", server, f"failed with exit status {code}")

    async def erase(self, server: str) -> None:
        """Remove the credentials for a server, if there are any."""
        code, output = await self._run("erase", server)
        if code and _NOT_FOUND not in output:
            raise self._failed("erase", server, f"failed with exit status {code}")

    async def _run(self, action: str, stdin: str) -> tuple[int, bytes]:
        """Run the helper, and return its exit status and stdout. stderr may contain a secret, and is discarded."""
        if not _NAME.fullmatch(self.name):
            raise self._unusable("does not have a valid name")
        program = shutil.which(self.program)
        if program is None:
            raise self._unusable("is not installed")
        try:
            with _start(program, action) as process:
                try:
                    output, _ = await to_thread(lambda: process.communicate(stdin.encode(), TIMEOUT), process.kill)
                finally:
                    process.kill()
        except subprocess.TimeoutExpired:
            raise self._unusable(f"has not answered for {TIMEOUT:g} s") from None
        except OSError as error:
            raise self._unusable(f"cannot be run: {os.strerror(error.errno or 0)}") from None
        return process.returncode, output

    def _unusable(self, what: str) -> ConfigError:
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
    """Start a helper in our own session, since it may prompt the user on the terminal."""
    pipe = subprocess.PIPE
    return subprocess.Popen([program, action], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
