"""Simulate a slow link to a distant server: `python -m tests.bench.link HOST:PORT RATE DELAY each|all`.

Each connection delivers at most RATE bytes per second, or all of them together. A handshake takes two times DELAY
seconds, and so does a request until it arrives, instead of the request and its response one each.

Each connection has two threads, and the kernel moves the bytes, so that eight fast connections take little of a core.
"""

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from socketserver import BaseRequestHandler, ThreadingTCPServer
from threading import Lock, Thread

_SMALLEST, _LARGEST = 16 * 1024, 128 * 1024  # bytes of a piece
_TURN = 0.01  # seconds of a line's rate that make a piece
_LATE = 0.05  # seconds that a line may make up for if this process is late while data waits
_REQUEST = 64 * 1024  # bytes


@contextmanager
def slow_link(host: str, rate: int, delay: float, *, together: bool = False) -> Iterator[str]:
    """Run a link in a separate process, and yield HOST:PORT of its near end.

    The rate is in bytes per second, for each connection or for all `together`; the delay is in seconds.
    """
    limited = "all" if together else "each"
    command = [sys.executable, "-m", "tests.bench.link", host, str(rate), str(delay), limited]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@dataclass
class Line:
    """A line that carries one piece after another, at `rate` bytes per second; it is `free` at a monotonic time."""

    rate: float
    free: float = 0.0

    def __post_init__(self) -> None:
        self._lock = Lock()
        self.piece = int(min(max(self.rate * _TURN, _SMALLEST), _LARGEST))

    def occupy(self, now: float, size: int) -> float:
        """Return the time at which `size` more bytes have left."""
        with self._lock:
            self.free = max(self.free, now) + size / self.rate
            return self.free


class _Link(ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 50

    def __init__(self, host: str, rate: float, delay: float, shared: Line | None) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        name, _, port = host.rpartition(":")
        self.target, self.rate, self.delay, self.shared = (name, int(port)), rate, delay, shared


class _Connection(BaseRequestHandler):
    server: _Link
    request: socket.socket

    def handle(self) -> None:
        link = self.server
        time.sleep(2 * link.delay)  # the handshake
        with suppress(OSError), closing(socket.create_connection(link.target)) as far:
            self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Thread(target=_forward, args=(self.request, far, 2 * link.delay), daemon=True).start()
            _deliver(far, self.request, link.shared or Line(link.rate))


def _forward(client: socket.socket, far: socket.socket, delay: float) -> None:
    """Forward requests."""
    with suppress(OSError):
        while data := client.recv(_REQUEST):
            time.sleep(delay)
            far.sendall(data)
    with suppress(OSError):
        far.shutdown(socket.SHUT_RDWR)


def _deliver(far: socket.socket, client: socket.socket, line: Line) -> None:
    """Forward responses at the rate of a line."""
    source, sink = os.pipe()
    try:
        while True:
            is_waiting = bool(select.select([far], [], [], 0)[0])
            count = os.splice(far.fileno(), sink, line.piece)
            if not count:
                return
            free = line.occupy(time.monotonic() - is_waiting * _LATE, count)
            time.sleep(max(free - time.monotonic(), 0))
            while count:
                count -= os.splice(source, client.fileno(), count)
    finally:
        os.close(source)
        os.close(sink)


def _main(host: str, rate: float, delay: float, limited: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends this process
    with _Link(host, rate, delay, Line(rate) if limited == "all" else None) as link:
        print("{}:{}".format(*link.server_address), flush=True)
        link.serve_forever()


if __name__ == "__main__":
    _main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4])
