"""Clients that mean no good, or are just slow: nobody else is hurt, and nothing but images is told."""

import re
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

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
def test_path_that_is_none_is_refused_as_json(server: Server, path: str) -> None:
    reply = server.get(path)
    assert reply.status in (400, 404)
    assert reply.code
    assert SECRET not in reply.body.decode()
    assert re.search(r"HTTP/1.1|Traceback|/layout", reply.body.decode()) is None


def test_nothing_of_the_layout_is_listed(server: Server) -> None:
    assert server.get("/v2/_catalog").json == {"repositories": ["a/b"]}


@pytest.mark.parametrize("query", ["ns=", "ns=..", "ns=a%0d%0aX:1", "ns=docker.io%00", "ns=" + "a" * 1000])
def test_namespace_that_is_none_is_refused(server: Server, query: str) -> None:
    reply = server.get(f"/v2/a/b/manifests/1?{query}")
    assert reply.status in (400, 404)
    assert "X" not in reply.headers


def test_query_of_many_fields_is_refused(server: Server) -> None:
    assert server.get("/v2/_catalog?" + "&".join(f"a{number}=1" for number in range(500))).status == 400


# Requests that are none

BROKEN = {
    "no http": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
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
    "half an address": b"GET http://[/v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "connect": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n",
    "method": b"G\x1bT /v2/ HTTP/1.1\r\nHost: x\r\n\r\n",
}


@pytest.mark.slow
@pytest.mark.parametrize("how", BROKEN)
def test_request_that_is_none_is_answered_in_words_and_closed(layout: Path, how: str) -> None:
    with running(layout, idle_timeout=2.0) as server:
        try:
            answer = server.raw(BROKEN[how])
        except ConnectionError:
            answer = b""  # closed before all of it was sent
        assert not answer or answer.startswith(b"HTTP/1.")
        assert b"Traceback" not in answer
        assert server.get("/v2/").status == 200
        assert not any("Traceback" in text for text in server.said + server.logged)


# The log


def test_log_has_one_line_for_each_request_with_nothing_in_it_that_breaks_out(layout: Path) -> None:
    with running(layout) as server:
        before = len(server.logged)
        request = b'GET /v2/a"b\x1b[31m\xff HTTP/1.1\r\nHost: x\r\nUser-Agent: "a" 200 0\r\nConnection: close\r\n\r\n'
        server.raw(request)
        server.get("/v2/", User_Agent="x" * 5000)
        wait_for(lambda: len(server.logged) >= before + 2)
        lines = server.logged[before:]
    assert len(lines) == 2
    assert not any(char in line for line in lines for char in "\r\n")
    assert r"\"a\" 200 0" in lines[0] or "invalid HTTP" in lines[0]
    assert len(lines[1]) < 1500
    assert re.fullmatch(r'\S+Z 127\.0\.0\.1 - "GET /v2/" 200 2 \d+\.\d{3} "x+"', lines[1])


def wait_for(true: Callable[[], bool], seconds: float = 20) -> None:
    """Until something comes true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


# Slowness


def ask(server: Server, path: str, receive: int = 4096) -> socket.socket:
    """Ask, and read nothing; the system holds little for this connection."""
    name, port = server.host.rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.settimeout(30)
    connection.connect((name, int(port)))
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    return connection


@pytest.mark.slow
def test_client_that_takes_nothing_is_let_go(layout: Path) -> None:
    with running(layout, send_timeout=1.0) as server:
        server.get(BLOB)
        files = open_files()
        stalled = [ask(server, BLOB) for _ in range(20)]
        wait_for(lambda: sum("stopped reading" in line for line in server.logged) == 20)
        for connection in stalled:
            connection.close()
        wait_for(lambda: open_files() <= files)


@pytest.mark.slow
def test_client_that_asks_again_and_again_and_reads_nothing_is_let_go(layout: Path) -> None:
    with running(layout, send_timeout=1.0) as server:
        connection = server.connect()
        connection.setblocking(False)
        request = b"GET /v2/a/b/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n"
        end = time.monotonic() + 20
        while not any("stopped reading" in line for line in server.logged):
            assert time.monotonic() < end
            try:
                connection.send(request * 50)
            except BlockingIOError:
                time.sleep(0.02)
            except ConnectionError:
                break
        connection.close()


@pytest.mark.slow
def test_client_that_is_slow_but_takes_something_gets_all(layout: Path) -> None:
    """Its pauses are shorter than the patience that it gets, and all of them together are longer."""
    with running(layout, send_timeout=4.0) as server, ask(server, BLOB, receive=200_000) as connection:
        count, started = 0, time.monotonic()
        while time.monotonic() - started < 9:
            count += len(connection.recv(100_000))
            time.sleep(0.1)
        assert count + drain(connection) > HUGE.size


@pytest.mark.slow
@pytest.mark.parametrize("start", [b"", b"GET /v2/ HTTP/1.1\r\n", b"GET /v2/ HTTP/1.1\r\nX: "])
def test_request_that_never_ends_is_closed(layout: Path, start: bytes) -> None:
    """One byte now and then does not help (slowloris)."""
    with running(layout, idle_timeout=1.0) as server, server.connect() as connection:
        connection.sendall(start)
        connection.settimeout(0.2)
        end = time.monotonic() + 20
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
def test_upload_that_never_ends_is_closed(layout: Path) -> None:
    with running(layout, idle_timeout=2.0) as server, server.connect() as connection:
        connection.sendall(b"PUT /v2/a/b/manifests/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n")
        assert b"405" in connection.recv(65536)
        connection.settimeout(30)
        assert connection.recv(65536) == b""


@pytest.mark.slow
def test_others_are_served_while_many_sleep(layout: Path) -> None:
    with running(layout) as server:
        sleeping = [ask(server, BLOB) for _ in range(150)] + [server.connect() for _ in range(150)]
        for _ in range(100):
            assert server.get("/v2/a/b/manifests/1").body == APP.data
        for connection in sleeping:
            connection.close()


# The end


@pytest.mark.slow
def test_transfer_that_runs_is_finished_before_the_end(layout: Path) -> None:
    with ThreadPoolExecutor() as pool:
        with running(layout) as server:
            connection = ask(server, BLOB, receive=100_000)
            assert connection.recv(1)
            rest = pool.submit(drain, connection)
        with connection:
            assert rest.result() > HUGE.size


@pytest.mark.slow
def test_transfer_that_sleeps_does_not_hold_up_the_end(layout: Path) -> None:
    with running(layout, shutdown_timeout=0.5) as server:
        sleeping = [ask(server, BLOB) for _ in range(10)] + [server.connect() for _ in range(10)]
        started = time.monotonic()
    assert time.monotonic() - started < 10
    for connection in sleeping:
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
