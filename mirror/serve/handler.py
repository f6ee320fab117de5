"""One request after another: who asks, what is the answer, send it, and one line in the log."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from mirror.errors import MirrorError
from mirror.serve.api import Api, Request
from mirror.serve.htpasswd import BasicAuth
from mirror.serve.responses import Refusal, Response
from mirror.serve.send import BlobResponse, ChangedError

Speak = Callable[[str], None]

_FIELDS = 32  # of a query
_SHOWN = 1000  # characters of a request in the log
_COMMON = {
    "Docker-Distribution-Api-Version": "registry/2.0",
    "Server": "oci-mirror",
    "X-Content-Type-Options": "nosniff",
}
_WELCOME = {"WWW-Authenticate": 'Basic realm="mirror", charset="UTF-8"'}


class Handler:
    """Answers requests; `say` takes sentences for the person who runs the server, `log` a line for each request."""

    def __init__(self, api: Api, guard: BasicAuth | None, patience: float, say: Speak, log: Speak) -> None:
        self.say, self._log = say, log
        self._api, self._guard, self._patience = api, guard, patience
        self._busy: set[asyncio.Task[object]] = set()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Response one request, whatever happens."""
        task = asyncio.current_task()
        assert task is not None
        self._busy.add(task)
        line = _Line(request)
        try:
            answer = await self._answer(request, line)
            try:
                return await self._deliver(request, answer, line)
            finally:
                answer.close()
        finally:
            self._log(line.text())
            self._busy.discard(task)

    async def finish(self, grace: float) -> None:
        """Wait until all requests have been answered, for so many seconds at most."""
        if self._busy:
            await asyncio.wait(self._busy, timeout=grace)

    async def cancel(self) -> None:
        """End those that are being answered."""
        for task in self._busy:
            task.cancel()
        await self.finish(1)

    def trouble(self, text: str, error: BaseException | None) -> None:
        """What went wrong outside of a request that could be read."""
        if isinstance(error, HttpProcessingError):
            self._log(f"{_now()} a request that is no HTTP: {_quoted(error.message)}")
        else:
            self.say(f"{text} ({type(error).__name__}: {error})" if error else text)

    async def _answer(self, request: web.BaseRequest, line: _Line) -> Response:
        try:
            if self._guard:
                line.user = await self._guard.user(request.headers.get("Authorization"))
                if line.user is None:
                    raise Refusal(401, "UNAUTHORIZED", "A user and a password are needed.", headers=_WELCOME)
            answer = await self._api.answer(_call(request))
        except Refusal as refusal:
            answer = refusal.answer()
        except MirrorError as error:
            answer = Refusal(500, "UNKNOWN", "The layout cannot be read.", note=str(error)).answer()
        if answer.note:
            self.say(answer.note)
        return answer

    async def _deliver(self, request: web.BaseRequest, answer: Response, line: _Line) -> web.StreamResponse:
        """Send an answer. A client that does not get all of it finds its connection cut, and cannot take it for all."""
        line.status = answer.status
        delivery = BlobResponse(request, answer, _COMMON, self._patience, self._api.store.hop)
        try:
            return await delivery.run()
        except TimeoutError:
            line.end = "given up: the client takes nothing"
        except ConnectionError:
            line.end = "cut: the client has gone"
        except (ChangedError, OSError) as error:
            why = str(error) if isinstance(error, ChangedError) else os.strerror(error.errno or 0)
            line.end = f"cut: {why}"
            self.say(f"{answer.headers.get('Docker-Content-Digest')} was not sent to its end: {why}.")
        except asyncio.CancelledError:
            line.end = "cut: the client has gone, or the server stops"
            raise
        finally:
            line.sent = delivery.sent
        if request.transport:
            request.transport.abort()
        return web.Response(status=answer.status)


class _Line:
    """A line of the access log. What the client wrote is quoted as JSON does it, and cut."""

    def __init__(self, request: web.BaseRequest) -> None:
        self.user: str | None = None
        self.status, self.sent, self.end = 0, 0, ""
        self._request, self._started = request, time.monotonic()

    def text(self) -> str:
        request = self._request
        asked = _quoted(f"{request.method} {request.raw_path}")
        agent = _quoted(request.headers.get("User-Agent", ""))
        took = time.monotonic() - self._started
        user = _quoted(self.user) if self.user else "-"
        end = f" {self.end}" if self.end else ""
        return f"{_now()} {request.remote} {user} {asked} {self.status or '-'} {self.sent} {took:.3f} {agent}{end}"


def _quoted(text: str) -> str:
    return json.dumps(text[:_SHOWN], ensure_ascii=False)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _call(request: web.BaseRequest) -> Request:
    """A request as the API takes it.

    Raises:
        Refusal: its query has more fields than any client's.
    """
    text = request.raw_path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    path, _, query = text.partition("?")
    try:
        if not path.startswith("/"):  # the form that proxies are asked in (RFC 9112, 3.2.2)
            path = urlsplit(path).path
        fields = parse_qsl(query, keep_blank_values=True, errors="replace", max_num_fields=_FIELDS)
    except ValueError:
        raise Refusal(400, "UNSUPPORTED", "The address of the request cannot be read.") from None
    headers = {name.lower(): request.headers[name] for name in request.headers}
    return Request(request.method, path, dict(reversed(fields)), headers)
