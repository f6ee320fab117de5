"""The result of a verification as text."""

from __future__ import annotations

from collections.abc import Iterator

from mirror.content.finding import Finding, Kind, Severity
from mirror.report.findings import Group, Verdict, VerifiedImage, VerifyLevel, VerifyReport, grouped
from mirror.report.text import Text
from mirror.text import count, seconds, size

_KIND_WIDTH, _VERDICT_WIDTH = 12, 7
_LINE = 120  # characters; a longer message gets a line of its own
_MAX_FINE = 20  # lines for images that are fine: a healthy layout fits on one screen
_MAX_NAMES = 3  # images, or platforms, that a line names
_MAX_WARNINGS = 10  # of one kind in one group; errors are all shown
_FINE = (Verdict.OK, Verdict.STRUCTURE_OK, Verdict.SAMPLE_OK)


def verification(report: VerifyReport) -> Text:
    """The findings, the worst first and grouped by the affected images, then a line for each image."""
    lines = [*_finding_lines(report), *_image_lines(report), *(one.line() for one in report.anchored)]
    return Text(lines, _summary(report), report.repair.remarks() if report.repair else ())


# --- findings ----------------------------------------------------------------------------------------------------


def _finding_lines(report: VerifyReport) -> Iterator[str]:
    for severity in Severity:
        groups = grouped(finding for finding in report.findings if finding.severity is severity)
        for group in sorted(groups, key=lambda group: -len(group.findings)):
            more = f" and {len(group.images) - _MAX_NAMES} more" if len(group.images) > _MAX_NAMES else ""
            yield f"{severity}: {', '.join(group.images[:_MAX_NAMES]) or report.path}{more}"
            yield from _group_lines(report, group)


def _group_lines(report: VerifyReport, group: Group) -> Iterator[str]:
    """Yield the findings of one group by kind and by what to do about them, which comes last."""
    kinds: dict[tuple[Kind, str], list[Finding]] = {}
    for finding in group.findings:
        kinds.setdefault((finding.kind, report.hint(finding)), []).append(finding)
    for (kind, hint), found in kinds.items():
        shown = found[:_MAX_WARNINGS] if found[0].severity is Severity.WARNING else found
        yield from (line for finding in shown for line in _lines(finding))
        if len(found) > len(shown):
            yield f"  {kind:<{_KIND_WIDTH}} … and {len(found) - len(shown)} more; --json lists all"
        yield f"  {'':<{_KIND_WIDTH}} {hint}"


def _lines(finding: Finding) -> Iterator[str]:
    where = f" ({', '.join(finding.platforms[:_MAX_NAMES])})" if finding.platforms else ""
    head, message = f"  {finding.kind:<{_KIND_WIDTH}} {finding.subject}{where}", finding.message
    if len(head) + len(message) < _LINE:
        yield f"{head}: {message}"
    else:
        yield head
        yield f"  {'':<{_KIND_WIDTH}} {message}"


# --- images ------------------------------------------------------------------------------------------------------


def _image_lines(report: VerifyReport) -> Iterator[str]:
    fine = 0
    for image, verdict, groups in sorted(report.by_image(), key=lambda found: found[1] in _FINE):
        fine += verdict in _FINE
        if fine <= _MAX_FINE or verdict not in _FINE:
            yield _image_line(image, verdict, sum(group.missing for group in groups))
    if fine > _MAX_FINE:
        yield f"… and {fine - _MAX_FINE} more images like these"


def _image_line(image: VerifiedImage, verdict: Verdict, missing: int) -> str:
    details = [count(len(image.platforms), "platform")] if image.platforms else []
    details += [count(image.blobs, "blob"), size(image.size)]
    exactly = f" ({missing} bytes)" if missing >= 1000 else ""  # what was rounded cannot be added up
    details += [f"{size(missing)}{exactly} missing"] if missing else []
    pinned = image.name if image.name.endswith(f"@{image.digest}") else f"{image.name}@{image.digest}"
    return f"{verdict:<{_VERDICT_WIDTH}} {pinned} ({', '.join(details)})"


# --- summary -----------------------------------------------------------------------------------------------------


def _summary(report: VerifyReport) -> str:
    tally = [sum(finding.severity is severity for finding in report.findings) for severity in Severity]
    nouns = ("error", "unverified finding", "warning")
    found = [count(number, noun) for number, noun in zip(tally, nouns, strict=True) if number]
    referrers = sum(image.is_referrer for image in report.images)
    images = count(len(report.images) - referrers, "image")
    images += f", {count(referrers, 'referrer')}" if referrers else ""
    speed = f" ({size(int(report.size / report.seconds))}/s)" if report.seconds >= 1 else ""
    return (
        f"{report.path}: {report.verdict}{': ' if found else ''}{', '.join(found)}. {_scope(report)}: "
        f"{images}, {count(report.files, 'file')}, "
        f"{size(report.size)} hashed in {seconds(report.seconds)}{speed}."
        f"{' ' + report.repair.summary() if report.repair else ''}"
    )


def _scope(report: VerifyReport) -> str:
    """Return how closely it was checked, in words that cannot be taken for more."""
    what = {
        VerifyLevel.STRUCTURE: "Structure only, blobs not read",
        VerifyLevel.CONTENT: "Content",
        VerifyLevel.LAYERS: "Content and layers",
    }[report.level]
    part = f" of sample {report.sample}" if report.sample else ""
    return f"{what}{part}{'' if report.complete else ', interrupted'}"
