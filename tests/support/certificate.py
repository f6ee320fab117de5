"""Certificates for tests: self-signed ones, and an authority that signs those of servers and clients."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

_PEM = serialization.Encoding.PEM
_PKCS8 = serialization.PrivateFormat.PKCS8


def self_signed(file: Path, *hosts: str) -> ssl.SSLContext:
    """Return a server's TLS context for these names and 127.0.0.1, and write its certificate and key to `file`."""
    key = ec.generate_private_key(ec.SECP256R1())
    file.write_bytes(_private(key) + _certificate(key, key, (*hosts, "127.0.0.1"), ca=True))
    return server_tls(file)


def server_tls(file: Path, clients: Path | None = None) -> ssl.SSLContext:
    """Return a server's TLS context with the certificate and key in `file`; `clients` has the CA of its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients)
    return context


@dataclass(frozen=True)
class Authority:
    """A certificate authority whose own certificate is in `file`."""

    file: Path
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def at(cls, file: Path) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        file.write_bytes(_certificate(key, key, (), ca=True, name=file.stem))
        return cls(file, key)

    def intermediate(self, file: Path) -> "Authority":
        """Return an authority that this one has signed."""
        key = ec.generate_private_key(ec.SECP256R1())
        file.write_bytes(_certificate(key, self.key, (), ca=True, name=file.stem, issuer=self.file.stem))
        return Authority(file, key)

    def sign(self, file: Path, *hosts: str, passphrase: bytes | None = None, days: tuple[int, int] = (-1, 1)) -> Path:
        """Write a key and its certificate for these hosts to `file`, and separately to `.key` and `.cert` beside it.

        The certificate is valid from the first to the second of `days`, counted from now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        private = _private(key, passphrase)
        certificate = _certificate(key, self.key, hosts, issuer=self.file.stem, days=days)
        file.write_bytes(private + certificate)
        file.with_suffix(".key").write_bytes(private)
        file.with_suffix(".cert").write_bytes(certificate)
        return file


def _private(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    closed = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    return key.private_bytes(_PEM, _PKCS8, closed)


def _certificate(
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    hosts: tuple[str, ...],
    *,
    ca: bool = False,
    name: str = "embedded registry",
    issuer: str = "",
    days: tuple[int, int] = (-1, 1),
) -> bytes:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        _named(issuer or name), _named(name), key.public_key(), x509.random_serial_number()
    ).not_valid_before(now + timedelta(days=days[0]))
    builder = builder.not_valid_after(now + timedelta(days=days[1])).add_extension(
        x509.BasicConstraints(ca=ca, path_length=None), critical=True
    )
    if hosts:
        names = x509.SubjectAlternativeName(list(map(_general, hosts)))
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256()).public_bytes(_PEM)


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
