"""A verification as text: the causes first, then the images, on one screen; `View.verbose` shows everything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mirror.content.finding import Finding, Severity
from mirror.report.findings import Verdict, VerifiedImage, VerifyLevel, VerifyReport, grouped
from mirror.report.text import ResultText
from mirror.report.view import Labelled, View
from mirror.text import brief, count, seconds, size

if TYPE_CHECKING:
    from mirror.report.verify_parts import Agreement

_MAX_FINDINGS = 5  # with what they affect, they take half of a small screen
_MAX_IMAGES = 20  # lines for images if all of them are fine: a healthy layout fits on one screen
_MAX_AMONG = 3  # lines for images of each verdict otherwise
_MAX_NAMES = 3  # images, or platforms, that a line names
_MAX_HINTS = 3
_LISTS_ALL = "-v lists all"
_FINE = (Verdict.OK, Verdict.STRUCTURE_OK, Verdict.SAMPLE_OK)
_NOUNS = {Severity.ERROR: "error", Severity.UNVERIFIED: "unverified finding", Severity.WARNING: "warning"}


def verify_report(report: VerifyReport, view: View) -> ResultText:
    """Return a verification, with what a repair moved and could not fix."""
    failures, moved = (report.repair.failures, report.repair.moved_aside) if report.repair else ((), ())
    warnings = [f"the damaged file was moved to {path}" for path in moved[:1]]
    if len(moved) > 1:
        warnings = [f"{len(moved)} damaged files were moved to {moved[0].rpartition('/')[0]}"]
    errors = [(failure, None) for failure in failures]
    return ResultText(_all_lines(report, view), _summary(report), warnings, errors)


def _all_lines(report: VerifyReport, view: View) -> list[str]:
    """Return the findings, the worst first, what to do about them, the images, and what agrees."""
    lines = [*_finding_lines(report, view), *_hint_lines(report, view)]
    return [*lines, *_image_lines(report, view), *_agreement_lines(report.anchored, view)]


def _summary(report: VerifyReport) -> str:
    """Return the verdict, the number of findings of each kind, and how much was checked."""
    referrers = sum(image.is_referrer for image in report.images)
    images = count(len(report.images) - referrers, "image")
    images += f", {count(referrers, 'referrer')}" if referrers else ""
    repair = report.repair
    repaired = f" {count(len(repair.healed), 'blob')} repaired from {repair.source}." if repair else ""
    speed = f" ({size(int(report.size / report.seconds))}/s)" if report.seconds >= 1 else ""
    severities = Counter(finding.severity for finding in report.findings)
    found = ", ".join(count(severities[severity], _NOUNS[severity]) for severity in Severity if severities[severity])
    return (
        f"{report.path}: {report.verdict}{': ' if found else ''}{found}. {_scope(report)}: "
        f"{images}, {count(report.files, 'file')}, "
        f"{size(report.size)} hashed in {seconds(report.seconds)}{speed}.{repaired}"
    )


def _scope(report: VerifyReport) -> str:
    """Return how thoroughly everything was checked, in words that do not promise more."""
    what = {
        VerifyLevel.STRUCTURE: "Structure only, blobs not read",
        VerifyLevel.CONTENT: "Content",
        VerifyLevel.LAYERS: "Content and layers",
    }[report.level]
    part = f" of sample {report.sample}" if report.sample else ""
    return f"{what}{part}{'' if report.complete else ', interrupted'}"


# --- findings ----------------------------------------------------------------------------------------------------


def _finding_lines(report: VerifyReport, view: View) -> Iterator[str]:
    """Yield the findings, by severity, those that affect the most images first; then the totals of a long list."""
    left = len(report.findings) if view.verbose else _MAX_FINDINGS
    for group in _causes(report):
        shown, left = group[:left], max(0, left - len(group))
        for finding in shown:
            yield from _lines(finding, view)
        if shown and shown[0].images:
            yield from map(view.fit, _affected(shown[0], view))
    if len(report.findings) > _MAX_FINDINGS:
        yield from _totals(report.findings, "" if view.verbose else f" ({_LISTS_ALL})")


def _causes(report: VerifyReport) -> list[list[Finding]]:
    """Return the findings that affect the same images and platforms, the worst and most harmful first."""
    causes: list[list[Finding]] = []
    for severity in Severity:
        groups = grouped(finding for finding in report.findings if finding.severity is severity)
        for group in sorted(groups, key=lambda group: -len(group.images)):
            same: dict[tuple[str, ...], list[Finding]] = {}
            for finding in group.findings:
                same.setdefault(finding.platforms, []).append(finding)
            causes += same.values()
    return causes


def _lines(finding: Finding, view: View) -> Iterator[str]:
    head, message = f"{finding.severity}: {finding.kind} {finding.subject}", finding.message
    whole = f"{head}: {message}"
    if view.fits(whole):
        yield Labelled(finding.severity, view.fit(whole))
    else:
        yield Labelled(finding.severity, view.fit(head))
        yield view.fit(f"  {message}")


def _affected(finding: Finding, view: View) -> Sequence[str]:
    """Return which images a finding affects, and which of their platforms: as many names as fit, but at least one."""
    number = len(finding.images)
    head = f"  affects {count(number, 'image')}: " if number > 1 else "  affects "
    most = len(finding.platforms) if view.verbose else _MAX_NAMES
    tail = f" ({brief(finding.platforms, most)})" if finding.platforms else ""
    if view.verbose and number > _MAX_NAMES:
        return [head.rstrip() + tail, *(f"    {name}" for name in finding.images)]
    texts = [head + brief(finding.images, most) + tail for most in range(min(_MAX_NAMES, number), 0, -1)]
    return [next((text for text in texts if not view.columns or view.fits(text)), texts[-1])]


def _totals(findings: Sequence[Finding], remark: str) -> Iterator[str]:
    """Yield the number of findings of each severity and kind: `3 errors: 2 missing, 1 corrupt`."""
    lines = []
    for severity in Severity:
        kinds = Counter(str(finding.kind) for finding in findings if finding.severity is severity)
        by_kind = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        lines += [f"{count(kinds.total(), _NOUNS[severity])}: {by_kind}"] if kinds else []
    yield from lines[:-1]
    yield lines[-1] + remark


def _hint_lines(report: VerifyReport, view: View) -> Iterator[str]:
    """Yield each hint once, the most frequent one first, the others with the kinds that they are about.

    Those about warnings wait until there are no errors: blobs below a broken manifest look like orphans.
    """
    worse = [finding for finding in report.findings if finding.severity is not Severity.WARNING]
    kinds: dict[str, Counter[str]] = {}
    for finding in worse or report.findings:
        kinds.setdefault(report.hint(finding), Counter())[finding.kind] += 1
    for number, (hint, about) in enumerate(sorted(kinds.items(), key=lambda pair: -pair[1].total())):
        if number < _MAX_HINTS or view.verbose:
            yield Labelled("hint", f"hint: {', '.join(about)}: {hint}" if number else f"hint: {hint}")


# --- images ------------------------------------------------------------------------------------------------------


def _image_lines(report: VerifyReport, view: View) -> Iterator[str]:
    """Yield the images, those with faults first; of a long list only some of each verdict."""
    images = sorted(report.by_image(), key=lambda found: found[1] in _FINE)
    are_fine = all(verdict in _FINE for _, verdict, _ in images)
    most, verdicts = _MAX_IMAGES if are_fine else _MAX_AMONG, Counter[Verdict]()
    for image, verdict, groups in images:
        verdicts[verdict] += 1
        if view.verbose or verdicts[verdict] <= most:
            line = _image_line(image, verdict, sum(group.missing for group in groups))
            # Their digests are compared with published ones, so they are complete unless that would hide the causes.
            yield Labelled(verdict, line if are_fine else view.fit(line))
    rest = [f"{count(number - most, 'more image')} {verdict}" for verdict, number in verdicts.items() if number > most]
    if rest and not view.verbose:
        yield f"… and {', '.join(rest)} ({_LISTS_ALL})"


def _image_line(image: VerifiedImage, verdict: Verdict, missing: int) -> str:
    details = [count(len(image.platforms), "platform")] if image.platforms else []
    details += [count(image.blobs, "blob"), size(image.size)]
    exactly = f" ({missing} bytes)" if missing >= 1000 else ""  # exact: rounded sizes do not add up
    details += [f"{size(missing)}{exactly} missing"] if missing else []
    pinned = image.name if image.name.endswith(image.digest) else f"{image.name}@{image.digest}"
    return f"{verdict:<7} {pinned} ({', '.join(details)})"


def _agreement_lines(agreements: Sequence[Agreement], view: View) -> Iterator[str]:
    ordered = sorted(agreements, key=lambda one: one.whole)
    partly = sum(not one.whole for one in agreements)
    shown = ordered if view.verbose else ordered[: partly + _MAX_IMAGES]
    for one in shown:
        label = "agrees" if one.whole else "partly"
        yield Labelled(label, view.fit(f"{label:<7} {one.image} with {one.by}: {one.agreed}"))
    if len(shown) < len(ordered):
        yield f"… and {len(ordered) - len(shown)} more agree ({_LISTS_ALL})"
