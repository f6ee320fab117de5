"""A strict JSON reader for untrusted input.

Python's parser keeps the last of two equal keys and accepts NaN; Go's ignores the case of keys. If two parsers can read
one document differently, one tool verifies an image and another runs a different one (CVE-2021-41190). So anything that
is ambiguous is rejected here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from mirror.errors import InvalidContent
from mirror.text.redaction import excerpt

JsonObject = dict[str, Any]

MOST_VALUES = 2_000_000  # in one document: `[],[],…` takes twenty times its size in memory
MOST_DEPTH = 200  # of objects and arrays; the interpreter's own limit differs between versions of Python
_ESCAPE, _STRING = re.compile(rb"\\.", re.DOTALL), re.compile(rb'"[^"]*"')
_NOT_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_PARENTHESES = bytes.maketrans(b"{[]}", b"(())")


def loads(data: bytes, what: str) -> Any:
    """Parse one JSON document; `what` names it in errors, and may be empty.

    Raises:
        InvalidContent: not UTF-8, not JSON, a duplicate key, NaN, a number out of range, nested too deep, or too large.
    """
    if sum(map(data.count, (b",", b"[", b"{"))) > MOST_VALUES:
        raise invalid(what, f"more than {MOST_VALUES} values")
    if _nests_deeper(data, MOST_DEPTH):
        raise invalid(what, "nested too deep")
    try:
        return _DECODER.decode(data.decode("utf-8"))
    except RecursionError:
        raise invalid(what, "nested too deep") from None
    except UnicodeDecodeError as error:
        raise invalid(what, f"not UTF-8: byte {error.start} is invalid") from None
    except ValueError as error:  # JSONDecodeError, our own, and integers of more than 4300 digits
        raise invalid(what, f"not valid JSON: {error}") from None


def load_object(data: bytes, what: str) -> JsonObject:
    """Parse one JSON document that must be an object; `Fields.load` also reads its fields.

    Raises:
        InvalidContent: as `loads`, or the document is not an object.
    """
    return Fields.load(data, what).document


def invalid(what: str, problem: str, hint: str | None = None) -> InvalidContent:
    """Return an error with its location, such as `sha256:…: layers[3]: 'size' is missing.`"""
    return InvalidContent(f"{what}: {problem}." if what else f"{problem}.", hint=hint)


class Fields:
    """A JSON object with typed access to its fields. As in Go, a field that is null is absent.

    A key that differs from a field's name only in case is an error: Go would take it for the field, Python would not.
    """

    __slots__ = ("_others", "document", "what")

    def __init__(self, value: object, what: str, keys: frozenset[str] = frozenset()) -> None:
        """Wrap an object.

        Args:
            value: the parsed JSON value.
            what: its name in errors; may be empty.
            keys: known names of fields, which no other field's name equals but for case. They are not compared.

        Raises:
            InvalidContent: the value is not an object.
        """
        if not isinstance(value, dict):
            kinds = {list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
            raise invalid(what, f"not a JSON object but {kinds.get(type(value), 'null')}")
        self.document: JsonObject = value
        self.what = what
        self._others = () if value.keys() <= keys else tuple(key for key in value if key not in keys)

    @classmethod
    def load(cls, data: bytes, what: str, keys: frozenset[str] = frozenset()) -> Fields:
        """Parse one JSON document that must be an object.

        Raises:
            InvalidContent: as `loads`, or the document is not an object.
        """
        return cls(loads(data, what), what, keys)

    def get(self, name: str) -> Any:
        """Return the value of a field, of any type; None if it is absent."""
        for key in self._others:  # Go folds single characters, so only keys of the same length can match
            if len(key) == len(name) and key != name and key.casefold() == name.casefold():
                raise self.invalid(f"some readers take the key {excerpt(key, 80)!r} for {name!r}")
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
        """Return a string that must not be absent or empty."""
        return self.string(name) or self.missing(name)

    def integer(self, name: str) -> int:
        """Return an integer that must not be absent, from 0 to 2^63 - 1 (an int64 in Go)."""
        value = self.get(name)
        if type(value) is not int or not 0 <= value < 2**63:  # True is an int in Python
            raise self._wrong(name, "a number from 0 to 2^63 - 1")
        return value

    def array(self, name: str) -> list[Any]:
        """Return a list with elements of any type; an empty one if it is absent."""
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
        """Yield the objects in a list; none if it is absent."""
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
        """Return the location of a part of the object, for errors."""
        return f"{self.what}: {place}" if self.what else place

    def invalid(self, problem: str, hint: str | None = None) -> InvalidContent:
        """Return an error about the object."""
        return invalid(self.what, problem, hint)

    def missing(self, name: str) -> NoReturn:
        """Raise the error for a field that is absent."""
        raise self.invalid(f"{name!r} is missing")

    def _wrong(self, name: str, kind: str) -> InvalidContent:
        return self.invalid(f"{name!r} is not {kind}")


def _nests_deeper(data: bytes, levels: int) -> bool:
    """Return whether brackets nest deeper than `levels`. Removes the innermost pairs, level by level: no recursion."""
    if data.count(b"[") + data.count(b"{") <= levels:
        return False
    plain = _ESCAPE.sub(b"", data) if b"\\" in data else data
    brackets = _STRING.sub(b"", plain.translate(None, _NOT_STRUCTURE)).translate(_PARENTHESES)
    for _ in range(levels):
        inner = brackets.replace(b"()", b"")
        if inner == brackets:
            return brackets.startswith(b"(" * (levels + 1))  # unbalanced
        brackets = inner
    return bool(brackets)


def _unique(pairs: list[tuple[str, Any]]) -> JsonObject:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {excerpt(twice, 80)!r} occurs twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:40]} is too large for a number")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)
