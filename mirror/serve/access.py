"""The access log: one line for each request, logged by `mirror.serve.access` at level INFO."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

log = logging.getLogger(__name__)

_SHOWN = 1000  # characters of a text from the client


@dataclass(slots=True)
class AccessEntry:
    """A line of the access log. Text from the client is quoted as in JSON, and truncated."""

    request: web.BaseRequest
    started: float = field(default_factory=time.monotonic)
    user: str | None = None
    status: int = 0
    sent: int = 0
    outcome: str = ""

    def write(self) -> None:
        """Log the line; the attribute `request` of the log record has its fields."""
        log.info("%s", self, extra={"request": self.fields()})

    def fields(self) -> dict[str, object]:
        """Return the line as fields, for a log in JSON."""
        request = self.request
        return {
            "message": self.outcome,
            "client": request.remote,
            "user": self.user,
            "method": request.method[:_SHOWN],
            "path": request.raw_path[:_SHOWN],
            "status": self.status or None,
            "bytes": self.sent,
            "seconds": round(time.monotonic() - self.started, 3),
            "agent": request.headers.get("User-Agent", "")[:_SHOWN],
        }

    def __str__(self) -> str:
        request, duration = self.request, time.monotonic() - self.started
        user = _quote(self.user) if self.user else "-"
        line = _quote(f"{request.method} {request.raw_path}")
        agent = _quote(request.headers.get("User-Agent", ""))
        text = f"{_now()} {request.remote} {user} {line} {self.status or '-'} {self.sent} {duration:.3f} {agent}"
        return f"{text} {self.outcome}" if self.outcome else text


def log_invalid(error: HttpProcessingError) -> None:
    """Log a request that cannot be parsed."""
    message = f"invalid HTTP request: {error.message[:_SHOWN]}"
    log.info("%s invalid HTTP request: %s", _now(), _quote(error.message), extra={"request": {"message": message}})


def _quote(text: str) -> str:
    return json.dumps(text[:_SHOWN], ensure_ascii=False)


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
