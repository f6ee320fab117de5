"""What a verification found, and how it reads."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from mirror.finding import Finding, Severity
from mirror.report.text import count, seconds, size
from mirror.strictjson import JsonObject

_KINDS, _VERDICTS = 12, 7  # widths of columns


class Verdict(StrEnum):
    """The whole result."""

    OK = "ok"
    NOT_OK = "not ok"
    COULD_NOT_CHECK = "could not check"


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """One image that was looked at: its name, the digest of its root, its platforms, its blobs and their bytes."""

    name: str
    digest: str
    platforms: tuple[str, ...]
    blobs: int
    size: int

    def to_json(self) -> JsonObject:
        return {
            "name": self.name,
            "digest": self.digest,
            "platforms": list(self.platforms),
            "blobs": self.blobs,
            "size": self.size,
        }


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of verifying a layout: `files` below `blobs/` were looked at, `size` bytes hashed, in `seconds`."""

    path: str
    images: tuple[VerifiedImage, ...]
    findings: tuple[Finding, ...]
    files: int
    size: int
    seconds: float

    @property
    def verdict(self) -> Verdict:
        severities = {finding.severity for finding in self.findings}
        if Severity.ERROR in severities:
            return Verdict.NOT_OK
        return Verdict.COULD_NOT_CHECK if Severity.UNVERIFIED in severities else Verdict.OK

    @property
    def exit_code(self) -> int:
        return {Verdict.OK: 0, Verdict.NOT_OK: 3, Verdict.COULD_NOT_CHECK: 1}[self.verdict]

    def to_json(self) -> JsonObject:
        return {
            "schema": "mirror.verify/1",
            "path": self.path,
            "verdict": str(self.verdict),
            "images": [image.to_json() for image in self.images],
            "findings": [finding.to_json() for finding in self.findings],
            "files": self.files,
            "size": self.size,
            "seconds": round(self.seconds, 3),
        }

    def lines(self) -> list[str]:
        """The findings, the worst first and grouped by the images that they hurt, then a line for each image."""
        found: list[str] = []
        for severity in Severity:
            groups: dict[tuple[str, ...], list[Finding]] = {}
            for finding in self.findings:
                if finding.severity is severity:
                    groups.setdefault(finding.images, []).append(finding)
            for images, findings in groups.items():
                found.append(f"{severity}: {', '.join(images) or self.path}")
                found.extend(line for finding in findings for line in _lines(finding))
        return found + [self._image_line(image) for image in self.images]

    def _image_line(self, image: VerifiedImage) -> str:
        hurt = [finding for finding in self.findings if image.name in finding.images]
        verdict = VerifyReport(self.path, (), tuple(hurt), 0, 0, 0).verdict
        missing = sum(finding.size or 0 for finding in hurt if finding.kind == "missing")
        details = [count(len(image.platforms), "platform")] if image.platforms else []
        details += [count(image.blobs, "blob"), size(image.size)]
        details += [f"{size(missing)} ({missing} bytes) missing"] if missing else []
        return f"{verdict:<{_VERDICTS}} {image.name}@{image.digest} ({', '.join(details)})"

    def summary(self) -> str:
        errors = sum(finding.severity is Severity.ERROR for finding in self.findings)
        others = len(self.findings) - errors
        found = [count(number, noun) for number, noun in ((errors, "error"), (others, "other finding")) if number]
        speed = f" ({size(int(self.size / self.seconds))}/s)" if self.seconds >= 1 else ""
        return (
            f"{self.path}: {self.verdict}{': ' if found else ''}{', '.join(found)}. "
            f"{count(len(self.images), 'image')}, {count(self.files, 'file')}, "
            f"{size(self.size)} hashed in {seconds(self.seconds)}{speed}."
        )


def _lines(finding: Finding) -> list[str]:
    """One line, or two where a digest is compared with a digest."""
    head = f"  {finding.kind:<{_KINDS}} {finding.subject}"
    if finding.expected == finding.subject:
        return [head, f"  {'':<{_KINDS}} expected that, found {finding.found}"]
    return [f"{head}: expected {finding.expected}, found {finding.found}"]
