"""TLS towards registries: whether they speak it, whom to believe, and who we are to them.

What is said of one host holds for that host alone: an authority in its certs.d folder vouches for nobody else, and a
client certificate is shown to the registry for which it is there, not to where the registry sends us.
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
_NO_AUTHORITY = "no certificate of an authority in PEM form"


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Whom to believe about one host: the system's authorities and `authorities`, or anybody (not `verify`).

    `certificates` are ours, each a file with a certificate and one with its key.
    """

    verify: bool = True
    authorities: tuple[Path, ...] = ()
    certificates: tuple[tuple[Path, Path], ...] = ()

    def context(self) -> ssl.SSLContext:
        """What a handshake needs.

        Raises:
            ConfigError: a file cannot be used.
        """
        made = _verifying() if self.verify else _unverified()
        made.set_alpn_protocols(["http/1.1"])
        for file in self.authorities:
            with _named(file, _NO_AUTHORITY):
                made.load_verify_locations(cafile=file)
        for certificate, key in self.certificates:
            _readable(certificate)
            _readable(key)
            with _named(certificate, f"no certificate that fits its key {key}"):
                made.load_cert_chain(certificate, key, password=lambda: "")  # nobody is asked for a passphrase
        return made


def trust(host: str, settings: HostSettings, *, own: bool, verify: bool, ca_file: str | None = None) -> TlsConfig:
    """What certs.d folders and settings say of a host; our certificates only where it is the registry's `own`.

    Raises:
        ConfigError: a folder cannot be read, or has half of a certificate and its key.
    """
    files = [file for file in (ca_file, settings.ca_file) if file]
    authorities = [Path(file).expanduser() for file in files]
    pairs: list[tuple[Path, Path]] = []
    if settings.client_cert:
        certificate = Path(settings.client_cert).expanduser()
        pairs.append((certificate, Path(settings.client_key).expanduser() if settings.client_key else certificate))
    for folder, names in _folder(host):
        authorities += [folder / name for name in names if name.endswith(".crt")]
        pairs += _pairs(folder, names)
    return TlsConfig(verify, tuple(authorities), tuple(pairs) if own else ())


def _folder(host: str) -> Iterator[tuple[Path, list[str]]]:
    """The first certs.d folder of a host that is there, and its files (containers-certs.d(5))."""
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    if not is_host(host):
        return  # the name may come from a redirect, and becomes a path here
    for place in (Path(home, "containers/certs.d"), *map(Path, _SYSTEM)):
        try:
            yield place / host, sorted(os.listdir(place / host))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{place / host} cannot be read: {os.strerror(error.errno or 0)}.") from None
        return


def _pairs(folder: Path, names: list[str]) -> Iterator[tuple[Path, Path]]:
    """Certificates and keys of the same name; a lone one is a mistake that would show as a refused handshake."""
    for name in names:
        stem, _, kind = name.rpartition(".")
        if kind == "cert" and f"{stem}.key" not in names:
            raise ConfigError(
                f"{folder / name} is a client certificate without its key {stem}.key.",
                hint="The certificate of an authority ends in .crt.",
            )
        if kind == "key" and f"{stem}.cert" not in names:
            raise ConfigError(f"{folder / name} is a key without its client certificate {stem}.cert.")
        if kind == "cert":
            yield folder / name, folder / f"{stem}.key"


@contextmanager
def _named(file: Path, otherwise: str) -> Iterator[None]:
    """Errors of OpenSSL name no file.

    Raises:
        ConfigError: with the file.
    """
    try:
        yield
    except ssl.SSLError:
        raise ConfigError(f"{file} is {otherwise}.") from None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {os.strerror(error.errno or 0)}.") from None


def _readable(file: Path) -> None:
    with _named(file, "unreadable"), file.open("rb"):
        pass


def _verifying() -> ssl.SSLContext:
    """The system's authorities, or those of SSL_CERT_FILE, which OpenSSL would ignore in silence if it were not there.

    Raises:
        ConfigError: it is not there.
    """
    context = ssl.create_default_context()
    if file := os.environ.get("SSL_CERT_FILE"):
        with _named(Path(file), _NO_AUTHORITY):
            context.load_verify_locations(cafile=file)
    return context


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def speaks_plain_http(url: URL) -> bool:
    """Whether the registry at this https URL does without TLS: a handshake tells."""
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=_unverified())
    except ssl.SSLError as error:
        return "ALERT" not in (error.reason or "")  # an alert is TLS: it wants a certificate of ours, say
    except ConnectionResetError:
        return True
    except OSError:
        return False  # nobody is there, or nobody answers: the request itself will say so
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return False
