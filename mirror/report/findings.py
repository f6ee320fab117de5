"""What a verification found, how closely it looked, and how that reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from mirror.content.finding import NAMED, Finding, Kind, Severity
from mirror.errors import UsageError
from mirror.report.anchors import Anchored
from mirror.report.repairs import RepairReport
from mirror.strictjson import JsonObject
from mirror.text import count, seconds, size

_KINDS, _VERDICTS = 12, 7  # widths of columns
_IMAGES = 20  # lines for images that nothing is wrong with: a healthy layout fits on one screen
_NAMES = 3  # images in the title of a group of findings
_WARNINGS = 10  # of one kind in one group; errors are all shown


class VerifyLevel(StrEnum):
    """How closely to look. Each level includes those before it."""

    STRUCTURE = "structure"  # what is there, and how large; only manifests are hashed
    CONTENT = "content"  # every byte is hashed
    LAYERS = "layers"  # layers are unpacked too, and compared with what the configs say


@dataclass(frozen=True, slots=True)
class Sample:
    """One part of several of the blobs: `part` of `of`, counted from 1. Over all parts, every blob has its turn."""

    part: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Sample:
        """Read `n/t`.

        Raises:
            UsageError: it is not of this form, or n is not from 1 to t.
        """
        part, _, of = text.partition("/")
        if not (part.isascii() and part.isdigit() and of.isascii() and of.isdigit() and len(text) < 20):
            raise UsageError(f"{text!r} is no sample.", hint="Samples look like 2/7: the second of seven parts.")
        found = cls(int(part), int(of))
        if not 1 <= found.part <= found.of:
            raise UsageError(f"{text!r} is no sample: its parts are 1/{of} to {of}/{of}.")
        return found

    def takes(self, bucket: int) -> bool:
        return bucket == self.part - 1

    def __str__(self) -> str:
        return f"{self.part}/{self.of}"


class Verdict(StrEnum):
    """The whole result. What was not looked at closely is never plainly `ok`."""

    OK = "ok"
    STRUCTURE_OK = "structure ok"
    SAMPLE_OK = "sample ok"
    NOT_OK = "not ok"
    COULD_NOT_CHECK = "could not check"
    INCOMPLETE = "incomplete"


@dataclass(frozen=True, slots=True)
class VerifiedImage:
    """One image that was looked at: its name, the digest of its root, its platforms, its blobs and their bytes.

    `is_referrer`: it is about another image, such as a signature.
    """

    name: str
    digest: str
    platforms: tuple[str, ...]
    blobs: int
    size: int
    is_referrer: bool = False


@dataclass(slots=True)
class Group:
    """Findings that hurt the same images. `missing` are bytes that are not there."""

    images: tuple[str, ...]
    findings: list[Finding] = field(default_factory=list)
    severities: set[Severity] = field(default_factory=set)
    missing: int = 0

    def add(self, finding: Finding) -> None:
        self.findings.append(finding)
        self.severities.add(finding.severity)
        self.missing += finding.size or 0 if finding.kind is Kind.MISSING else 0


def grouped(findings: Iterable[Finding]) -> list[Group]:
    """Findings by the images that they hurt, in the order in which they came.

    Thousands of findings may share one tuple of thousands of names, so tuples are compared once for each that there is.
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
    """The result of verifying a store: `files` below `blobs/` were looked at, `size` bytes hashed, in `seconds`.

    `anchored` is what agrees with something that came another way.
    `complete` is false where the verification was interrupted, or is not over yet. `fail_on` is the least severity
    that makes the verdict `not ok`: an error, or a warning too. `repair` is what was
    healed before, if that was asked for.
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
        """What some of the findings come to."""
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
        """Every image with its own verdict and the groups of findings that hurt it."""
        hurt: dict[str, list[Group]] = {}
        for group in grouped(self.findings):
            for name in group.images:
                hurt.setdefault(name, []).append(group)
        for image in self.images:
            groups = hurt.get(image.name, [])
            yield image, self.judge(groups), groups

    def to_json(self) -> JsonObject:
        return {
            "schema": "mirror.verify/1",
            "path": self.path,
            "verdict": str(self.verdict),
            "level": str(self.level),
            "sample": str(self.sample) if self.sample else None,
            "complete": self.complete,
            "images": [_image_json(image, verdict) for image, verdict, _ in self.by_image()],
            "findings": [finding.to_json() for finding in self.findings],
            "anchored": [one.to_json() for one in self.anchored],
            "files": self.files,
            "size": self.size,
            "seconds": round(self.seconds, 3),
            "repair": self.repair.to_json() if self.repair else None,
        }

    def lines(self) -> list[str]:
        """The findings, the worst first and grouped by the images that they hurt, then a line for each image."""
        return [*self._finding_lines(), *self._image_lines(), *(one.line() for one in self.anchored)]

    def _finding_lines(self) -> Iterator[str]:
        for severity in Severity:
            groups = grouped(finding for finding in self.findings if finding.severity is severity)
            for group in sorted(groups, key=lambda group: -len(group.findings)):
                yield f"{severity}: {_some(group.images) or self.path}"
                yield from _group_lines(group)

    def _image_lines(self) -> Iterator[str]:
        fine = 0
        for image, verdict, groups in sorted(self.by_image(), key=lambda found: found[1] in _FINE):
            fine += verdict in _FINE
            if fine <= _IMAGES or verdict not in _FINE:
                yield _image_line(image, verdict, sum(group.missing for group in groups))
        if fine > _IMAGES:
            yield f"… and {fine - _IMAGES} more images like these"

    def summary(self) -> str:
        """One line that says what was found, and what was looked at."""
        tally = [sum(finding.severity is severity for finding in self.findings) for severity in Severity]
        nouns = ("error", "unverified finding", "warning")
        found = [count(number, noun) for number, noun in zip(tally, nouns, strict=True) if number]
        referrers = sum(image.is_referrer for image in self.images)
        images = count(len(self.images) - referrers, "image")
        images += f", {count(referrers, 'referrer')}" if referrers else ""
        speed = f" ({size(int(self.size / self.seconds))}/s)" if self.seconds >= 1 else ""
        return (
            f"{self.path}: {self.verdict}{': ' if found else ''}{', '.join(found)}. {self._scope()}: "
            f"{images}, {count(self.files, 'file')}, "
            f"{size(self.size)} hashed in {seconds(self.seconds)}{speed}."
            f"{' ' + self.repair.summary() if self.repair else ''}"
        )

    def _scope(self) -> str:
        """How closely was looked, in words that cannot be taken for more."""
        what = {
            VerifyLevel.STRUCTURE: "Structure only, blobs not read",
            VerifyLevel.CONTENT: "Content",
            VerifyLevel.LAYERS: "Content and layers",
        }[self.level]
        part = f" of sample {self.sample}" if self.sample else ""
        return f"{what}{part}{'' if self.complete else ', interrupted'}"


_FINE = (Verdict.OK, Verdict.STRUCTURE_OK, Verdict.SAMPLE_OK)


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


def _image_line(image: VerifiedImage, verdict: Verdict, missing: int) -> str:
    details = [count(len(image.platforms), "platform")] if image.platforms else []
    details += [count(image.blobs, "blob"), size(image.size)]
    exactly = f" ({missing} bytes)" if missing >= 1000 else ""  # nobody gets back what was rounded
    details += [f"{size(missing)}{exactly} missing"] if missing else []
    pinned = image.name if image.name.endswith(f"@{image.digest}") else f"{image.name}@{image.digest}"
    return f"{verdict:<{_VERDICTS}} {pinned} ({', '.join(details)})"


def _group_lines(group: Group) -> Iterator[str]:
    """The findings of one group by kind and by what to do about them, which comes last."""
    kinds: dict[tuple[Kind, str], list[Finding]] = {}
    for finding in group.findings:
        kinds.setdefault((finding.kind, finding.hint), []).append(finding)
    for (kind, hint), found in kinds.items():
        shown = found[:_WARNINGS] if found[0].severity is Severity.WARNING else found
        yield from (line for finding in shown for line in _lines(finding))
        if len(found) > len(shown):
            yield f"  {kind:<{_KINDS}} … and {len(found) - len(shown)} more; --json has all"
        yield f"  {'':<{_KINDS}} {hint}"


def _lines(finding: Finding) -> list[str]:
    """One line, or two where a digest is compared with a digest."""
    head = f"  {finding.kind:<{_KINDS}} {finding.subject}"
    where = f" ({', '.join(finding.platforms[:_NAMES])})" if finding.platforms else ""
    if finding.expected == finding.subject:
        return [f"{head}{where}", f"  {'':<{_KINDS}} expected that, found {finding.found}"]
    return [f"{head}{where}: expected {finding.expected}, found {finding.found}"]


def _some(images: tuple[str, ...]) -> str:
    more = f" and {len(images) - _NAMES} more" if len(images) > _NAMES else ""
    return ", ".join(images[:_NAMES]) + more
