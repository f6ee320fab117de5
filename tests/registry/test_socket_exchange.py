"""Exchanges by blocking sockets: what only they can get wrong. All else is tested over both exchanges."""

import asyncio
import errno
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import sleep

import aiohttp
import pytest
from yarl import URL

from mirror.concurrency import to_thread
from mirror.errors import DigestMismatch, MirrorError
from mirror.registry.transport.connection import Connection
from mirror.registry.transport.exchange import Body, Call, Piece, Response
from mirror.registry.transport.socket_exchange import SocketExchange
from mirror.registry.transport.tls import TlsConfig
from tests.support.certificate import self_signed

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CREATED = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n"


class Server:
    """A server that answers each connection with a script. `requests` are the heads that it has received."""

    def __init__(self, *scripts: Callable[["Server", socket.socket], object]) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self.begun = threading.Event()
        self._scripts = scripts
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = URL(f"http://127.0.0.1:{self._listener.getsockname()[1]}/v2/")
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def _serve(self) -> None:
        for script in self._scripts:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, suppress(OSError):
                script(self, connection)

    def head(self, connection: socket.socket) -> bytes:
        """Receive the head of a request, and return what came of its body with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            received = connection.recv(4096)
            if not received:
                raise ConnectionResetError
            data += received
        head, _, rest = data.partition(b"\r\n\r\n")
        self.requests.append(head)
        return rest

    def __enter__(self) -> "Server":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # ends an `accept`, as closing does not
        self._listener.close()
        self._thread.join(10)


def answering(*answers: bytes) -> Callable[[Server, socket.socket], object]:
    """Answer requests on one connection, then wait until the client closes it."""

    def script(server: Server, connection: socket.socket) -> None:
        for answer in answers:
            server.head(connection)
            connection.sendall(answer)
        while connection.recv(4096):
            pass

    return script


def closing(*answers: bytes) -> Callable[[Server, socket.socket], object]:
    """Answer requests on one connection, and close it."""

    def script(server: Server, connection: socket.socket) -> None:
        for answer in answers:
            server.head(connection)
            connection.sendall(answer)

    return script


def call(url: URL, method: str = "GET", data: bytes | Body | None = None, timeout: float = 20.0) -> Call:
    headers = {"Content-Length": str(data.size)} if isinstance(data, Body) else {}
    return Call(method, url, headers, data, timeout, None, {}, None, None)


def body(pieces: Iterator[Piece], size: int) -> Body:
    async def chunks() -> AsyncIterator[memoryview]:
        raise AssertionError("a thread sends it")
        yield memoryview(b"")

    return Body(size, chunks(), pieces)


async def text(response: Response) -> bytes:
    return b"".join([chunk async for chunk in response.chunks()])


def several(server: Server, *calls: Call) -> list[tuple[int, bytes]]:
    """Carry out calls one after another, and return their statuses and bodies."""

    async def run() -> list[tuple[int, bytes]]:
        exchange, found = SocketExchange(20.0), []
        try:
            for each in calls:
                async with exchange.open(each) as response:
                    found.append((response.status, await text(response)))
        finally:
            await exchange.close()
        return found

    return asyncio.run(run())


def test_connection_is_used_again() -> None:
    with Server(answering(OK, OK, OK)) as server:
        assert several(server, *[call(server.url)] * 3) == [(200, b"hello")] * 3
        assert server.connections == 1


def test_connection_that_is_idle_for_too_long_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if its server is never asked again."""
    monkeypatch.setattr("mirror.registry.transport.socket_exchange._KEEP_IDLE", 0.0)
    closed = threading.Event()

    def script(server: Server, connection: socket.socket) -> None:
        answering(OK)(server, connection)
        closed.set()

    async def run() -> bool:
        exchange = SocketExchange(20.0)
        for server in (first, second):
            async with exchange.open(call(server.url)) as response:
                await text(response)
        try:
            return await asyncio.to_thread(closed.wait, 20)
        finally:
            await exchange.close()

    with Server(script) as first, Server(answering(OK)) as second:
        assert asyncio.run(run())


def answering_later(rest: bytes) -> Callable[[Server, socket.socket], object]:
    """Send the head of a chunked response, and the rest when `begun` is set."""

    def script(server: Server, connection: socket.socket) -> None:
        server.head(connection)
        connection.sendall(CHUNKED)
        server.begun.wait(20)
        connection.sendall(rest)
        server.requests += [b"another"] if connection.recv(1) else []

    return script


def begin_and_repeat(server: Server) -> list[bytes]:
    """Carry out a call whose body comes after its head, and then another one."""

    async def run() -> list[bytes]:
        exchange, found = SocketExchange(20.0), []
        for _ in range(2):
            async with exchange.open(call(server.url)) as response:
                server.begun.set()
                found.append(await asyncio.wait_for(text(response), 60))
        await exchange.close()
        return found

    return asyncio.run(run())


def test_chunks_are_not_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the last one would wait for what the server sends only after the next request."""
    monkeypatch.setattr(Connection.receive, "__defaults__", (3600.0,))
    with Server(answering_later(b"5\r\nhello\r\n0\r\n\r\n"), answering(OK)) as server:
        assert begin_and_repeat(server) == [b"hello"] * 2


@pytest.mark.parametrize("excess", [OK.replace(b"hello", b"wrong"), b"\0"])
def test_connection_with_bytes_after_a_chunked_body_is_not_used_again(excess: bytes) -> None:
    with Server(answering_later(b"5\r\nhello\r\n0\r\n\r\n" + excess), answering(OK)) as server:
        with suppress(aiohttp.ClientPayloadError):  # as for each bad end of a body
            assert begin_and_repeat(server) == [b"hello"] * 2
        assert len(server.requests) == server.connections


@pytest.mark.parametrize(
    "first",
    [
        OK.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"),
        OK.replace(b"HTTP/1.1", b"HTTP/1.0"),
        b"HTTP/1.1 200 OK\r\n\r\nhello",
    ],
)
def test_connection_that_the_server_will_close_is_not_used_again(first: bytes) -> None:
    with Server(closing(first), answering(OK)) as server:
        assert several(server, *[call(server.url)] * 2) == [(200, b"hello")] * 2
        assert server.connections == 2


def test_connection_that_the_server_has_closed_is_replaced() -> None:
    with Server(closing(OK), answering(OK)) as server:
        assert several(server, *[call(server.url)] * 2) == [(200, b"hello")] * 2
        assert server.connections == 2


def test_connection_that_is_closed_instead_of_an_answer_is_replaced_once() -> None:
    def vanish(server: Server, connection: socket.socket) -> None:
        closing(OK)(server, connection)
        server.head(connection)

    with Server(vanish, answering(OK)) as server:
        assert several(server, *[call(server.url)] * 2) == [(200, b"hello")] * 2
        assert (server.connections, len(server.requests)) == (2, 3)


def test_new_connection_that_is_closed_instead_of_an_answer_is_an_error() -> None:
    with Server(Server.head) as server:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            several(server, call(server.url))
        assert server.connections == 1


def test_bytes_after_a_response_are_never_part_of_the_next_one() -> None:
    """They may be a response that an attacker has put there."""
    bad = OK.replace(b"hello", b"wrong")

    def smuggle(server: Server, connection: socket.socket) -> None:
        server.head(connection)
        connection.sendall(OK)
        connection.sendall(bad)
        while connection.recv(4096):
            pass

    async def run() -> list[bytes]:
        exchange = SocketExchange(20.0)
        async with exchange.open(call(server.url)) as response:
            first = await text(response)
        await asyncio.sleep(0.2)  # until the second response is there
        async with exchange.open(call(server.url)) as response:
            second = await text(response)
        await exchange.close()
        return [first, second]

    with Server(smuggle, answering(OK)) as server:
        assert asyncio.run(run()) == [b"hello", b"hello"]
        assert server.connections == 2


def test_rest_of_a_response_that_arrives_late_costs_only_its_connection() -> None:
    """The body of a 304, which has none."""

    def late(server: Server, connection: socket.socket) -> None:
        server.head(connection)
        connection.sendall(b"HTTP/1.1 304 Not Modified\r\n\r\n")
        server.head(connection)
        connection.sendall(b"hello")
        wait_for(connection)

    with Server(late, answering(OK)) as server:
        assert several(server, *[call(server.url)] * 2) == [(304, b""), (200, b"hello")]
        assert server.connections == 2


def test_response_that_is_not_read_to_its_end_closes_its_connection() -> None:
    async def run() -> bytes:
        exchange = SocketExchange(20.0)
        async with exchange.open(call(server.url)):
            pass
        async with exchange.open(call(server.url)) as response:
            found = await text(response)
        await exchange.close()
        return found

    with Server(answering(OK[:-3]), answering(OK)) as server:
        assert asyncio.run(run()) == b"hello"
        assert server.connections == 2


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX: y\r\n\r\n",
            b"hello",
        ),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK, b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 4096])
def test_response_is_the_same_however_its_bytes_arrive(answer: bytes, found: bytes, size: int) -> None:
    def slowly(server: Server, connection: socket.socket) -> None:
        server.head(connection)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start in range(0, len(answer), size):
            connection.sendall(answer[start : start + size])
        answering(OK)(server, connection)

    with Server(slowly) as server:
        assert [data for _, data in several(server, *[call(server.url)] * 2)] == [found, b"hello"]
        assert server.connections == 1


def test_head_request_has_no_body_whatever_its_headers_say() -> None:
    with Server(answering(OK.removesuffix(b"hello"), OK)) as server:
        assert several(server, call(server.url, "HEAD"), call(server.url)) == [(200, b""), (200, b"hello")]
        assert server.connections == 1


@pytest.mark.parametrize("answer", [OK[:-2], CHUNKED + b"5\r\nhel"])
def test_end_in_the_middle_of_a_body_is_an_error(answer: bytes) -> None:
    with Server(closing(answer)) as server, pytest.raises(aiohttp.ClientPayloadError):
        several(server, call(server.url))


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
    ],
)
def test_invalid_head_is_an_error(answer: bytes) -> None:
    with Server(answering(answer)) as server, pytest.raises(aiohttp.ClientResponseError):
        several(server, call(server.url))


@pytest.mark.parametrize("text", ["a\r\nX: y", "a\nX: y", "a\0"])
def test_header_with_a_line_break_is_not_sent(text: str) -> None:
    with Server(answering(OK)) as server:
        request = Call("GET", server.url, {"Authorization": text}, None, 20.0, None, {}, None, None)
        with pytest.raises(ValueError, match="line break"):
            several(server, request)
        assert server.requests == []


# Ending early


def wait_for(connection: socket.socket) -> None:
    connection.settimeout(20)
    while connection.recv(4096):
        pass


@pytest.mark.parametrize("sent", [b"", OK[:10]])
def test_cancellation_ends_a_call_without_an_answer(sent: bytes) -> None:
    reached = threading.Event()

    def silent(server: Server, connection: socket.socket) -> None:
        server.head(connection)
        connection.sendall(sent)
        reached.set()
        wait_for(connection)

    async def run() -> None:
        exchange = SocketExchange(20.0)
        task = asyncio.create_task(exchange.open(call(server.url, timeout=1000)).__aenter__())
        await asyncio.to_thread(reached.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 10)

    with Server(silent) as server:
        asyncio.run(run())


def fall_silent(server: Server, connection: socket.socket) -> None:
    """Send all but the end of a response."""
    server.head(connection)
    connection.sendall(OK[:-2])
    wait_for(connection)


def test_cancellation_ends_a_blocked_read() -> None:
    async def run() -> None:
        exchange = SocketExchange(20.0)
        async with exchange.open(call(server.url, timeout=1000)) as response:
            assert response.fill is not None
            view, fill = memoryview(bytearray(5)), response.fill
            assert await to_thread(partial(fill, view)) == 3
            task = asyncio.create_task(to_thread(partial(fill, view), on_cancel=response.interrupt))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, 10)

    with Server(fall_silent) as server:
        asyncio.run(run())


def test_silence_ends_a_read_after_the_timeout() -> None:
    with Server(fall_silent) as server, pytest.raises(TimeoutError):
        several(server, call(server.url, timeout=0.3))


# Sending


def zeros(size: int, piece: int = 256 * 1024) -> Iterator[Piece]:
    for start in range(0, size, piece):
        yield Piece(memoryview(bytes(min(piece, size - start))))


def drain(server: Server, connection: socket.socket, size: int) -> int:
    got = len(server.head(connection))
    while got < size and (received := connection.recv(1 << 20)):
        got += len(received)
    return got


def test_body_is_sent_from_its_file(tmp_path_factory: pytest.TempPathFactory) -> None:
    content = bytes(range(256)) * 10_000
    file = tmp_path_factory.mktemp("body") / "content"
    file.write_bytes(b"before" + content + b"after")
    received = bytearray()

    def collect(server: Server, connection: socket.socket) -> None:
        received.extend(server.head(connection))
        while len(received) < len(content):
            received.extend(connection.recv(1 << 20))
        connection.sendall(CREATED)

    with file.open("rb") as opened, Server(collect) as server:
        size = 100_000
        pieces = (
            Piece(memoryview(bytes(len(content[start : start + size]))), opened.fileno(), 6 + start)
            for start in range(0, len(content), size)
        )
        assert several(server, call(server.url, "PUT", body(pieces, len(content)))) == [(201, b"")]
    assert bytes(received) == content


@pytest.mark.parametrize("reads_on", [False, True])
def test_refusal_before_the_end_of_a_body_is_the_answer(reads_on: bool) -> None:
    size = 64 * 1024 * 1024  # more than any socket buffers
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"
    asked = []

    def refuse(server: Server, connection: socket.socket) -> None:
        server.head(connection)
        connection.sendall(refusal)
        if reads_on:
            wait_for(connection)
        else:
            done.wait(20)

    def pieces() -> Iterator[Piece]:
        for piece in zeros(size):
            asked.append(len(piece.view))
            yield piece

    done = threading.Event()
    with Server(refuse) as server:
        assert several(server, call(server.url, "PUT", body(pieces(), size))) == [(413, b"big")]
        done.set()
    assert sum(asked) < size


def test_success_before_the_end_of_a_body_is_an_error() -> None:
    """The server has not received the content, so it cannot have stored it."""
    size = 64 * 1024 * 1024

    def accept(server: Server, connection: socket.socket) -> None:
        server.head(connection)
        connection.sendall(CREATED)
        done.wait(20)

    done = threading.Event()
    with Server(accept) as server:
        with pytest.raises(ConnectionResetError):
            several(server, call(server.url, "PUT", body(zeros(size), size)))
        done.set()


def test_server_that_stops_reading_is_given_up_after_the_timeout() -> None:
    size = 64 * 1024 * 1024

    def stop(server: Server, connection: socket.socket) -> None:
        server.head(connection)
        done.wait(20)

    done = threading.Event()
    with Server(stop) as server:
        with pytest.raises(TimeoutError):
            several(server, call(server.url, "PUT", body(zeros(size), size), timeout=0.3))
        done.set()


def test_server_that_stops_reading_is_given_up_after_the_timeout_of_a_piece() -> None:
    """It has more time for its response, after the last piece."""
    size = 64 * 1024 * 1024

    def stop(server: Server, connection: socket.socket) -> None:
        server.head(connection)
        done.wait(20)

    done = threading.Event()
    impatient = (replace(piece, timeout=0.3) for piece in zeros(size))
    with Server(stop) as server:
        with pytest.raises(TimeoutError):
            several(server, call(server.url, "PUT", body(impatient, size), timeout=3600))
        done.set()


def test_error_of_the_content_ends_the_request() -> None:
    got = []

    def collect(server: Server, connection: socket.socket) -> None:
        got.append(drain(server, connection, 3_000_000))

    def wrong() -> Iterator[Piece]:
        yield from zeros(1_000_000)
        raise DigestMismatch("The content", want="a", got="b")

    with Server(collect) as server, pytest.raises(MirrorError, match="The content"):
        several(server, call(server.url, "PUT", body(wrong(), 3_000_000)))
    assert got == [1_000_000]


def test_body_is_not_sent_twice_if_the_connection_was_closed() -> None:
    """The iterator of its pieces has been used up."""

    def vanish(server: Server, connection: socket.socket) -> None:
        closing(OK)(server, connection)
        server.head(connection)

    with Server(vanish, answering(OK)) as server:
        put = call(server.url, "PUT", body(zeros(10), 10))
        with pytest.raises((aiohttp.ServerDisconnectedError, ConnectionResetError)):
            several(server, call(server.url), put)
        assert len(server.requests) == 2


def test_interim_response_does_not_end_a_request() -> None:
    """Servers may send them without being asked, and at any time before the answer (RFC 9110, 15.2)."""
    size = 16 * 1024 * 1024  # more than any socket buffers

    def interim(server: Server, connection: socket.socket) -> None:
        got = len(server.head(connection))
        connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Process")
        while got < size and (received := connection.recv(1 << 20)):
            got += len(received)
        connection.sendall(b"ing\r\n\r\n" + CREATED)
        sizes.append(got)

    sizes: list[int] = []
    with Server(interim) as server:
        assert several(server, call(server.url, "PUT", body(zeros(size), size))) == [(201, b"")]
    assert sizes == [size]


def test_body_is_sent_from_memory_if_its_file_system_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(errno.EINVAL, "Invalid argument")

    def collect(server: Server, connection: socket.socket) -> None:
        got.append(drain(server, connection, 100_000))
        connection.sendall(CREATED)

    got: list[int] = []
    monkeypatch.setattr("os.sendfile", unsupported)
    with Server(collect) as server:
        pieces = iter([Piece(memoryview(bytes(100_000)), 0, 0)])
        assert several(server, call(server.url, "PUT", body(pieces, 100_000))) == [(201, b"")]
    assert got == [100_000]


def test_request_that_may_have_been_carried_out_is_not_sent_again() -> None:
    def vanish(server: Server, connection: socket.socket) -> None:
        closing(OK)(server, connection)
        server.head(connection)

    with Server(vanish, answering(OK)) as server:
        with pytest.raises((aiohttp.ServerDisconnectedError, ConnectionResetError)):
            several(server, call(server.url), call(server.url, "POST", b""))
        assert len(server.requests) == 2


def test_decrypted_bytes_after_a_response_are_never_part_of_the_next_one(tmp_path: Path) -> None:
    """They are not in the socket any more, but in TLS."""
    bad = OK.replace(b"hello", b"wrong")
    tls = self_signed(tmp_path / "server.pem", "localhost")

    def smuggle(server: Server, plain: socket.socket) -> None:
        with tls.wrap_socket(plain, server_side=True) as connection:
            server.head(connection)
            connection.sendall(OK[:-3])
            may_go_on.wait(10)
            connection.sendall(OK[-3:] + bad)  # one record
            while connection.recv(4096):
                pass

    def answer(server: Server, plain: socket.socket) -> None:
        with tls.wrap_socket(plain, server_side=True) as connection:
            answering(OK)(server, connection)

    async def run() -> list[bytes]:
        exchange, found = SocketExchange(20.0), []
        request = replace(call(server.url.with_scheme("https")), tls=TlsConfig(verify=False).context())
        for _ in range(2):
            async with exchange.open(request) as response:
                may_go_on.set()
                found.append(await text(response))
        await exchange.close()
        return found

    may_go_on = threading.Event()
    with Server(smuggle, answer) as server:
        assert asyncio.run(run()) == [b"hello", b"hello"]
        assert server.connections == 2


def test_refusal_is_found_after_tls_has_failed_to_send(tmp_path: Path) -> None:
    """OpenSSL reports a reset as a violation of the protocol; the refusal that came before it is in the socket."""
    tls = self_signed(tmp_path / "server.pem", "localhost")
    closed = threading.Event()

    def refuse(server: Server, plain: socket.socket) -> None:
        with tls.wrap_socket(plain, server_side=True) as connection:
            server.head(connection)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
        closed.set()

    def pieces() -> Iterator[Piece]:
        closed.wait(20)
        for _ in range(3):  # the first makes the server's system send a reset
            yield Piece(memoryview(bytes(1000)))
            sleep(0.02)

    with Server(refuse) as server:
        put = call(server.url.with_scheme("https"), "PUT", body(pieces(), 3000))
        found = several(server, replace(put, tls=TlsConfig(verify=False).context()))
    assert found == [(413, b"big")]
