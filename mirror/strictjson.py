"""JSON from strangers, read one way only.

Python's reader keeps the last of two equal keys and accepts NaN; Go's matches the keys of a struct without regard to
case. A document that two readers understand differently is how one tool verifies what another one runs
(CVE-2021-41190), so anything that could be read in two ways is refused here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from mirror.errors import InvalidContent

JsonObject = dict[str, Any]

MOST_VALUES = 2_000_000  # in one document: `[],[],…` takes twenty times its size in memory
MOST_DEPTH = 200  # of objects and arrays; the interpreter's own limit differs between versions of Python
_ESCAPE, _STRING = re.compile(rb"\\.", re.DOTALL), re.compile(rb'"[^"]*"')
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_PARENTHESES = bytes.maketrans(b"{[]}", b"(())")


def loads(data: bytes, what: str) -> Any:
    """Parse one JSON document; `what` names it in errors, and may be empty.

    Raises:
        InvalidContent: not UTF-8, not JSON, a key twice, NaN or Infinity, nested too deep, absurd numbers, or too much.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise invalid(what, f"more than {MOST_VALUES} values")
    if _nests_deeper(data, MOST_DEPTH):
        raise invalid(what, "nested too deep")
    try:
        return json.loads(data.decode("utf-8"), object_pairs_hook=_once, parse_constant=_constant, parse_float=_finite)
    except RecursionError:
        raise invalid(what, "nested too deep") from None
    except UnicodeDecodeError as error:
        raise invalid(what, f"not UTF-8: byte {error.start} is invalid") from None
    except ValueError as error:  # JSONDecodeError, our own, and integers of more than 4300 digits
        raise invalid(what, f"not valid JSON: {error}") from None


def load_object(data: bytes, what: str) -> JsonObject:
    """Parse one JSON document that has to be an object; `Fields.load` also reads its fields.

    Raises:
        InvalidContent: as `loads`, or the document is not an object.
    """
    return Fields.load(data, what).document


def invalid(what: str, problem: str, hint: str | None = None) -> InvalidContent:
    """Return an error that says where the problem is: `sha256:…: layers[3]: 'size' is missing.`"""
    return InvalidContent(f"{what}: {problem}." if what else f"{problem}.", hint=hint)


class Fields:
    """The fields of a JSON object, read by their types; one that is null is absent, as in Go.

    A key that equals the name of a field in everything but its case is an error: Go reads it, Python does not.
    """

    __slots__ = ("_others", "document", "what")

    def __init__(self, value: object, what: str, keys: frozenset[str] = frozenset()) -> None:
        """Take an object.

        Args:
            value: what should be an object.
            what: names it in errors; may be empty.
            keys: names of fields that differ in more than their case. Only other keys can be taken for a field.

        Raises:
            InvalidContent: the value is something else.
        """
        if not isinstance(value, dict):
            raise invalid(what, f"not a JSON object but {_kind(value)}")
        self.document: JsonObject = value
        self.what = what
        self._others = () if value.keys() <= keys else tuple(key for key in value if key not in keys)

    @classmethod
    def load(cls, data: bytes, what: str, keys: frozenset[str] = frozenset()) -> Fields:
        """Parse one JSON document that has to be an object.

        Raises:
            InvalidContent: as `loads`, or the document is not an object.
        """
        return cls(loads(data, what), what, keys)

    def get(self, name: str) -> Any:
        """Return the value of a field, whatever it is; None if it is absent."""
        for key in self._others:  # Go compares letter by letter, so only a key of the same length can be taken for it
            if len(key) == len(name) and key != name and key.casefold() == name.casefold():
                raise self.invalid(f"some readers take the key {key[:80]!r} for {name!r}")
        return self.document.get(name)

    def string(self, name: str) -> str:
        """Return a string; an empty one if it is absent."""
        value = self.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise self._wrong(name, "a string")
        return value

    def required(self, name: str) -> str:
        """Return a string that has to be there."""
        return self.string(name) or self.missing(name)

    def integer(self, name: str) -> int:
        """Return a number that has to be there, and that Go can hold: from 0 to 2^63 - 1."""
        value = self.get(name)
        if type(value) is not int or not 0 <= value < 2**63:  # True is an int in Python
            raise self._wrong(name, "a number from 0 to 2^63 - 1")
        return value

    def array(self, name: str) -> list[Any]:
        """Return a list of anything; an empty one if it is absent."""
        value = self.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def strings(self, name: str) -> tuple[str, ...]:
        """Return a list of strings; an empty one if it is absent."""
        values = self.get(name)
        if values is None:
            return ()
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self._wrong(name, "a list of strings")
        return tuple(values)

    def nested(self, name: str, keys: frozenset[str] = frozenset()) -> Fields | None:
        """Return an object; None if it is absent."""
        value = self.get(name)
        return None if value is None else Fields(value, self.at(name), keys)

    def objects(self, name: str) -> Iterator[Fields]:
        """Yield the objects of a list; nothing if it is absent."""
        for number, value in enumerate(self.array(name)):
            yield Fields(value, self.at(f"{name}[{number}]"))

    def mapping(self, name: str) -> dict[str, str]:
        """Return an object whose values are strings; an empty one if it is absent."""
        value = self.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
            raise self._wrong(name, "an object of strings")
        return value

    def at(self, place: str) -> str:
        """Return the name of something inside the object."""
        return f"{self.what}: {place}" if self.what else place

    def invalid(self, problem: str, hint: str | None = None) -> InvalidContent:
        """Return an error about the object."""
        return invalid(self.what, problem, hint)

    def missing(self, name: str) -> NoReturn:
        """Raise the error that a field is not there."""
        raise self.invalid(f"{name!r} is missing")

    def _wrong(self, name: str, kind: str) -> InvalidContent:
        return self.invalid(f"{name!r} is not {kind}")


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
        raise ValueError(f"the key {twice[:80]!r} occurs twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
