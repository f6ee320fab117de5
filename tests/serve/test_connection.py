"""Tests of the transport of one client."""

import asyncio
import socket
import ssl
from pathlib import Path

from mirror.serve.connection import Connection
from tests.support.certificate import self_signed


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


def test_aborted_connection_keeps_its_tls_until_the_thread_is_done(tmp_path: Path) -> None:
    """Otherwise what the thread is about to send would leave in plain text."""
    context = self_signed(tmp_path / "tls.pem")

    async def versions() -> list[str | None]:
        with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as client:
            client.connect(listening.getsockname())
            accepted = context.wrap_socket(listening.accept()[0], server_side=True, do_handshake_on_connect=False)
            trusting = ssl.create_default_context(cafile=str(tmp_path / "tls.pem"))
            shaking = asyncio.to_thread(trusting.wrap_socket, client, server_hostname="127.0.0.1")
            secured, _ = await asyncio.gather(shaking, asyncio.to_thread(accepted.do_handshake))
            accepted.setblocking(False)
            connection = Connection(accepted, asyncio.Protocol())
            with secured, connection.lent():
                before = accepted.version()
                connection.abort()
                return [before, accepted.version()]

    before, after = asyncio.run(versions())
    assert before == after == "TLSv1.3"
