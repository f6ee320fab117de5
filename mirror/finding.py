"""A finding is a value: what, where, what was expected and found, and whom it hurts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mirror.strictjson import JsonObject


class Severity(StrEnum):
    """How bad a finding is. `unverified` means: nobody can say, and that is not the same as well."""

    ERROR = "error"
    UNVERIFIED = "unverified"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    `kind` is a stable word (docs/findings.md); `subject` a digest or a path inside the store; `size` the bytes that
    the subject should have, where that is known; `images` the names of the images that need it.
    """

    kind: str
    severity: Severity
    subject: str
    expected: str
    found: str
    images: tuple[str, ...] = ()
    size: int | None = None

    def to_json(self) -> JsonObject:
        return {
            "kind": self.kind,
            "severity": str(self.severity),
            "subject": self.subject,
            "size": self.size,
            "expected": self.expected,
            "found": self.found,
            "images": list(self.images),
        }
