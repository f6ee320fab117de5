"""An answer before it is on a wire: status, headers and body; errors as the specification wants them; pages; ranges.

Specifications: OCI distribution-spec, "Error Codes" and "Content Discovery"; RFC 9110, 13 (conditions) and 14 (ranges).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode

from mirror.serve.store import Opened

MOST = 10_000  # names on one page, whatever a client asks for
_NUMBER = re.compile(r"[0-9]{1,30}", re.ASCII)  # `int` would take " 5 ", "1_000" and "٣" too
_RANGE = re.compile(r"bytes=\s*([0-9]{0,30})-([0-9]{0,30})\s*", re.ASCII | re.IGNORECASE)
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Response:
    """`count` bytes of `body`, from `start`; a blob in it is closed by who has sent it. `note` is for the log."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Opened = b""
    start: int = 0
    count: int = 0
    note: str = ""

    @classmethod
    def json(cls, document: object, headers: Mapping[str, str] | None = None, status: int = 200) -> Response:
        data = json.dumps(document).encode()
        return cls(status, {**_JSON, **(headers or {})}, data, count=len(data))

    def close(self) -> None:
        if isinstance(self.body, Opened):
            self.body.close()


class Refusal(Exception):
    """An answer that is an error; raised where it is found out."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        detail: object = None,
        headers: Mapping[str, str] | None = None,
        note: str = "",
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.detail = status, code, detail
        self.headers, self.note = headers or {}, note

    def answer(self) -> Response:
        error = {"code": self.code, "message": str(self)} | ({"detail": self.detail} if self.detail else {})
        data = json.dumps({"errors": [error]}).encode()
        return Response(self.status, {**_JSON, **self.headers}, data, count=len(data), note=self.note)


# Pages


def page(path: str, names: Sequence[str], query: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """Those of the sorted `names` that `n` and `last` ask for, and the Link header to those that come after.

    Raises:
        Refusal: `n` is no number.
    """
    most = min(_wanted(query.get("n")), MOST)
    first = bisect_right(names, query["last"]) if "last" in query else 0
    chosen = list(names[first : first + most])
    if not chosen or first + most >= len(names):
        return chosen, {}
    return chosen, link(path, {**query, "n": str(most), "last": chosen[-1]})


def link(path: str, query: Mapping[str, str]) -> dict[str, str]:
    """The header that leads to the next page (RFC 8288)."""
    return {"Link": f'<{quote(path)}?{urlencode(query)}>; rel="next"'}


def _wanted(text: str | None) -> int:
    if text is None:
        return MOST
    if not _NUMBER.fullmatch(text):
        raise Refusal(400, "UNSUPPORTED", f"n should be a number of names and is {text[:40]!r}.")
    return int(text)


# Ranges and conditions


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and length of the one range that is asked for; None for the whole.

    Several ranges, other units and what is no range at all may be answered with the whole (RFC 9110, 14.2).

    Raises:
        Refusal: it lies outside of the content, or ends before it starts.
    """
    found = _RANGE.fullmatch(header or "")
    if not found or found[0].count("-") != 1 or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
    if start >= end:
        raise Refusal(
            416,
            "SIZE_INVALID",
            f"There are {size} bytes; the range asked for is outside of them.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end - start


def matches(header: str, tag: str) -> bool:
    """Whether an If-None-Match or If-Range names the entity tag."""
    names = [name.strip().removeprefix("W/") for name in header.split(",")]
    return "*" in names or tag in names
