"""One request: authenticate, respond, and write a line to the access log."""

from __future__ import annotations

import asyncio
import logging
import os
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web

from mirror.errors import MirrorError
from mirror.serve import metrics
from mirror.serve.access import AccessEntry
from mirror.serve.api import METHODS, Api, Request
from mirror.serve.checkpoints import ChangedError
from mirror.serve.htpasswd import BasicAuth
from mirror.serve.metrics import Metrics
from mirror.serve.responses import ErrorResponse, Response
from mirror.serve.writer import ResponseWriter

log = logging.getLogger(__name__)

_MAX_QUERY_FIELDS = 32
_HEADERS = {
    "Docker-Distribution-Api-Version": "registry/2.0",
    "Server": "oci-mirror",
    "X-Content-Type-Options": "nosniff",
}
_STOPPED, _DISCONNECTED = "aborted: the client stopped reading", "aborted: the client disconnected"
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="mirror", charset="UTF-8"'}


class Handler:
    """The handler of all requests. `auth` is None if everyone may pull; `send_timeout` is as in `ServeOptions`."""

    def __init__(self, api: Api, auth: BasicAuth | None, send_timeout: float) -> None:
        self._api, self._auth, self._send_timeout = api, auth, send_timeout
        self._metrics = Metrics(api.store.hashed)
        self._tasks: set[asyncio.Task[object]] = set()
        self._entries: dict[web.RequestHandler, AccessEntry] = {}  # of the requests in progress, by connection

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Respond to one request. If the response cannot be sent completely, the connection is aborted."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        entry = self._entries[request.protocol] = AccessEntry(request)
        try:
            response = await self._respond(request, entry)
            try:
                return await self._send(request, response, entry)
            finally:
                response.close()
        finally:
            entry.write()
            self._metrics.count(request.method, entry.status, entry.sent, aborted=bool(entry.outcome))
            self._tasks.discard(task)
            del self._entries[request.protocol]

    def lose(self, connection: web.RequestHandler, reason: BaseException | None) -> None:
        """Note why the system has closed a connection; aiohttp cancels the request without saying so."""
        entry = self._entries.get(connection)
        if entry and isinstance(reason, TimeoutError):
            entry.outcome = _STOPPED

    async def finish(self, seconds: float) -> None:
        """Wait for the requests in progress, for at most `seconds`."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def cancel(self) -> None:
        """Cancel the requests in progress."""
        for task in self._tasks:
            task.cancel()
        await self.finish(1)

    async def _respond(self, request: web.BaseRequest, entry: AccessEntry) -> Response:
        path = request.raw_path.partition("?")[0]
        try:
            if self._auth and path != "/healthz":
                entry.user = await self._auth.authenticate(request.headers.get("Authorization"))
                if entry.user is None:
                    raise ErrorResponse(401, "UNAUTHORIZED", "Authentication required.", headers=_CHALLENGE)
            response = await self._status_page(request.method, path) or await self._api.respond(_request(request))
        except ErrorResponse as error:
            response = error.response
        except MirrorError as error:
            response = ErrorResponse(500, "UNKNOWN", "The layout cannot be read.", warning=str(error)).response
        if response.warning:
            log.warning("%s", response.warning)
        return response

    async def _status_page(self, method: str, path: str) -> Response | None:
        """Respond to the two requests outside of the registry's namespace, `/v2/`; return None to all others."""
        if method not in METHODS or path not in ("/healthz", "/metrics"):
            return None
        if path == "/metrics":
            return Response.text(200, self._metrics.text(), metrics.CONTENT_TYPE)
        await self._api.cache.catalog()
        readable = self._api.cache.is_readable
        return Response.text(200, "ok\n") if readable else Response.text(503, "an index.json cannot be read\n")

    async def _send(self, request: web.BaseRequest, response: Response, entry: AccessEntry) -> web.StreamResponse:
        """Send a response, or abort the connection, so that the client does not take a part for the whole."""
        entry.status = response.status
        writer = ResponseWriter(request, response, _HEADERS, self._send_timeout, self._api.store)
        try:
            return await writer.send()
        except TimeoutError:
            entry.outcome = _STOPPED
        except ConnectionError:
            entry.outcome = entry.outcome or _DISCONNECTED
        except (ChangedError, OSError) as error:
            reason = os.strerror(error.errno or 0) if isinstance(error, OSError) else "the file has changed"
            entry.outcome = f"aborted: {reason}"
            log.warning("%s: transfer aborted: %s.", response.headers.get("Docker-Content-Digest"), reason)
        except asyncio.CancelledError:
            entry.outcome = entry.outcome or f"{_DISCONNECTED}, or the server is shutting down"
            raise
        finally:
            entry.sent = writer.sent
            if entry.outcome and request.transport:  # aiohttp's close() would wait until the client reads the rest
                request.transport.abort()
        return web.Response(status=response.status)


def _request(request: web.BaseRequest) -> Request:
    """Convert aiohttp's request. It is an error if the URL cannot be parsed, or its query has too many fields."""
    text = request.raw_path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    path, _, query = text.partition("?")
    try:
        if not path.startswith("/"):  # the absolute form, as sent to proxies (RFC 9112, 3.2.2)
            path = urlsplit(path).path
        fields = parse_qsl(query, keep_blank_values=True, errors="replace", max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError:
        raise ErrorResponse(400, "UNSUPPORTED", "The request URL cannot be parsed.") from None
    headers = {name.lower(): request.headers[name] for name in request.headers}
    return Request(request.method, path, dict(reversed(fields)), headers)
