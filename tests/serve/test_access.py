"""Tests of access to the server: passwords, TLS and listen addresses."""

import base64
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
import pytest

from mirror.errors import ListenError, MirrorError, UsageError
from tests.serve.running import Server, make_layout, running, sha256
from tests.support.certificate import self_signed
from tests.support.images import OCI_LAYER, Blob, image

LARGE = Blob.of(bytes(range(256)) * 8192, OCI_LAYER)
APP = image("linux/amd64", LARGE)
PASSWORD = "pa:ss wörd"
HASH = "$2y$04$6jfhmG3be0YsnLBFpqq.lOyq1EGeloj7e4FK6zNUoS.NtgR0oC7zu"


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make_layout(tmp_path / "layout", {"docker.io/a/b:1": APP})


def hashed(password: str, rounds: int = 4) -> str:
    return bcrypt.hashpw(password.encode()[:72], bcrypt.gensalt(rounds)).decode().replace("$2b$", "$2y$")


def users(tmp_path: Path, *lines: str) -> Path:
    file = tmp_path / "htpasswd"
    file.write_text("\n".join(lines))
    return file


def basic(user: str, password: str, scheme: str = "Basic") -> str:
    return f"{scheme} {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    return users(tmp_path, "# users", "", f"ann:{hashed(PASSWORD)}", f"bob:{hashed('x' * 100)}")


@pytest.mark.parametrize("path", ["/v2/", "/v2/a/b/manifests/1", f"/v2/a/b/blobs/{LARGE.digest}", "/", "/v2/_catalog"])
def test_every_path_requires_a_password(layout: Path, secrets: Path, path: str) -> None:
    with running(layout, htpasswd=secrets) as server:
        reply = server.get(path)
        assert (reply.status, reply.code) == (401, "UNAUTHORIZED")
        assert reply.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert reply.headers["Docker-Distribution-Api-Version"] == "registry/2.0"
        assert server.get(path, "POST").status == 401


def test_correct_password_is_accepted_and_not_logged(layout: Path, secrets: Path) -> None:
    with running(layout, htpasswd=secrets) as server:
        for scheme in ("Basic", "basic", "BASIC"):
            reply = server.get("/v2/a/b/manifests/1", Authorization=basic("ann", PASSWORD, scheme))
            assert reply.body == APP.data
        assert server.get("/v2/", Authorization=basic("bob", "x" * 100)).status == 200
        assert any(' "ann" "GET ' in line for line in server.access_log)
        assert not any(PASSWORD in line or "Basic" in line for line in server.access_log + server.messages)


@pytest.mark.slow
@pytest.mark.parametrize(
    "header",
    [
        basic("ann", "guess"),
        basic("ann", ""),
        basic("ann", PASSWORD + "\0"),
        basic("eve", PASSWORD),
        basic("", ""),
        basic("ann\0", PASSWORD),
        basic("bob", "x" * 71),
        "Basic !",
        "Basic",
        "Basic /w==",
        "Bearer " + basic("ann", PASSWORD).partition(" ")[2],
        "Basic " + "QQ" * 3000,
    ],
)
def test_wrong_or_malformed_credentials_are_refused(layout: Path, secrets: Path, header: str) -> None:
    with running(layout, htpasswd=secrets) as server:
        for _ in range(2):
            assert server.get("/v2/", Authorization=header).status == 401


def test_user_name_ends_at_the_first_colon(layout: Path, tmp_path: Path) -> None:
    """A user `a` with the password `b:c` sends the same header as a user `a:b` with the password `c`."""
    with running(layout, htpasswd=users(tmp_path, f"a:{hashed('b:c')}")) as server:
        assert server.get("/v2/", Authorization=basic("a", "b:c")).status == 200
        assert server.get("/v2/", Authorization=basic("a:b", "c")).status == 200
        assert server.get("/v2/", Authorization=basic("a", "b:cc")).status == 401


@pytest.mark.slow
def test_accepted_password_does_not_wait_for_wrong_guesses(layout: Path, tmp_path: Path) -> None:
    """Each wrong guess takes about a second of bcrypt; a password that was accepted before takes none."""
    known = basic("ann", PASSWORD)
    with running(layout, htpasswd=users(tmp_path, f"ann:{hashed(PASSWORD, 13)}")) as server:
        assert server.get("/v2/", Authorization=known).status == 200
        with ThreadPoolExecutor(8) as pool:
            guesses = [pool.submit(server.get, "/v2/", Authorization=basic("ann", str(n))) for n in range(8)]
            time.sleep(0.2)
            assert [server.get("/v2/", Authorization=known).status for _ in range(50)] == [200] * 50
            assert not all(guess.done() for guess in guesses)
            assert {guess.result().status for guess in guesses} == {401}


@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("ann:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
        ("ann:$apr1$x$y", "apr1"),
        ("ann:$6$x$y", "SHA-512"),
        ("ann:password", "bcrypt"),
        (f"ann:{HASH[:-1]}", "bcrypt"),
        (f"ann:{HASH.replace('$04$', '$31$')}", "bcrypt"),
        ("ann", "NAME:HASH"),
        (f":{HASH}", "NAME:HASH"),
        ("", "no users"),
        ("# only a comment", "no users"),
    ],
)
def test_password_file_with_weak_or_invalid_content_is_refused(
    layout: Path, tmp_path: Path, line: str, word: str
) -> None:
    with pytest.raises(UsageError, match=word) as refused, running(layout, htpasswd=users(tmp_path, line)):
        pass
    assert "W6ph5" not in str(refused.value)


def test_missing_password_file_is_an_error(layout: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.*No such file"), running(layout, htpasswd=tmp_path / "none"):
        pass


def test_missing_package_for_passwords_is_an_error_with_the_way_to_install_it(
    layout: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.serve.htpasswd.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"bcrypt.*not installed") as refused, running(layout, htpasswd=secrets):
        pass
    assert refused.value.hint == "Install it next to mirror: pip install bcrypt"


def test_file_from_apache_htpasswd_is_read(layout: Path, tmp_path: Path) -> None:
    try:
        made = subprocess.run(["htpasswd", "-Bbn", "ann", PASSWORD], capture_output=True, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("htpasswd is not installed")
    with running(layout, htpasswd=users(tmp_path, made.stdout)) as server:
        assert server.get("/v2/", Authorization=basic("ann", PASSWORD)).status == 200


# TLS


def over_tls(server: Server, trusted: Path, request: bytes) -> bytes:
    context = ssl.create_default_context(cafile=str(trusted))
    with server.connect() as plain, context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(request)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_blob_is_served_over_tls(layout: Path, tmp_path: Path) -> None:
    self_signed(tmp_path / "server.pem", "localhost")
    with running(layout, certificate=tmp_path / "server.pem") as server:
        assert server.serving.url == f"https://{server.host}"
        request = f"GET /v2/a/b/blobs/{LARGE.digest} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        head, _, body = over_tls(server, tmp_path / "server.pem", request.encode()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert sha256(body) == LARGE.digest


def test_plain_http_to_a_tls_server_is_closed(layout: Path, tmp_path: Path) -> None:
    self_signed(tmp_path / "server.pem", "localhost")
    with running(layout, certificate=tmp_path / "server.pem") as server:
        assert b"200" not in server.raw(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        request = b"GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        assert over_tls(server, tmp_path / "server.pem", request).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("content", [None, b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_invalid_certificate_file_is_refused(layout: Path, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "server.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"server\.pem"), running(layout, certificate=file):
        pass


def test_key_without_its_certificate_is_refused(layout: Path, tmp_path: Path) -> None:
    for name in ("one.pem", "two.pem"):
        self_signed(tmp_path / name, "localhost")
    with (
        pytest.raises(UsageError, match=r"belong|mismatch"),
        running(layout, certificate=tmp_path / "one.pem", key=tmp_path / "two.pem"),
    ):
        pass
    with pytest.raises(UsageError, match="without a certificate"), running(layout, key=tmp_path / "one.pem"):
        pass


# Addresses


@pytest.mark.parametrize("text", ["", "5000", ":5000", "127.0.0.1", "127.0.0.1:65536", "[::1", "a b:1", "::1:5000"])
def test_invalid_listen_address_is_refused(layout: Path, text: str) -> None:
    with pytest.raises(UsageError, match="Not a valid address"), running(layout, listen=text):
        pass


def test_address_in_use_is_an_error(layout: Path) -> None:
    with running(layout) as server, pytest.raises(ListenError, match="in use"), running(layout, listen=server.host):
        pass


@pytest.mark.parametrize("text", ["192.0.2.1:0", "host.invalid:0"])
def test_address_of_another_machine_is_refused(layout: Path, text: str) -> None:
    with pytest.raises(MirrorError, match="Cannot listen on"), running(layout, listen=text):
        pass


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_server_listens_on_ipv6(layout: Path) -> None:
    with running(layout, listen="[::1]:0") as server:
        assert server.host.startswith("[::1]:")
        with socket.create_connection(("::1", int(server.host.rpartition(":")[2]))) as connection:
            connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 200"


def test_listening_on_all_addresses_without_password_or_tls_warns(layout: Path, secrets: Path) -> None:
    with running(layout) as server:
        assert server.messages == []
    with running(layout, listen="0.0.0.0:0") as server:
        assert "--htpasswd" in server.messages[0]
    with running(layout, listen="0.0.0.0:0", htpasswd=secrets) as server:
        assert "without TLS" in server.messages[0]
