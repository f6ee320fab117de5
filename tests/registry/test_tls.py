"""Tests of TLS: certs.d, certificate authorities, client certificates, and `insecure`."""

import asyncio
import errno
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.config.hosts import HostSettings
from mirror.content import stream
from mirror.errors import ConfigError, MirrorError, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, RegistryOptions, Repository
from mirror.registry.transport.tls import TlsConfig, tls_config
from tests.support.certificate import Authority, self_signed, server_tls
from tests.support.registry import EmbeddedRegistry, Fault, Redirect, serving

DATA = b"content"
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
PATH = f"/v2/a/blobs/{NODE.digest}"


pytestmark = pytest.mark.usefixtures("home", "each_exchange")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.at(tmp_path / "authority.pem")


@contextmanager
def secure(authority: Authority, *, clients: Authority | None = None) -> Iterator[EmbeddedRegistry]:
    file = authority.sign(authority.file.parent / "server.pem", "127.0.0.1", "localhost")
    tls = server_tls(file, clients.file if clients else None)
    with serving(EmbeddedRegistry(tls=tls)) as registry:
        registry.put_blob("a", DATA)
        yield registry


def certs_d(home: Path, host: str, **files: Path) -> Path:
    """Make a directory for `host` with copies of files; `client_key` becomes client.key."""
    folder = home / ".config/containers/certs.d" / host
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        (folder / name.replace("_", ".")).write_bytes(file.read_bytes())
    return folder


async def fetch(host: str, options: RegistryOptions | None = None) -> bytes:
    async with (
        Client(options or RegistryOptions()) as client,
        Repository(client.registry(host), "a").open_blob(NODE) as body,
    ):
        return await stream.read(body, NODE)


def refused(host: str, options: RegistryOptions | None = None) -> MirrorError:
    with pytest.raises(MirrorError) as caught:
        asyncio.run(fetch(host, options))
    return caught.value


# Certificate authorities


@pytest.mark.slow
def test_certs_d_has_certificate_authorities_for_its_host(home: Path, authority: Authority) -> None:
    with secure(authority) as registry:
        assert "certificate" in str(refused(registry.host))
        certs_d(home, registry.host, ca_crt=authority.file)
        assert asyncio.run(fetch(registry.host)) == DATA


@pytest.mark.slow
def test_certificate_authority_of_one_host_is_not_used_for_another(home: Path, authority: Authority) -> None:
    with secure(authority) as registry:
        certs_d(home, registry.host, ca_crt=authority.file)
        strange = registry.host.replace("127.0.0.1", "localhost")
        assert "certificate" in str(refused(strange))
        registry.fault(Fault(path="/blobs/", action=Redirect(f"https://{strange}{PATH}")))
        assert "certificate of localhost" in str(refused(registry.host))
        assert registry.count("GET", "/blobs/") == 1


@pytest.mark.slow
def test_redirect_target_has_its_own_directory_in_certs_d(home: Path, authority: Authority) -> None:
    with secure(authority) as registry:
        strange = registry.host.replace("127.0.0.1", "localhost")
        certs_d(home, registry.host, ca_crt=authority.file)
        certs_d(home, strange, ca_crt=authority.file)
        registry.fault(Fault(path="/blobs/", action=Redirect(f"https://{strange}{PATH}")))
        assert asyncio.run(fetch(registry.host)) == DATA


@pytest.mark.slow
@pytest.mark.parametrize("where", ["flag", "host", "SSL_CERT_FILE"])
def test_ca_file_is_set_by_flag_host_or_environment(
    monkeypatch: pytest.MonkeyPatch, home: Path, authority: Authority, where: str
) -> None:
    file = str(authority.file)
    with secure(authority) as registry:
        options = RegistryOptions()
        if where == "flag":
            options = RegistryOptions(ca_file=file)
        elif where == "host":
            options = RegistryOptions(hosts={registry.host: HostSettings(ca_file=file)})
        else:
            monkeypatch.setenv("SSL_CERT_FILE", file)
        assert asyncio.run(fetch(registry.host, options)) == DATA


@pytest.mark.slow
def test_ca_file_of_the_flag_is_used_for_all_hosts(authority: Authority) -> None:
    """A registry and its token server often share a certificate authority."""
    with secure(authority) as registry:
        strange = registry.host.replace("127.0.0.1", "localhost")
        registry.fault(Fault(path="/blobs/", action=Redirect(f"https://{strange}{PATH}")))
        assert asyncio.run(fetch(registry.host, RegistryOptions(ca_file=str(authority.file)))) == DATA


@pytest.mark.parametrize("first", ["XDG_CONFIG_HOME", "HOME"])
def test_first_existing_directory_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: str) -> None:
    config = tmp_path / "xdg" if first == "XDG_CONFIG_HOME" else tmp_path / ".config"
    if first == "XDG_CONFIG_HOME":
        monkeypatch.setenv(first, str(config))
    folder = config / "containers/certs.d/a.example:5000"
    folder.mkdir(parents=True)
    for name in ("b.crt", "a.crt", "c.cert", "c.key", "README"):
        (folder / name).touch()
    found = tls_config("a.example:5000", HostSettings(), is_registry=True, verify=True)
    assert found.ca_files == (folder / "a.crt", folder / "b.crt")
    assert found.client_certificates == ((folder / "c.cert", folder / "c.key"),)


@pytest.mark.parametrize("host", ["../../secret", "..", "a/b", "", "a.example:5000/..", "\0", "a\nb"])
def test_host_name_cannot_lead_out_of_certs_d(host: str, home: Path) -> None:
    """The host may come from a redirect."""
    (home / "secret").mkdir()
    (home / "secret/a.key").touch()
    (home / ".config/containers/certs.d").mkdir(parents=True)
    assert tls_config(host, HostSettings(), is_registry=True, verify=True) == TlsConfig()


# Client certificates


@pytest.fixture
def clients(tmp_path: Path) -> Authority:
    authority = Authority.at(tmp_path / "clients.pem")
    authority.sign(tmp_path / "client.pem")
    return authority


@pytest.mark.slow
def test_client_certificate_is_read_from_certs_d(home: Path, authority: Authority, clients: Authority) -> None:
    with secure(authority, clients=clients) as registry:
        folder = certs_d(home, registry.host, ca_crt=authority.file)
        assert isinstance(refused(registry.host), TransferError)
        (folder / "client.cert").write_bytes((home / "client.cert").read_bytes())
        (folder / "client.key").write_bytes((home / "client.key").read_bytes())
        assert asyncio.run(fetch(registry.host)) == DATA


@pytest.mark.slow
@pytest.mark.parametrize("apart", [True, False])
def test_client_certificate_is_read_from_the_settings(
    home: Path, authority: Authority, clients: Authority, apart: bool
) -> None:
    certificate, key = ("client.cert", str(home / "client.key")) if apart else ("client.pem", None)
    with secure(authority, clients=clients) as registry:
        host = HostSettings(ca_file=str(authority.file), client_cert=str(home / certificate), client_key=key)
        assert asyncio.run(fetch(registry.host, RegistryOptions(hosts={registry.host: host}))) == DATA


@pytest.mark.slow
def test_client_certificate_is_not_shown_to_redirect_targets(
    home: Path, authority: Authority, clients: Authority
) -> None:
    """Not even if certs.d has one for the target: the registry could make the client act for its user there."""
    with secure(authority) as registry, secure(authority, clients=clients) as other:
        for host in (registry.host, other.host):
            folder = {"client_cert": home / "client.cert", "client_key": home / "client.key"}
            certs_d(home, host, ca_crt=authority.file, **folder)
        registry.fault(Fault(path="/blobs/", action=Redirect(f"{other.url}{PATH}")))
        assert isinstance(refused(registry.host), TransferError)
        assert other.requests == []


def test_hint_mentions_the_missing_client_certificate(home: Path, authority: Authority, clients: Authority) -> None:
    with secure(authority, clients=clients) as registry:
        certs_d(home, registry.host, ca_crt=authority.file)
        assert "requires a client certificate" in (refused(registry.host).hint or "")


def test_loopback_registry_that_requires_a_certificate_does_not_get_plain_http(
    home: Path, authority: Authority, clients: Authority
) -> None:
    with secure(authority, clients=clients) as registry:
        assert "certificate of 127.0.0.1" in str(refused(registry.host))


# Without verification


def test_insecure_does_not_apply_to_redirect_targets_on_other_hosts(tmp_path: Path) -> None:
    with (
        serving(EmbeddedRegistry(tls=self_signed(tmp_path / "one.pem", "localhost"))) as registry,
    ):
        registry.put_blob("a", DATA)
        for insecure in ("*", registry.host):
            assert asyncio.run(fetch(registry.host, RegistryOptions(insecure=frozenset({insecure})))) == DATA
        strange = registry.host.replace("127.0.0.1", "localhost")
        registry.fault(Fault(path="/blobs/", times=None, action=Redirect(f"https://{strange}{PATH}")))
        for insecure in ("*", registry.host):
            error = refused(registry.host, RegistryOptions(insecure=frozenset({insecure})))
            assert "certificate of localhost" in str(error)
            assert f'insecure = ["{strange}"]' in (error.hint or "")


def test_insecure_flag_applies_to_other_ports_of_the_same_host(tmp_path: Path) -> None:
    """A registry and its token server on one machine, both with certificates of their own."""
    tls = self_signed(tmp_path / "one.pem", "localhost")
    with serving(EmbeddedRegistry(tls=tls)) as registry, serving(EmbeddedRegistry(tls=tls)) as other:
        other.put_blob("a", DATA)
        registry.fault(Fault(path="/blobs/", times=None, action=Redirect(f"{other.url}{PATH}")))
        assert asyncio.run(fetch(registry.host, RegistryOptions(insecure=frozenset({"*"})))) == DATA
        assert "certificate" in str(refused(registry.host, RegistryOptions(insecure=frozenset({registry.host}))))


@pytest.mark.parametrize("way", ["list", "table"])
def test_redirect_target_can_be_insecure_by_name(tmp_path: Path, way: str) -> None:
    tls = self_signed(tmp_path / "one.pem", "localhost")
    with serving(EmbeddedRegistry(tls=tls)) as registry:
        registry.put_blob("a", DATA)
        strange = registry.host.replace("127.0.0.1", "localhost")
        registry.fault(Fault(path="/blobs/", action=Redirect(f"https://{strange}{PATH}")))
        both = RegistryOptions(insecure=frozenset({registry.host, strange}))
        if way == "table":
            both = RegistryOptions(hosts=dict.fromkeys((registry.host, strange), HostSettings(insecure=True)))
        assert asyncio.run(fetch(registry.host, both)) == DATA


# Files that cannot be used


def broken(home: Path, **files: bytes | None) -> MirrorError:
    """Return the error for a registry whose directory has these files."""
    folder = home / ".config/containers/certs.d/127.0.0.1:1"
    folder.mkdir(parents=True)
    for name, data in files.items():
        if data is not None:
            (folder / name.replace("_", ".")).write_bytes(data)
    return refused("127.0.0.1:1")


def test_error_names_the_certificate_without_a_key(home: Path) -> None:
    error = broken(home, client_cert=b"")
    assert isinstance(error, ConfigError)
    assert "client.cert is a client certificate without its key client.key" in str(error)
    assert ".crt" in (error.hint or "")


def test_error_names_the_key_without_a_certificate(home: Path) -> None:
    assert "client.key is a key without its client certificate client.cert" in str(broken(home, client_key=b""))


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_error_names_the_invalid_ca_file(home: Path, data: bytes) -> None:
    error = broken(home, ca_crt=data)
    assert isinstance(error, ConfigError)
    assert str(home / ".config/containers/certs.d/127.0.0.1:1/ca.crt") in str(error)


def test_error_names_the_certificate_that_does_not_match_its_key(home: Path, clients: Authority) -> None:
    certificate = (home / "client.cert").read_bytes()
    clients.sign(home / "other.pem")
    error = broken(home, client_cert=certificate, client_key=(home / "other.key").read_bytes())
    assert "client.cert does not contain a certificate that matches the key" in str(error)


def test_key_with_a_passphrase_is_an_error_without_a_prompt(home: Path, clients: Authority) -> None:
    clients.sign(home / "closed.pem", passphrase=b"open")
    files = {name: (home / f"closed.{name}").read_bytes() for name in ("cert", "key")}
    assert "client.cert" in str(broken(home, client_cert=files["cert"], client_key=files["key"]))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "flag", "host"])
def test_error_names_the_missing_ca_file(monkeypatch: pytest.MonkeyPatch, home: Path, variable: str) -> None:
    file = str(home / "missing.pem")
    options = RegistryOptions()
    if variable == "SSL_CERT_FILE":
        monkeypatch.setenv(variable, file)
    elif variable == "flag":
        options = RegistryOptions(ca_file=file)
    else:
        options = RegistryOptions(hosts={"127.0.0.1:1": HostSettings(ca_file=file)})
    error = refused("127.0.0.1:1", options)
    assert isinstance(error, ConfigError)
    assert f"{file} cannot be read: No such file or directory." in str(error)


def test_error_names_the_unreadable_directory(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied")  # simulated: root, the user of CI, may read everything

    folder = certs_d(home, "127.0.0.1:1")
    monkeypatch.setattr("mirror.registry.transport.tls.os.listdir", refuse)
    assert f"{folder} cannot be read: Permission denied." in str(refused("127.0.0.1:1"))


def test_context_verifies_by_default() -> None:
    made = TlsConfig().context()
    assert (made.check_hostname, made.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert TlsConfig(verify=False).context().verify_mode == ssl.CERT_NONE
