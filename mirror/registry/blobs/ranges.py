"""Parts of a blob (RFC 9110, 14): asked for in one way, and believed in one way.

A 206 counts only with exactly one `Content-Range` that says just what was asked for. Whatever else answers a Range is
no error, since servers need not know ranges: then the whole blob is asked for, and this registry for no range again.
"""

from __future__ import annotations

import re

import aiohttp

# ASCII digits only: int() takes "1_000", " 5 " and Arabic ones. A size has at most 19 of them.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)", re.ASCII)
STATUSES = frozenset({200, 206, 416})  # what may answer a Range


def header(first: int, last: int | None = None) -> dict[str, str]:
    """The header that asks for the bytes from `first` to `last`, both included, or to the end."""
    return {"Range": f"bytes={first}-{'' if last is None else last}"}


def covers(response: aiohttp.ClientResponse, first: int, last: int, size: int) -> bool:
    """Whether an answer is just the part from `first` to `last` of a blob of `size` bytes."""
    found = response.headers.getall("Content-Range", [])
    if response.status != 206 or len(found) != 1:
        return False
    match = _CONTENT_RANGE.fullmatch(found[0])
    if match is None or (int(match[1]), int(match[2])) != (first, last) or match[3] not in ("*", str(size)):
        return False
    length = response.content_length
    return length is None or length == last - first + 1
