"""A verification as a JUnit report, which every CI system reads: one test case for each image, and one for the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from xml.sax.saxutils import escape, quoteattr

from mirror.content.finding import Finding
from mirror.report.findings import Group, Verdict, VerifyReport, grouped

_MOST = 1000  # findings of one case; --json has all
# What no XML 1.0 document may have in it, not even escaped (section 2.2), and what terminals obey.
_FORBIDDEN = re.compile("[^\t\n\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: VerifyReport) -> str:
    """One XML document. Not ok is a failure, what could not be checked an error; warnings alone are output."""
    others = [group for group in grouped(report.findings) if not group.images]
    cases = [(report.path, report.judge(others), others)]
    cases += [(f"{image.name}@{image.digest}", verdict, groups) for image, verdict, groups in report.by_image()]
    verdicts = [verdict for _, verdict, _ in cases]
    failures = verdicts.count(Verdict.NOT_OK)
    errors = verdicts.count(Verdict.COULD_NOT_CHECK) + verdicts.count(Verdict.INCOMPLETE)
    name = f"mirror verify, level {report.level}" + (f", sample {report.sample}" if report.sample else "")
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name={_attribute(name)} tests="{len(cases)}" failures="{failures}" errors="{errors}" '
        f'skipped="0" time="{report.seconds:.3f}">',
        *(line for case in cases for line in _case(*case)),
        "</testsuite>",
        "",
    ]
    return "\n".join(lines)


def _case(name: str, verdict: Verdict, groups: Iterable[Group]) -> Iterator[str]:
    findings = list(islice(chain.from_iterable(group.findings for group in groups), _MOST))
    text = escape(_clean("\n".join(map(_sentence, findings))))
    yield f'<testcase classname="mirror.verify" name={_attribute(name)}>'
    if verdict is Verdict.NOT_OK:
        first = findings[0]
        yield f"<failure type={_attribute(first.kind)} message={_attribute(_sentence(first))}>{text}</failure>"
    elif verdict in (Verdict.COULD_NOT_CHECK, Verdict.INCOMPLETE):
        yield f"<error type={_attribute(verdict)} message={_attribute(verdict)}>{text}</error>"
    elif text:
        yield f"<system-out>{text}</system-out>"
    yield "</testcase>"


def _sentence(finding: Finding) -> str:
    return (
        f"{finding.severity}: {finding.kind}: {finding.subject}: expected {finding.expected}, found {finding.found}. "
        f"{finding.hint}"
    )


def _attribute(text: str) -> str:
    return quoteattr(_clean(text))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("", text)
