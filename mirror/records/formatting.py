"""Sizes, dates, platforms and lists as a record prints them, in both directions. Times are seconds since the epoch.

Parsers accept only what would be written: a date must have the right day of the week, digits must be ASCII. They return
None for any other text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

from mirror.errors import ContentError
from mirror.oci.descriptor import Platform
from mirror.strictjson import loads

_UNITS = ("B", "KB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9])?) (B|KB|MB|GB|TB)(?: \(([0-9]{1,25}) bytes\))?")  # a total may exceed 2^63

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}:[0-9]{2}:[0-9]{2}) GMT")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

_WORD = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
_WORDS = rf"{_WORD}(?:, {_WORD})*"
_PLATFORM = re.compile(
    rf"({_WORD})(?: version ({_WORD}))?(?: ft\. ({_WORDS}))?; ({_WORD})(?: variant ({_WORD}))?(?: ft\. ({_WORDS}))?"
)


def format_size(size: int) -> str:
    """Format bytes, rounded and exactly, as in `30.1 MB (30113134 bytes)`."""
    unit = 0
    while size // 1000**unit > 1000 and unit < len(_UNITS) - 1:
        unit += 1
    text = f"{size / 1000**unit:.1f} {_UNITS[unit]}"
    return text if unit == 0 else f"{text} ({size} bytes)"


def parse_size(text: str) -> int | None:
    """Return the bytes of a size. The rounded number is not checked: compare with `format_size`."""
    found = _SIZE.fullmatch(text)
    if not found or (found[3] is None) != (found[2] == "B"):
        return None
    return int(found[3] or found[1].partition(".")[0])


def format_http_date(seconds: int) -> str:
    """Format a time as `Wed, 13 Sep 2017 08:40:50 GMT` (RFC 9110, 5.6.7)."""
    return format_datetime(_EPOCH + timedelta(seconds=seconds), usegmt=True)


def parse_http_date(text: str) -> int | None:
    """Return the time of a date that exists and has the right day of the week."""
    found = HTTP_DATE.fullmatch(text)
    if not found or found[2] not in _MONTHS:
        return None
    seconds = parse_rfc3339(f"{found[3]}-{_MONTHS.index(found[2]) + 1:02}-{found[1]}T{found[4]}Z")
    return seconds if seconds is not None and format_http_date(seconds) == text else None


def parse_rfc3339(text: str) -> int | None:
    """Return a time in a config (RFC 3339), rounded down."""
    found = _RFC3339.fullmatch(text)
    try:
        when = datetime.fromisoformat(f"{found[1]}T{found[2]}{found[3].upper()}") if found else None
    except ValueError:
        return None
    return whole_seconds(_seconds(when)) if when else None


def whole_seconds(time: float | None) -> int | None:
    """Round a time down; return None if it cannot be formatted as a date."""
    try:
        return None if time is None else _seconds(_EPOCH + timedelta(seconds=int(time)))
    except (ValueError, OverflowError):
        return None


def _seconds(when: datetime) -> int:
    return (when - _EPOCH) // timedelta(seconds=1)


def format_platform(platform: Platform) -> str:
    """Format a platform as `linux; arm variant v7` or `windows version 10.0.26100.33438; amd64`."""
    system = [platform.os]
    system += [f"version {platform.os_version}"] if platform.os_version else []
    system += [f"ft. {', '.join(platform.os_features)}"] if platform.os_features else []
    machine = [platform.architecture]
    machine += [f"variant {platform.variant}"] if platform.variant else []
    machine += [f"ft. {', '.join(platform.features)}"] if platform.features else []
    return f"{' '.join(system)}; {' '.join(machine)}"


def parse_platform(text: str) -> Platform | None:
    found = _PLATFORM.fullmatch(text)
    if not found:
        return None
    os_features, features = (tuple(words.split(", ")) if words else () for words in (found[3], found[6]))
    return Platform(found[1], found[4], found[5], found[2], os_features, features)


def format_list(values: Sequence[str]) -> str:
    r"""Format a list as Perl's Mojo::JSON does, `["\/bin\/sh","-c"]`, and escape what is not printable."""
    text = json.dumps(list(values), ensure_ascii=False, separators=(",", ":")).replace("/", "\\/")
    text = text.replace("\x7f", "\\u007f")  # which json.dumps never escapes
    return "".join(char if char.isprintable() else json.dumps(char)[1:-1] for char in text)


def parse_list(text: str) -> tuple[str, ...] | None:
    try:
        values = loads(text.encode(), "the list")
    except ContentError:
        return None
    is_list = isinstance(values, list) and all(isinstance(value, str) for value in values)
    return tuple(values) if is_list else None
