"""A verification as JUnit XML: one test case for each image, and one for findings that affect no image."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from xml.sax.saxutils import escape, quoteattr

from mirror.report.findings import Group, Verdict, VerifyReport, grouped
from mirror.text.redaction import redact

_MAX_FINDINGS = 1000  # of one case; --json lists all
# Characters that XML 1.0 forbids even if escaped (section 2.2), and those that control terminals.
_FORBIDDEN = re.compile("[^\t\n\u0020-\u007e\u00a0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def to_junit(report: VerifyReport) -> str:
    """Return an XML document. `not ok` is a failure, `could not check` an error, a mere warning is output."""
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
        *(line for case in cases for line in _case(report, *case)),
        "</testsuite>\n",
    ]
    return "\n".join(lines)


def _case(report: VerifyReport, name: str, verdict: Verdict, groups: Iterable[Group]) -> Iterator[str]:
    findings = list(islice(chain.from_iterable(group.findings for group in groups), _MAX_FINDINGS))
    sentences = [f"{one.severity}: {one.kind}: {one.subject}: {one.message}. {report.hint(one)}" for one in findings]
    text = escape(_clean("\n".join(sentences)))
    yield f'<testcase classname="mirror.verify" name={_attribute(name)}>'
    if verdict is Verdict.NOT_OK:
        yield f"<failure type={_attribute(findings[0].kind)} message={_attribute(sentences[0])}>{text}</failure>"
    elif verdict in (Verdict.COULD_NOT_CHECK, Verdict.INCOMPLETE):
        yield f"<error type={_attribute(verdict)} message={_attribute(verdict)}>{text}</error>"
    elif text:
        yield f"<system-out>{text}</system-out>"
    yield "</testcase>"


def _attribute(text: str) -> str:
    return quoteattr(_clean(text))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("", redact(text))
