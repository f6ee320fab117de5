"""Uploads of blobs: whole, in two steps, in chunks, or mounted from another repository."""

import re
import secrets
from dataclasses import dataclass, field

from tests.support.registry.messages import Answer, Call, Refused, answer, refusal, refuse
from tests.support.registry.quirks import Quirks
from tests.support.registry.routes import Route
from tests.support.registry.storage import Spool, Store, is_digest


def _state() -> str:
    return secrets.token_urlsafe(9)


@dataclass
class _Session:
    """An upload in progress. Every accepted chunk gives a new `_state`; the next request needs the latest one."""

    repo: str
    spool: Spool = field(default_factory=Spool)
    states: list[str] = field(default_factory=lambda: [_state()])
    first: int | None = None  # the bytes of the first chunk
    short: bool = False  # a chunk was too short, so it must be the last one


class Uploads:
    def __init__(self, store: Store, relative_locations: bool, quirks: Quirks) -> None:
        self._store = store
        self._relative = relative_locations
        self._quirks = quirks
        self._sessions: dict[str, _Session] = {}

    async def post_uploads(self, call: Call, route: Route) -> Answer:
        """Mount, upload at once, or start a session."""
        mount, digest = call.param("mount"), call.param("digest")
        if self._quirks.only_existing and self._store.repository(route.repo) is None:
            refuse(404, "NAME_UNKNOWN", "the repository does not exist", {"name": route.repo})
        if mount and self._mounts(call, mount):
            if not self._quirks.lying_head:
                self._store.link_blob(route.repo, mount)
            return self._created(route.repo, mount)
        session = _Session(route.repo)
        name = secrets.token_hex(16)
        self._sessions[name] = session
        if digest and not self._quirks.no_single_post:
            return await self._finish(call, name, session, digest)
        return self._status(call, 202, name, session)

    def _mounts(self, call: Call, digest: str) -> bool:
        """Mount a blob if possible; otherwise begin an upload."""
        source, refusal = call.param("from"), self._quirks.mount_refusal
        if self._quirks.mount_wants_from and not source:
            refuse(400, "UNSUPPORTED", "mount without from")
        if refusal and refusal != 202:
            refuse(refusal, "DENIED", "no mount here")
        return not refusal and (self._store.has_blob(source or "", digest) or self._quirks.lying_head)

    async def get_upload(self, call: Call, route: Route) -> Answer:
        if self._quirks.no_status:
            refuse(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown to registry")
        return self._status(call, 204, route.reference, self._session(call, route, latest=False))

    async def patch_upload(self, call: Call, route: Route) -> Answer:
        session = self._session(call, route, latest=True)
        self._check_start(call, route.reference, session)
        self._check_length(call, route.reference, session)
        await self._receive(call, session)
        session.first = session.first or len(session.spool.data)
        session.states.append(_state())
        return self._status(call, 201 if self._quirks.stuck_range else 202, route.reference, session)

    async def put_upload(self, call: Call, route: Route) -> Answer:
        session = self._session(call, route, latest=True)
        self._check_start(call, route.reference, session)
        return await self._finish(call, route.reference, session, call.param("digest") or "")

    async def delete_upload(self, call: Call, route: Route) -> Answer:
        self._session(call, route, latest=False)
        del self._sessions[route.reference]
        return answer(204)

    async def _finish(self, call: Call, name: str, session: _Session, digest: str) -> Answer:
        await self._receive(call, session)
        del self._sessions[name]
        if not is_digest(digest) or not session.spool.matches(digest):
            refuse(400, "DIGEST_INVALID", "the content does not hash to the digest", {"digest": digest})
        self._store.contents[digest] = bytes(session.spool.data)
        self._store.link_blob(session.repo, digest)
        return self._created(session.repo, digest)

    def _session(self, call: Call, route: Route, latest: bool) -> _Session:
        session = self._sessions.get(route.reference)
        if session is None or session.repo != route.repo:
            refuse(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown to registry")
        valid = session.states[-1:] if latest else session.states
        if call.param("_state") not in valid:
            refuse(400, "BLOB_UPLOAD_INVALID", "the query of the upload's latest Location is missing")
        return session

    def _check_start(self, call: Call, name: str, session: _Session) -> None:
        """Refuse a body that does not begin where the last one ended, before it is read."""
        wanted = call.headers.get("content-range")
        if wanted is None or self._quirks.appends:
            return
        match = re.fullmatch(r"(\d+)-(\d+)", wanted, re.ASCII)
        if match is None or int(match[1]) != len(session.spool.data):
            refused = refusal(416, "BLOB_UPLOAD_INVALID", "the chunk is out of order", wanted)
            raise Refused(self._located(refused, call, name, session))

    def _check_length(self, call: Call, name: str, session: _Session) -> None:
        """Refuse a chunk that is too long or too short for this registry, before it is read."""
        length, quirks = int(call.headers.get("content-length", 0)), self._quirks
        too_long = quirks.patch_limit is not None and length > quirks.patch_limit and "content-range" in call.headers
        if too_long or session.short:
            refused = refusal(416, "BLOB_UPLOAD_INVALID", "the chunk has a length that is not accepted")
            raise Refused(self._located(refused, call, name, session))
        session.short = quirks.least_chunk is not None and length < quirks.least_chunk

    async def _receive(self, call: Call, session: _Session) -> None:
        """Keep the bytes that have arrived in the session, even if the rest never arrives."""
        async for chunk in call.body:
            session.spool.write(chunk)

    def _created(self, repo: str, digest: str) -> Answer:
        status = 204 if self._quirks.old_created else 201
        return answer(status, Location=f"/v2/{repo}/blobs/{digest}", Docker_Content_Digest=digest)

    def _status(self, call: Call, status: int, name: str, session: _Session) -> Answer:
        return self._located(answer(status, Docker_Upload_UUID=name), call, name, session)

    def _located(self, given: Answer, call: Call, name: str, session: _Session) -> Answer:
        """Add the URL of the next request, and the range of bytes that have arrived so far."""
        path = f"/v2/{session.repo}/blobs/uploads/{name}?_state={session.states[-1]}"
        location = path if self._relative else call.origin + path
        size = session.first or 0 if self._quirks.stuck_range else len(session.spool.data)
        if self._quirks.least_chunk:
            given = given.plus("OCI-Chunk-Min-Length", str(self._quirks.least_chunk))
        # The Range of an empty session is 0-0, as in distribution: the specification does not define it.
        return given.plus("Location", location).plus("Range", f"0-{max(size - 1, 0)}")
