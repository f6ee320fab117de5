"""Uploading blobs (OCI distribution-spec, "Pushing blobs"; docs/adr/0013).

1. mount    the blob, if another repository of the registry has it
2. open     an upload session; each request goes to the latest Location
3. send     one PUT with the whole blob, or several PATCHes if a proxy does not accept so large a request
4. resume   an interrupted session in the next attempt, after asking how much of the blob has arrived
5. delete   a session that will not be completed
"""

from __future__ import annotations

import asyncio
from time import monotonic

from mirror.content.stream import Fetch
from mirror.errors import MirrorError, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import push_errors
from mirror.registry.blobs.upload_session import WHOLE_REFUSED, UploadSession
from mirror.registry.http import Registry
from mirror.registry.transport.errors import TRANSIENT
from mirror.registry.transport.request_text import Request

# Responses to a HEAD after which the blob is there, is not there, or is uploaded anyway: others ask to try again.
_SAID = frozenset({200, *range(400, 500), 501}) - TRANSIENT - {407}
_OPENED = frozenset({202})
_MOUNTED = frozenset({201, 202})
_MAX_WAIT = 60.0  # seconds for a blob that was sent to appear, before it is sent again
_MAX_SESSIONS = 3  # for one blob in one attempt
_SESSION_GONE = frozenset({400, 404, 405, 410, 416})  # responses of a session that can no longer be used


class BlobUploader:
    """Uploads blobs to one repository, and keeps interrupted sessions until `close`."""

    def __init__(self, registry: Registry, repository: str, scope: str, batch: int) -> None:
        """Create an uploader to `repository`; requests need `scope`, and `batch` bytes are verified at a time."""
        self._registry, self._repository, self._scope, self._batch = registry, repository, scope, batch
        self._interrupted: dict[Digest, UploadSession] = {}
        self.mounting = True  # blobs may be mounted from other repositories

    async def put(self, blob: Descriptor, fetch: Fetch) -> None:
        """Mount or upload a blob, whose content `fetch` opens; an interrupted upload is resumed."""
        session = self._interrupted.pop(blob.digest, None) or await self._mount_or_open(blob)
        sessions_left = _MAX_SESSIONS - 1
        while session and not await self._complete(session, blob, fetch, is_last=not sessions_left):
            # The session may be gone because the upload was complete, and only the response was lost.
            session = None if await self.exists(blob) else await self._open(blob)
            sessions_left -= 1

    async def exists(self, blob: Descriptor) -> bool | None:
        """Return whether the registry says that it has the blob; None if it refuses to say.

        Some do not support HEAD, and others redirect to storage whose URLs are signed for GET alone.
        """
        path = f"{self._repository}/blobs/{blob.digest}"
        async with self._registry.send("HEAD", path, scope=self._scope, expect=_SAID) as response:
            if response.status not in (200, 404):
                return None
            exists = response.status == 200
            if exists and response.content_type == "text/html" and response.content_length != blob.size:
                # from a proxy that answers every request with its own page
                raise await self._registry.error(Request.of(response), response)
            return exists and response.headers.get("Content-Length", str(blob.size)) == str(blob.size)

    async def close(self) -> None:
        """Delete interrupted sessions that were not resumed."""
        while self._interrupted:
            await self._interrupted.popitem()[1].delete()

    async def _mount_or_open(self, blob: Descriptor) -> UploadSession | None:
        """Return a new session; None if the registry has mounted the blob from another repository."""
        other = self._registry.blob_repositories.get(blob.digest, self._repository)
        if self.mounting and other != self._repository:
            # Quay requires `from`, and Docker Hub the scope to pull from there.
            path = f"{self._repository}/blobs/uploads/?mount={blob.digest}&from={other}"
            scope = f"{self._scope} repository:{other}:pull"
            try:
                async with self._registry.send("POST", path, scope=scope, expect=_MOUNTED, data=b"") as response:
                    if response.status == 201:
                        return None
                    return UploadSession(self._registry, self._scope, blob, response, self._batch)
            except TransferError as error:
                if error.transient:
                    raise
                # Harbor answers 401, others 404 or 405, if the blob cannot be mounted: upload it.
        return await self._open(blob)

    async def _open(self, blob: Descriptor) -> UploadSession:
        path = f"{self._repository}/blobs/uploads/"
        with push_errors.explain_no_session(self._registry.name, self._repository):
            async with self._registry.send("POST", path, scope=self._scope, expect=_OPENED, data=b"") as response:
                return UploadSession(self._registry, self._scope, blob, response, self._batch)

    async def _complete(self, session: UploadSession, blob: Descriptor, fetch: Fetch, *, is_last: bool) -> bool:
        """Complete a session; keep it after a transient error. Return False if it is gone, and another may succeed."""
        try:
            if session.waited is not None and await self._is_committed(blob, session.waited):
                return True
            if session.is_uncertain:
                await session.query_offset()
            # distribution does not refuse a chunk that is out of order, but appends it: check that it has the blob.
            if not await session.send(fetch) and await self.exists(blob) is False:
                name = f"{self._registry.name}/{self._repository}"
                raise TransferError(f"{name}: {blob.digest} is not there after its upload.", transient=True)
        except BaseException as error:
            if isinstance(error, MirrorError) and error.transient:
                session.is_uncertain = True
                self._interrupted[blob.digest] = session
                raise
            await session.delete()
            is_gone = isinstance(error, TransferError) and error.status in _SESSION_GONE | WHOLE_REFUSED
            if is_gone and session.is_uncertain and not is_last:
                return False
            raise
        return True

    async def _is_committed(self, blob: Descriptor, waited: float) -> bool:
        """Return whether a blob that was sent `waited` seconds ago is there by now.

        A registry, or a proxy in front of it, may give up waiting while the blob is still being finalised: wait as long
        again before it is sent again.
        """
        deadline, delay = monotonic() + min(waited, _MAX_WAIT), 0.5
        while (exists := await self.exists(blob)) is False and monotonic() + delay < deadline:
            await asyncio.sleep(delay)
            delay *= 2
        return bool(exists)
