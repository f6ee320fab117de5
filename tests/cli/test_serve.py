"""Tests of `mirror serve`: its output, signals, the limit of open files, and errors."""

import http.client
import json
import mmap
import resource
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import bcrypt
import pytest

from tests.serve.process import Process, serving
from tests.serve.running import blob_path, make_layout, replace_file, sha256
from tests.support.certificate import self_signed
from tests.support.command import Mirror, tree
from tests.support.images import OCI_LAYER, Blob, image, multi_arch

IMAGE = multi_arch()
LARGE = Blob.of(bytes(60_000_000), OCI_LAYER)
FREE = ("--listen", "127.0.0.1:0")


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    names = {"docker.io/library/redis:4.0": IMAGE, "docker.io/a/large:1": image("linux/amd64", LARGE)}
    return make_layout(tmp_path / "layout", names)


@contextmanager
def served(mirror: Mirror, *arguments: object) -> Iterator[Process]:
    with serving(mirror.command("serve", *arguments), mirror.folder, mirror.env) as process:
        yield process


def get(host: str, path: str, tls: ssl.SSLContext | None = None, **headers: str) -> tuple[int, bytes]:
    made = http.client.HTTPSConnection(host, context=tls) if tls else http.client.HTTPConnection(host, timeout=30)
    with closing(made) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


@pytest.mark.slow
def test_address_is_on_stdout_and_the_log_on_stderr(mirror: Mirror, layout: Path) -> None:
    with served(mirror, "layout", *FREE) as process:
        assert process.host.startswith("127.0.0.1:")
        assert get(process.host, "/v2/library/redis/manifests/4.0") == (200, IMAGE.data)
        assert process.end() == 0
        assert process.popen.stdout
        assert process.popen.stdout.read() == b""
    assert "serving 2 images from layout" in process.lines[0]
    assert '"GET /v2/library/redis/manifests/4.0" 200' in process.lines[1]
    assert len(process.lines) == 2


@pytest.mark.slow
def test_quiet_logs_only_corrupt_content(mirror: Mirror, layout: Path) -> None:
    replace_file(blob_path(layout, IMAGE.root), b"x" * len(IMAGE.data))
    with served(mirror, "layout", "-q", *FREE) as process:
        assert get(process.host, "/v2/")[0] == 200
        assert get(process.host, "/v2/library/redis/manifests/4.0")[0] == 500
        assert process.end() == 0
    assert len(process.lines) == 1
    assert "corrupt" in process.lines[0]
    assert IMAGE.root in process.lines[0]


@pytest.mark.slow
def test_json_is_one_object(mirror: Mirror, layout: Path) -> None:
    with subprocess.Popen(
        mirror.command("serve", layout, "--json", *FREE),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=mirror.env,
    ) as popen:
        assert popen.stdout
        lines = iter(popen.stdout.readline, b"}\n")
        document = json.loads(b"".join(lines) + b"}")
        popen.terminate()
        assert popen.stdout.read() == b""
    assert document.pop("url") == f"http://{document.pop('address')}"
    assert document == {
        "schema": "mirror.serve/1",
        "layouts": [str(layout)],
        "repositories": ["a/large", "library/redis"],
        "images": 2,
    }


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_stops_the_server_and_frees_the_address(mirror: Mirror, layout: Path, number: signal.Signals) -> None:
    with served(mirror, "layout", *FREE) as process:
        assert process.end(number) == 0
    with served(mirror, "layout", "--listen", process.host) as again:
        assert again.host == process.host
        assert again.end() == 0


@pytest.mark.slow
def test_transfer_is_finished_after_the_first_signal(mirror: Mirror, layout: Path) -> None:
    with served(mirror, "layout", *FREE) as process, open_download(process.host) as connection:
        head = connection.recv(1000)
        process.popen.terminate()
        assert until_refused(process.host)
        body = head.partition(b"\r\n\r\n")[2] + b"".join(iter(lambda: connection.recv(1 << 20), b""))
        assert sha256(body) == LARGE.digest
        assert process.popen.wait(30) == 0


@pytest.mark.slow
def test_second_signal_stops_the_server_immediately(mirror: Mirror, layout: Path) -> None:
    with served(mirror, "layout", *FREE) as process, open_download(process.host) as connection:
        assert connection.recv(1000)
        process.popen.terminate()
        assert until_refused(process.host)  # two signals that are pending at once would be one
        assert process.popen.poll() is None
        assert process.end() == 130


def until_refused(host: str) -> bool:
    """Wait until the server, which has begun to stop, accepts no more connections."""
    name, _, port = host.rpartition(":")
    for _ in range(600):
        try:
            with suppress(ConnectionResetError):  # closed in the moment between
                socket.create_connection((name, int(port)), timeout=30).close()
        except ConnectionRefusedError:
            return True
        time.sleep(0.1)
    return False


@contextmanager
def open_download(host: str) -> Iterator[socket.socket]:
    name, _, port = host.rpartition(":")
    with socket.create_connection((name, int(port)), timeout=30) as connection:
        path = f"/v2/a/large/blobs/{LARGE.digest}"
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        yield connection


@pytest.mark.slow
def test_https_with_a_password(mirror: Mirror, layout: Path, tmp_path: Path) -> None:
    self_signed(tmp_path / "server.pem", "localhost")
    (tmp_path / "users").write_text(f"ann:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    trusted = ssl.create_default_context(cafile=str(tmp_path / "server.pem"))
    with served(mirror, "layout", *FREE, "--cert", "server.pem", "--htpasswd", "users") as process:
        assert get(process.host, "/v2/", trusted)[0] == 401
        known = {"Authorization": "Basic YW5uOnNlY3JldA=="}
        assert get(process.host, "/v2/library/redis/manifests/4.0", trusted, **known) == (200, IMAGE.data)
        assert process.end() == 0
    assert "https://" in process.lines[0]
    assert not any("secret" in line or "YW5u" in line for line in process.lines)


@pytest.mark.slow
def test_hostile_text_in_a_request_does_not_reach_the_terminal(mirror: Mirror, layout: Path) -> None:
    with served(mirror, "layout", *FREE) as process:
        name, _, port = process.host.rpartition(":")
        with socket.create_connection((name, int(port))) as connection:
            agent = "\u202e\u009b31mUnicode".encode()
            connection.sendall(b"GET /v2/%1b[31m HTTP/1.1\r\nHost: x\r\nUser-Agent: " + agent + b"\r\n\r\n")
            connection.recv(1000)
        assert process.end() == 0
    assert all(line.isprintable() for line in process.lines)
    assert "Unicode" in process.lines[-1]


# Many files


@pytest.mark.slow
def test_limit_of_open_files_is_raised(mirror: Mirror, layout: Path) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with serving(["sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh", *mirror.command("serve", layout, *FREE)],
                 mirror.folder, mirror.env) as process:  # fmt: skip
        soft = Path(f"/proc/{process.popen.pid}/limits").read_text().split("Max open files")[1].split()[0]
        assert soft == ("unlimited" if hard == resource.RLIM_INFINITY else str(hard))
        assert process.end() == 0


@pytest.mark.slow
def test_connections_beyond_the_limit_are_closed_and_the_others_served(mirror: Mirror, layout: Path) -> None:
    limited = ["sh", "-c", 'ulimit -n 200; exec "$@"', "sh", *mirror.command("serve", layout, *FREE)]
    with serving(limited, mirror.folder, mirror.env) as process:
        held = [held_open(process.host) for _ in range(60)]
        answered = [bool(answer) for _, answer in held]
        assert answered == sorted(answered, reverse=True)
        assert 30 <= sum(answered) < 60
        for connection, _ in held:
            connection.close()
        assert until_answered(process.host)
        assert process.end() == 0
    assert any("ulimit -n" in line for line in process.lines)


@pytest.mark.slow
def test_serve_warns_once_and_recovers_when_files_run_out(mirror: Mirror, layout: Path) -> None:
    with serving(with_few_files(mirror, layout), mirror.folder, mirror.env) as process:
        held = hold_connections(process.host)
        assert wait_until(lambda: any("connections must wait" in line for line in process.lines))
        time.sleep(1.5)  # the next attempt to accept fails, too
        for connection in held:
            connection.close()
        assert until_answered(process.host)
        assert process.end() == 0
    warnings = [line for line in process.lines if "connections must wait" in line]
    assert warnings == ["warning: New connections must wait: Too many open files (ulimit -n)."]
    assert not any("Traceback" in line or "accept()" in line for line in process.lines)


@pytest.mark.slow
def test_serve_can_be_stopped_when_files_have_run_out(mirror: Mirror, layout: Path) -> None:
    with serving(with_few_files(mirror, layout), mirror.folder, mirror.env) as process:
        held = hold_connections(process.host)
        assert wait_until(lambda: any("connections must wait" in line for line in process.lines))
        assert process.end() == 0
        for connection in held:
            connection.close()
    assert not any("Traceback" in line or "Exception" in line for line in process.lines)


def with_few_files(mirror: Mirror, layout: Path) -> list[str]:
    """A command that serves a layout and may open only a few files."""
    return ["sh", "-c", 'ulimit -n 22; exec "$@"', "sh", *mirror.command("serve", layout, *FREE)]


def hold_connections(host: str) -> list[socket.socket]:
    name, _, port = host.rpartition(":")
    return [socket.create_connection((name, int(port)), timeout=30) for _ in range(90)]


def wait_until(true: Callable[[], bool]) -> bool:
    for _ in range(600):
        if true():
            return True
        time.sleep(0.1)
    return False


def held_open(host: str) -> tuple[socket.socket, bytes]:
    """Open a connection, and return it with the response, or with no bytes if it was closed."""
    name, _, port = host.rpartition(":")
    connection = socket.create_connection((name, int(port)), timeout=30)
    try:
        connection.sendall(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n")
        return connection, connection.recv(1000)
    except ConnectionError:
        return connection, b""


def until_answered(host: str) -> bool:
    for _ in range(600):
        with suppress(ConnectionError, http.client.HTTPException):
            return get(host, "/v2/")[0] == 200
        time.sleep(0.1)
    return False


# Read-only layouts and errors


@pytest.mark.slow
def test_read_only_layout_is_served_and_not_changed(mirror: Mirror, layout: Path) -> None:
    before = tree(layout), {path: path.stat().st_mtime_ns for path in layout.rglob("*")}
    for path in (layout, *layout.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with serving(
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *mirror.command("serve", layout, *FREE)],
        mirror.folder,
        mirror.env,
    ) as process:
        assert get(process.host, "/v2/library/redis/manifests/4.0")[0] == 200
        assert get(process.host, f"/v2/a/large/blobs/{LARGE.digest}")[0] == 200
        assert process.end() == 0
    assert before == (tree(layout), {path: path.stat().st_mtime_ns for path in layout.rglob("*")})
    for path in (layout, *layout.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("nowhere",), 2, "no directory"),
        (("empty",), 3, "oci-layout"),
        (("layout", "--listen", "x"), 2, "Not a valid address"),
        (("layout", "--cert", "none.pem"), 2, "none.pem"),
        (("layout", "--key", "none.pem"), 2, "--cert"),
        (("layout", "--htpasswd", "none"), 2, "none"),
        (("layout", "--listen", "192.0.2.1:5000"), 1, "Cannot listen on"),
    ],
)
def test_invalid_arguments_are_refused(
    mirror: Mirror, layout: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, word: str
) -> None:
    (tmp_path / "empty").mkdir()
    result = mirror("serve", *arguments, code=code)
    assert word in result.err
    assert result.out == ""


@pytest.mark.slow
def test_address_in_use_is_an_error(mirror: Mirror, layout: Path) -> None:
    with served(mirror, "layout", *FREE) as process:
        result = mirror("serve", layout, "--listen", process.host, code=1)
        assert "in use" in result.err
        assert "--listen" in result.err
        process.end()


def received(host: str, path: str) -> tuple[int, bytes]:
    """Return the status, and what arrived of the body."""
    try:
        return get(host, path)
    except http.client.IncompleteRead as cut:
        return 200, cut.partial


@pytest.mark.slow
@pytest.mark.parametrize("place", [30_000_000, len(LARGE.data) - 1])
def test_write_that_leaves_the_times_of_a_file_alone_never_reaches_a_client(
    mirror: Mirror, layout: Path, place: int
) -> None:
    """The kernel sets the times when a page becomes dirty, not when a dirty one is written to through a mapping."""
    blob = f"/v2/a/large/blobs/{LARGE.digest}"
    with blob_path(layout, LARGE.digest).open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapping:
        mapping[:] = LARGE.data
        time.sleep(3.1)  # then the server trusts the times of the file
        with served(mirror, "layout", *FREE) as process:
            assert get(process.host, blob) == (200, LARGE.data)
            mapping[place] = 1
            status, body = received(process.host, blob)
            assert status == 500 or LARGE.data.startswith(body)
            assert len(body) <= place
