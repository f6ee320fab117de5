"""The result of a verification: what was found, and how closely it was looked for."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from mirror.content.finding import NAMED, Finding, Kind, Severity
from mirror.errors import UsageError
from mirror.report.anchors import Anchored
from mirror.report.repairs import RepairReport
from mirror.strictjson import JsonObject


class VerifyLevel(StrEnum):
    """How closely to check. Each level includes those before it."""

    STRUCTURE = "structure"  # what is there, and how large; only manifests are hashed
    CONTENT = "content"  # every byte is hashed
    LAYERS = "layers"  # layers are unpacked, too, and compared with the configs


@dataclass(frozen=True, slots=True)
class Sample:
    """One part of the blobs: `part` of `of`, counted from 1. All parts together cover every blob."""

    part: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Sample:
        """Parse `n/t`.

        Raises:
            UsageError: not of this form, or n is not from 1 to t.
        """
        part, _, of = text.partition("/")
        if not (part.isascii() and part.isdigit() and of.isascii() and of.isdigit() and len(text) < 20):
            raise UsageError(
                f"{text!r} is not a valid sample.", hint="Samples look like 2/7: the second of seven parts."
            )
        found = cls(int(part), int(of))
        if not 1 <= found.part <= found.of:
            raise UsageError(f"{text!r} is not a valid sample: its parts are 1/{of} to {of}/{of}.")
        return found

    def takes(self, bucket: int) -> bool:
        """Return whether a blob of this bucket belongs to the part."""
        return bucket == self.part - 1

    def __str__(self) -> str:
        return f"{self.part}/{self.of}"


class Verdict(StrEnum):
    """The overall result. What was not checked completely is never plainly `ok`."""

    OK = "ok"
    STRUCTURE_OK = "structure ok"
    SAMPLE_OK = "sample ok"
    NOT_OK = "not ok"
    COULD_NOT_CHECK = "could not check"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """One image that was verified.

    Attributes:
        name, digest: its name, and the digest of its root.
        platforms: its platforms.
        blobs, size: how many blobs it has, and their bytes.
        is_referrer: whether it refers to another image, as a signature does.
    """

    name: str
    digest: str
    platforms: tuple[str, ...]
    blobs: int
    size: int
    is_referrer: bool = False


@dataclass(slots=True)
class Group:
    """Findings that affect the same images. `missing` is the number of bytes that are not there."""

    images: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)
    severities: set[Severity] = field(default_factory=set)
    missing: int = 0

    def add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.severities.add(finding.severity)
        self.missing += finding.size or 0 if finding.kind is Kind.MISSING else 0


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Group findings by the affected images, in the order in which they came.

    Thousands of findings may share one tuple of thousands of names, so equal tuples are compared only once.
    """
    known: dict[int, Group] = {}
    groups: dict[tuple[str, ...], Group] = {}
    for finding in findings:
        key = id(finding.images)
        if key not in known:
            known[key] = groups.setdefault(finding.images, Group(finding.images))
        known[key].add(finding)
    return list(groups.values())


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of verifying a store.

    Attributes:
        path: the layout or archive, the receipt, or docker://IMAGE.
        images: the images that were verified.
        findings: what is not as it should be.
        files: how many files below `blobs/` were checked.
        size: how many bytes were hashed.
        seconds: how long it took.
        level, sample: how closely it was checked.
        complete: False if the verification was interrupted, or has not ended yet.
        fail_on: the least severity that makes the verdict `not ok`.
        anchored: what agrees with something that is known out of band.
        repair: what was repaired before, if requested.
    """

    path: str
    images: tuple[VerifiedImage, ...]
    findings: tuple[Finding, ...]
    files: int
    size: int
    seconds: float
    level: VerifyLevel = VerifyLevel.CONTENT
    sample: Sample | None = None
    complete: bool = True
    fail_on: Severity = Severity.ERROR
    anchored: tuple[Anchored, ...] = ()
    repair: RepairReport | None = None

    @property
    def verdict(self) -> Verdict:
        return self.judge(grouped(self.findings))

    @property
    def exit_code(self) -> int:
        return {Verdict.NOT_OK: 3, Verdict.COULD_NOT_CHECK: 1, Verdict.INCOMPLETE: 1}.get(self.verdict, 0)

    def judge(self, groups: Iterable[Group]) -> Verdict:
        """Return the verdict on some of the findings."""
        severities = {severity for group in groups for severity in group.severities}
        if severities & {Severity.ERROR, self.fail_on}:
            return Verdict.NOT_OK
        if Severity.UNVERIFIED in severities:
            return Verdict.COULD_NOT_CHECK
        if not self.complete:
            return Verdict.INCOMPLETE
        if self.level is VerifyLevel.STRUCTURE:
            return Verdict.STRUCTURE_OK
        return Verdict.SAMPLE_OK if self.sample else Verdict.OK

    def by_image(self) -> Iterator[tuple[VerifiedImage, Verdict, list[Group]]]:
        """Yield every image with its own verdict and the groups of findings that affect it."""
        affected: dict[str, list[Group]] = {}
        for group in grouped(self.findings):
            for name in group.images:
                affected.setdefault(name, []).append(group)
        for image in self.images:
            groups = affected.get(image.name, [])
            yield image, self.judge(groups), groups

    def hint(self, finding: Finding) -> str:
        """Return what to do about a finding, with the path of this layout."""
        return finding.hint.replace("LAYOUT", shlex.quote(self.path))

    def to_json(self) -> JsonObject:
        return {
            "schema": "mirror.verify/1",
            "path": self.path,
            "verdict": str(self.verdict),
            "level": str(self.level),
            "sample": str(self.sample) if self.sample else None,
            "complete": self.complete,
            "images": [_image_json(image, verdict) for image, verdict, _ in self.by_image()],
            "findings": [finding.to_json() | {"hint": self.hint(finding)} for finding in self.findings],
            "anchored": [one.to_json() for one in self.anchored],
            "files": self.files,
            "size": self.size,
            "seconds": round(self.seconds, 3),
            "repair": self.repair.to_json() if self.repair else None,
        }


def _image_json(image: VerifiedImage, verdict: Verdict) -> JsonObject:
    return {
        "name": image.name,
        "digest": image.digest,
        "verdict": str(verdict),
        "platforms": list(image.platforms[:NAMED]),
        "morePlatforms": max(0, len(image.platforms) - NAMED),
        "blobs": image.blobs,
        "size": image.size,
    }
