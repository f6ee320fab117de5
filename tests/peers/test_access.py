"""Tests of docker-registry with a password, and with TLS."""

import base64
import ipaddress
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.peers.layouts import assert_clean, everything, stored
from tests.peers.programs import DockerRegistry, Program, Skopeo, docker_registry, needed
from tests.peers.servers import nginx
from tests.support.images import multi_arch

pytestmark = pytest.mark.peer

IMAGE = multi_arch()
USER, PASSWORD = "carrier", "pa:ss wörd"


@pytest.fixture
def locked(registry: DockerRegistry, tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry with the storage of the open one, team/app:1, and a password."""
    registry.publish(IMAGE, "team/app", "1")
    secrets = tmp_path / "htpasswd"
    htpasswd = Program((needed("htpasswd"),), tmp_path)
    secrets.write_bytes(htpasswd("-Bbn", USER, PASSWORD).raw)
    auth = {"htpasswd": {"realm": "the vault", "path": str(secrets)}}
    with docker_registry(tmp_path / "locked", registry.storage, auth=auth) as running:
        yield running


def login(folder: Path, host: str, password: str = PASSWORD) -> dict[str, str]:
    """Write the file that `docker login` writes, and return the environment that selects it."""
    secret = base64.b64encode(f"{USER}:{password}".encode()).decode()
    folder = folder / "docker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"auths": {host: {"auth": secret}}}))
    return {"DOCKER_CONFIG": str(folder)}


@pytest.mark.slow
def test_pull_with_a_password_succeeds(locked: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    env = login(tmp_path, locked.host)
    mirror("pull", f"{locked.host}/team/app:1", "--all-platforms", "-o", "layout", env=env)
    assert stored(tmp_path / "layout") == everything(IMAGE)
    assert_clean(mirror, "layout")


@pytest.mark.slow
def test_push_with_a_password_succeeds(
    registry: DockerRegistry, locked: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    mirror("pull", f"{registry.host}/team/app:1", "--all-platforms", "-o", "layout")
    pushed = mirror("push", "layout", f"{locked.host}/new", env=login(tmp_path, locked.host)).out
    assert pushed == f"{locked.host}/new/team/app:1@{IMAGE.root}\n"
    assert skopeo.raw(f"docker://{registry.host}/new/team/app:1") == IMAGE.data


HIDING = """
server {
    listen 127.0.0.1:PORT;
    proxy_set_header Host $http_host;
    client_max_body_size 0;
    set $x LONG;
    add_header Content-Security-Policy $x$x$x$x$x$x$x$x$x$x always;
    location = /v2/ { proxy_pass http://UPSTREAM; }
    location = /hidden { internal; return 404; }
    location / { proxy_pass http://UPSTREAM; proxy_intercept_errors on; error_page 401 =404 /hidden; }
}
"""


@pytest.mark.slow
def test_registry_that_hides_images_behind_404_is_used_with_the_password(
    locked: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    """Its challenge is at /v2/ only, as in Keppel; and a header of each response has 20,000 bytes."""
    block = HIDING.replace("UPSTREAM", locked.host).replace("LONG", "x" * 2000)
    with nginx(tmp_path / "nginx", block) as host:
        assert "There is no image" in mirror("pull", f"{host}/team/app:1", "-o", "layout", code=2).err
        env = login(tmp_path, host)
        mirror("pull", f"{host}/team/app:1", "--all-platforms", "-o", "layout", env=env)
        assert stored(tmp_path / "layout") == everything(IMAGE)
        mirror("push", "layout", f"{host}/new", env=env)
        assert mirror("tags", f"{host}/new/team/app", env=env).out == "1\n"


@pytest.mark.slow
def test_push_with_a_password_mounts_blobs(
    registry: DockerRegistry, locked: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    registry.publish(IMAGE, "team/twin", "1")
    names = [f"{registry.host}/team/{name}:1" for name in ("app", "twin")]
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    mirror("push", "layout", f"{locked.host}/new", env=login(tmp_path, locked.host))
    mounted = [one for one in locked.requests() if "mount=" in one.path]
    assert [one.status for one in mounted] == [201] * len(IMAGE.blobs)


def assert_refused(refused: str, host: str) -> None:
    """Check that the message names the registry, its response and what to do, but no password."""
    assert host in refused
    assert "401" in refused
    assert "mirror login" in refused
    assert PASSWORD not in refused
    assert "guessed" not in refused


@pytest.mark.slow
@pytest.mark.parametrize("password", [None, "guessed"])
def test_a_pull_without_the_password_is_refused(
    locked: DockerRegistry, mirror: Program, tmp_path: Path, password: str | None
) -> None:
    env = login(tmp_path, locked.host, password) if password else {}
    refused = mirror("pull", f"{locked.host}/team/app:1", "--all-platforms", "-o", "layout", env=env, code=1)
    assert refused.out == ""
    assert_refused(refused.err, locked.host)
    assert not list(tmp_path.glob("layout/blobs/*/*"))


@pytest.mark.slow
@pytest.mark.parametrize("password", [None, "guessed"])
def test_a_push_without_the_password_is_refused(
    registry: DockerRegistry, locked: DockerRegistry, mirror: Program, tmp_path: Path, password: str | None
) -> None:
    mirror("pull", f"{registry.host}/team/app:1", "--all-platforms", "-o", "layout")
    env = login(tmp_path, locked.host, password) if password else {}
    refused = mirror("push", "layout", f"{locked.host}/new", env=env, code=1)
    assert refused.out == ""
    assert_refused(refused.err, locked.host)
    assert registry.tags("new/team/app") == []


@pytest.mark.slow
def test_a_password_for_another_registry_is_not_sent(locked: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    env = login(tmp_path, "127.0.0.1:1")
    refused = mirror("pull", f"{locked.host}/team/app:1", "-o", "layout", env=env, code=1)
    assert_refused(refused.err, locked.host)


# TLS


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, str]:
    """A self-signed certificate for 127.0.0.1, in the form of docker-registry's settings."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    today = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = {"certificate": tmp_path / "certificate.pem", "key": tmp_path / "key.pem"}
    paths["certificate"].write_bytes(signed.public_bytes(Encoding.PEM))
    paths["key"].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return {name: str(path) for name, path in paths.items()}


@pytest.fixture
def encrypted(registry: DockerRegistry, certificate: dict[str, str], tmp_path: Path) -> Iterator[DockerRegistry]:
    """A registry with the storage of the open one, team/app:1, and TLS."""
    registry.publish(IMAGE, "team/app", "1")
    with docker_registry(tmp_path / "encrypted", registry.storage, http={"tls": certificate}) as running:
        yield running


@pytest.mark.slow
def test_insecure_pull_accepts_a_self_signed_certificate(
    encrypted: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    mirror("pull", f"{encrypted.host}/team/app:1", "--all-platforms", "--insecure", "-o", "layout")
    assert stored(tmp_path / "layout") == everything(IMAGE)
    assert {one.status for one in encrypted.requests() if "/referrers/" not in one.path} == {200}  # no referrers API


@pytest.mark.slow
def test_insecure_push_accepts_a_self_signed_certificate(
    registry: DockerRegistry, encrypted: DockerRegistry, mirror: Program, skopeo: Skopeo
) -> None:
    mirror("pull", f"{registry.host}/team/app:1", "--all-platforms", "-o", "layout")
    mirror("push", "layout", f"{encrypted.host}/new", "--insecure")
    assert skopeo.raw(f"docker://{encrypted.host}/new/team/app:1") == IMAGE.data


@pytest.mark.slow
def test_pull_refuses_a_self_signed_certificate(encrypted: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    refused = mirror("pull", f"{encrypted.host}/team/app:1", "--all-platforms", "-o", "layout", code=1)
    assert refused.out == ""
    assert "certificate" in refused.err
    assert "--insecure" in refused.err
    assert not list(tmp_path.glob("layout/blobs/*/*"))
    assert encrypted.requests() == []


@pytest.mark.slow
def test_push_refuses_a_self_signed_certificate(
    registry: DockerRegistry, encrypted: DockerRegistry, mirror: Program
) -> None:
    mirror("pull", f"{registry.host}/team/app:1", "--all-platforms", "-o", "layout")
    refused = mirror("push", "layout", f"{encrypted.host}/new", code=1)
    assert "certificate" in refused.err
    assert "--insecure" in refused.err
    assert encrypted.requests() == []


@pytest.mark.slow
def test_plain_http_to_a_tls_registry_is_an_error_that_names_it(encrypted: DockerRegistry, mirror: Program) -> None:
    refused = mirror("pull", f"{encrypted.host}/team/app:1", "--plain-http", "-o", "layout", code=1)
    assert encrypted.host in refused.err
