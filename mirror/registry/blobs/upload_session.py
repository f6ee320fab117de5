"""Upload sessions (OCI distribution-spec, "Pushing blobs").

The blob is always read and hashed from its first byte, even if only the rest is sent, and its last bytes are withheld
until the hash matches. So even a resumed upload never completes with wrong content.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from time import monotonic
from types import MappingProxyType

from yarl import URL

from mirror.content.pieces import Pieces
from mirror.content.stream import Fetch
from mirror.errors import MirrorError, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.registry import push_errors
from mirror.registry.http import SAME_METHOD, Registry
from mirror.registry.transport.errors import translate_errors
from mirror.registry.transport.exchange import Body, Piece, Response
from mirror.registry.transport.rate_limit import MIN_RATE
from mirror.registry.transport.request_text import Request
from mirror.registry.transport.urls import Origin, location_of

_CREATED = frozenset({201, 204})  # old registries answer 204
_ACCEPTED = frozenset({201, 202, 204})  # Amazon ECR answers a chunk with 201
_DELETED = frozenset({200, 202, 204, 404})
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})", re.ASCII)

# Maximum request sizes to try in turn: 64 MiB to 256 KiB
_BODY_SIZES = tuple(size * 1024 * 1024 // 4 for size in (256, 64, 16, 4, 1))
_MAX_HELD = 16 * 1024 * 1024  # bytes of a chunk that is kept in memory; Amazon S3 wants at least 5 MiB
_MAX_AFTER_416 = 4 * 1024 * 1024  # bytes; ghcr.io answers 416 to larger PATCHes
# Statuses with which registries refuse a PUT with a whole blob, although they may accept PATCHes
WHOLE_REFUSED = frozenset({400, 404, 405, 411, 415, 422, 501})
_MAX_RECOVERIES = 10  # after refusals, without progress: one for each size, and some more
_DELETE_TIMEOUT = 3  # seconds
COMMIT_TIMEOUT = 600.0  # seconds without a response after the last byte: registries hash and move large blobs


class UploadSession:
    """The upload of one blob."""

    def __init__(self, registry: Registry, scope: str, blob: Descriptor, opened: Response, batch: int) -> None:
        """Create a session from the response to the POST that opened it; `batch` bytes are verified at a time."""
        self._registry, self._scope, self._blob, self._batch = registry, scope, blob, batch
        self._url = location_of(opened)
        min_size = opened.headers.get("OCI-Chunk-Min-Length", "")
        self._min_body_size = int(min_size) if re.fullmatch("[0-9]{1,12}", min_size, re.ASCII) else 1
        self._offset = 0  # bytes that have arrived
        self._attempted_size = 0  # bytes of the latest request body
        self._token_renewed = False
        self._redirected: URL | None = None  # where the next request goes, after a redirect of the last one
        self._holds_chunks = False  # in memory, so that they can be sent again without reading the blob again
        self._sent_at: float | None = None  # the monotonic time when the last byte of a request was sent
        # True if the registry must be asked how much has arrived, or the session may be complete already.
        self.is_uncertain = False

    @property
    def waited(self) -> float | None:
        """The seconds since the last byte was sent; None if it was not."""
        return None if self._sent_at is None else monotonic() - self._sent_at

    async def query_offset(self) -> None:
        """Ask how much has arrived, but never assume less than was accepted: Amazon ECR's Range lags behind.

        `0-0` counts as nothing, since distribution sends it for an empty session. If the result is wrong, the registry
        refuses the next chunk, or the digest does not match; either way, another session is opened.
        """
        self.is_uncertain = True
        async with self._registry.send("GET", self._url, scope=self._scope, expect=_ACCEPTED) as response:
            self._update_location(response)
            found = _RANGE.fullmatch(response.headers.get("Range", ""))
        arrived = int(found[1]) + 1 if found and found[1] != "0" else 0
        if arrived > self._blob.size:
            what = f"{self._registry.name} has {arrived} bytes of {self._blob.digest}, which has {self._blob.size}"
            raise TransferError(f"{what}.", status=416)
        self._offset = max(self._offset, arrived)

    async def send(self, fetch: Fetch) -> bool:
        """Send the rest of the blob. Follow redirects, and adapt to refusals because of form, size, offset or token.

        Return True if one request had the whole blob; if not, check that the registry has it.
        """
        refusal: TransferError | None = None  # of a whole blob, which tells more than that of a PATCH
        recoveries, furthest = 0, self._offset
        while recoveries < _MAX_RECOVERIES:
            try:
                return await self._send_rest(fetch)
            except TransferError as error:
                recoveries = 1 if self._offset > furthest else recoveries + 1  # every chunk may be redirected
                if not await self._recover(error):
                    raise (error if error.transient else refusal or error) from None
                refusal = error if error.status in WHOLE_REFUSED else refusal
                furthest = max(furthest, self._offset)  # what the registry only claims is not progress
        raise TransferError(
            f"{self._registry.name} refused the upload of {self._blob.digest} {_MAX_RECOVERIES} times, although the "
            "requests were adapted."
        )

    async def delete(self) -> None:
        """Delete the session, as a courtesy: registries remove stale ones in time."""
        with suppress(MirrorError, TimeoutError):
            async with (
                asyncio.timeout(_DELETE_TIMEOUT),
                self._registry.send("DELETE", self._url, scope=self._scope, expect=_DELETED),
            ):
                pass

    # --- after a refusal -----------------------------------------------------------------------------------------

    async def _recover(self, error: TransferError) -> bool:
        """Adapt to a refusal; return whether another request may be accepted."""
        if self._redirected:
            self._holds_chunks = self._min_body_size <= _MAX_HELD  # the next chunks may be redirected, too
            return True
        if self._sends_whole and error.status in WHOLE_REFUSED:
            return await self._send_in_chunks()
        if error.status not in (401, 413, 416):
            return False
        offset, renewed = self._offset, self._token_renewed
        try:
            await self.query_offset()
            is_known = True
        except TransferError as failure:
            if failure.transient:
                raise
            is_known = False  # a proxy may have refused; the session is unchanged then
        if error.status == 401:  # the query has renewed the token, which a request with a stream cannot
            self._token_renewed = True
            return is_known and not renewed
        return self._offset > offset or self._reduce_body_size(error.status or 0)

    async def _send_in_chunks(self) -> bool:
        """Send further blobs with PATCH; return whether this session can go on."""
        self._registry.takes_whole_blobs = False
        try:
            await self.query_offset()
        except TransferError as error:
            if error.transient:
                raise
            return False
        self.is_uncertain = False  # the session goes on
        return True

    def _reduce_body_size(self, status: int) -> bool:
        """Reduce the size of further requests, for all blobs; return whether they are below the refused size."""
        most = _MAX_AFTER_416 if status == 416 else self._attempted_size - 1
        if self._attempted_size <= max(most, self._min_body_size):
            return False
        smaller = [size for size in _BODY_SIZES if size <= most]
        if self._registry.max_body_size > most and smaller:  # otherwise another upload has reduced it
            self._registry.max_body_size = smaller[0]
        return self._registry.max_body_size <= most

    @property
    def _sends_whole(self) -> bool:
        """Return whether the next request has the whole blob."""
        size = self._blob.size
        return self._registry.takes_whole_blobs and not self._offset and 0 < size <= self._max_body_size

    @property
    def _max_body_size(self) -> int:
        return max(self._registry.max_body_size, self._min_body_size)

    @property
    def _chunk_size(self) -> int:
        most = self._max_body_size
        return min(most, max(self._batch, self._min_body_size)) if self._holds_chunks else most

    # --- requests ------------------------------------------------------------------------------------------------

    async def _send_rest(self, fetch: Fetch) -> bool:
        size, most = self._blob.size, self._registry.limits.rate.piece(self._registry.options.jobs)
        async with fetch(0) as reader, Pieces(reader, self._blob, most=most, batch=self._batch) as pieces:
            if self._sends_whole:
                await self._put(pieces, size)
                return True
            await pieces.skip(self._offset)
            while self._offset < size:
                await self._patch(pieces, min(self._chunk_size, size - self._offset))
            await pieces.finish()
        # aiohttp repeats a short PUT after a cut connection, and the first one may have completed the session.
        self.is_uncertain = True
        await self._put(None, 0)
        return False

    async def _patch(self, pieces: Pieces, count: int) -> None:
        """Send one chunk. The Range in the response is ignored: at Amazon ECR, it stays at the first chunk."""
        self._attempted_size = count
        headers = {"Content-Range": f"{self._offset}-{self._offset + count - 1}"}
        data: bytes | Pieces = pieces
        if self._holds_chunks:
            data = await pieces.collect(count)
            await self._registry.limits.rate.take(count)
        with push_errors.explain_chunk(self._registry.name, chosen=self._registry.options.chunk_size is not None):
            async with self._sending("PATCH", self._url, data, count, _ACCEPTED, headers) as response:
                self._update_location(response)
        self._offset += count

    async def _put(self, pieces: Pieces | None, size: int) -> None:
        """Send the last request, which completes the session."""
        self._attempted_size = size
        separator = "&" if self._url.raw_query_string else "?"
        url = URL(f"{self._url}{separator}digest={self._blob.digest}", encoded=True)
        async with self._sending("PUT", url, pieces or b"", size, _CREATED):
            pass

    @asynccontextmanager
    async def _sending(
        self,
        method: str,
        url: URL,
        data: bytes | Pieces,
        size: int,
        expect: frozenset[int],
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> AsyncIterator[Response]:
        """Send a request with `size` bytes of content. The response may take long.

        A redirect, for which a stream has to be opened again, is an error that `_recover` knows.
        """
        url, self._redirected = self._redirected or url, None
        self._sent_at = None if data else monotonic()
        commit = max(COMMIT_TIMEOUT, self._registry.options.timeout)
        with translate_errors(Request.to(method, url)):
            async with (
                asyncio.timeout(None) as limit,
                self._registry.send(
                    method,
                    url,
                    scope=self._scope,
                    headers={"Content-Type": "application/octet-stream", "Content-Length": str(size), **headers},
                    data=data if isinstance(data, bytes) else self._body(data, size, limit),
                    expect=expect | SAME_METHOD,
                    read_timeout=commit,
                ) as response,
            ):
                if response.status in SAME_METHOD:
                    self._redirected = location_of(response)
                    raise TransferError(f"{Origin.of(url).authority} redirects the upload.", status=response.status)
                yield response

    def _body(self, pieces: Pieces, size: int, limit: asyncio.Timeout) -> Body:
        """Return the next `size` bytes as a body, rate-limited. A registry may stop reading it for a short time only.

        In the event loop, `limit` ends the request if that takes longer.
        """
        rate, clock = self._registry.limits.rate, asyncio.get_running_loop().time

        def timeout(piece: memoryview) -> float:
            return self._registry.options.timeout + len(piece) / MIN_RATE

        async def chunks() -> AsyncIterator[memoryview]:
            async for chunk in pieces.chunks(size):
                await rate.take(len(chunk))
                limit.reschedule(clock() + timeout(chunk))
                yield chunk
                limit.reschedule(None)
            self._sent_at = monotonic()

        def in_thread() -> Iterator[Piece]:
            for part in pieces.read(size):
                for seconds in rate.turns(len(part.view)):
                    pieces.pause(seconds)
                yield Piece(*part, timeout(part.view))
            self._sent_at = monotonic()

        return Body(size, chunks(), in_thread() if pieces.fills else None, pieces.interrupt)

    def _update_location(self, response: Response) -> None:
        if "Location" in response.headers:
            self._url = location_of(response)
