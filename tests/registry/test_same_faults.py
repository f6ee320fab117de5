"""The same fault has the same message, hint and consequence over both exchanges."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import pack
from typing import cast

import pytest
from yarl import URL

from mirror.errors import MirrorError, TransferError
from mirror.registry import Client, RegistryOptions
from mirror.registry.transport.errors import iter_body, translate_errors
from mirror.registry.transport.exchange import Call, Exchange
from mirror.registry.transport.loop_exchange import LoopExchange
from mirror.registry.transport.request_text import Request
from mirror.registry.transport.responses import response_error
from mirror.registry.transport.socket_exchange import SocketExchange
from mirror.registry.transport.tls import TlsConfig
from tests.support.certificate import Authority, self_signed, server_tls

Script = Callable[[socket.socket], object]
HEAD = b"HTTP/1.1 200 OK\r\n"
OK = HEAD + b"Content-Length: 5\r\n\r\nhello"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def receive_head(connection: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data and (received := connection.recv(4096)):
        data += received


def answer(data: bytes, *, reset: bool = False) -> Script:
    """Answer a request, and close or reset the connection."""

    def script(connection: socket.socket) -> None:
        receive_head(connection)
        connection.sendall(data)
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))

    return script


def reset_at_once(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, pack("ii", 1, 0))


def plain(connection: socket.socket) -> None:
    connection.recv(9999)
    connection.sendall(OK)


@contextmanager
def serving(script: Script, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Serve each connection with a script, and return the port."""

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            connection.settimeout(10)
            if tls:
                with tls.wrap_socket(connection, server_side=True) as secure:
                    script(secure)
            else:
                script(connection)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def client_tls(file: Path | None = None) -> ssl.SSLContext:
    return TlsConfig(verify=file is not None, ca_files=(file,) if file else ()).context()


async def outcome(exchange: Exchange, call: Call) -> dict[str, object]:
    """Return what a caller sees of a response, or of an error."""
    request = Request.to(call.method, call.url)
    found: dict[str, object] = {}
    try:
        with translate_errors(request):
            async with exchange.open(call) as response:
                if response.status == 407:
                    raise await response_error(request, response, "registry.example")
                found["head"] = response.status, response.reason, response.content_length, response.content_type
                found["body"] = b"".join([chunk async for chunk in iter_body(response)])
    except MirrorError as error:
        found.pop("head", None)
        status = error.status if isinstance(error, TransferError) else None
        found["error"] = type(error).__name__, str(error), error.hint, error.transient, status
    finally:
        await exchange.close()
    return found


def both(call: Call) -> list[dict[str, object]]:
    """Return the outcomes of a call over aiohttp, and over sockets."""

    async def run() -> list[dict[str, object]]:
        async with Client(RegistryOptions()) as client:
            loop = LoopExchange(client._open_session, 5.0)
            return [await outcome(loop, call), await outcome(SocketExchange(5.0), call)]

    return asyncio.run(run())


def call(url: str, method: str = "GET", tls: ssl.SSLContext | None = None, proxy: str | None = None) -> Call:
    through = URL(proxy) if proxy else None
    return Call(method, URL(url, encoded=True), {"Accept": "*/*"}, None, 5.0, through, {}, tls, None)


ANSWERS = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 O",
    "complete": OK,
    "cut": OK[:-2],
    "to the end": HEAD + b"\r\nhello",
    "http/1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "no reason": b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n",
    "chunked": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n",
    "chunked, cut": CHUNKED + b"5\r\nhel",
    "chunked, no end": CHUNKED + b"5\r\nhello\r\n",
    "chunked, bad size": CHUNKED + b"zz\r\nhello\r\n0\r\n\r\n",
    "chunked, bad end": CHUNKED + b"5\r\nhelloX\r\n0\r\n\r\n",
    "chunked, negative": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "chunked, trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n",
    "chunked and length": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "other coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "same length twice": HEAD + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "lengths in a list": HEAD + b"Content-Length: 5, 5\r\n\r\nhello",
    "length -1": HEAD + b"Content-Length: -1\r\n\r\nhello",
    "length +5": HEAD + b"Content-Length: +5\r\n\r\nhello",
    "length 5_0": HEAD + b"Content-Length: 5_0\r\n\r\nhello",
    "length empty": HEAD + b"Content-Length: \r\n\r\nhello",
    "length huge": HEAD + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nhello",
    "length 2**63": HEAD + b"Content-Length: 9223372036854775807\r\n\r\nhello",
    "body of a 204": b"HTTP/1.1 204 No Content\r\n\r\nhello",
    "length of a 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
    "100": b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    "100 alone": b"HTTP/1.1 100 Continue\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nhello",
    "103 twice": b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 2 + OK,
    "excess": OK + b"x" * 10,
    "second response": OK + OK,
    "long header": HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
    "many headers": HEAD + b"".join(b"X%d: y\r\n" % n for n in range(500)) + b"Content-Length: 5\r\n\r\nhello",
    "folded": HEAD + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
    "line feeds": OK.replace(b"\r\n", b"\n"),
    "no colon": HEAD + b"Content-Length\r\n\r\nhello",
    "space before colon": HEAD + b"Content-Length : 5\r\n\r\nhello",
    "NUL": HEAD + b"X: a\0b\r\nContent-Length: 5\r\n\r\nhello",
    "latin-1": HEAD + b"X: \xe4\r\nContent-Type: \xff\r\nContent-Length: 5\r\n\r\nhello",
    "type in capitals": HEAD + b"Content-Type: Text/HTML; a=b\r\nContent-Length: 5\r\n\r\nhello",
    "type without a slash": HEAD + b"Content-Type: html\r\nContent-Length: 5\r\n\r\nhello",
    "type is empty": HEAD + b"Content-Type: \r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/2": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status 99": b"HTTP/1.1 99 X\r\nContent-Length: 5\r\n\r\nhello",
    "status 1000": b"HTTP/1.1 1000 X\r\nContent-Length: 5\r\n\r\nhello",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "500": b"HTTP/1.1 500 X\r\nContent-Length: 3\r\n\r\nbad",
}


# Their end is that of the connection. After a reset, aiohttp accepts what has arrived, and sockets do not.
WITHOUT_LENGTH = {"to the end", "http/1.0", "other coding"}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("name", ANSWERS)
def test_answer(name: str, reset: bool) -> None:
    with serving(answer(ANSWERS[name], reset=reset)) as port:
        loop, sockets = both(call(f"http://127.0.0.1:{port}/v2/"))
    if reset and name in WITHOUT_LENGTH:
        assert "the connection was cut" in str(sockets["error"])
    else:
        assert loop == sockets


@pytest.mark.parametrize("name", ["nothing", "complete", "length of a 304", "excess", "chunked"])
def test_answer_to_head(name: str) -> None:
    with serving(answer(ANSWERS[name])) as port:
        loop, sockets = both(call(f"http://127.0.0.1:{port}/v2/", "HEAD"))
    assert loop == sockets


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("name", ["nothing", "complete", "cut", "chunked, cut", "excess"])
def test_answer_over_tls(name: str, reset: bool, tmp_path: Path) -> None:
    tls = self_signed(tmp_path / "server.pem", "localhost")
    with serving(answer(ANSWERS[name], reset=reset), tls) as port:
        loop, sockets = both(call(f"https://127.0.0.1:{port}/v2/", tls=client_tls()))
    assert loop == sockets


@pytest.mark.parametrize("script", [reset_at_once, plain, lambda _: None, lambda connection: connection.recv(9999)])
def test_server_that_does_not_speak_tls(script: Script) -> None:
    with serving(script) as port:
        loop, sockets = both(call(f"https://127.0.0.1:{port}/v2/", tls=client_tls()))
    assert loop == sockets
    assert "handshake failed" in str(loop["error"])


@pytest.mark.slow
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("wrong", [False, True])
def test_client_certificate_that_is_refused(version: ssl.TLSVersion, wrong: bool, tmp_path: Path) -> None:
    authority, clients = (Authority.at(tmp_path / f"{name}.pem") for name in ("servers", "clients"))
    tls = server_tls(authority.sign(tmp_path / "server.pem", "127.0.0.1"), clients.file)
    tls.minimum_version = tls.maximum_version = version
    context = client_tls(authority.file)
    if wrong:
        context.load_cert_chain(authority.sign(tmp_path / "client.pem"))
    with serving(answer(OK), tls) as port:
        loop, sockets = both(call(f"https://127.0.0.1:{port}/v2/", tls=context))
    assert loop == sockets
    if version == ssl.TLSVersion.TLSv1_3:  # the server refuses after the handshake
        _, text, hint, *_ = cast(tuple[str, ...], loop["error"])
        assert "the connection was cut" in text
        assert "client certificate" in hint
    else:
        assert "handshake failed" in str(loop["error"])


@pytest.mark.slow
@pytest.mark.parametrize("names", [("127.0.0.1",), ("other.example",), ("localhost",), ("127.0.0.2",)])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost."])
@pytest.mark.parametrize("days", [(-1, 1), (-2, -1), (1, 2)])
def test_certificate(names: tuple[str, ...], host: str, days: tuple[int, int], tmp_path: Path) -> None:
    authority = Authority.at(tmp_path / "servers.pem")
    tls = server_tls(authority.sign(tmp_path / "server.pem", *names, days=days))
    with serving(answer(OK), tls) as port:
        loop, sockets = both(call(f"https://{host}:{port}/v2/", tls=client_tls(authority.file)))
    assert loop == sockets


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.1", "127.0.0.1.", "a..b", "a" * 70, "[::1]"])
def test_host_that_cannot_be_reached(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    loop, sockets = both(call(f"http://{host}:{port}/"))
    assert loop == sockets


# Responses of a proxy to CONNECT
PROXY = {
    "407": b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 3\r\n\r\nbad",
    "403": b"HTTP/1.1 403 Forbidden\r\n\r\n<html>",
    "502": b"HTTP/1.1 502 Bad Gateway.\r\nContent-Length: 1000\r\n\r\nx",
    "503 without reason": b"HTTP/1.1 503\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "301": b"HTTP/1.1 301 Moved\r\nLocation: http://x/\r\n\r\n",
    "100": b"HTTP/1.1 100 Continue\r\n\r\n",
    "100, 200": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    "nothing": b"",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "200 and bytes": b"HTTP/1.1 200 OK\r\n\r\nhello",
    "200 with a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "200": b"HTTP/1.1 200 OK\r\n\r\n",
    "half": b"HTTP/1.1 200 O",
}


@pytest.mark.parametrize("name", PROXY)
def test_proxy(name: str) -> None:
    with serving(answer(PROXY[name])) as port:
        loop, sockets = both(call("https://registry.example/v2/", tls=client_tls(), proxy=f"http://127.0.0.1:{port}"))
    assert loop == sockets
    assert "error" in loop


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"])
@pytest.mark.parametrize("user", ["", "ann:wrong@", "ann@"])
def test_hint_of_a_407_names_the_variable_and_what_is_wrong(
    variable: str, user: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme = variable.lower().partition("_")[0]
    with serving(answer(PROXY["407"])) as port:
        monkeypatch.setenv(variable, f"http://{user}127.0.0.1:{port}")
        tls = client_tls() if scheme == "https" else None
        loop, sockets = both(call(f"{scheme}://registry.example/v2/", tls=tls, proxy=f"http://127.0.0.1:{port}"))
    assert loop == sockets
    put = f"Put the proxy's credentials into its URL: {variable}=http://user:password@"
    assert (f"The proxy refused the user name or the password in {variable}." if user else put) in str(loop["error"])


def test_proxy_that_cannot_be_reached() -> None:
    loop, sockets = both(call("https://registry.example/v2/", tls=client_tls(), proxy="http://127.0.0.1:1"))
    assert loop == sockets


@pytest.mark.parametrize("path", ["a b", "ä", "a%zz", "a#b", "a?b=c d", "%2f%2F"])
@pytest.mark.parametrize("proxied", [False, True])
def test_path(path: str, proxied: bool) -> None:
    seen: list[bytes] = []

    def script(connection: socket.socket) -> None:
        seen.append(connection.recv(4096).split(b"\r\n")[0])
        connection.sendall(OK)

    with serving(script) as port:
        proxy = f"http://127.0.0.1:{port}" if proxied else None
        loop, sockets = both(call(f"http://127.0.0.1:{port}/v2/{path}", proxy=proxy))
    assert loop == sockets
    assert len(seen) == 2
    assert len(set(seen)) == 1


def test_address_without_tls_is_passed_over(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tls = self_signed(tmp_path / "server.pem", "localhost")
    with serving(plain) as wrong, serving(answer(OK), tls) as right:
        ports = (wrong, right)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: found)
        loop, sockets = both(call("https://registry.example/v2/", tls=client_tls()))
    assert loop == sockets
    assert sockets["body"] == b"hello"
