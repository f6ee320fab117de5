"""JSON from strangers, read one way only.

Python's reader keeps the last of two equal keys and accepts NaN; Go's matches the keys of a struct without regard to
case. A document that two readers understand differently is how one tool verifies what another one runs
(CVE-2021-41190), so anything that could be read in two ways is refused here.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, NoReturn

from mirror.errors import InvalidContent

JsonObject = dict[str, Any]

MOST_VALUES = 2_000_000  # in one document: `[],[],…` takes twenty times its size in memory
MOST_DEPTH = 200  # of objects and arrays; the interpreter's own limit differs between versions of Python
_ESCAPE, _STRING = re.compile(rb"\\.", re.DOTALL), re.compile(rb'"[^"]*"')
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_PARENTHESES = bytes.maketrans(b"{[]}", b"(())")


def loads(data: bytes, what: str) -> Any:
    """Parse one JSON document.

    Raises:
        InvalidContent: no UTF-8, no JSON, a key twice, NaN or Infinity, nested too deep, absurd numbers, or too much.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise InvalidContent(f"{what} has more than {MOST_VALUES} values.")
    if _nests_deeper(data, MOST_DEPTH):
        raise InvalidContent(f"{what} is nested too deep.")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_constant, parse_float=_finite)
    except RecursionError:
        raise InvalidContent(f"{what} is nested too deep.") from None
    except UnicodeDecodeError as error:
        raise InvalidContent(f"{what} is not UTF-8: byte {error.start} is invalid.") from None
    except ValueError as error:  # JSONDecodeError, our own, and integers of more than 4300 digits
        raise InvalidContent(f"{what} is not valid JSON: {error}.") from None


def load_object(data: bytes, what: str) -> JsonObject:
    """Parse one JSON document that has to be an object.

    Raises:
        InvalidContent: as `loads`, or the document is something else than an object.
    """
    value = loads(data, what)
    if not isinstance(value, dict):
        raise InvalidContent(f"{what} should be a JSON object and is {_kind(value)}.")
    return value


def field(document: JsonObject, name: str, what: str) -> Any:
    """The value of a struct's field, None where it is absent.

    Raises:
        InvalidContent: a key equals `name` in everything but its case: Go would read it, Python would not.
    """
    length = len(name)
    for key in document:  # Go compares letter by letter, so only a key of the same length can be taken for it
        if len(key) == length and key != name and key.casefold() == name.casefold():
            raise InvalidContent(f"{what} has the key {key!r}, which some readers take for {name!r}.")
    return document.get(name)


def _nests_deeper(data: bytes, levels: int) -> bool:
    """Return whether brackets nest in more levels. It peels off one level after another, without recursion."""
    if data.count(b"[") + data.count(b"{") <= levels:
        return False
    plain = _ESCAPE.sub(b"", data) if b"\\" in data else data
    brackets = _STRING.sub(b"", plain.translate(None, _NOT_STRUCTURE)).translate(_PARENTHESES)
    for _ in range(levels):
        inner = brackets.replace(b"()", b"")
        if inner == brackets:
            return brackets.startswith(b"(" * (levels + 1))  # never closed
        brackets = inner
    return bool(brackets)


def _once(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice[:80]!r} stands twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
