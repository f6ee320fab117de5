"""Tests of many, slow and vanishing clients, with and without TLS."""

import asyncio
import hashlib
import random
import re
import resource
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.serve import accept
from tests.serve.process import serving
from tests.serve.running import Server, make_layout, open_files, running
from tests.serve.test_hostile import drain, wait_for
from tests.support.certificate import self_signed
from tests.support.command import Mirror
from tests.support.images import OCI_LAYER, Blob, image
from tests.support.profiles import scaled

CLIENTS = scaled(1000)
LARGE = Blob.of(random.Random(1).randbytes(12_345_678), OCI_LAYER)
SMALL = Blob.of(random.Random(2).randbytes(100_000), OCI_LAYER)
APP = image("linux/amd64", LARGE, SMALL)
CONTENT = {f"/v2/a/b/blobs/{digest}": digest for digest in APP.blobs if digest != LARGE.digest}
CONTENT["/v2/a/b/manifests/1"] = APP.root

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])]


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    self_signed(folder / "server.pem", "localhost")
    return make_layout(folder / "layout", {"docker.io/a/b:1": APP})


@pytest.fixture
def options(layout: Path, tls: bool) -> dict[str, object]:
    return {"certificate": layout.parent / "server.pem"} if tls else {}


@pytest.fixture
def server(layout: Path, options: dict[str, object]) -> Iterator[Server]:
    with running(layout, **options) as found:
        yield found


def trust(layout: Path, tls: bool) -> ssl.SSLContext | None:
    return ssl.create_default_context(cafile=str(layout.parent / "server.pem")) if tls else None


def connect(server: Server, context: ssl.SSLContext | None, receive: int = 4096) -> socket.socket:
    """Connect with a small receive buffer, so that the server has to wait for a client that does not read."""
    name, port = server.host.rsplit(":", 1)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.settimeout(60)
    connection.connect((name, int(port)))
    return context.wrap_socket(connection, server_hostname="localhost") if context else connection


def ask(connection: socket.socket, node: Blob, headers: str = "") -> None:
    connection.sendall(f"GET /v2/a/b/blobs/{node.digest} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())


def answer(connection: socket.socket, size: int = 1 << 20, pause: float = 0.0) -> tuple[bytes, bytes]:
    """Read one response, `size` bytes at a time, with a pause after each of the first twenty; return head and body."""
    data, reads = b"", 0
    while b"\r\n\r\n" not in data:
        data += connection.recv(1)
    head, _, body = data.partition(b"\r\n\r\n")
    found = re.search(rb"Content-Length: (\d+)", head)
    assert found
    while len(body) < int(found[1]):
        chunk = connection.recv(min(size, int(found[1]) - len(body)))
        assert chunk, "the server closed the connection"
        body, reads = body + chunk, reads + 1
        time.sleep(pause if reads <= 20 else 0)
    return head, body


def threads() -> int:
    return sum(thread.name.startswith("serve-") for thread in threading.enumerate())


# Many clients


Connected = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect_all(address: tuple[str, int], context: ssl.SSLContext | None, count: int) -> list[Connected]:
    found: list[Connected] = []
    name = "localhost" if context else None
    for _ in range(0, count, 20):  # this process computes the handshakes of all clients
        opened = (asyncio.open_connection(*address, ssl=context, server_hostname=name) for _ in range(20))
        found += await asyncio.gather(*opened)
    return found


async def pull(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Request each part of the image, and return how many were right."""
    right = 0
    for path, digest in CONTENT.items():
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        found = re.search(rb"Content-Length: (\d+)", head)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert found
        right += f"sha256:{hashlib.sha256(await reader.readexactly(int(found[1]))).hexdigest()}" == digest
    return right


async def pull_all(address: tuple[str, int], context: ssl.SSLContext | None) -> list[int]:
    """Let `CLIENTS` pull the image at the same time; half of them again over the same connections."""
    clients = await connect_all(address, context, CLIENTS)
    results = await asyncio.gather(*(pull(*client) for client in clients))
    results += await asyncio.gather(*(pull(*client) for client in clients[: CLIENTS // 2]))
    for _, writer in clients:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in clients))
    return results


@pytest.fixture
def many_files() -> Iterator[None]:
    """Allow as many open files as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < 4 * CLIENTS:
        pytest.skip(f"the system allows only {hard} open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
@pytest.mark.timeout(900)
def test_every_one_of_many_clients_gets_the_image(mirror: Mirror, layout: Path, tls: bool, tmp_path: Path) -> None:
    certificate = ("--cert", str(layout.parent / "server.pem")) if tls else ()
    command = mirror.command("serve", str(layout), "--listen", "127.0.0.1:0", *certificate)
    with serving(command, tmp_path, mirror.env) as process:
        name, _, port = process.host.rpartition(":")
        right = asyncio.run(pull_all((name, int(port)), trust(layout, tls)))
        assert process.end() == 0
    assert right == [len(CONTENT)] * (CLIENTS + CLIENTS // 2)
    assert sum(" 200 " in line for line in process.lines) == len(CONTENT) * len(right)
    assert not any("aborted" in line for line in process.lines)


# Slow clients


def test_clients_that_do_not_read_hold_no_thread(server: Server, layout: Path, tls: bool) -> None:
    context, files, before = trust(layout, tls), open_files(), threads()
    stalled = [connect(server, context) for _ in range(60)]
    for connection in stalled:
        ask(connection, LARGE)
    for _ in range(3):
        with connect(server, context, 1 << 20) as connection:
            ask(connection, LARGE)
            assert answer(connection)[1] == LARGE.data
    assert threads() - before <= 32
    for connection in stalled:
        connection.close()
    wait_for(lambda: open_files() <= files)


@pytest.mark.parametrize(("first", "last"), [(0, LARGE.size - 1), (700_001, LARGE.size - 12)])
def test_client_that_pauses_gets_the_right_bytes(
    server: Server, layout: Path, tls: bool, first: int, last: int
) -> None:
    """The rest of a unit is verified again after each pause, and TLS goes on with the record that it had begun."""
    with connect(server, trust(layout, tls), 32 * 1024) as connection:
        for _ in range(2):
            ask(connection, LARGE, f"Range: bytes={first}-{last}\r\n")
            assert answer(connection, 50_000, 0.02)[1] == LARGE.data[first : last + 1]


def test_requests_that_are_sent_ahead_are_answered_in_order(server: Server, layout: Path, tls: bool) -> None:
    with connect(server, trust(layout, tls), 256 * 1024) as connection:
        ask(connection, LARGE)
        ask(connection, SMALL)
        assert answer(connection)[1] == LARGE.data
        ask(connection, LARGE)
        assert answer(connection)[1] == SMALL.data
        assert answer(connection)[1] == LARGE.data


# Clients that vanish


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
def test_client_that_vanishes_leaves_nothing_open(server: Server, layout: Path, tls: bool, reset: bool) -> None:
    context, files = trust(layout, tls), open_files()
    for _ in range(30):
        connection = connect(server, context)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        ask(connection, LARGE)
        connection.recv(100)
        connection.close()
    wait_for(lambda: len(server.access_log) == 30 and open_files() <= files)
    assert all("aborted: the client disconnected" in line for line in server.access_log)
    with connect(server, context, 1 << 20) as connection:
        ask(connection, LARGE)
        assert answer(connection)[1] == LARGE.data


def test_handshake_that_never_ends_holds_a_connection_only_for_a_while(
    layout: Path, options: dict[str, object], tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server without TLS waits for a request instead."""
    monkeypatch.setattr(accept, "_HANDSHAKE_TIMEOUT", 2.0)
    with running(layout, **options, idle_timeout=2.0) as server:
        files = open_files()
        started = [server.connect() for _ in range(60)]
        for number, connection in enumerate(started):
            connection.sendall(b"\x16\x03\x01\x02\x00\x01\x00"[: number % 8] if tls else b"GET"[: number % 4])
        with connect(server, trust(layout, tls), 1 << 20) as connection:
            ask(connection, LARGE)
            assert answer(connection)[1] == LARGE.data
        assert [drain(connection) for connection in started] == [0] * 60
        for connection in started:
            connection.close()
        wait_for(lambda: open_files() <= files)


def test_shutdown_waits_for_no_stalled_client(layout: Path, options: dict[str, object], tls: bool) -> None:
    with running(layout, **options, shutdown_timeout=0.5) as server:
        context = trust(layout, tls)
        stalled = [connect(server, context) for _ in range(20)]
        for connection in stalled:
            ask(connection, LARGE)
            assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        unfinished = [server.connect() for _ in range(5)]
    for connection in (*stalled, *unfinished):
        with connection:
            assert drain(connection) < LARGE.size
