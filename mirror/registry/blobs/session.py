"""One upload session: how much of a blob has arrived, and how the rest gets there.

The blob is read from its first byte even where only its end is sent, since the hash covers all of it; and what is sent
last is withheld until the hash is right. So whatever was cut and resumed, a wrong body is never completed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
from yarl import URL

from mirror.content import stream
from mirror.content.stream import Fetch
from mirror.errors import MirrorError, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.registry.client import Registry
from mirror.registry.transport.addresses import location
from mirror.registry.transport.errors import shown

_CREATED = frozenset({201, 204})  # old registries answer 204
_TAKEN = frozenset({201, 202, 204})  # Amazon ECR answers a chunk with 201
_DELETED = frozenset({200, 202, 204, 404})
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})", re.ASCII)

_STEPS = tuple(size * 1024 * 1024 // 4 for size in (256, 64, 16, 4, 1))  # bytes of a body: 64 MiB to 256 KiB
_RANGED = 4 * 1024 * 1024  # bytes that ghcr.io takes in one PATCH; a larger one is answered by 416
_CHANGES = 10  # times that one session is looked at again after a refusal: each step of the sizes once, and some
_PATIENCE = 3  # seconds for deleting a session


class Session:
    """An upload in progress, of `node`.

    A session is `doubtful` when it was cut, has refused something, or may be closed already. `batch` is how many bytes
    are verified at a time.
    """

    def __init__(
        self, registry: Registry, scope: str, node: Descriptor, opened: aiohttp.ClientResponse, batch: int
    ) -> None:
        self._registry, self._scope, self._node, self._batch = registry, scope, node, batch
        self._address = location(opened)
        least = opened.headers.get("OCI-Chunk-Min-Length", "")
        self._least = int(least) if re.fullmatch("[0-9]{1,12}", least, re.ASCII) else 1
        self._offset = self._tried = 0
        self._renewed = False
        self.doubtful = False

    async def ask(self) -> None:
        """Find out how much has arrived: never less than what was accepted, since Amazon ECR forgets to count it.

        0-0 is what distribution says of an empty session, so it is taken for none. Where that is wrong, the registry
        refuses, or what it has in the end has another digest; either way another session begins.

        Raises:
            TransferError: the registry could not be asked, or says what cannot be.
        """
        self.doubtful = True
        async with self._registry.send("GET", self._address, scope=self._scope, expect=_TAKEN) as response:
            self._follow(response)
            found = _RANGE.fullmatch(response.headers.get("Range", ""))
        arrived = int(found[1]) + 1 if found and found[1] != "0" else 0
        if arrived > self._node.size:
            what = f"{shown(self._address)}: {arrived} bytes are there of a blob of {self._node.size}"
            raise TransferError(f"{what}.", status=416)
        self._offset = max(self._offset, arrived)

    async def send(self, fetch: Fetch) -> bool:
        """Send the rest; where a body is refused for its size, its offset or its token, look again and go on.

        Returns:
            Whether all went in one body. Where not, what the registry has should be asked for.

        Raises:
            ContentError: the bytes are not what the descriptor says; the registry does not get all of them.
            TransferError: the registry refused.
        """
        for _ in range(_CHANGES):
            try:
                return await self._send_rest(fetch)
            except TransferError as error:
                if not await self._helped(error):
                    raise
        raise TransferError(f"{shown(self._address)}: refused what it had asked for, {_CHANGES} times.")

    async def delete(self) -> None:
        """As a courtesy: registries clear what is left by themselves, one day."""
        with suppress(MirrorError, TimeoutError):
            async with (
                asyncio.timeout(_PATIENCE),
                self._registry.send("DELETE", self._address, scope=self._scope, expect=_DELETED),
            ):
                pass

    # --- what is refused -----------------------------------------------------------------------------------------

    async def _helped(self, error: TransferError) -> bool:
        """Whether something is different now, so that what was refused may be accepted."""
        if error.status not in (401, 413, 416):
            return False
        offset, renewed = self._offset, self._renewed
        known = await self._known()
        if error.status == 401:  # asking has got the new token, which a body that is gone could not wait for
            self._renewed = True
            return known and not renewed
        return self._offset > offset or self._shrink(error.status or 0)

    async def _known(self) -> bool:
        """Whether the registry could be asked. Where not, the session may be as it was: a proxy has refused."""
        try:
            await self.ask()
        except TransferError as error:
            if error.transient:
                raise
            return False
        return True

    def _shrink(self, status: int) -> bool:
        """Make bodies smaller, for all blobs from now on."""
        most = _RANGED if status == 416 else self._tried - 1
        if self._tried <= max(most, self._least):
            return False
        smaller = [size for size in _STEPS if size <= most]
        if self._registry.largest > most and smaller:  # else another blob has found it out already
            self._registry.largest = smaller[0]
        return self._registry.largest <= most

    @property
    def _piece(self) -> int:
        """How many bytes one body may have."""
        return max(self._registry.largest, self._least)

    # --- what is sent --------------------------------------------------------------------------------------------

    async def _send_rest(self, fetch: Fetch) -> bool:
        async with fetch(0) as body:
            content = _Pieces(stream.verified(body, self._node, self._batch))
            if not self._offset and 0 < self._node.size <= self._piece:
                await self._put(self._limited(content.take(self._node.size)), self._node.size)
                return True
            await self._patch_all(content)
        # aiohttp sends a short PUT again where the connection was cut, and the first may have closed the session.
        self.doubtful = True
        await self._put(b"", 0)
        return False

    async def _patch_all(self, content: _Pieces) -> None:
        """Send what is not there yet, in chunks, and read to the end: only then is it known to be right."""
        await content.skip(self._offset)
        while self._offset < self._node.size:
            await self._patch(content, min(self._piece, self._node.size - self._offset))
        await content.end()

    async def _patch(self, content: _Pieces, count: int) -> None:
        """Send one chunk. What the answer's Range says is not asked: at Amazon ECR it stays at the first chunk."""
        self._tried = count
        headers = _headers(count) | {"Content-Range": f"{self._offset}-{self._offset + count - 1}"}
        data = self._limited(content.take(count))
        async with self._registry.send(
            "PATCH", self._address, scope=self._scope, headers=headers, data=data, expect=_TAKEN
        ) as response:
            self._follow(response)
        self._offset += count

    async def _put(self, data: bytes | AsyncIterator[memoryview], size: int) -> None:
        self._tried = size
        # The session's own query is passed back as it is; `digest` is added.
        separator = "&" if self._address.raw_query_string else "?"
        target = URL(f"{self._address}{separator}digest={self._node.digest}", encoded=True)
        async with self._registry.send(
            "PUT", target, scope=self._scope, headers=_headers(size), data=data, expect=_CREATED
        ):
            pass

    async def _limited(self, pieces: AsyncIterator[memoryview]) -> AsyncIterator[memoryview]:
        """No faster than a person allows."""
        async for piece in pieces:
            await self._registry.shared.limit.take(len(piece))
            yield piece

    def _follow(self, response: aiohttp.ClientResponse) -> None:
        """The latest Location is the next address."""
        if "Location" in response.headers:
            self._address = location(response)


class _Pieces:
    """Content that is sent in several bodies, one after the other."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    async def take(self, count: int) -> AsyncIterator[memoryview]:
        """The next `count` bytes."""
        while count:
            if not self._rest:
                self._rest = memoryview(await anext(self._chunks))
            piece, self._rest = self._rest[:count], self._rest[count:]
            count -= len(piece)
            yield piece

    async def skip(self, count: int) -> None:
        async for _ in self.take(count):
            pass

    async def end(self) -> None:
        """Read to the end, which is where the content is found to be right or wrong."""
        async for _ in self._chunks:
            pass


def _headers(size: int) -> dict[str, str]:
    return {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
