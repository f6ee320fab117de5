"""Tests of the transport of one client."""

import asyncio
import socket

from mirror.serve.connection import Connection


async def counts() -> tuple[int, int]:
    """Return what is unacknowledged before and after the client has read everything."""
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(listening.getsockname())
        accepted, _ = listening.accept()
        accepted.setblocking(False)
        connection = Connection(accepted, asyncio.Protocol())
        await connection.flushed()
        with connection.lent() as lent:
            size = lent.send(bytes(100_000))
            before = connection.unacknowledged
            while size:
                size -= len(client.recv(size))
            while after := connection.unacknowledged:
                await asyncio.sleep(0.01)
        connection.abort()
        await asyncio.sleep(0.01)
    return before, after


def test_bytes_that_the_client_has_not_taken_are_unacknowledged() -> None:
    before, after = asyncio.run(counts())
    assert before > 0
    assert after == 0
