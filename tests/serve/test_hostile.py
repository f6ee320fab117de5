"""Tests of malicious and slow clients: the server stays available, and exposes nothing but images."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mirror.serve import listen
from tests.serve.running import Server, make_layout, open_files, running
from tests.support.images import OCI_LAYER, Blob, image

HUGE = Blob.of(bytes(60_000_000), OCI_LAYER)
SMALL = Blob.of(b"small", OCI_LAYER)
APP = image("linux/amd64", HUGE, SMALL)
BLOB = f"/v2/a/b/blobs/{HUGE.digest}"
SECRET = "the secret beside the layout"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "secret").write_text(SECRET)
    found = make_layout(folder / "layout", {"docker.io/a/b:1": APP})
    (found / "blobs/sha256/orphan").write_text(SECRET)
    (found / "notes.txt").write_text(SECRET)
    return found


@pytest.fixture(scope="module")
def server(layout: Path) -> Iterator[Server]:
    with running(layout) as found:
        yield found


# Paths

PATHS = [
    "/",
    "/v2/a/b/",
    "/v2/a/b",
    "/v2/a",
    "/v1/_catalog",
    "/v2/_catalog/",
    "/v2//_catalog",
    "//v2/",
    "/v2/a//b/manifests/1",
    "/v2/a/b/manifests/1/",
    "/v2/a/b/manifests/",
    "/v2/a/b//manifests/1",
    "/v2/a%2Fb/manifests/1",
    "/v2/a/b%00/manifests/1",
    "/v2/a/b/manifests/1%00",
    "/v2/a/b/manifests/1%0a",
    "/v2/a/b/manifests/%2e%2e",
    "/v2/a/b/manifests/..%2f..%2fsecret",
    "/v2/a/b/blobs/..%2f..%2f..%2fsecret",
    "/v2/../../secret",
    "/v2/%2e%2e/%2e%2e/secret",
    "/v2/%252e%252e/secret",
    "/v2/a/../a/b/manifests/1",
    "/v2/./a/b/manifests/1",
    "/v2/A/b/manifests/1",
    "/v2/-a/manifests/1",
    "/v2/a/b/manifests/%ff%fe",
    "/v2/a/b/tags/lists",
    "/v2/a/b/tags",
    "/v2/a/b/blobs/uploads",
    "/v2/a/b/blobs/orphan",
    "/v2/a/b/files/1",
    "/index.json",
    "/blobs/sha256/",
    "/notes.txt",
    "/v2/" + "a/" * 3000 + "manifests/1",
    "/v2/" + "a" * 300 + "/manifests/1",
    "/v2/a/b/manifests/" + "x" * 4000,
]


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS)
def test_invalid_path_is_refused_with_a_json_error(server: Server, path: str) -> None:
    reply = server.get(path)
    assert reply.status in (400, 404)
    assert reply.code
    assert SECRET not in reply.body.decode()
    assert re.search(r"HTTP/1.1|Traceback|/layout", reply.body.decode()) is None


def test_catalog_lists_only_the_repository(server: Server) -> None:
    assert server.get("/v2/_catalog").json == {"repositories": ["a/b"]}


@pytest.mark.parametrize("query", ["ns=", "ns=..", "ns=a%0d%0aX:1", "ns=docker.io%00", "ns=" + "a" * 1000])
def test_invalid_namespace_is_refused(server: Server, query: str) -> None:
    reply = server.get(f"/v2/a/b/manifests/1?{query}")
    assert reply.status in (400, 404)
    assert "X" not in reply.headers


def test_query_with_many_fields_is_refused(server: Server) -> None:
    assert server.get("/v2/_catalog?" + "&".join(f"a{number}=1" for number in range(500))).status == 400


# Malformed requests

BROKEN = {
    "not http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "binary": bytes(range(256)),
    "version": b"GET /v2/ HTTP/9.9\r\n\r\n",
    "header": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nbroken header\r\n\r\n",
    "length": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
    "two lengths": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "both lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "long line": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    "long header": b"GET /v2/ HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    "many headers": b"GET /v2/ HTTP/1.1\r\nHost: x\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
    "relative": b"GET v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "malformed address": b"GET http://[/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
    "method": b"G\x1bT /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("how", BROKEN)
def test_malformed_request_ends_the_connection_without_a_traceback(layout: Path, how: str) -> None:
    with running(layout, idle_timeout=2.0) as server:
        try:
            answer = server.raw(BROKEN[how])
        except ConnectionError:
            answer = b""  # closed before all of it was sent
        assert not answer or answer.startswith(b"HTTP/1.")
        assert b"Traceback" not in answer
        assert server.get("/v2/").status == 200
        assert not any("Traceback" in text for text in server.messages + server.access_log)


# The access log


def test_access_log_has_one_escaped_line_for_each_request(layout: Path) -> None:
    with running(layout) as server:
        before = len(server.access_log)
        request = b'GET /v2/a"b\x1b[31m\xff HTTP/1.1\r\nHost: x\r\nUser-Agent: "a" 200 0\r\nConnection: close\r\n\r\n'
        server.raw(request)
        server.get("/v2/", User_Agent="x" * 5000)
        wait_for(lambda: len(server.access_log) >= before + 2)
        lines = server.access_log[before:]
    assert len(lines) == 2
    assert not any(char in line for line in lines for char in "\r\n")
    assert r"\"a\" 200 0" in lines[0] or "invalid HTTP" in lines[0]
    assert len(lines[1]) < 1500
    assert re.fullmatch(r'\S+Z 127\.0\.0\.1 - "GET /v2/" 200 2 \d+\.\d{3} "x+"', lines[1])


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a condition becomes true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


# Slow clients


def send_request(server: Server, path: str, receive: int = 4096) -> socket.socket:
    """Send a request without reading the response; the receive buffer is small, so that the server has to wait."""
    name, port = server.host.rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.settimeout(30)
    connection.connect((name, int(port)))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return connection


@pytest.mark.slow
def test_client_that_does_not_read_is_disconnected(layout: Path) -> None:
    with running(layout, send_timeout=1.0) as server:
        server.get(BLOB)
        files = open_files()
        stalled = [send_request(server, BLOB) for _ in range(20)]
        wait_for(lambda: sum("stopped reading" in line for line in server.access_log) == 20)
        for connection in stalled:
            connection.close()
        wait_for(lambda: open_files() <= files)
        assert sum("stopped reading" in line for line in server.access_log) == 20


@pytest.mark.slow
def test_client_that_the_system_disconnects_has_stopped_reading_too(
    layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux, the limit of the system may be reached before the server's own."""
    bind = listen.bind
    monkeypatch.setattr(listen, "bind", lambda host, port, timeout: bind(host, port, 0.5))
    with running(layout, send_timeout=300.0) as server, send_request(server, BLOB):
        wait_for(lambda: any("GET" in line for line in server.access_log))
        assert [line.partition("aborted: ")[2] for line in server.access_log] == ["the client stopped reading"]


@pytest.mark.slow
def test_client_that_pipelines_without_reading_is_disconnected(layout: Path) -> None:
    with running(layout, send_timeout=1.0) as server:
        connection = server.connect()
        connection.setblocking(False)
        request = b"GET /v2/a/b/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n"
        end = time.monotonic() + 60
        while not any("stopped reading" in line for line in server.access_log):
            assert time.monotonic() < end
            try:
                connection.send(request * 50)
            except BlockingIOError:
                time.sleep(0.02)
            except ConnectionError:
                break
        connection.close()


@pytest.mark.slow
def test_slow_client_that_keeps_reading_gets_the_whole_blob(layout: Path) -> None:
    """Each pause is shorter than the timeout, but the whole transfer takes longer."""
    with running(layout, send_timeout=4.0) as server, send_request(server, BLOB, receive=200_000) as connection:
        count, started = 0, time.monotonic()
        while time.monotonic() - started < 9:
            count += len(connection.recv(100_000))
            time.sleep(0.02)  # short, because the kernel asks for more only when a third of its buffer is free
        assert count + drain(connection) > HUGE.size


@pytest.mark.slow
@pytest.mark.parametrize("start", [b"", b"GET /v2/ HTTP/1.1\r\n", b"GET /v2/ HTTP/1.1\r\nX: "])
def test_incomplete_request_is_closed(layout: Path, start: bytes) -> None:
    """Sending single bytes does not extend the timeout (slowloris)."""
    with running(layout, idle_timeout=1.0) as server, server.connect() as connection:
        connection.sendall(start)
        connection.settimeout(0.2)
        end = time.monotonic() + 60
        while True:
            assert time.monotonic() < end
            try:
                if start:
                    connection.sendall(b"a")
                if connection.recv(1000) == b"":
                    break
            except TimeoutError:
                continue
            except ConnectionError:
                break


@pytest.mark.slow
def test_incomplete_upload_is_closed(layout: Path) -> None:
    with running(layout, idle_timeout=2.0) as server, server.connect() as connection:
        connection.sendall(b"PUT /v2/a/b/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert b"405" in connection.recv(65536)
        connection.settimeout(30)
        assert connection.recv(65536) == b""


@pytest.mark.slow
def test_requests_are_served_while_many_connections_are_idle(layout: Path) -> None:
    with running(layout) as server:
        idle = [send_request(server, BLOB) for _ in range(150)] + [server.connect() for _ in range(150)]
        for _ in range(100):
            assert server.get("/v2/a/b/manifests/1").body == APP.data
        for connection in idle:
            connection.close()


# Shutdown


@pytest.mark.slow
def test_shutdown_waits_for_a_running_transfer(layout: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with running(layout, shutdown_timeout=25.0) as server:
            connection = send_request(server, BLOB, receive=100_000)
            assert connection.recv(1)
            rest = pool.submit(drain, connection)
        with connection:
            assert rest.result() > HUGE.size


@pytest.mark.slow
def test_shutdown_does_not_wait_for_stalled_transfers(layout: Path) -> None:
    with running(layout, shutdown_timeout=0.5) as server:
        idle = [send_request(server, BLOB) for _ in range(10)] + [server.connect() for _ in range(10)]
        started = time.monotonic()
    assert time.monotonic() - started < 10
    for connection in idle:
        with connection:
            assert drain(connection) < HUGE.size


def drain(connection: socket.socket) -> int:
    count = 0
    try:
        while data := connection.recv(1 << 20):
            count += len(data)
    except ConnectionError:
        pass
    return count
