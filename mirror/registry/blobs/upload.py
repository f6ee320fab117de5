"""Blobs into a repository (OCI distribution-spec, "Pushing blobs").

1. mount    where the registry has the blob in another of its repositories, it is asked to link it
2. begin    an upload session; the latest Location that the registry gave is always the next address
3. send     one PUT with all of it; in several PATCHes where one body would be too large for somebody on the way
4. go on    a session that was cut is remembered, and asked how much of it has arrived when the blob is tried again
5. delete   a session that nobody is going to finish
"""

from __future__ import annotations

from mirror.content.stream import Fetch
from mirror.errors import MirrorError, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import refusals
from mirror.registry.blobs.session import Session
from mirror.registry.client import Registry
from mirror.registry.transport import errors

_OPENED = frozenset({202})
_MOUNTED = frozenset({201, 202})
_SESSIONS = 3  # for one blob in one attempt
_GONE = frozenset({400, 404, 405, 410, 416})  # what a session answers that is of no more use


class Uploads:
    """The uploads into the repository `name`, with a memory of those that were cut.

    `batch` is how many bytes are verified at a time. Without `mounting`, nothing is linked from other repositories.
    Whoever is done calls `close`.
    """

    def __init__(self, registry: Registry, name: str, scope: str, batch: int) -> None:
        self._registry, self._name, self._scope, self._batch = registry, name, scope, batch
        self._cut: dict[Digest, Session] = {}
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
            session = None if await self.holds(node) else await self._post(node)
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
            there = response.status == 200
            if there and response.content_type == "text/html" and response.content_length != node.size:
                raise await errors.refusal(errors.request_of(response), response)  # a proxy that says so to everything
            return there and response.headers.get("Content-Length", str(node.size)) == str(node.size)

    async def close(self) -> None:
        """Delete the sessions that were cut and have not been tried again."""
        while self._cut:
            await self._cut.popitem()[1].delete()

    async def _begin(self, node: Descriptor) -> Session | None:
        """A session; None where the registry could mount the blob from another of its repositories."""
        other = self._registry.known.get(node.digest, self._name)
        if self.mounting and other != self._name:
            try:
                return await self._mount(node, other)
            except TransferError as error:
                if error.transient:
                    raise
                # Harbor answers 401, others 404 or 405; an upload works all the same.
        return await self._post(node)

    async def _mount(self, node: Descriptor, other: str) -> Session | None:
        # Never without `from`: Quay fails there. And Docker Hub wants the right to pull from it.
        path = f"{self._name}/blobs/uploads/?mount={node.digest}&from={other}"
        scope = f"{self._scope} repository:{other}:pull"
        async with self._registry.send("POST", path, scope=scope, expect=_MOUNTED, data=b"") as response:
            if response.status == 201:
                return None
            return Session(self._registry, self._scope, node, response, self._batch)

    async def _post(self, node: Descriptor) -> Session:
        path = f"{self._name}/blobs/uploads/"
        with refusals.of_session(self._registry.name, self._name):
            async with self._registry.send("POST", path, scope=self._scope, expect=_OPENED, data=b"") as response:
                return Session(self._registry, self._scope, node, response, self._batch)

    async def _carry(self, session: Session, node: Descriptor, fetch: Fetch, *, last: bool) -> bool:
        """Send what a session lacks and close it. One that is cut is kept, one that fails is deleted.

        Returns:
            False where the session is of no more use, and another one may be.
        """
        try:
            if session.doubtful:
                await session.ask()
            if not await session.send(fetch):
                await self._check(node)
        except BaseException as error:
            if isinstance(error, MirrorError) and error.transient:
                session.doubtful = True
                self._cut[node.digest] = session
                raise
            await session.delete()
            if isinstance(error, TransferError) and session.doubtful and error.status in _GONE and not last:
                return False
            raise
        return True

    async def _check(self, node: Descriptor) -> None:
        """distribution appends what comes out of order where it should refuse it, so what it has is asked for."""
        if await self.holds(node) is False:
            what = f"{self._registry.name}/{self._name}"
            raise TransferError(f"{what}: {node.digest} is not there after its upload.", transient=True)
