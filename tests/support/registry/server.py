"""The embedded registry: its content, its log of requests, its faults, and how to run it."""

import asyncio
import re
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from aiohttp import web

from tests.support.registry.api import Distribution, Options
from tests.support.registry.auth import Auth, Open
from tests.support.registry.faults import Fault, Script
from tests.support.registry.messages import Answer, Call, HangUp
from tests.support.registry.quirks import Quirks
from tests.support.registry.routes import find_route, needed_rights
from tests.support.registry.storage import Repository, Store, digest_of, is_digest
from tests.support.registry.wire import Record, Seen, send


class EmbeddedRegistry:
    """A registry on a loopback address that keeps everything in memory."""

    def __init__(
        self,
        *,
        auth: Auth | None = None,
        tls: ssl.SSLContext | None = None,
        strict: bool = True,
        relative_locations: bool = False,
        read_only: bool = False,
        page: int = 1000,
        referrers: bool = False,
        dashes: bool = False,
        quirks: Quirks | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._store = Store()
        options = Options(strict, relative_locations, read_only, page, referrers, dashes, quirks or Quirks())
        self._api = Distribution(self._store, options)
        self._auth: Auth = auth or Open()
        self._tls = tls
        self._bind = (address, port)
        self._bound: tuple[str, int] | None = None
        self._script = Script()
        self._records: list[Record] = []
        self._handlers: set[asyncio.Task[Any]] = set()

    # Its address

    @property
    def host(self) -> str:
        """`127.0.0.1:PORT` while the registry runs; `[::1]:PORT` if that is its address."""
        if self._bound is None:
            raise RuntimeError("the registry is not running")
        address, port = self._bound
        return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self.host}"

    # Its content

    def put_blob(self, repo: str, data: bytes, algorithm: str = "sha256") -> str:
        digest = digest_of(data, algorithm)
        self._store.contents[digest] = data
        self._store.link_blob(repo, digest)
        return digest

    def put_manifest(
        self, repo: str, reference: str | None, data: bytes, media_type: str, algorithm: str = "sha256"
    ) -> str:
        """Store a manifest under its digest, and under `reference` if that is a tag; nothing is checked."""
        digest = digest_of(data, algorithm)
        tag = None if reference is None or is_digest(reference) else reference
        self._store.contents[digest] = data
        self._store.link_manifest(repo, digest, media_type, tag)
        return digest

    def get_blob(self, repo: str, digest: str) -> bytes:
        if digest not in self._repository(repo).blobs:
            raise KeyError(digest)
        return self._content(digest)

    def get_manifest(self, repo: str, reference: str) -> tuple[bytes, str]:
        repository = self._repository(repo)
        digest = repository.find(reference)
        if digest is None:
            raise KeyError(reference)
        return self._content(digest), repository.manifests[digest]

    def tags(self, repo: str) -> dict[str, str]:
        """The tags of a repository and the digests that they name."""
        return dict(self._repository(repo).tags)

    def blobs(self, repo: str) -> set[str]:
        return set(self._repository(repo).blobs)

    def contents(self, repo: str) -> dict[str, bytes]:
        """The blobs of a repository by their digests."""
        return {digest: self._content(digest) for digest in self.blobs(repo)}

    def manifests(self, repo: str) -> set[str]:
        return set(self._repository(repo).manifests)

    def replace_blob(self, digest: str, data: bytes) -> None:
        """Serve other bytes under a digest, of a blob or a manifest."""
        self._store.contents[digest] = data

    def remove_manifest(self, repo: str, digest: str) -> None:
        del self._repository(repo).manifests[digest]

    def remove_tag(self, repo: str, tag: str) -> None:
        del self._repository(repo).tags[tag]

    def remove_blob(self, repo: str, digest: str) -> None:
        self._repository(repo).blobs.remove(digest)

    def _repository(self, repo: str) -> Repository:
        return self._store.repository(repo) or Repository()

    def _content(self, digest: str) -> bytes:
        return self._store.contents[digest]

    # Its log

    @property
    def requests(self) -> list[Seen]:
        """Every request so far in order of arrival; bytes of responses are counted before they are sent."""
        return [record.seen() for record in list(self._records)]

    def count(self, method: str, pattern: str = "") -> int:
        """Return the number of requests with this method and a path that matches the regular expression."""
        return sum(
            re.fullmatch(method, seen.method) is not None and re.search(pattern, seen.path) is not None
            for seen in self.requests
        )

    def blob_bytes_sent(self) -> int:
        return sum(seen.sent for seen in self.requests if seen.method == "GET" and "/blobs/sha" in seen.path)

    def clear_log(self) -> None:
        self._records.clear()

    # Faults

    def fault(self, fault: Fault) -> None:
        self._script.add(fault)

    def clear_faults(self) -> None:
        self._script.clear()

    # Running

    @asynccontextmanager
    async def started(self) -> AsyncIterator["EmbeddedRegistry"]:
        """Run in this event loop."""
        server = web.Server(
            self._handle,
            access_log=None,
            auto_decompress=False,
            read_bufsize=1 << 18,
            max_line_size=1 << 17,
            max_field_size=1 << 17,
        )
        runner = web.ServerRunner(server, shutdown_timeout=1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, *self._bind, ssl_context=self._tls)
            await site.start()
            self._bound = runner.addresses[0][:2]
            yield self
        finally:
            self._bound = None
            # Do not wait for a stalled response, or for a client that keeps its connection.
            for task in self._handlers:
                task.cancel()
            for connection in server.connections:
                if connection.transport:
                    connection.transport.abort()
            await runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._handlers.add(task)
        task.add_done_callback(self._handlers.discard)
        record = Record(request)
        self._records.append(record)
        try:
            given = await self._answer(record.call(request), record.target)
        except HangUp as hang_up:
            given = Answer(0, ending=hang_up.ending)
        except (ConnectionError, web.RequestPayloadError):
            return web.StreamResponse()  # the client left in the middle of its request
        return await send(request, given, record)

    async def _answer(self, call: Call, target: str) -> Answer:
        actions = self._script.actions(call.method, call.path, target)
        given: Answer | None = None
        for action in actions:
            step = action.on_call(call)
            if isinstance(step, Answer):
                given = step
                break
            call = step
        given = given or await self._answer_honestly(call)
        if given.ending is None:
            async for _ in call.body:
                pass  # read the rest of the body, or the client could not finish
        for action in actions:
            given = action.on_answer(call, given)
        return given

    async def _answer_honestly(self, call: Call) -> Answer:
        if (own := await self._auth.serve(call)) is not None:
            return own
        route = find_route(call.path)
        refused = self._auth.refuse(call, needed_rights(call, route))
        return refused or await self._api.answer(call, route)


@contextmanager
def serving(registry: EmbeddedRegistry) -> Iterator[EmbeddedRegistry]:
    """Run a registry in a thread of its own, so that synchronous tests can talk to it."""
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def run() -> None:
        done = asyncio.Event()
        try:
            async with registry.started():
                ready.set_result((asyncio.get_running_loop(), done))
                await done.wait()
        except OSError as error:
            ready.set_exception(error)

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="registry", daemon=True)
    thread.start()
    loop, done = ready.result()
    try:
        yield registry
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join()
