"""The result of a verification: what was found, how thoroughly everything was checked, and what a repair fixed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

from mirror.content.finding import Finding, Kind, Severity

if TYPE_CHECKING:
    from mirror.report.verify_parts import Agreement, RepairReport, Sample


class VerifyLevel(StrEnum):
    """Levels of thoroughness; each includes those before it."""

    STRUCTURE = "structure"  # which files are there, and their sizes; only manifests are hashed
    CONTENT = "content"  # every byte is hashed
    LAYERS = "layers"  # layers are also unpacked and compared with the configs


class Verdict(StrEnum):
    """The overall result. It is plainly `ok` only if everything was checked."""

    OK = "ok"
    STRUCTURE_OK = "structure ok"
    SAMPLE_OK = "sample ok"
    NOT_OK = "not ok"
    COULD_NOT_CHECK = "could not check"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """One image that was verified: the digest of its root, the number of its blobs, and their bytes."""

    name: str
    digest: str
    platforms: tuple[str, ...]
    blobs: int
    size: int
    is_referrer: bool = False  # it refers to another image, as a signature does


class Group:
    """Findings that affect the same images. `missing` is the number of missing bytes."""

    def __init__(self, images: tuple[str, ...]) -> None:
        self.images = images
        self.findings: list[Finding] = []
        self.severities: set[Severity] = set()
        self.missing = 0

    def add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.severities.add(finding.severity)
        self.missing += finding.size or 0 if finding.kind is Kind.MISSING else 0


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Group findings by the affected images, in their order.

    Thousands of findings may share one tuple of thousands of names, so each tuple is hashed only once.
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
        findings: everything that is not as it should be.
        files: the number of files that were checked.
        size: the number of bytes that were hashed.
        level, sample: how thoroughly the store was checked.
        complete: False if the verification was interrupted, or is still running.
        fail_on: the lowest severity that makes the verdict `not ok`.
        anchored: the images that agree with a digest or record that was received separately.
        repair: what was repaired before the verification, if a repair was requested.
    """

    schema: ClassVar[str] = "mirror.verify/1"

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
    anchored: tuple[Agreement, ...] = ()
    repair: RepairReport | None = None

    @property
    def verdict(self) -> Verdict:
        return self.judge(grouped(self.findings))

    @property
    def exit_code(self) -> int:
        return {Verdict.NOT_OK: 3, Verdict.COULD_NOT_CHECK: 1, Verdict.INCOMPLETE: 1}.get(self.verdict, 0)

    def judge(self, groups: Iterable[Group]) -> Verdict:
        """Return the verdict on some of the findings, such as those of one image."""
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
        """Yield every image with its verdict and the findings that affect it."""
        affected: dict[str, list[Group]] = {}
        for group in grouped(self.findings):
            for name in group.images:
                affected.setdefault(name, []).append(group)
        for image in self.images:
            groups = affected.get(image.name, [])
            yield image, self.judge(groups), groups

    def hint(self, finding: Finding) -> str:
        """Return what to do about a finding, with the path of this layout."""
        import shlex  # most layouts have no findings

        return finding.hint.replace("LAYOUT", shlex.quote(self.path))
