"""TLS to registries: trusted CAs, client certificates, and detection of registries without TLS.

Settings for one host apply to that host alone: a CA in its certs.d directory is not trusted for other hosts, and its
client certificate is never sent to hosts that the registry redirects to.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from mirror.config.hosts import HostSettings
from mirror.errors import ConfigError
from mirror.oci.reference import is_host

_SYSTEM = ("/etc/containers/certs.d", "/etc/docker/certs.d")
_NOT_A_CA = "does not contain a CA certificate in PEM form"
_HOST_KINDS = ("DNS", "IP Address")  # of names in certificates
_PROBE_TIMEOUT = 5  # seconds for detecting whether a registry uses TLS


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """The TLS configuration for one host."""

    verify: bool = True
    ca_files: tuple[Path, ...] = ()  # in addition to the system's
    client_certificates: tuple[tuple[Path, Path], ...] = ()  # each with its key

    def context(self) -> ssl.SSLContext:
        """Return the SSL context for connections to the host."""
        context = _verifying_context() if self.verify else _unverified_context()
        context.set_alpn_protocols(["http/1.1"])
        for file in self.ca_files:
            with _naming(file, _NOT_A_CA):
                context.load_verify_locations(cafile=file)
        for pair in self.client_certificates:
            _load_client_certificate(context, *pair)
        return context


class TlsContexts:
    """The TLS contexts of one command: each takes 20 ms, for the CAs of the system."""

    def __init__(self) -> None:
        self._contexts: dict[TlsConfig, ssl.SSLContext] = {}

    def get(self, config: TlsConfig) -> ssl.SSLContext:
        """Return the context for a configuration, always the same one."""
        if config not in self._contexts:
            self._contexts[config] = config.context()
        return self._contexts[config]


def tls_config(
    host: str, settings: HostSettings, *, is_registry: bool, verify: bool, ca_file: str | None = None
) -> TlsConfig:
    """Return the configuration for a host, from its certs.d directory (containers-certs.d(5)) and its settings.

    `ca_file` is for all hosts. Client certificates are not sent to hosts other than the registry itself.
    """
    ca_files = [Path(file).expanduser() for file in (ca_file, settings.ca_file) if file]
    pairs: list[tuple[Path, Path]] = []
    if settings.client_cert:
        certificate = Path(settings.client_cert).expanduser()
        pairs.append((certificate, Path(settings.client_key).expanduser() if settings.client_key else certificate))
    for directory, names in _certs_d(host):
        ca_files += [directory / name for name in names if name.endswith(".crt")]
        pairs += _client_certificates(directory, names)
    return TlsConfig(verify, tuple(ca_files), tuple(pairs) if is_registry else ())


def _certs_d(host: str) -> Iterator[tuple[Path, list[str]]]:
    """Yield the first certs.d directory of a host that exists, with the names of its files."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    if not is_host(host):
        return  # the host, part of a path here, may be from a redirect
    for parent in (Path(home, "containers/certs.d"), *map(Path, _SYSTEM)):
        directory = parent / host
        try:
            yield directory, sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{directory} cannot be read: {os.strerror(error.errno or 0)}.") from None
        return


def _client_certificates(directory: Path, names: list[str]) -> Iterator[tuple[Path, Path]]:
    """Yield pairs of `NAME.cert` and `NAME.key`; one without the other is an error, before the handshake fails."""
    for name in names:
        stem, _, kind = name.rpartition(".")
        if kind == "cert" and f"{stem}.key" not in names:
            raise ConfigError(
                f"{directory / name} is a client certificate without its key {stem}.key.",
                hint="If it is a CA certificate, rename it to end in .crt.",
            )
        if kind == "key" and f"{stem}.cert" not in names:
            raise ConfigError(f"{directory / name} is a key without its client certificate {stem}.cert.")
        if kind == "cert":
            yield directory / name, directory / f"{stem}.key"


def _load_client_certificate(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # never prompt for a passphrase
    except ssl.SSLError:
        raise ConfigError(f"{certificate} does not contain a certificate that matches the key {key}.") from None
    except OSError:
        for file in (certificate, key):  # the error does not say which of them
            with _naming(file, "is unreadable"), file.open("rb"):
                pass
        raise


@contextmanager
def _naming(file: Path, fault: str) -> Iterator[None]:
    """Raise ConfigErrors that name the file, as OpenSSL's errors do not; `fault` is for a file that is not valid."""
    try:
        yield
    except ssl.SSLError:
        raise ConfigError(f"{file} {fault}.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {os.strerror(error.errno or 0)}.") from None


@contextmanager
def _noting_names(connection: ssl.SSLObject | ssl.SSLSocket) -> Iterator[None]:
    """Add a note with the names in the certificate to a certificate error of a handshake."""
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        # Python has no public way to read the certificate after a failed handshake; a note is not worth an error.
        with suppress(AttributeError, IndexError, KeyError, TypeError, ValueError):
            certificate = getattr(connection, "_sslobj").get_unverified_chain()[0].get_info()  # noqa: B009
            error.add_note(", ".join(name for kind, name in certificate["subjectAltName"] if kind in _HOST_KINDS))
        raise


class _Object(ssl.SSLObject):
    """TLS in the event loop."""

    def do_handshake(self) -> None:
        with _noting_names(self):
            super().do_handshake()


class _Socket(ssl.SSLSocket):
    """TLS in a thread."""

    def do_handshake(self, block: bool = False) -> None:
        with _noting_names(self):
            super().do_handshake(block)


def _verifying_context() -> ssl.SSLContext:
    """Return a context with the system's CAs, or those in SSL_CERT_FILE; OpenSSL would silently ignore a bad file."""
    context = ssl.create_default_context()
    # The same on all versions of Python: 3.13 and newer would reject certificates that curl and skopeo accept; older
    # versions would not accept an intermediate CA, or the server's own certificate, as a trust anchor.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.sslobject_class, context.sslsocket_class = _Object, _Socket
    if file := os.environ.get("SSL_CERT_FILE"):
        with _naming(Path(file), _NOT_A_CA):
            context.load_verify_locations(cafile=file)
    return context


def _unverified_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def speaks_plain_http(url: URL) -> bool | None:
    """Return whether the server at an https URL does not use TLS, by attempting a handshake; None if it is down."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT):
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=_unverified_context())
    except ssl.SSLError as error:
        return "ALERT" not in (error.reason or "")  # an alert is TLS: a client certificate may be required
    except ConnectionResetError:
        return True
    except OSError:
        return None  # the request will fail, too
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return False
