"""TLS towards registries: whether they speak it, and whom to believe."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress

from yarl import URL

from mirror.registry.addresses import is_loopback


async def speaks_plain_http(url: URL) -> bool:
    """Whether the registry at this https URL does without TLS, as those on loopback may: a handshake tells."""
    if not is_loopback(url.host or ""):
        return False
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(url.host, url.port, ssl=_unverified())
    except (ssl.SSLError, ConnectionResetError):
        return True
    except OSError:
        return False  # nobody is there, or nobody answers: the request itself will say so
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return False


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
