"""Results as JSON (docs/reference/json.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from mirror.content.finding import NAMED
from mirror.errors import MirrorError
from mirror.report.findings import VerifyReport
from mirror.strictjson import JsonObject


def to_json(result: object) -> JsonObject:
    """Return a result as a JSON object: its fields in camelCase, after its `schema` if it has one.

    Fields with the metadata `json: False` are left out. Values with a JSON form of their own, such as findings, have a
    method `to_json`.

    Raises:
        TypeError: it is not a result.
    """
    if isinstance(result, VerifyReport):
        return _verification(result)
    if hasattr(result, "to_json"):
        own_form: JsonObject = result.to_json()
        return own_form
    if not is_dataclass(result) or isinstance(result, type):
        raise TypeError(f"not a result: {result!r}")
    schema = getattr(result, "schema", None)
    document: JsonObject = {"schema": schema} if schema else {}
    for field in fields(result):
        if field.metadata.get("json", True):
            first, *rest = field.name.split("_")
            document[first + "".join(map(str.capitalize, rest))] = _value(getattr(result, field.name))
    return document


def _value(value: object) -> Any:
    if value is None or isinstance(value, str | int | float):
        return round(value, 3) if isinstance(value, float) else value  # only durations are floats
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")  # RFC 3339
    if isinstance(value, MirrorError):
        return str(value)
    if isinstance(value, Mapping):
        return {key: _value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_value(item) for item in value]
    return to_json(value)


def _verification(report: VerifyReport) -> JsonObject:
    images = [
        {
            "name": image.name,
            "digest": image.digest,
            "verdict": str(verdict),
            "platforms": list(image.platforms[:NAMED]),
            "morePlatforms": max(0, len(image.platforms) - NAMED),
            "blobs": image.blobs,
            "size": image.size,
        }
        for image, verdict, _ in report.by_image()
    ]
    return {
        "schema": report.schema,
        "path": report.path,
        "verdict": str(report.verdict),
        "level": str(report.level),
        "sample": str(report.sample) if report.sample else None,
        "complete": report.complete,
        "images": images,
        "findings": [finding.to_json() | {"hint": report.hint(finding)} for finding in report.findings],
        "anchored": _value(report.anchored),
        "files": report.files,
        "size": report.size,
        "seconds": _value(report.seconds),
        "repair": _value(report.repair),
    }
