"""Sizes, dates, platforms and lists as a record prints them, in both directions.

What is read has to be what would be written: `30.1 MB (30113134 bytes)` with any digit changed contradicts itself, and
a date has its own day of the week. Reading gives None where the text is not of the form; digits are ASCII.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from mirror.errors import ContentError
from mirror.oci.descriptor import Platform
from mirror.strictjson import loads

_UNITS = ("B", "KB", "MB", "GB", "TB")
_SIZE = re.compile(r"([0-9]{1,19}(?:\.[0-9])?) (B|KB|MB|GB|TB)(?: \(([0-9]{1,19}) bytes\))?")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DATE = re.compile(r"[A-Z][a-z]{2}, ([0-9]{2}) ([A-Z][a-z]{2}) ([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) GMT")
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)

_WORD = r"[A-Za-z0-9][A-Za-z0-9._+-]*"
_WORDS = rf"{_WORD}(?:, {_WORD})*"
_PLATFORM = re.compile(
    rf"({_WORD})(?: version ({_WORD}))?(?: ft\. ({_WORDS}))?; ({_WORD})(?: variant ({_WORD}))?(?: ft\. ({_WORDS}))?"
)

# --- sizes -------------------------------------------------------------------------------------------------------


def size(count: int) -> str:
    """Bytes in the unit that leaves up to 1000 of it, and exactly: `30.1 MB (30113134 bytes)`, but `98.0 B`."""
    unit = 0
    while count // 1000**unit > 1000 and unit < len(_UNITS) - 1:
        unit += 1
    text = f"{count / 1000**unit:.1f} {_UNITS[unit]}"
    return text if unit == 0 else f"{text} ({count} bytes)"


def parse_size(text: str) -> int | None:
    """The bytes of a size, whether or not its rounded figure agrees: compare with `size` to know."""
    found = _SIZE.fullmatch(text)
    if not found or (found[3] is None) != (found[2] == "B"):
        return None
    return int(found[3] or found[1].partition(".")[0])


# --- dates -------------------------------------------------------------------------------------------------------


def http_date(seconds: int) -> str:
    """`Wed, 13 Sep 2017 08:40:50 GMT` (RFC 9110, 5.6.7)."""
    when = _EPOCH + timedelta(seconds=seconds)  # strftime would speak the language of the machine
    day = f"{_DAYS[when.weekday()]}, {when.day:02} {_MONTHS[when.month - 1]} {when.year:04}"
    return f"{day} {when.hour:02}:{when.minute:02}:{when.second:02} GMT"


def parse_http_date(text: str) -> int | None:
    """The seconds of a date that exists, on the day of the week that it was."""
    found = DATE.fullmatch(text)
    if not found or found[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = map(int, found.group(1, 3, 4, 5, 6))
    try:
        when = datetime(year, _MONTHS.index(found[2]) + 1, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    seconds = _seconds(when)
    return seconds if http_date(seconds) == text else None


def parse_rfc3339(text: str) -> int | None:
    """The whole seconds of a time as configs have it."""
    found = _RFC3339.fullmatch(text)
    try:
        when = datetime.fromisoformat(f"{found[1]}T{found[2]}{found[3].upper()}") if found else None
    except ValueError:
        return None
    return whole_seconds(_seconds(when)) if when else None


def whole_seconds(time: float | None) -> int | None:
    """A time as files and registries have it; None where no date can be made of it."""
    try:
        return None if time is None else _seconds(_EPOCH + timedelta(seconds=int(time)))
    except (ValueError, OverflowError):
        return None


def _seconds(when: datetime) -> int:
    return (when - _EPOCH) // timedelta(seconds=1)


# --- platforms ---------------------------------------------------------------------------------------------------


def platform(value: Platform) -> str:
    """`linux; arm variant v7`, `windows version 10.0.26100.33438; amd64`."""
    words = [value.os]
    words += [f"version {value.os_version}"] if value.os_version else []
    words += [f"ft. {', '.join(value.os_features)}"] if value.os_features else []
    machine = [value.architecture]
    machine += [f"variant {value.variant}"] if value.variant else []
    machine += [f"ft. {', '.join(value.features)}"] if value.features else []
    return f"{' '.join(words)}; {' '.join(machine)}"


def parse_platform(text: str) -> Platform | None:
    found = _PLATFORM.fullmatch(text)
    if not found:
        return None
    os_features, features = (tuple(words.split(", ")) if words else () for words in (found[3], found[6]))
    return Platform(found[1], found[4], found[5], found[2], os_features, features)


# --- lists -------------------------------------------------------------------------------------------------------


def words(values: Sequence[str]) -> str:
    r"""A list of strings as Perl's Mojo::JSON prints it: `["\/bin\/sh","-c"]`."""
    text = json.dumps(list(values), ensure_ascii=False, separators=(",", ":")).replace("/", "\\/")
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def parse_words(text: str) -> tuple[str, ...] | None:
    try:
        values = loads(text.encode(), "the list")
    except ContentError:
        return None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        return None
    return tuple(values)


def _escaped(char: str) -> str:
    """JSON escapes nothing beyond control characters; a terminal obeys more, and a lone surrogate is no UTF-8."""
    return json.dumps(char)[1:-1] if ord(char) != 0x7F else "\\u007f"
