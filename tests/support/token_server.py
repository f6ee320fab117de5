"""A token server for docker-registry: RS256 tokens that contain the certificate, for Basic and OAuth2.

with TokenServer.running(path, {"ann": "secret"}) as server:
    docker_registry(path, auth={"token": server.settings()})

It grants the rights that `allowed` allows, and records its requests.
"""

import base64
import binascii
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

SERVICE, ISSUER = "registry under test", "token server under test"

Allowed = Callable[[str | None, str, str], bool]


@dataclass(frozen=True)
class Asked:
    """A request for a token: the user, None if anonymous; the requested scopes."""

    method: str
    user: str | None
    scopes: tuple[str, ...]


class TokenServer(ThreadingHTTPServer):
    """A server with passwords of `users` and identity tokens of users; `allowed` gets user, repository and action."""

    daemon_threads = True

    def __init__(self, folder: Path, users: dict[str, str], identities: dict[str, str], allowed: Allowed) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.users, self.identities, self.allowed = users, identities, allowed
        self.lifetime = 300
        self.asked: list[Asked] = []
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._certificate = _self_signed(self._key)
        self._bundle = folder / "tokens.pem"
        self._bundle.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    @classmethod
    @contextmanager
    def running(
        cls,
        folder: Path,
        users: dict[str, str],
        identities: dict[str, str] | None = None,
        allowed: Allowed = lambda user, repository, action: user is not None,
    ) -> Iterator["TokenServer"]:
        folder.mkdir(parents=True, exist_ok=True)
        with cls(folder, users, identities or {}, allowed) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
            thread.start()
            yield server
            server.shutdown()
            thread.join()

    def change_key(self) -> None:
        """Sign tokens with an untrusted key from now on."""
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def settings(self) -> dict[str, str]:
        """Return the settings for docker-registry."""
        realm = f"http://127.0.0.1:{self.server_address[1]}/token"
        return {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(self._bundle)}

    def token(self, user: str | None, scopes: tuple[str, ...]) -> str:
        """A signed token with the grants among `scopes` (distribution, `docs/spec/auth/jwt.md`)."""
        now = int(time.time())
        certificate = base64.b64encode(self._certificate.public_bytes(Encoding.DER)).decode()
        claims = {
            "iss": ISSUER,
            "sub": user or "",
            "aud": SERVICE,
            "exp": now + self.lifetime,
            "nbf": now - 5,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": [self._access(user, scope) for scope in scopes],
        }
        text = f"{_encode({'typ': 'JWT', 'alg': 'RS256', 'x5c': [certificate]})}.{_encode(claims)}"
        signature = self._key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{_base64(signature)}"

    def _access(self, user: str | None, scope: str) -> dict[str, Any]:
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        granted = [action for action in actions.split(",") if self.allowed(user, name, action)]
        return {"type": kind, "name": name, "actions": granted}


class _Handler(BaseHTTPRequestHandler):
    server: TokenServer

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        header = self.headers.get("Authorization")
        user = _user(self.server.users, header)
        self._answer("GET", query.get("scope", []), user, refused=header is not None and user is None, name="token")

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        user = self.server.identities.get(form["refresh_token"][0])
        fine = form["grant_type"] == ["refresh_token"] and form["service"] == [SERVICE] and form["client_id"][0] != ""
        scopes = " ".join(form.get("scope", [])).split()
        self._answer("POST", scopes, user, refused=user is None or not fine, name="access_token")

    def _answer(self, method: str, scopes: list[str], user: str | None, *, refused: bool, name: str) -> None:
        self.server.asked.append(Asked(method, user, tuple(scopes)))
        document: dict[str, Any] = {"errors": [{"code": "UNAUTHORIZED", "message": "who is that?"}]}
        if not refused:
            issued = datetime.now(UTC).isoformat().replace("+00:00", "Z")
            document = {name: self.server.token(user, tuple(scopes)), "expires_in": self.server.lifetime}
            document["issued_at"] = issued
        data = json.dumps(document).encode()
        self.send_response(401 if refused else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: the requests are in `asked`."""


def _user(users: dict[str, str], header: str | None) -> str | None:
    try:
        user, _, password = base64.b64decode((header or "").removeprefix("Basic ")).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return user if users.get(user) == password else None


def _self_signed(key: rsa.RSAPrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


def _encode(document: dict[str, Any]) -> str:
    return _base64(json.dumps(document, separators=(",", ":")).encode())


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
