"""Blobs into a repository (OCI distribution-spec, "Pushing blobs").

1. mount    where the registry has the blob in another of its repositories, it is asked to link it
2. begin    an upload session; the latest Location that the registry gave is always the next address
3. send     one PUT with all of it; in several PATCHes where one body would be too large for somebody on the way
4. go on    a session that was cut is remembered, and asked how much of it has arrived when the blob is tried again
5. delete   a session that nobody is going to finish

The blob is read from its first byte even where only its end is sent, since the hash covers all of it; and what is sent
last is withheld until the hash is right. So whatever was cut and resumed, a wrong body is never completed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass

import aiohttp
from yarl import URL

from mirror import stream
from mirror.descriptor import Descriptor
from mirror.digest import Digest
from mirror.errors import MirrorError, TransferError
from mirror.registry import refusals
from mirror.registry.addresses import location
from mirror.registry.client import Registry
from mirror.registry.errors import shown
from mirror.stream import Fetch

_CREATED = frozenset({201, 204})  # old registries answer 204
_TAKEN = frozenset({201, 202, 204})  # Amazon ECR answers a chunk with 201
_OPENED = frozenset({202})
_MOUNTED = frozenset({201, 202})
_DELETED = frozenset({200, 202, 204, 404})
_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})", re.ASCII)

_STEPS = tuple(size * 1024 * 1024 // 4 for size in (256, 64, 16, 4, 1))  # bytes of a body: 64 MiB to 256 KiB
_RANGED = 4 * 1024 * 1024  # bytes that ghcr.io takes in one PATCH; a larger one is answered by 416
_CHANGES = 10  # times that one session is looked at again after a refusal: each step of the sizes once, and some
_SESSIONS = 3  # for one blob in one attempt
_GONE = frozenset({400, 404, 405, 410, 416})  # what a session answers that is of no more use
_PATIENCE = 3  # seconds for deleting a session


@dataclass(slots=True)
class _Session:
    """An upload in progress: where it goes on, and how many bytes of it are there.

    `least` is how short a chunk may be, if it is not the last. A session is `doubtful` when it was cut or has refused
    something, and `renewed` when that was for an old token.
    """

    address: URL
    least: int = 1
    offset: int = 0
    doubtful: bool = False
    renewed: bool = False


class Uploads:
    """The uploads into the repository `name`, with a memory of those that were cut.

    `batch` is how many bytes are verified at a time. Whoever is done calls `close`.
    """

    def __init__(self, registry: Registry, name: str, scope: str, batch: int) -> None:
        self._registry, self._name, self._scope, self._batch = registry, name, scope, batch
        self._cut: dict[Digest, _Session] = {}
        self.mounting = True

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """Bring a blob into the repository; one that was cut before goes on where it was.

        Raises:
            ContentError: the bytes are not what the descriptor says; the registry does not get all of them.
            TransferError: the registry refused.
        """
        session = self._cut.pop(node.digest, None) or await self._begin(node)
        more = _SESSIONS - 1
        while session and not await self._carry(session, node, fetch, last=not more):
            # It may be gone because all has arrived, and only the answer was lost.
            session = None if await self.holds(node) else await self._post()
            more -= 1

    async def holds(self, node: Descriptor) -> bool | None:
        """Whether the registry says that it has the blob; None where it does not say.

        Raises:
            TransferError: it could not be asked.
        """
        expect = frozenset({200, 401, 404, 405})
        path = f"{self._name}/blobs/{node.digest}"
        async with self._registry.send("HEAD", path, scope=self._scope, expect=expect) as response:
            if response.status in (401, 405):  # some registries know no HEAD
                return None
            return response.status == 200 and response.headers.get("Content-Length", str(node.size)) == str(node.size)

    async def close(self) -> None:
        """Delete the sessions that were cut and have not been tried again."""
        while self._cut:
            await self._delete(self._cut.popitem()[1])

    # --- sessions ------------------------------------------------------------------------------------------------

    async def _begin(self, node: Descriptor) -> _Session | None:
        """A session; None where the registry could mount the blob from another of its repositories."""
        other = self._registry.known.get(node.digest, self._name)
        if self.mounting and other != self._name:
            try:
                return await self._mount(node, other)
            except TransferError as error:
                if error.transient:
                    raise
                # Harbor answers 401, others 404 or 405; an upload works all the same.
        return await self._post()

    async def _mount(self, node: Descriptor, other: str) -> _Session | None:
        # Never without `from`: Quay fails there. And Docker Hub wants the right to pull from it.
        path = f"{self._name}/blobs/uploads/?mount={node.digest}&from={other}"
        scope = f"{self._scope} repository:{other}:pull"
        async with self._registry.send("POST", path, scope=scope, expect=_MOUNTED, data=b"") as response:
            return None if response.status == 201 else _opened(response)

    async def _post(self) -> _Session:
        path = f"{self._name}/blobs/uploads/"
        with refusals.of_session(self._registry.name, self._name):
            async with self._registry.send("POST", path, scope=self._scope, expect=_OPENED, data=b"") as response:
                return _opened(response)

    async def _carry(self, session: _Session, node: Descriptor, fetch: Fetch, *, last: bool) -> bool:
        """Send what a session lacks and close it. One that is cut is kept, one that fails is deleted.

        Returns:
            False where the session is of no more use, and another one may be.
        """
        try:
            if session.doubtful:
                await self._ask(session, node)
            await self._send(session, node, fetch)
        except BaseException as error:
            if isinstance(error, MirrorError) and error.transient:
                session.doubtful = True
                self._cut[node.digest] = session
                raise
            await self._delete(session)
            if isinstance(error, TransferError) and session.doubtful and error.status in _GONE and not last:
                return False
            raise
        return True

    async def _ask(self, session: _Session, node: Descriptor) -> None:
        """Find out how much has arrived: never less than what was accepted, since Amazon ECR forgets to count it.

        0-0 is what distribution says of an empty session, so it is taken for none. Where that is wrong, the registry
        refuses, or what it has in the end has another digest; either way another session begins.
        """
        session.doubtful = True
        async with self._registry.send("GET", session.address, scope=self._scope, expect=_TAKEN) as response:
            _follow(session, response)
            found = _RANGE.fullmatch(response.headers.get("Range", ""))
        arrived = int(found[1]) + 1 if found and found[1] != "0" else 0
        if arrived > node.size:
            raise TransferError(f"{shown(session.address)}: has {arrived} bytes of a blob of {node.size}.", status=416)
        session.offset = max(session.offset, arrived)

    async def _delete(self, session: _Session) -> None:
        """As a courtesy: registries clear what is left by themselves, one day."""
        with suppress(MirrorError, TimeoutError):
            async with (
                asyncio.timeout(_PATIENCE),
                self._registry.send("DELETE", session.address, scope=self._scope, expect=_DELETED),
            ):
                pass

    # --- content -------------------------------------------------------------------------------------------------

    async def _send(self, session: _Session, node: Descriptor, fetch: Fetch) -> None:
        """Send the rest; where a body is refused for its size, its offset or its token, look again and go on."""
        for _ in range(_CHANGES):
            try:
                await self._send_rest(session, node, fetch)
            except TransferError as error:
                if not await self._helped(session, node, error):
                    raise
            else:
                return
        raise TransferError(f"{shown(session.address)}: refused what it had asked for, {_CHANGES} times.")

    async def _helped(self, session: _Session, node: Descriptor, error: TransferError) -> bool:
        """Whether something is different now, so that what was refused may be accepted."""
        if error.status not in (401, 413, 416):
            return False
        offset, renewed = session.offset, session.renewed
        known = await self._known(session, node)
        if error.status == 401:  # asking has got the new token, which a body that is gone could not wait for
            session.renewed = True
            return known and not renewed
        return session.offset > offset or self._shrink(session, node, error.status or 0)

    async def _known(self, session: _Session, node: Descriptor) -> bool:
        """Whether the registry could be asked for a session. Where not, it may be as it was: a proxy refused."""
        try:
            await self._ask(session, node)
        except TransferError as error:
            if error.transient:
                raise
            return False
        return True

    def _shrink(self, session: _Session, node: Descriptor, status: int) -> bool:
        """Make bodies smaller, for all blobs from now on."""
        refused = min(self._piece(session), node.size - session.offset)
        smaller = [size for size in _STEPS if size < refused and (status == 413 or size <= _RANGED)]
        if not smaller or refused <= session.least or (status == 416 and refused <= _RANGED):
            return False
        self._registry.largest = min(smaller[0], self._registry.largest)
        return True

    def _piece(self, session: _Session) -> int:
        return max(self._registry.largest, session.least)

    async def _send_rest(self, session: _Session, node: Descriptor, fetch: Fetch) -> None:
        async with fetch(0) as body:
            content = _Pieces(stream.verified(body, node, self._batch))
            whole = not session.offset and 0 < node.size <= self._piece(session)
            if whole:
                await self._put(session, node, content.take(node.size), node.size)
            else:
                await self._patch_all(session, node, content)
        if not whole:
            await self._put(session, node, b"", 0)
            await self._check(node)

    async def _patch_all(self, session: _Session, node: Descriptor, content: _Pieces) -> None:
        """Send what is not there yet, in chunks, and read to the end: only then is it known to be right."""
        await content.skip(session.offset)
        while session.offset < node.size:
            await self._patch(session, content, min(self._piece(session), node.size - session.offset))
        await content.end()
        # aiohttp sends a short PUT again where the connection was cut, and the first may have closed the session.
        session.doubtful = True

    async def _check(self, node: Descriptor) -> None:
        """distribution appends what comes out of order where it should refuse it, so what it has is asked for."""
        if await self.holds(node) is False:
            what = f"{self._registry.name}/{self._name}"
            raise TransferError(f"{what}: {node.digest} is not there after its upload.", transient=True)

    async def _patch(self, session: _Session, content: _Pieces, count: int) -> None:
        """Send one chunk. What the answer's Range says is not asked: at Amazon ECR it stays at the first chunk."""
        place = {"Content-Range": f"{session.offset}-{session.offset + count - 1}"}
        async with self._registry.send(
            "PATCH",
            session.address,
            scope=self._scope,
            headers=_headers(count) | place,
            data=content.take(count),
            expect=_TAKEN,
        ) as response:
            _follow(session, response)
        session.offset += count

    async def _put(
        self, session: _Session, node: Descriptor, data: bytes | AsyncIterator[bytes | memoryview], size: int
    ) -> None:
        # The session's own query is passed back as it is; `digest` is added.
        separator = "&" if session.address.raw_query_string else "?"
        target = URL(f"{session.address}{separator}digest={node.digest}", encoded=True)
        async with self._registry.send(
            "PUT", target, scope=self._scope, headers=_headers(size), data=data, expect=_CREATED
        ):
            pass


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


def _opened(response: aiohttp.ClientResponse) -> _Session:
    least = response.headers.get("OCI-Chunk-Min-Length", "")
    return _Session(location(response), int(least) if re.fullmatch("[0-9]{1,12}", least, re.ASCII) else 1)


def _follow(session: _Session, response: aiohttp.ClientResponse) -> None:
    if "Location" in response.headers:
        session.address = location(response)
