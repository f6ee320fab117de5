"""One request after another: authenticate, respond, and write a line to the access log.

Warnings go to the loggers of these modules, the access log to `mirror.serve.access` (level INFO).
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from mirror.errors import MirrorError
from mirror.serve.api import Api, Request
from mirror.serve.htpasswd import BasicAuth
from mirror.serve.responses import ErrorResponse, Response
from mirror.serve.writer import ChangedError, ResponseWriter

log = logging.getLogger(__name__)
access_log = logging.getLogger("mirror.serve.access")

_MAX_QUERY_FIELDS = 32
_SHOWN = 1000  # characters of a request in the log
_HEADERS = {
    "Docker-Distribution-Api-Version": "registry/2.0",
    "Server": "oci-mirror",
    "X-Content-Type-Options": "nosniff",
}
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="mirror", charset="UTF-8"'}


class Handler:
    """Responds to requests. `auth` is None if everyone may pull; `send_timeout` is as in `ServeOptions`."""

    def __init__(self, api: Api, auth: BasicAuth | None, send_timeout: float) -> None:
        self._api, self._auth, self._send_timeout = api, auth, send_timeout
        self._tasks: set[asyncio.Task[object]] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Respond to one request, whatever happens."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        entry = _AccessEntry(request)
        try:
            response = await self._respond(request, entry)
            try:
                return await self._send(request, response, entry)
            finally:
                response.close()
        finally:
            access_log.info("%s", entry)
            self._tasks.discard(task)

    async def finish(self, seconds: float) -> None:
        """Wait for the requests in progress, at most so many seconds."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def cancel(self) -> None:
        """Cancel the requests in progress."""
        for task in self._tasks:
            task.cancel()
        await self.finish(1)

    async def _respond(self, request: web.BaseRequest, entry: _AccessEntry) -> Response:
        try:
            if self._auth:
                entry.user = await self._auth.authenticate(request.headers.get("Authorization"))
                if entry.user is None:
                    raise ErrorResponse(401, "UNAUTHORIZED", "Authentication required.", headers=_CHALLENGE)
            response = await self._api.respond(_request(request))
        except ErrorResponse as error:
            response = error.response()
        except MirrorError as error:
            response = ErrorResponse(500, "UNKNOWN", "The layout cannot be read.", warning=str(error)).response()
        if response.warning:
            log.warning("%s", response.warning)
        return response

    async def _send(self, request: web.BaseRequest, response: Response, entry: _AccessEntry) -> web.StreamResponse:
        """Send a response. If that fails, abort the connection, so that the client cannot mistake a part for all."""
        entry.status = response.status
        writer = ResponseWriter(request, response, _HEADERS, self._send_timeout, self._api.store.run_in_thread)
        try:
            return await writer.send()
        except TimeoutError:
            entry.outcome = "aborted: the client stopped reading"
        except ConnectionError:
            entry.outcome = "aborted: the client disconnected"
        except (ChangedError, OSError) as error:
            reason = str(error) if isinstance(error, ChangedError) else os.strerror(error.errno or 0)
            entry.outcome = f"aborted: {reason}"
            log.warning("%s: transfer aborted: %s.", response.headers.get("Docker-Content-Digest"), reason)
        except asyncio.CancelledError:
            entry.outcome = "aborted: the client disconnected, or the server is shutting down"
            raise
        finally:
            entry.sent = writer.sent
        if request.transport:
            request.transport.abort()
        return web.Response(status=response.status)


@dataclass(slots=True)
class _AccessEntry:
    """A line of the access log. Text from the client is quoted as in JSON, and truncated."""

    request: web.BaseRequest
    started: float = field(default_factory=time.monotonic)
    user: str | None = None
    status: int = 0
    sent: int = 0
    outcome: str = ""

    def __str__(self) -> str:
        request, duration = self.request, time.monotonic() - self.started
        user = _quote(self.user) if self.user else "-"
        line = _quote(f"{request.method} {request.raw_path}")
        agent = _quote(request.headers.get("User-Agent", ""))
        text = f"{_now()} {request.remote} {user} {line} {self.status or '-'} {self.sent} {duration:.3f} {agent}"
        return f"{text} {self.outcome}" if self.outcome else text


class ServerLogHandler(logging.Handler):
    """Takes what aiohttp logs outside of `Handler`: requests that cannot be parsed, and errors of its own."""

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, HttpProcessingError):
            access_log.info("%s invalid HTTP request: %s", _now(), _quote(error.message))
        elif error:
            log.warning("%s (%s: %s)", record.getMessage(), type(error).__name__, error)
        else:
            log.warning("%s", record.getMessage())


def _quote(text: str) -> str:
    return json.dumps(text[:_SHOWN], ensure_ascii=False)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _request(request: web.BaseRequest) -> Request:
    """Convert a request for the API.

    Raises:
        ErrorResponse: the URL cannot be parsed, or its query has too many fields.
    """
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
