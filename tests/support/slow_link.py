"""A TCP relay on a loopback address that limits the rate of all its connections together, and counts their bytes."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from socketserver import BaseRequestHandler, ThreadingTCPServer

_PIECE = 4096  # bytes


class SlowLink(ThreadingTCPServer):
    """A relay to `host`. `rate` is in bytes per second; None: unlimited.

    `received` are the bytes that all clients have received, `most` how many connections were open at once. With
    `stall_after`, nothing more is delivered after so many bytes.
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 50

    def __init__(self, host: str, rate: float | None, stall_after: int | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.target, self.rate, self.stall_after = host, rate, stall_after
        self.received = self.open = self.most = 0
        self._free = time.monotonic()
        self._lock = threading.Lock()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    def count_open(self, change: int) -> None:
        with self._lock:
            self.open += change
            self.most = max(self.most, self.open)

    def deliver(self, client: socket.socket, data: bytes) -> None:
        """Send bytes to a client when it is their turn."""
        with self._lock:
            self._free = max(self._free, time.monotonic()) + (len(data) / self.rate if self.rate else 0)
            wait = self._free - time.monotonic()
        time.sleep(max(wait, 0))
        if self.stall_after is not None and self.received >= self.stall_after:
            threading.Event().wait(60)
        client.sendall(data)
        with self._lock:
            self.received += len(data)


@contextmanager
def slow_link(host: str, rate: float | None = None, stall_after: int | None = None) -> Iterator[SlowLink]:
    with SlowLink(host, rate, stall_after) as link:
        thread = threading.Thread(target=link.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield link
        link.shutdown()
        thread.join()


class _Connection(BaseRequestHandler):
    server: SlowLink
    request: socket.socket

    def handle(self) -> None:
        name, _, port = self.server.target.partition(":")
        self.server.count_open(1)
        try:
            with closing(socket.create_connection((name, int(port)))) as far:
                far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                threading.Thread(target=_forward, args=(self.request, far), daemon=True).start()
                with suppress(OSError):
                    while data := far.recv(_PIECE):
                        self.server.deliver(self.request, data)
        finally:
            self.server.count_open(-1)


def _forward(client: socket.socket, far: socket.socket) -> None:
    with suppress(OSError):
        while data := client.recv(65536):
            far.sendall(data)
    with suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)
