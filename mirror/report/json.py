"""Results as JSON (docs/reference/json.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from mirror.strictjson import JsonObject


def to_json(result: object) -> JsonObject:
    """Return a result as a JSON object: its fields in camelCase, after its `schema` if it has one.

    Fields of type bytes are left out. Values with a JSON form of their own, such as descriptors, have a method
    `to_json`.

    Raises:
        TypeError: it is not a result.
    """
    if hasattr(result, "to_json"):
        own_form: JsonObject = result.to_json()
        return own_form
    if not is_dataclass(result) or isinstance(result, type):
        raise TypeError(f"not a result: {result!r}")
    schema = getattr(result, "schema", None)
    document: JsonObject = {"schema": schema} if schema else {}
    for field in fields(result):
        value = getattr(result, field.name)
        if not isinstance(value, bytes):
            first, *rest = field.name.split("_")
            document[first + "".join(map(str.capitalize, rest))] = _json(value)
    return document


def _json(value: object) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # RFC 3339
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return to_json(value)
