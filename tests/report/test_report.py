"""Tests of results as text and as JSON."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.content.finding import Finding, Kind, Severity
from mirror.errors import ContentError, MirrorError, PartialFailure, StorageError
from mirror.oci.descriptor import Platform
from mirror.oci.digest import Digest
from mirror.quota import Quota, QuotaUsage
from mirror.records.document import HistoryEntry, Record, RecordedConfig, RecordedImage, RecordedLayer, RecordedManifest
from mirror.records.json import to_json as records_json
from mirror.registry.login import LoginResult, LogoutResult, StoredLogin
from mirror.report.findings import Verdict, VerifiedImage, VerifyReport
from mirror.report.image_text import image_row
from mirror.report.images import (
    ImageList,
    ImageSummary,
    InspectedBlob,
    InspectedImage,
    InspectedManifest,
    InspectedReferrer,
    Inspection,
    TagList,
)
from mirror.report.json import to_json
from mirror.report.layouts import PrunedBlob, PrunedFile, PruneReport, RemovedImage, RemoveReport, ServerInfo
from mirror.report.text import to_text
from mirror.report.transfers import Amount, DiskSpace, ReferrerSummary, TransferredImage, TransferReport
from mirror.report.verify_parts import Agreement, RepairReport
from mirror.report.view import View, clip
from mirror.text import columns, count, printable, seconds, size, table
from tests.support.strategies import QUICK, nasty_text

DOCS = Path(__file__).parents[2] / "docs"
DIGEST, OTHER = Digest.of(b"one"), Digest.of(b"other")
NAME = "docker.io/library/redis:4.0"


# Text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_950, "1.0 MB"),
        (74_540_576, "74.5 MB"),
        (1_200_000_000, "1.2 GB"),
        (10**12, "1.0 TB"),
        (2**62, "4611.7 PB"),
    ],
)
def test_sizes_have_decimal_units(number: int, text: str) -> None:
    assert size(number) == text


@given(st.integers(0, 10**17))
@QUICK
def test_a_size_is_less_than_1000_of_its_unit(number: int) -> None:
    value, unit = size(number).split()
    assert float(value) < 1000 or unit == "PB"


@pytest.mark.parametrize(("number", "text"), [(0, "0 blobs"), (1, "1 blob"), (2, "2 blobs")])
def test_nouns_agree_with_their_numbers(number: int, text: str) -> None:
    assert count(number, "blob") == text


@pytest.mark.parametrize(("duration", "text"), [(0.0, "0.00 s"), (0.034, "0.03 s"), (1.0, "1.0 s"), (61.26, "61.3 s")])
def test_durations_below_a_second_have_two_decimals(duration: float, text: str) -> None:
    assert seconds(duration) == text


@given(nasty_text)
@QUICK
def test_any_text_is_made_printable(text: str) -> None:
    assert printable(text).isprintable()
    assert not text.isprintable() or printable(text) == text


@pytest.mark.parametrize("text", ["\x1b[2J", "\r", "\x07", "\u202e", "\ud800", "\x9b", "\u2028"])
def test_characters_that_control_a_terminal_are_escaped(text: str) -> None:
    assert printable(f"a{text}b").startswith("a\\")


def test_a_table_is_aligned() -> None:
    lines = table(["NAME", "SIZE"], [["a", "1 B"], ["longer", "10.0 MB"]], right=[1])
    assert lines == ["NAME       SIZE", "a           1 B", "longer  10.0 MB"]


def test_a_table_without_rows_has_only_a_header() -> None:
    assert table(["NAME", "SIZE"], []) == ["NAME  SIZE"]


@given(st.lists(st.lists(nasty_text, min_size=2, max_size=2), max_size=4))
@QUICK
def test_any_cell_stays_on_its_line(rows: list[list[str]]) -> None:
    lines = table(["A", "B"], rows)
    assert len(lines) == len(rows) + 1
    assert all(line.isprintable() for line in lines)


# Transfers


def transferred(name: str = NAME, **fields: Any) -> TransferredImage:
    given = {"source": name, "image": f"{name}@{DIGEST}", "digest": DIGEST, "platforms": ("linux/amd64",), **fields}
    return TransferredImage(**given)


def report(*images: TransferredImage, verb: str = "pull", **fields: Any) -> TransferReport:
    amounts = {"moved": Amount(2, 3000), "reused": Amount(), "seconds": 1.23456, **fields}
    return TransferReport(verb=verb, images=images or (transferred(),), **amounts)


FAILURE, CORRUPT = StorageError("The disk is full."), ContentError("It is not what it should be.")


def test_an_amount_counts_blobs_and_bytes() -> None:
    assert "2 blobs (1.5 kB) moved, 0 reused" in to_text(report(moved=Amount(2, 1500))).summary


def test_result_lines_do_not_have_failed_images() -> None:
    found = report(transferred("a"), transferred("b", error=FAILURE), transferred("c"))
    assert to_text(found).lines == [f"a@{DIGEST}", f"c@{DIGEST}"]


def test_the_summary_counts_images_platforms_and_blobs() -> None:
    found = report(transferred("a", platforms=("x/y", "x/z")), transferred("b"), reused=Amount(1, 10), healed=(DIGEST,))
    for part in (
        "pulled 2 images",
        "3 platforms",
        "2 blobs (3.0 kB) moved",
        "1 healed",
        "1 blob (10 B) reused",
        "1.2 s",
    ):
        assert part in to_text(found).summary


def test_a_transfer_of_nothing_has_no_summary() -> None:
    nothing: dict[str, Any] = {"moved": Amount(), "verb": "push"}
    assert to_text(report(transferred(error=FAILURE), **nothing)).summary == ""
    kept = to_text(report(transferred(error=FAILURE), moved=Amount(2, 3000))).summary
    assert "2 blobs (3.0 kB) moved" in kept  # the next run need not fetch them again


def test_the_summary_does_not_count_failed_images() -> None:
    assert "pushed 1 image" in to_text(report(transferred("a"), transferred("b", error=FAILURE), verb="push")).summary


@pytest.mark.parametrize("verb", ["pull", "push"])
def test_the_summary_of_a_dry_run_says_what_would_happen(verb: str) -> None:
    summary = to_text(report(verb=verb, dry_run=True)).summary
    assert summary.startswith(f"would have {verb}ed 1 image")
    assert "to move" in summary


@pytest.mark.parametrize(("replaced", "said"), [(None, False), (DIGEST, False), (OTHER, True)])
def test_a_name_with_another_digest_than_before_is_a_warning(replaced: str | None, said: bool) -> None:
    warnings = to_text(report(transferred(replaced=replaced))).warnings
    assert warnings == ([f"{NAME} now stands for {DIGEST} (was {OTHER})."] if said else [])


def test_files_in_quarantine_are_a_warning() -> None:
    found = report(warnings=("Careful.",), moved_aside=("layout/.mirror/quarantine/x",))
    warnings = to_text(found).warnings
    assert warnings[0] == "Careful."
    assert "layout/.mirror/quarantine/x" in warnings[1]


def test_exit_code_depends_on_whether_all_images_failed() -> None:
    report(transferred("a")).raise_failures()
    with pytest.raises(PartialFailure, match="Nothing was pulled; 2 images failed") as caught:
        report(transferred("a", error=CORRUPT), transferred("b", error=FAILURE)).raise_failures()
    assert (caught.value.failures, caught.value.exit_code) == ((CORRUPT, FAILURE), 3)
    with pytest.raises(PartialFailure, match="1 of 2 images failed") as caught:
        report(transferred("a"), transferred("b", error=FAILURE)).raise_failures()
    assert (caught.value.failures, caught.value.exit_code) == ((FAILURE,), 4)


# Verification


def finding(severity: Severity = Severity.ERROR, kind: str = "missing", **fields: Any) -> Finding:
    given = {"subject": DIGEST, "expected": 402, "images": (NAME,), "size": 402, **fields}
    return Finding(Kind(kind), severity, **given)


def verified(*findings: Finding, images: tuple[VerifiedImage, ...] | None = None) -> VerifyReport:
    image = VerifiedImage(NAME, OTHER, ("linux/amd64", "linux/arm/v7"), 14, 74_540_576)
    return VerifyReport("layout", (image,) if images is None else images, findings, 16, 3000, 0.5)


@pytest.mark.parametrize(
    ("severities", "verdict", "code"),
    [
        ([], Verdict.OK, 0),
        ([Severity.WARNING], Verdict.OK, 0),
        ([Severity.UNVERIFIED], Verdict.COULD_NOT_CHECK, 1),
        ([Severity.ERROR], Verdict.NOT_OK, 3),
        ([Severity.WARNING, Severity.UNVERIFIED], Verdict.COULD_NOT_CHECK, 1),
        ([Severity.UNVERIFIED, Severity.ERROR, Severity.WARNING], Verdict.NOT_OK, 3),
    ],
)
def test_the_worst_finding_determines_verdict_and_exit_code(
    severities: list[Severity], verdict: Verdict, code: int
) -> None:
    found = verified(*map(finding, severities))
    assert (found.verdict, found.exit_code) == (verdict, code)
    assert str(verdict) in to_text(found).summary


def test_findings_are_listed_by_severity_and_by_the_number_of_affected_images() -> None:
    found = verified(
        finding(Severity.WARNING, "orphan", images=()),
        finding(Severity.UNVERIFIED, "unreadable"),
        finding(Severity.ERROR, "missing"),
        finding(Severity.ERROR, "too-short", images=("a", "b")),
    )
    lines = [line for line in to_text(found).lines if line.startswith(("error", "unverified", "warning", "  affects"))]
    assert [line.partition(f" {DIGEST}")[0] for line in lines] == [
        "error: too-short",
        "  affects 2 images: a, b",
        "error: missing",
        f"  affects {NAME}",
        "unverified: unreadable",
        f"  affects {NAME}",
        "warning: orphan",
    ]


def test_a_finding_has_its_kind_digest_and_reason() -> None:
    line = next(line for line in to_text(verified(finding())).lines if "missing" in line)
    assert line == f"error: missing {DIGEST}: the file is not there (402 bytes)"


def test_a_finding_has_the_platforms_that_it_affects() -> None:
    found = verified(finding(platforms=("linux/amd64",)), finding(platforms=("linux/arm64",)))
    affected = [line for line in to_text(found).lines if "affects" in line]
    assert affected == [f"  affects {NAME} (linux/amd64)", f"  affects {NAME} (linux/arm64)"]


def test_each_hint_is_shown_once_and_the_most_frequent_first() -> None:
    found = verified(
        finding(kind="not-expected"), finding(), finding(kind="corrupt"), finding(Severity.WARNING, "orphan")
    )
    hints = [line for line in to_text(found).lines if line.startswith("hint")]
    assert hints == [
        "hint: Repair it from a good copy: mirror verify layout --repair --from SOURCE",
        "hint: not-expected: Do not use the image before you know which of the two is right.",
    ]


def test_hints_about_warnings_are_shown_if_there_is_nothing_worse() -> None:
    assert (
        "hint: Harmless; mirror prune layout --delete removes it."
        in to_text(verified(finding(Severity.WARNING, "orphan"))).lines
    )


def test_a_long_list_of_findings_ends_with_totals_by_kind() -> None:
    found = verified(*3 * [finding()], *4 * [finding(kind="corrupt")], *2 * [finding(Severity.WARNING, "stray")])
    lines = to_text(found).lines
    assert sum(line.startswith("error:") for line in lines) == 5
    assert "7 errors: 4 corrupt, 3 missing" in lines
    assert "2 warnings: 2 stray (-v lists all)" in lines
    complete = to_text(found, View(verbose=True)).lines
    assert sum(line.startswith(("error:", "warning:")) for line in complete) == 9
    assert "2 warnings: 2 stray" in complete


def test_a_short_list_of_findings_has_no_totals() -> None:
    assert not any("-v" in line for line in to_text(verified(finding(), finding())).lines)


@given(st.integers(20, 120), st.lists(nasty_text.filter(bool), min_size=1, max_size=3), nasty_text.filter(bool))
@QUICK
def test_lines_about_faults_fit_the_terminal(width: int, names: list[str], subject: str) -> None:
    found = verified(
        finding(kind="corrupt", subject=subject, found=OTHER, images=tuple(names)), finding(images=(NAME,))
    )
    lines = to_text(found, View(width)).lines
    assert [line for line in lines if columns(line) > width and not line.startswith("hint")] == []


def test_digests_are_shortened_on_a_terminal_only_if_the_line_would_not_fit() -> None:
    found = verified(finding(kind="corrupt", found=OTHER))
    assert f"error: corrupt {DIGEST[:19]}…: content hashes to {OTHER[:19]}…" in to_text(found, View(80)).lines
    assert any(f"{DIGEST}: content hashes to {OTHER}" in line for line in to_text(found, View(200)).lines)
    assert any(OTHER in line for line in to_text(found, View(80, verbose=True)).lines)


def test_digests_of_intact_images_are_complete_on_every_terminal() -> None:
    """They are compared with published ones."""
    assert f"{NAME}@{OTHER}" in to_text(verified(), View(80)).lines[0]


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("\u65e5\u672c\u8a9e", 5, "\u65e5\u672c…"),
        ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
    ],
)
def test_a_cut_text_takes_no_more_columns_than_allowed(text: str, columns: int, shown: str) -> None:
    assert clip(text, columns) == shown


def test_the_command_in_a_hint_has_the_quoted_path_of_the_layout() -> None:
    report = replace(verified(finding()), path="my layout")
    assert any("mirror verify 'my layout' --repair" in line for line in to_text(report).lines)
    assert "mirror verify 'my layout' --repair" in to_json(report)["findings"][0]["hint"]


def test_a_finding_of_a_corrupt_blob_has_both_digests() -> None:
    lines = to_text(verified(finding(kind="corrupt", expected=DIGEST, found=OTHER))).lines
    assert "".join(lines).count(DIGEST) == 1
    assert f"  content hashes to {OTHER}" in lines


def test_the_line_of_an_image_has_verdict_digest_and_missing_bytes() -> None:
    line = to_text(verified(finding(), finding(size=98), finding(kind="corrupt", found=OTHER))).lines[-1]
    assert line.startswith("not ok")
    assert all(text in line for text in (f"{NAME}@{OTHER}", "2 platforms", "14 blobs", "74.5 MB", "500 B missing"))


def test_an_image_that_is_not_affected_is_ok() -> None:
    line = to_text(verified(finding(images=("another",)))).lines[-1]
    assert line.startswith("ok ")
    assert "missing" not in line


def test_a_report_without_images_has_a_count_of_0() -> None:
    assert "0 images" in to_text(verified(images=())).summary


# The list of images


def listed(**fields: Any) -> ImageList:
    given = {"name": NAME, "digest": DIGEST, "media_type": "a/b", "platforms": ("linux/amd64",), **fields}
    return ImageList("layout", (ImageSummary(**given),), 0)


def test_a_list_that_does_not_fit_has_fewer_platforms_then_shorter_names() -> None:
    images = listed(platforms=tuple(f"linux/arm/v{number}" for number in range(9)), size=74_540_576)
    assert "linux/arm/v0, linux/arm/v1, linux/arm/v2 + 6 more" in to_text(images).lines[1]
    assert to_text(images, View(80)).lines[1] == f"{NAME}  {DIGEST[7:19]}  74.5 MB  linux/arm/v0 + 8 more"
    assert (
        to_text(images, View(70)).lines[1]
        == f"…er.io/library/redis:4.0  {DIGEST[7:19]}  74.5 MB  linux/arm/v0 + 8 more"
    )
    complete = to_text(images, View(70, verbose=True)).lines[1]
    assert DIGEST in complete
    assert "linux/arm/v8" in complete
    assert NAME in complete


@given(st.integers(20, 120), nasty_text.filter(bool), st.lists(nasty_text, max_size=4))
@QUICK
def test_a_list_never_wraps(width: int, name: str, platforms: list[str]) -> None:
    lines = to_text(listed(name=name, platforms=tuple(platforms), size=10**9), View(width)).lines
    assert [line for line in lines if columns(line) > width or not line.isprintable()] == []


def test_wide_characters_keep_a_table_aligned() -> None:
    lines = table(["A", "B"], [["\u65e5\u672c", "x"], ["e\u0301", "y"]])
    assert lines == ["A     B", "\u65e5\u672c  x", "e\u0301     y"]


# JSON, as documented


def inspected() -> InspectedImage:
    blob = InspectedBlob(DIGEST, "a/b", 5)
    manifest = InspectedManifest("linux/amd64", blob, blob, (blob,), {"created": "now"}, subject=OTHER)
    referrer = InspectedReferrer(DIGEST, blob, "a/b", "sha256-a.sig")
    return InspectedImage(NAME, DIGEST, "a/b", 5, (manifest,), 2, 10, {"a": "b"}, (referrer,), b"{}")


USAGE = QuotaUsage("docker.io", 3, Quota(100, 74, 21600))
DISK = DiskSpace("layout", 3000, 2000)
LISTED = ImageSummary(NAME, DIGEST, "a/b", ("linux/amd64",), 2, 3000)
LAYER = RecordedLayer(DIGEST, 5, "a/b", 0)
CONFIG = RecordedConfig("17", ("a",), ("b",), ("c",), (HistoryEntry(0, "RUN a"),))
MANIFEST = RecordedManifest(Platform("linux", "arm", "v7"), DIGEST, RecordedImage("a/b", OTHER, (LAYER,), CONFIG))
PRUNED = PruneReport(
    path="layout",
    deleted=False,
    orphans=(PrunedBlob(DIGEST, 3000),),
    unfinished=(PrunedFile(".mirror/partial/x", 10),),
    quarantined=(PrunedFile(".mirror/quarantine/y", 1),),
)
DOCUMENTED: dict[str, dict[str, Any]] = {
    "mirror.record/1": records_json([Record("redis:4.0", DIGEST, "a/b", (MANIFEST,))]),
    "mirror.pull/1": to_json(
        report(transferred(referrers=ReferrerSummary(1, 10)), healed=(DIGEST,), disk=DISK, quotas=(USAGE,))
    ),
    "mirror.push/1": to_json(
        report(transferred(referrers=ReferrerSummary(1, 10)), verb="push", disk=DISK, quotas=(USAGE,))
    ),
    "mirror.verify/1": to_json(
        replace(
            verified(), repair=RepairReport("./good", (DIGEST,)), anchored=(Agreement("--expect", NAME, "the digest"),)
        )
    ),
    "mirror.login/1": to_json(LoginResult("quay.io", "auth.json", None, "ann", True)),
    "mirror.logout/1": to_json(LogoutResult((StoredLogin("quay.io", "auth.json", "pass"),))),
    "mirror.serve/1": to_json(ServerInfo("127.0.0.1:5000", "http://127.0.0.1:5000", ("layout",), ("a/b",), 1)),
    "mirror.ls/1": to_json(ImageList("layout", (LISTED,), 3000)),
    "mirror.rm/3": to_json(RemoveReport("layout", (RemovedImage(NAME, DIGEST),), Amount(2, 3000), 1)),
    "mirror.prune/1": to_json(PRUNED),
    "mirror.tags/1": to_json(TagList(NAME, ("v1",))),
    "mirror.inspect/2": to_json(Inspection((inspected(),))),
}


def keys(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from keys(inner) if key not in ("annotations", "settings") else ()
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@pytest.mark.parametrize("schema", DOCUMENTED)
def test_json_has_exactly_the_documented_fields(schema: str) -> None:
    document = DOCUMENTED[schema]
    row = next(line for line in (DOCS / "reference" / "json.md").read_text().splitlines() if schema in line)
    documented = set(re.findall(r"`(\w+)`", row.rpartition(" | ")[2])) - {"ok"}
    assert document["schema"] == schema
    assert set(keys(document)) == documented | {"schema"}


def test_the_fields_of_a_finding_are_documented() -> None:
    text = (DOCS / "reference" / "findings.md").read_text().partition("## Fields")[2].partition("\n\nAs text")[0]
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    assert set(to_json(finding())) == {name for row in rows for name in re.findall(r"`(\w+)`", row)}


@pytest.mark.parametrize("schema", DOCUMENTED)
def test_results_can_be_serialized_as_json(schema: str) -> None:
    document = DOCUMENTED[schema]
    assert json.loads(json.dumps(document)) == document


def test_a_dry_run_reports_the_rate_limit_and_a_pull_does_not() -> None:
    warning = "docker.io limits pulls: this pull uses at most 3, as did the dry run; 74 of 100 pulls in 6 h are left."
    assert to_text(report(dry_run=True, disk=DISK, quotas=(USAGE,))).warnings == [warning]
    assert to_text(report(disk=DISK, quotas=(USAGE,))).warnings == []


def test_the_summary_has_the_bytes_of_an_earlier_attempt() -> None:
    found = report(moved=Amount(2, 3000), resumed=2000, healed=(DIGEST,))
    assert "2 blobs (3.0 kB) moved (1 healed, 2.0 kB of it from an earlier attempt)" in to_text(found).summary


def test_json_has_the_message_of_a_failure() -> None:
    found = to_json(report(transferred(error=FAILURE), transferred()))["images"]
    assert [image["error"] for image in found] == ["The disk is full.", None]


def test_json_has_whole_digests_and_exact_sizes() -> None:
    listing = ImageList("layout", (LISTED,), 3000)
    assert to_json(listing)["images"][0]["digest"] == DIGEST
    assert to_json(listing)["size"] == 3000
    assert DIGEST.short in to_text(listing).lines[1]
    assert "3.0 kB" in to_text(listing).lines[1]


def test_values_that_are_not_results_are_refused() -> None:
    for value in (1, "text", ImageList):
        with pytest.raises(TypeError, match="not a result"):
            to_json(value)
        with pytest.raises(TypeError, match="not a result"):
            to_text(value)


# Tables


@pytest.mark.parametrize(
    ("platforms", "shown"),
    [
        ((), "-"),
        (("a/b",), "a/b"),
        (("a/b", "a/c", "a/d"), "a/b, a/c, a/d"),
        (("a/b", "a/c", "a/d", "a/e", "a/f"), "a/b, a/c, a/d + 2 more"),
    ],
)
def test_a_row_names_at_most_three_platforms(platforms: tuple[str, ...], shown: str) -> None:
    assert shown in image_row(ImageSummary(NAME, DIGEST, "a/b", platforms))


def test_a_row_marks_sparse_and_broken_images() -> None:
    assert any("sparse" in cell for cell in image_row(ImageSummary(NAME, DIGEST, "a/b", sparse=True)))
    broken = image_row(ImageSummary(NAME, DIGEST, "a/b", problem="It broke."))
    assert any("broken" in cell for cell in broken)


def test_an_inspected_image_shows_all_of_its_parts() -> None:
    blob, config = InspectedBlob(DIGEST, "a/b", 5), InspectedBlob(OTHER, "a/c", 7)
    manifest = InspectedManifest("linux/amd64", blob, config, (blob, blob), {"entry": ["sh", "-c", "a b"]})
    image = InspectedImage(NAME, DIGEST, "a/b", 5, (manifest,), 3, 17, {"x": "y"})
    shown = "\n".join(to_text(Inspection((image,))).lines)
    assert all(one in shown for one in (NAME, DIGEST, OTHER, "linux/amd64", "2 layers", "sh -c 'a b'", "x  y"))
    assert manifest.size == 17


def test_an_attestation_names_its_image() -> None:
    manifest = InspectedManifest(None, InspectedBlob(DIGEST, "a/b", 5), None, (), {}, subject=OTHER)
    lines = to_text(Inspection((replace(inspected(), manifests=(manifest,)),))).lines
    assert any(f"attestation of {OTHER}" in line for line in lines)


@pytest.mark.parametrize(("kept", "said"), [(0, False), (3, True)])
def test_the_result_of_a_removal_counts_deleted_and_kept_blobs(kept: int, said: bool) -> None:
    removed = to_text(RemoveReport("layout", (RemovedImage(NAME, DIGEST),), Amount(2, 3000), kept))
    assert removed.lines == [f"{NAME}@{DIGEST}"]
    assert "2 blobs deleted, 3.0 kB freed" in removed.summary
    assert ("3 blobs kept for other images" in removed.summary) is said


# Referrers


def with_referrers(*referrers: ReferrerSummary | None, error: MirrorError | None = None) -> TransferReport:
    return report(*(transferred(platforms=(), error=error, referrers=one) for one in referrers), moved=Amount())


def test_the_summary_counts_referrers_if_there_are_any() -> None:
    assert "2 images, 3 referrers:" in to_text(with_referrers(ReferrerSummary(1), ReferrerSummary(2))).summary
    assert "1 image:" in to_text(with_referrers(ReferrerSummary())).summary


def test_an_image_that_lacks_referrers_is_listed_but_the_command_fails() -> None:
    found = with_referrers(ReferrerSummary(1, 10, StorageError("no room", hint="Make some.")), ReferrerSummary(2))
    assert len(to_text(found).lines) == 2
    assert to_text(found).errors == [(f"{NAME} is complete, but may lack referrers: no room", "Make some.")]
    with pytest.raises(PartialFailure, match="1 image may lack referrers") as caught:
        found.raise_failures()
    assert caught.value.exit_code == 4


def test_a_failed_image_is_not_reported_as_complete() -> None:
    found = with_referrers(ReferrerSummary(error=StorageError("no room")), error=StorageError("worse"))
    assert to_text(found).errors == [(f"{NAME}: worse", None)]


def test_json_has_null_for_referrers_that_were_not_requested() -> None:
    first, second = to_json(with_referrers(ReferrerSummary(1, 10), None))["images"]
    assert (first["referrers"], second["referrers"]) == (
        {"count": 1, "size": 10, "error": None, "errorCode": None},
        None,
    )


def test_a_row_has_referrers_beside_other_notes() -> None:
    row = image_row(ImageSummary(NAME, DIGEST, "a/b", ("linux/amd64",), sparse=True, referrers=2))
    assert row[-1] == "linux/amd64 (sparse, 2 referrers)"
