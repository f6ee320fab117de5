"""Whom to believe about a host, and who we are to it: certs.d, authorities, client certificates."""

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


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without anything, in `tmp_path`."""
    for name in ("XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


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
    """A folder for `host` with copies of files; `client_key` becomes client.key."""
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


# Authorities


def test_a_folder_has_authorities_of_its_host(home: Path, authority: Authority) -> None:
    with secure(authority) as registry:
        assert "certificate" in str(refused(registry.host))
        certs_d(home, registry.host, ca_crt=authority.file)
        assert asyncio.run(fetch(registry.host)) == DATA


def test_the_folder_of_one_host_vouches_for_nobody_else(home: Path, authority: Authority) -> None:
    with secure(authority) as registry:
        certs_d(home, registry.host, ca_crt=authority.file)
        strange = registry.host.replace("127.0.0.1", "localhost")
        assert "certificate" in str(refused(strange))
        registry.fault(Fault(path="/blobs/", action=Redirect(f"https://{strange}{PATH}")))
        assert "certificate of localhost" in str(refused(registry.host))
        assert registry.count("GET", "/blobs/") == 1


@pytest.mark.slow
def test_a_redirects_target_has_a_folder_of_its_own(home: Path, authority: Authority) -> None:
    with secure(authority) as registry:
        strange = registry.host.replace("127.0.0.1", "localhost")
        certs_d(home, registry.host, ca_crt=authority.file)
        certs_d(home, strange, ca_crt=authority.file)
        registry.fault(Fault(path="/blobs/", action=Redirect(f"https://{strange}{PATH}")))
        assert asyncio.run(fetch(registry.host)) == DATA


@pytest.mark.parametrize("where", ["flag", "host", "SSL_CERT_FILE"])
def test_an_authority_may_be_named(
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
def test_the_authority_of_a_flag_is_believed_about_everybody(authority: Authority) -> None:
    """A registry and its token server often have one."""
    with secure(authority) as registry:
        strange = registry.host.replace("127.0.0.1", "localhost")
        registry.fault(Fault(path="/blobs/", action=Redirect(f"https://{strange}{PATH}")))
        assert asyncio.run(fetch(registry.host, RegistryOptions(ca_file=str(authority.file)))) == DATA


@pytest.mark.parametrize("first", ["XDG_CONFIG_HOME", "HOME"])
def test_the_first_folder_that_is_there_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, first: str) -> None:
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
def test_no_name_of_a_host_leads_out_of_the_folders(host: str, home: Path) -> None:
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


def test_a_folder_has_our_certificate(home: Path, authority: Authority, clients: Authority) -> None:
    with secure(authority, clients=clients) as registry:
        folder = certs_d(home, registry.host, ca_crt=authority.file)
        assert isinstance(refused(registry.host), TransferError)
        (folder / "client.cert").write_bytes((home / "client.cert").read_bytes())
        (folder / "client.key").write_bytes((home / "client.key").read_bytes())
        assert asyncio.run(fetch(registry.host)) == DATA


@pytest.mark.parametrize("apart", [True, False])
def test_settings_have_our_certificate(home: Path, authority: Authority, clients: Authority, apart: bool) -> None:
    certificate, key = ("client.cert", str(home / "client.key")) if apart else ("client.pem", None)
    with secure(authority, clients=clients) as registry:
        host = HostSettings(ca_file=str(authority.file), client_cert=str(home / certificate), client_key=key)
        assert asyncio.run(fetch(registry.host, RegistryOptions(hosts={registry.host: host}))) == DATA


@pytest.mark.slow
def test_our_certificate_is_shown_to_nobody_to_whom_the_registry_sends_us(
    home: Path, authority: Authority, clients: Authority
) -> None:
    """Even where the other one has a folder with it: it would act for us on whatever the registry says."""
    with secure(authority) as registry, secure(authority, clients=clients) as other:
        for host in (registry.host, other.host):
            folder = {"client_cert": home / "client.cert", "client_key": home / "client.key"}
            certs_d(home, host, ca_crt=authority.file, **folder)
        registry.fault(Fault(path="/blobs/", action=Redirect(f"{other.url}{PATH}")))
        assert isinstance(refused(registry.host), TransferError)
        assert other.requests == []


def test_what_a_server_may_want_that_hangs_up_is_said(home: Path, authority: Authority, clients: Authority) -> None:
    with secure(authority, clients=clients) as registry:
        certs_d(home, registry.host, ca_crt=authority.file)
        assert "requires a client certificate" in (refused(registry.host).hint or "")


def test_a_loopback_registry_that_wants_a_certificate_is_not_taken_for_a_plain_one(
    home: Path, authority: Authority, clients: Authority
) -> None:
    with secure(authority, clients=clients) as registry:
        assert "certificate of 127.0.0.1" in str(refused(registry.host))


# Without verification


def test_insecure_is_said_of_the_registry_and_of_nobody_else(tmp_path: Path) -> None:
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


def test_the_flag_holds_for_other_ports_of_the_registrys_host(tmp_path: Path) -> None:
    """A registry and its token server on one machine, both with certificates of their own."""
    tls = self_signed(tmp_path / "one.pem", "localhost")
    with serving(EmbeddedRegistry(tls=tls)) as registry, serving(EmbeddedRegistry(tls=tls)) as other:
        other.put_blob("a", DATA)
        registry.fault(Fault(path="/blobs/", times=None, action=Redirect(f"{other.url}{PATH}")))
        assert asyncio.run(fetch(registry.host, RegistryOptions(insecure=frozenset({"*"})))) == DATA
        assert "certificate" in str(refused(registry.host, RegistryOptions(insecure=frozenset({registry.host}))))


@pytest.mark.parametrize("way", ["list", "table"])
def test_a_host_to_which_a_registry_sends_us_may_be_excused_by_name(tmp_path: Path, way: str) -> None:
    tls = self_signed(tmp_path / "one.pem", "localhost")
    with serving(EmbeddedRegistry(tls=tls)) as registry:
        registry.put_blob("a", DATA)
        strange = registry.host.replace("127.0.0.1", "localhost")
        registry.fault(Fault(path="/blobs/", action=Redirect(f"https://{strange}{PATH}")))
        both = RegistryOptions(insecure=frozenset({registry.host, strange}))
        if way == "table":
            both = RegistryOptions(hosts=dict.fromkeys((registry.host, strange), HostSettings(insecure=True)))
        assert asyncio.run(fetch(registry.host, both)) == DATA


# Files that cannot be used: each is named


def broken(home: Path, **files: bytes | None) -> MirrorError:
    """What is said where a folder for a registry has these files."""
    folder = home / ".config/containers/certs.d/127.0.0.1:1"
    folder.mkdir(parents=True)
    for name, data in files.items():
        if data is not None:
            (folder / name.replace("_", ".")).write_bytes(data)
    return refused("127.0.0.1:1")


def test_a_certificate_without_its_key_is_named(home: Path) -> None:
    error = broken(home, client_cert=b"")
    assert isinstance(error, ConfigError)
    assert "client.cert is a client certificate without its key client.key" in str(error)
    assert ".crt" in (error.hint or "")


def test_a_key_without_its_certificate_is_named(home: Path) -> None:
    assert "client.key is a key without its client certificate client.cert" in str(broken(home, client_key=b""))


@pytest.mark.parametrize("data", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_an_authority_that_is_none_is_named(home: Path, data: bytes) -> None:
    error = broken(home, ca_crt=data)
    assert isinstance(error, ConfigError)
    assert str(home / ".config/containers/certs.d/127.0.0.1:1/ca.crt") in str(error)


def test_a_key_of_another_certificate_is_named(home: Path, clients: Authority) -> None:
    certificate = (home / "client.cert").read_bytes()
    clients.sign(home / "other.pem")
    error = broken(home, client_cert=certificate, client_key=(home / "other.key").read_bytes())
    assert "client.cert does not contain a certificate that matches the key" in str(error)


def test_a_key_with_a_passphrase_is_named_and_nobody_is_asked_for_it(home: Path, clients: Authority) -> None:
    clients.sign(home / "closed.pem", passphrase=b"open")
    files = {name: (home / f"closed.{name}").read_bytes() for name in ("cert", "key")}
    assert "client.cert" in str(broken(home, client_cert=files["cert"], client_key=files["key"]))


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "flag", "host"])
def test_an_authority_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, home: Path, variable: str) -> None:
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


def test_a_folder_that_cannot_be_read_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> list[str]:
        raise PermissionError(errno.EACCES, "Permission denied")  # root, who runs CI, reads everything

    folder = certs_d(home, "127.0.0.1:1")
    monkeypatch.setattr("mirror.registry.transport.tls.os.listdir", refuse)
    assert f"{folder} cannot be read: Permission denied." in str(refused("127.0.0.1:1"))


def test_a_context_verifies_unless_it_is_told_not_to() -> None:
    made = TlsConfig().context()
    assert (made.check_hostname, made.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert TlsConfig(verify=False).context().verify_mode == ssl.CERT_NONE
