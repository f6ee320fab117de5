"""Blobs out of a repository (OCI distribution-spec, "Pulling blobs"), from their beginning or from where they stopped.

Every attempt starts at the registry's own address, never at a signed one that an earlier redirect led to: those expire.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from email.utils import parsedate_to_datetime

import aiohttp

from mirror.content.stream import BlobReader
from mirror.errors import SizeMismatch
from mirror.oci.descriptor import Descriptor
from mirror.registry.blobs import parallel as spread
from mirror.registry.blobs import ranges
from mirror.registry.client import Registry


@asynccontextmanager
async def download(
    registry: Registry, path: str, scope: str, node: Descriptor, start: int
) -> AsyncIterator[BlobReader]:
    """The content of `node` at `path`, not yet verified: from `start` on, or from 0 where the registry knows no ranges.

    Raises:
        SizeMismatch: the registry announces another size than the descriptor says.
        TransferError: it could not be fetched; during iteration too.
    """
    async with AsyncExitStack() as stack:
        response, start = await _begin(stack, registry, path, scope, node, start)
        origin = f"{registry.name}/{path.partition('/blobs/')[0]}"
        if response.status == 200 and response.content_length not in (None, node.size):
            raise SizeMismatch(f"{node.digest} from {origin}", want=node.size, got=response.content_length)
        chunks = await stack.enter_async_context(spread.chunks(registry, scope, response, start, node.size))
        yield BlobReader(registry.paced(chunks, response), origin, modified(response), start)


async def _begin(
    stack: AsyncExitStack, registry: Registry, path: str, scope: str, node: Descriptor, start: int
) -> tuple[aiohttp.ClientResponse, int]:
    """An answer that holds the content, and the offset at which it begins."""
    if 0 < start < node.size and registry.ranges:
        asked = registry.send("GET", path, scope=scope, headers=ranges.header(start), expect=ranges.STATUSES)
        attempt = await stack.enter_async_context(AsyncExitStack())
        response = await attempt.enter_async_context(asked)
        if ranges.covers(response, start, node.size - 1, node.size):
            return response, start
        registry.ranges = False
        if response.status == 200:
            return response, 0
        await attempt.aclose()  # 416, or a part that nobody asked for
    return await stack.enter_async_context(registry.send("GET", path, scope=scope)), 0


def modified(response: aiohttp.ClientResponse) -> float | None:
    """The Last-Modified header as seconds since the epoch; a date that cannot be read is no date."""
    try:
        return max(0.0, parsedate_to_datetime(response.headers["Last-Modified"]).timestamp())
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
