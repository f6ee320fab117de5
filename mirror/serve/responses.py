"""Responses before they are sent: status, headers and body; errors; pagination; ranges and conditions.

Specifications: OCI distribution-spec, "Error Codes" and "Content Discovery"; RFC 9110, 13 (conditions) and 14 (ranges).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from mirror.serve.blobs import Content, close

MAX_PAGE = 10_000  # names on one page, even if `n` is larger
_NUMBER = re.compile(r"[0-9]{1,30}", re.ASCII)  # `int` would accept " 5 ", "1_000" and "٣" too
_RANGE = re.compile(r"bytes=\s*([0-9]{0,30})-([0-9]{0,30})\s*", re.ASCII | re.IGNORECASE)
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Response:
    """A status, headers, and `count` bytes of `body` from `start`; `warning` is for the log. `close` releases it."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Content = b""
    start: int = 0
    count: int = 0
    warning: str = ""

    @classmethod
    def json(cls, document: object, headers: Mapping[str, str] | None = None) -> Response:
        data = json.dumps(document).encode()
        return cls(200, {**_JSON, **(headers or {})}, data, count=len(data))

    @classmethod
    def text(cls, status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> Response:
        data = text.encode()
        return cls(status, {"Content-Type": content_type}, data, count=len(data))

    def close(self) -> None:
        close(self.body)


class ErrorResponse(Exception):
    """An error `response` in the form of the specification: a status, an error code and a message."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        detail: object = None,
        headers: Mapping[str, str] | None = None,
        warning: str = "",
    ) -> None:
        super().__init__(message)
        error = {"code": code, "message": message} | ({"detail": detail} if detail else {})
        data = json.dumps({"errors": [error]}).encode()
        self.response = Response(status, {**_JSON, **(headers or {})}, data, count=len(data), warning=warning)


# Pagination


def paginate(path: str, names: Sequence[str], query: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Return the page of the sorted `names` that `n` and `last` select, and the Link header for the next page."""
    text = query.get("n", str(MAX_PAGE))
    if not _NUMBER.fullmatch(text):
        raise ErrorResponse(400, "UNSUPPORTED", f"n is not a number: {text[:40]!r}.")
    count = min(int(text), MAX_PAGE)
    first = bisect_right(names, query["last"]) if "last" in query else 0
    page = list(names[first : first + count])
    if not page or first + count >= len(names):
        return page, {}
    return page, link_header(path, {**query, "n": str(count), "last": page[-1]})


def link_header(path: str, query: Mapping[str, str]) -> dict[str, str]:
    """Return the header that points to the next page (RFC 8288)."""
    return {"Link": f'<{quote(path)}?{urlencode(query)}>; rel="next"'}


# Ranges and conditions


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Return start and length of the requested range; None for the whole content.

    Multiple ranges, other units and invalid ranges are ignored, as RFC 9110, 14.2 allows.
    """
    found = _RANGE.fullmatch(header or "")
    if not found or found[0].count("-") != 1 or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    if start >= end:
        raise ErrorResponse(
            416,
            "SIZE_INVALID",
            f"The range lies outside the content, which has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end - start


def matches_etag(header: str, etag: str) -> bool:
    """Return True if an If-None-Match header lists `etag`."""
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags
