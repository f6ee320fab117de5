"""Range requests (RFC 9110, 14), with strict checks of their responses.

A 206 is accepted only with a single `Content-Range` that equals the requested range. After any other response, the
whole blob is requested: servers need not support ranges.
"""

from __future__ import annotations

import re

from mirror.registry.transport.exchange import Response

# ASCII digits only: int() also accepts "1_000", " 5 " and Arabic digits. A size has at most 19 of them.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)
STATUSES = frozenset({200, 206, 416})  # expected for a range request


def header(first: int, last: int | None = None) -> dict[str, str]:
    """Return the `Range` header for the bytes from `first` to `last` (inclusive; None: the end)."""
    return {"Range": f"bytes={first}-{'' if last is None else last}"}


def matches(response: Response, first: int, last: int, size: int) -> bool:
    """Return whether a response has exactly the bytes from `first` to `last` (inclusive) of a blob of `size` bytes."""
    found = response.headers.getall("Content-Range", [])
    if response.status != 206 or len(found) != 1:
        return False
    match = _CONTENT_RANGE.fullmatch(found[0])
    if match is None or (int(match[1]), int(match[2])) != (first, last) or match[3] not in ("*", str(size)):
        return False
    length = response.content_length
    return length is None or length == last - first + 1
