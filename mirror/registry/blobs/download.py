"""Downloading blobs (OCI distribution-spec, "Pulling blobs"), from the beginning or from where a download stopped.

Every attempt starts at the registry's own URL: signed URLs from earlier redirects expire.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from email.utils import parsedate_to_datetime

import aiohttp

from mirror.content.stream import BlobReader
from mirror.errors import SizeMismatch, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.registry.blobs import ranges
from mirror.registry.blobs.parallel import MIN_REMAINING, BlobRanges
from mirror.registry.http import Registry
from mirror.registry.transport.errors import TRANSIENT
from mirror.registry.transport.exchange import Response

_PAUSE = 1.0  # seconds before a range is requested once more, unless the registry asks for a longer pause
_ANY_STATUS = frozenset(range(100, 1000))


@asynccontextmanager
async def download(
    registry: Registry, path: str, scope: str, blob: Descriptor, start: int
) -> AsyncIterator[BlobReader]:
    """Open a blob, not yet verified, after a check of the announced size.

    The reader starts at the byte `start`; if the registry does not support range requests, at 0.
    """
    async with AsyncExitStack() as stack:
        response, start = await _request(stack, registry, path, scope, blob, start)
        origin = f"{registry.name}/{path.partition('/blobs/')[0]}"
        if response.status == 200 and response.content_length not in (None, blob.size):
            raise SizeMismatch(f"{blob.digest} from {origin}", want=blob.size, got=response.content_length)
        more: BlobRanges | None = None
        if registry.supports_ranges and (start or blob.size >= MIN_REMAINING):  # what a resumed blob has may have holes
            more = stack.enter_context(closing(BlobRanges(registry, path, scope, response.url, blob, origin)))
        chunks, fill = registry.iter_body(response), registry.fill(response)
        modified = last_modified(response)
        yield BlobReader(chunks, origin, modified, start, fill=fill, interrupt=response.close, ranges=more)


async def _request(
    stack: AsyncExitStack, registry: Registry, path: str, scope: str, blob: Descriptor, start: int
) -> tuple[Response, int]:
    """Return the response, and the offset at which its body starts.

    A registry may answer a range request with any status, whether it supports ranges or not. So if the response is not
    the range, the request is sent again without one, and the response to that decides. A transient status may only say
    that the registry is busy: the range is requested once more, so that what has arrived before is not lost.
    """
    refused = False
    if 0 < start < blob.size and registry.supports_ranges:
        attempt = await stack.enter_async_context(AsyncExitStack())
        response = await _request_range(attempt, registry, path, scope, start, blob.size - start)
        if response and response.status in TRANSIENT:
            await attempt.aclose()
            await asyncio.sleep(_PAUSE)
            response = await _request_range(attempt, registry, path, scope, start, blob.size - start)
        if response and ranges.matches(response, start, blob.size - 1, blob.size):
            return response, start
        if response and response.status == 200:
            registry.supports_ranges = False
            return response, 0
        refused = response is None or response.status not in TRANSIENT
        await attempt.aclose()
    response = await stack.enter_async_context(registry.send("GET", path, scope=scope, size=blob.size))
    registry.supports_ranges &= not refused
    return response, 0


async def _request_range(
    stack: AsyncExitStack, registry: Registry, path: str, scope: str, start: int, size: int
) -> Response | None:
    """Return the response to a range request, whatever its status; None if it is not valid."""
    request = registry.send("GET", path, scope=scope, headers=ranges.header(start), expect=_ANY_STATUS, size=size)
    try:
        return await stack.enter_async_context(request)
    except TransferError as error:
        if error.transient and not isinstance(error.__cause__, aiohttp.ClientResponseError):
            raise  # there was no response
        return None


def last_modified(response: Response) -> float | None:
    """Return the `Last-Modified` header in seconds since the epoch; None if it is absent or malformed."""
    try:
        return max(0.0, parsedate_to_datetime(response.headers["Last-Modified"]).timestamp())
    except (KeyError, ValueError, TypeError, OverflowError):
        return None
