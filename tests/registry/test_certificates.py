"""Tests of the certificates that are accepted, the same on every version of Python, and of the reasons for refusals."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mirror.content import stream
from mirror.errors import TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, RegistryOptions, Repository
from mirror.registry.transport.tls import TlsConfig
from tests.support.certificate import Authority, self_signed, server_tls
from tests.support.registry import EmbeddedRegistry, serving

DATA = b"content"
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))


pytestmark = pytest.mark.usefixtures("home", "each_exchange")


@pytest.fixture
def root(tmp_path: Path) -> Authority:
    return Authority.at(tmp_path / "root.pem")


@contextmanager
def registry_with(tls: ssl.SSLContext) -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(tls=tls)) as registry:
        registry.put_blob("a", DATA)
        yield registry


async def fetch(registry: EmbeddedRegistry, ca_file: Path | None = None) -> bytes:
    async with Client(RegistryOptions(ca_file=str(ca_file) if ca_file else None)) as client:
        repository = Repository(client.registry(registry.host), "a")
        async with repository.open_blob(NODE) as body:
            return await stream.read(body, NODE)


# Trust anchors


def test_root_without_key_identifiers_is_accepted(tmp_path: Path, root: Authority) -> None:
    """Python 3.13 and newer would refuse it by default: VERIFY_X509_STRICT."""
    with registry_with(server_tls(root.sign(tmp_path / "server.pem", "127.0.0.1"))) as registry:
        assert asyncio.run(fetch(registry, root.file)) == DATA


def test_intermediate_is_accepted_as_an_anchor(tmp_path: Path, root: Authority) -> None:
    """Python 3.12 and older would refuse it by default, without VERIFY_X509_PARTIAL_CHAIN."""
    middle = root.intermediate(tmp_path / "middle.pem")
    with registry_with(server_tls(middle.sign(tmp_path / "server.pem", "127.0.0.1"))) as registry:
        assert asyncio.run(fetch(registry, middle.file)) == DATA


def test_certificate_of_the_server_itself_is_accepted_as_an_anchor(tmp_path: Path, root: Authority) -> None:
    with registry_with(server_tls(root.sign(tmp_path / "server.pem", "127.0.0.1"))) as registry:
        assert asyncio.run(fetch(registry, tmp_path / "server.cert")) == DATA


def test_anchors_of_the_system_are_used_with_the_same_rules(
    tmp_path: Path, root: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without any setting, aiohttp would use a context of its own, with the rules of this version of Python."""
    openssl = shutil.which("openssl") or pytest.skip("openssl is not installed")
    with registry_with(server_tls(root.sign(tmp_path / "server.pem", "127.0.0.1"))) as registry:
        command = [openssl, "x509", "-noout", "-subject_hash", "-in", str(tmp_path / "server.cert")]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        (tmp_path / f"{name}.0").write_bytes((tmp_path / "server.cert").read_bytes())
        monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))
        assert asyncio.run(fetch(registry)) == DATA


@pytest.mark.parametrize("config", [TlsConfig(), TlsConfig(verify=False)])
def test_flags_are_set_explicitly(config: TlsConfig) -> None:
    flags = config.context().verify_flags
    assert not flags & ssl.VERIFY_X509_STRICT
    assert bool(flags & ssl.VERIFY_X509_PARTIAL_CHAIN) is config.verify


# Reasons


def reason(registry: EmbeddedRegistry, ca_file: Path | None = None) -> TransferError:
    with pytest.raises(TransferError) as caught:
        asyncio.run(fetch(registry, ca_file))
    assert "_ssl.c" not in str(caught.value)
    assert "--insecure" in (caught.value.hint or "")
    return caught.value


def test_self_signed_certificate_is_called_so(tmp_path: Path) -> None:
    with registry_with(self_signed(tmp_path / "own.pem")) as registry:
        error = reason(registry)
        assert str(error) == f"The certificate of {registry.host} is self-signed."
        assert "--ca-file" in (error.hint or "")


def test_unknown_authority_is_called_so(tmp_path: Path, root: Authority) -> None:
    with registry_with(server_tls(root.sign(tmp_path / "server.pem", "127.0.0.1"))) as registry:
        assert str(reason(registry)) == f"The certificate of {registry.host} is signed by a CA that is not trusted."


def test_file_of_another_ca_is_called_so(tmp_path: Path, root: Authority) -> None:
    """Also if its CA has the same name, as after it was created once more."""
    wrong = Authority.at(tmp_path / "wrong.pem")
    files = {
        "self-signed": self_signed(tmp_path / "own.pem"),
        "": server_tls(root.sign(tmp_path / "s.pem", "127.0.0.1")),
    }
    for said, tls in files.items():
        with registry_with(tls) as registry:
            error = reason(registry, wrong.file)
        assert said in str(error)
        assert (error.hint or "").startswith(f"No certificate in {wrong.file} matches it. ")
        assert "--ca-file FILE" in (error.hint or "")


@pytest.mark.parametrize(
    ("days", "what"), [((-20, -10), "has expired"), ((10, 20), "is not valid yet")], ids=["expired", "early"]
)
def test_certificate_outside_its_time_is_called_so(
    tmp_path: Path, root: Authority, days: tuple[int, int], what: str
) -> None:
    file = root.sign(tmp_path / "server.pem", "127.0.0.1", days=days)
    with registry_with(server_tls(file)) as registry:
        error = reason(registry, root.file)
        assert str(error) == f"The certificate of {registry.host} {what}."
        assert "clock" in (error.hint or "")


def test_certificate_for_another_host_is_called_so(tmp_path: Path, root: Authority) -> None:
    file = root.sign(tmp_path / "server.pem", "other.test", "*.example.test", "10.0.0.1")
    with registry_with(server_tls(file)) as registry:
        error = reason(registry, root.file)
        names = "other.test, *.example.test, 10.0.0.1"
        assert str(error) == f"The certificate of {registry.host} is for another IP address: {names}."
        assert "Use the name" in (error.hint or "")
