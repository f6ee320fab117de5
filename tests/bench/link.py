"""Simulate a slow link to a distant server: `python -m tests.bench.link HOST:PORT RATE DELAY each|all`.

Each connection delivers at most RATE bytes per second, or all of them together. Data that leaves on one side arrives
DELAY seconds later on the other, so a round trip takes twice as long.
"""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf

_PIECE = 16 * 1024  # bytes
_ON_THE_WAY = 8 * 1024 * 1024  # bytes that a link holds, at most


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
    """A line that carries one piece after another, at `rate` bytes per second; it is `free` at a time of the loop."""

    rate: float
    free: float = 0.0

    def occupy(self, now: float, size: int) -> float:
        """Return the time at which `size` more bytes have left."""
        self.free = max(self.free, now) + size / self.rate
        return self.free


async def _main(host: str, rate: float, delay: float, limited: str) -> None:
    name, _, port = host.rpartition(":")
    shared = Line(rate) if limited == "all" else None

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * delay)  # the handshake
        far_reader, far_writer = await asyncio.open_connection(name, int(port), limit=_PIECE)
        async with asyncio.TaskGroup() as group:
            group.create_task(_carry(reader, far_writer, Line(inf), delay))
            group.create_task(_carry(far_reader, writer, shared or Line(rate), delay))

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_PIECE)
    print("{}:{}".format(*server.sockets[0].getsockname()[:2]), flush=True)
    await stop.wait()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line, delay: float) -> None:
    """Forward one direction: data leaves at the rate, and arrives after the delay."""
    loop = asyncio.get_running_loop()
    way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_ON_THE_WAY // _PIECE)

    async def leave() -> None:
        while data := await _read(reader):
            free = line.occupy(loop.time(), len(data))
            await way.put((free + delay, data))
            await asyncio.sleep(free - loop.time() - 0.01)
        await way.put((loop.time() + delay, b""))

    async def arrive() -> None:
        while True:
            due, data = await way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                writer.close()
                return
            try:
                writer.write(data)
                await writer.drain()
            except ConnectionError:
                return

    async with asyncio.TaskGroup() as group:
        sender = group.create_task(leave())
        await arrive()
        sender.cancel()


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(_PIECE)
    except ConnectionError:
        return b""


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
