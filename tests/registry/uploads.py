"""Uploads of blobs: whole, in two steps, in chunks, or mounted from another repository."""

import re
import secrets
from dataclasses import dataclass, field

from tests.registry.messages import Answer, Call, Refused, answer, refusal, refuse
from tests.registry.routes import Route
from tests.registry.storage import Spool, Store, is_digest


def _state() -> str:
    return secrets.token_urlsafe(9)


@dataclass
class _Session:
    """An upload in progress. Every accepted chunk gives a new `_state`; to go on takes the latest."""

    repo: str
    spool: Spool
    states: list[str] = field(default_factory=lambda: [_state()])


class Uploads:
    def __init__(self, store: Store, relative_locations: bool) -> None:
        self._store = store
        self._relative = relative_locations
        self._sessions: dict[str, _Session] = {}

    def close(self) -> None:
        for session in self._sessions.values():
            session.spool.discard()
        self._sessions.clear()

    async def post_uploads(self, call: Call, route: Route) -> Answer:
        """Mount, upload at once, or start a session."""
        mount, digest = call.param("mount"), call.param("digest")
        if mount and self._store.has_blob(call.param("from") or "", mount):
            self._store.link_blob(route.repo, mount)
            return _created(route.repo, mount)
        session = _Session(route.repo, self._store.contents.spool())
        name = secrets.token_hex(16)
        self._sessions[name] = session
        if digest:
            return await self._finish(call, name, session, digest)
        return self._status(call, 202, name, session)

    async def get_upload(self, call: Call, route: Route) -> Answer:
        return self._status(call, 204, route.reference, self._session(call, route, latest=False))

    async def patch_upload(self, call: Call, route: Route) -> Answer:
        session = self._session(call, route, latest=True)
        self._check_start(call, route.reference, session)
        await _receive(call, session)
        session.states.append(_state())
        return self._status(call, 202, route.reference, session)

    async def put_upload(self, call: Call, route: Route) -> Answer:
        session = self._session(call, route, latest=True)
        self._check_start(call, route.reference, session)
        return await self._finish(call, route.reference, session, call.param("digest") or "")

    async def delete_upload(self, call: Call, route: Route) -> Answer:
        self._session(call, route, latest=False).spool.discard()
        del self._sessions[route.reference]
        return answer(204)

    async def _finish(self, call: Call, name: str, session: _Session, digest: str) -> Answer:
        await _receive(call, session)
        del self._sessions[name]
        if not is_digest(digest) or not session.spool.matches(digest):
            session.spool.discard()
            refuse(400, "DIGEST_INVALID", "the content does not hash to the digest", {"digest": digest})
        self._store.contents.keep(digest, session.spool)
        self._store.link_blob(session.repo, digest)
        return _created(session.repo, digest)

    def _session(self, call: Call, route: Route, latest: bool) -> _Session:
        session = self._sessions.get(route.reference)
        if session is None or session.repo != route.repo:
            refuse(404, "BLOB_UPLOAD_UNKNOWN", "upload unknown to registry")
        valid = session.states[-1:] if latest else session.states
        if call.param("_state") not in valid:
            refuse(400, "BLOB_UPLOAD_INVALID", "the query of the upload's latest Location is missing")
        return session

    def _check_start(self, call: Call, name: str, session: _Session) -> None:
        """A chunk that does not begin where the last one ended is refused before it is read."""
        wanted = call.headers.get("content-range")
        if wanted is None:
            return
        match = re.fullmatch(r"(\d+)-(\d+)", wanted, re.ASCII)
        if match is None or int(match[1]) != session.spool.size:
            refused = refusal(416, "BLOB_UPLOAD_INVALID", "the chunk is out of order", wanted)
            raise Refused(self._located(refused, call, name, session))

    def _status(self, call: Call, status: int, name: str, session: _Session) -> Answer:
        return self._located(answer(status, Docker_Upload_UUID=name), call, name, session)

    def _located(self, given: Answer, call: Call, name: str, session: _Session) -> Answer:
        """Where to go on, and what has arrived so far."""
        path = f"/v2/{session.repo}/blobs/uploads/{name}?_state={session.states[-1]}"
        location = path if self._relative else call.origin + path
        # An empty session says 0-0, as distribution does: the specification has no word for it.
        return given.plus("Location", location).plus("Range", f"0-{max(session.spool.size - 1, 0)}")


async def _receive(call: Call, session: _Session) -> None:
    """What has arrived stays in the session, also when the rest never comes."""
    async for chunk in call.body:
        session.spool.write(chunk)


def _created(repo: str, digest: str) -> Answer:
    return answer(201, Location=f"/v2/{repo}/blobs/{digest}", Docker_Content_Digest=digest)
