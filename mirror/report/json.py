"""Results as JSON (docs/reference/json.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from mirror.content import finding_text
from mirror.content.finding import NAMED, Finding
from mirror.errors import MirrorError
from mirror.quota import QuotaUsage
from mirror.report.findings import VerifyReport
from mirror.strictjson import JsonObject


def to_json(result: object) -> JsonObject:
    """Return a result as a JSON object: its fields in camelCase, after its `schema` if it has one.

    Fields with the metadata `json: False` are left out.

    Raises:
        TypeError: it is not a result.
    """
    if isinstance(result, VerifyReport):
        return _verification(result)
    if isinstance(result, Finding):
        return _finding(result)
    if isinstance(result, QuotaUsage):
        quota = result.quota
        amounts = {"limit": quota.limit, "remaining": quota.remaining, "window": quota.window}
        return {"registry": result.registry, "cost": result.cost, **amounts}
    if not is_dataclass(result) or isinstance(result, type):
        raise TypeError(f"not a result: {result!r}")
    schema = getattr(result, "schema", None)
    document: JsonObject = {"schema": schema} if schema else {}
    for field in fields(result):
        if field.metadata.get("json", True):
            first, *rest = field.name.split("_")
            name, value = first + "".join(map(str.capitalize, rest)), getattr(result, field.name)
            document[name] = _value(value)
            if name == "error":
                document["errorCode"] = value.code if isinstance(value, MirrorError) else None
    return document


def failure(command: str | None, code: str, message: str, hint: str | None, exit_code: int) -> JsonObject:
    """Return the JSON object of a command that failed altogether; `command` is None if it is not known."""
    number = {"inspect": 2, "rm": 3}.get(command or "", 1)  # as in the schemas of their results
    error = {"code": code, "message": message, "hint": hint, "exitCode": exit_code}
    return {"schema": f"mirror.{command or 'error'}/{number}", "error": error}


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
        "findings": [_finding(finding) | {"hint": report.hint(finding)} for finding in report.findings],
        "anchored": _value(report.anchored),
        "files": report.files,
        "size": report.size,
        "seconds": _value(report.seconds),
        "repair": _value(report.repair),
    }


def _finding(finding: Finding) -> JsonObject:
    return {
        "kind": str(finding.kind),
        "severity": str(finding.severity),
        "subject": finding.subject,
        "size": finding.size,
        "message": finding.message,
        "expected": finding_text.fact(finding.expected),
        "found": finding_text.fact(finding.found),
        "images": list(finding.images[:NAMED]),
        "moreImages": max(0, len(finding.images) - NAMED),
        "platforms": list(finding.platforms[:NAMED]),
        "morePlatforms": max(0, len(finding.platforms) - NAMED),
        "hint": finding.hint,
    }
