"""An HTTP proxy on a loopback address, which maps the host names of a test to real addresses."""

import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

_CREDENTIALS = re.compile(rb"Proxy-Authorization: (.*)\r\n")


class Proxy(ThreadingTCPServer):
    """A proxy that reaches `hosts` only: `registry.test:5000` → `127.0.0.1:41234`.

    `asked` records the requests, `credentials` the values of Proxy-Authorization, which is not forwarded.
    """

    daemon_threads = True

    def __init__(self, hosts: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.hosts = hosts
        self.asked: list[str] = []
        self.credentials: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def proxying(hosts: Mapping[str, str]) -> Iterator[Proxy]:
    with Proxy(hosts) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()


class _Connection(BaseRequestHandler):
    server: Proxy
    request: socket.socket

    def handle(self) -> None:
        head = self._head()
        if not head:
            return
        head = self._own(head)
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        tunnel = method == "CONNECT"
        host = target if tunnel else urlsplit(target).netloc
        self.server.asked.append(f"{method} {host}")
        if host not in self.server.hosts:
            self.request.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        address, _, port = self.server.hosts[host].partition(":")
        with closing(socket.create_connection((address, int(port)))) as server:
            if tunnel:
                self.request.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                server.sendall(head)  # registries understand the absolute form as well
            _both_ways(self.request, server, bytes if tunnel else self._own)

    def _own(self, head: bytes) -> bytes:
        """Return the headers that are forwarded: all but those for the proxy itself."""
        self.server.credentials += [found.decode() for found in _CREDENTIALS.findall(head)]
        return _CREDENTIALS.sub(b"", head)

    def _head(self) -> bytes:
        head = b""
        while b"\r\n\r\n" not in head:
            data = self.request.recv(65536)
            if not data:
                return b""
            head += data
        return head


def _both_ways(client: socket.socket, server: socket.socket, change: Callable[[bytes], bytes]) -> None:
    back = threading.Thread(target=_pass_on, args=(server, client, bytes), daemon=True)
    back.start()
    _pass_on(client, server, change)
    back.join()


def _pass_on(source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes]) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(change(data))
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
