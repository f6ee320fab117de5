"""A gateway to a server that can go down for a while: it cuts all connections, and refuses new ones."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


class Gateway:
    """Passes connections to `127.0.0.1:PORT` on to `target`, `ADDRESS:PORT`."""

    def __init__(self, target: str) -> None:
        address, _, port = target.rpartition(":")
        self._target = address, int(port)
        self._server = socket.create_server(("127.0.0.1", 0))
        self._address = self._server.getsockname()
        self._open: list[socket.socket] = []
        self._timers: list[threading.Timer] = []
        self._start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._address[1]}"

    def go_down(self, seconds: float) -> None:
        """Cut everything, and refuse connections for so long."""
        self.close()
        self._timers.append(threading.Timer(seconds, self._come_back))
        self._timers[-1].start()

    def close(self) -> None:
        for end in (self._server, *self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open.clear()

    def wait(self) -> None:
        for timer in self._timers:
            timer.join()

    def _come_back(self) -> None:
        self._server = socket.create_server(self._address)
        self._start()

    def _start(self) -> None:
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def _accept(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = server.accept()
                behind = socket.create_connection(self._target)
                self._open += [client, behind]
                for ends in ((client, behind), (behind, client)):
                    threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def gateway(target: str) -> Iterator[Gateway]:
    running = Gateway(target)
    try:
        yield running
    finally:
        running.wait()
        running.close()
