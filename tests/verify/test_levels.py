"""Tests of the levels, samples, reports and progress of `mirror verify`."""

import asyncio
import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from mirror import Finding, Progress, Verification, VerifyOptions, verify_layout
from mirror.content.finding import Kind, Severity
from mirror.errors import UsageError
from mirror.report.findings import Verdict, VerifyLevel, VerifyReport
from mirror.report.verify_parts import Sample
from tests.support import images, layouts
from tests.support.command import Mirror
from tests.support.memory import Counter

LAYERS = [images.layer(seed, 200 + seed) for seed in range(40)]
IMAGE = images.image("linux/amd64", *LAYERS)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return layouts.write(tmp_path / "layout", IMAGE, name="docker.io/a/b:v1")


def flip(layout: Path, digest: str) -> None:
    path = layout.joinpath("blobs", *digest.split(":"))
    data = bytearray(path.read_bytes())
    data[20] ^= 1
    path.write_bytes(data)


def verified(layout: Path, progress: Progress | None = None, **options: Any) -> VerifyReport:
    return asyncio.run(verify_layout(layout, options=VerifyOptions(**options), progress=progress))


# Levels


def test_structure_reads_only_manifests_and_reports_structure_ok(layout: Path) -> None:
    flip(layout, LAYERS[0].digest)
    report = verified(layout, level="structure")
    assert (report.verdict, report.exit_code, report.findings) == (Verdict.STRUCTURE_OK, 0, ())
    assert report.size == len(IMAGE.data)
    assert report.files == len(LAYERS) + 2


@pytest.mark.parametrize("change", [b"", b"x", bytes(10_000)])
def test_structure_finds_missing_blobs_and_wrong_sizes(layout: Path, change: bytes) -> None:
    layouts.add(layout, LAYERS[0].digest, change)
    layout.joinpath("blobs", *LAYERS[1].digest.split(":")).unlink()
    report = verified(layout, level="structure")
    assert [finding.kind for finding in report.findings if finding.subject == LAYERS[1].digest] == [Kind.MISSING]
    assert {finding.kind for finding in report.findings} <= {Kind.MISSING, Kind.TOO_SHORT, Kind.TOO_LONG}
    assert (len(report.findings), report.verdict) == (2, Verdict.NOT_OK)


def test_structure_finds_orphans(layout: Path) -> None:
    layouts.add(layout, images.digest_of(b"orphan"), b"orphan")
    assert [finding.kind for finding in verified(layout, level="structure").findings] == [Kind.ORPHAN]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("level", "said"), [("structure", "Structure only"), ("content", "Content:"), ("layers", "layers")]
)
def test_level_is_in_text_json_and_junit_output(mirror: Mirror, layout: Path, level: str, said: str) -> None:
    result = mirror("verify", layout, "--level", level, "--junit", "out.xml")
    assert said in result.err
    assert mirror("verify", layout, "--level", level, "--json").json["level"] == level
    assert level in ElementTree.parse(layout.parent / "out.xml").getroot().attrib["name"]


def test_verdict_of_level_structure_is_structure_ok(mirror: Mirror, layout: Path) -> None:
    result = mirror("verify", layout, "--level", "structure")
    assert result.out.startswith("structure ok ")
    report = mirror("verify", layout, "--level", "structure", "--json").json
    assert {report["verdict"], report["images"][0]["verdict"]} == {"structure ok"}


@pytest.mark.parametrize("options", [{"level": "all"}, {"fail_on": "x"}, {"sample": "8/7"}, {"sample": "0/7"}])
def test_invalid_options_are_a_usage_error(layout: Path, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        verified(layout, **options)


@pytest.mark.parametrize(
    "text", ["", "1", "1/", "/7", "a/7", "-1/7", "1/0", "2/1", "1/2/3", "\u0663/\u0667", "1" * 20 + "/7"]
)
def test_invalid_sample_is_refused(mirror: Mirror, layout: Path, text: str) -> None:
    with pytest.raises(UsageError):
        Sample.parse(text)
    mirror("verify", layout, "--sample", text, code=2)


def test_sample_at_level_structure_is_refused(mirror: Mirror, layout: Path) -> None:
    err = mirror("verify", layout, "--sample", "1/2", "--level", "structure", code=2).err
    assert "which level 'structure' does not read" in err


# Samples


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2, 7, 100])
def test_all_samples_together_hash_every_blob_once(layout: Path, parts: int) -> None:
    sizes = [verified(layout, sample=f"{part + 1}/{parts}").size for part in range(parts)]
    manifests = len(IMAGE.data)
    assert sum(sizes) - (parts - 1) * manifests == sum(map(len, IMAGE.blobs.values())) + manifests


@pytest.mark.slow
def test_damaged_blob_is_always_found_in_the_same_sample(layout: Path) -> None:
    flip(layout, LAYERS[0].digest)
    found = [[verified(layout, sample=Sample(part, 5)).verdict for part in range(1, 6)] for _ in range(2)]
    assert found[0] == found[1]
    assert sorted(found[0]) == [Verdict.NOT_OK] + 4 * [Verdict.SAMPLE_OK]


@pytest.mark.slow
def test_sample_is_named_in_text_and_json_output(mirror: Mirror, layout: Path) -> None:
    result = mirror("verify", layout, "--sample", "2/7")
    assert "sample 2/7" in result.err
    assert result.out.startswith("sample ok ")
    report = mirror("verify", layout, "--sample", "2/7", "--json").json
    assert (report["verdict"], report["sample"]) == ("sample ok", "2/7")


@pytest.mark.slow
def test_missing_blob_is_found_in_every_sample(layout: Path) -> None:
    layout.joinpath("blobs", *LAYERS[0].digest.split(":")).unlink()
    assert all(verified(layout, sample=Sample(part, 3)).verdict is Verdict.NOT_OK for part in (1, 2, 3))


# --fail-on warning


@pytest.mark.slow
def test_warning_fails_with_fail_on_warning(mirror: Mirror, layout: Path) -> None:
    mirror("verify", layout, "--fail-on", "warning")
    layouts.add(layout, images.digest_of(b"orphan"), b"orphan")
    mirror("verify", layout)
    result = mirror("verify", layout, "--fail-on", "warning", "--json", code=3)
    assert result.json["verdict"] == "not ok"
    assert result.json["images"][0]["verdict"] == "ok"


# JUnit


def test_junit_has_a_case_for_each_image_and_one_for_the_layout(mirror: Mirror, layout: Path) -> None:
    mirror("verify", layout, "--junit", "out.xml")
    suite = ElementTree.parse(layout.parent / "out.xml").getroot()
    assert (suite.tag, suite.attrib["tests"], suite.attrib["failures"], suite.attrib["errors"]) == (
        "testsuite",
        "2",
        "0",
        "0",
    )
    assert [case.attrib["name"] for case in suite] == [str(layout), f"docker.io/a/b:v1@{IMAGE.root}"]
    assert all(len(case) == 0 for case in suite)


@pytest.mark.slow
def test_junit_distinguishes_failures_errors_and_warnings(mirror: Mirror, layout: Path) -> None:
    other = images.image("linux/arm64", images.layer(99, 300))
    layouts.write(layout, IMAGE, other, contents={images.digest_of(b"orphan"): b"orphan"})
    flip(layout, LAYERS[0].digest)
    layout.joinpath("blobs", *other.root.split(":")).chmod(0)
    mirror("verify", layout, "--junit", "out.xml", code=3, bound=True)
    suite = ElementTree.parse(layout.parent / "out.xml").getroot()
    assert [[element.tag for element in case] for case in suite] == [["system-out"], ["failure"], ["error"]]
    assert (suite.attrib["failures"], suite.attrib["errors"]) == ("1", "1")
    failure = suite.find(".//failure")
    assert failure is not None
    assert failure.attrib["type"] == "corrupt"
    assert LAYERS[0].digest in (failure.text or "")


@pytest.mark.slow
def test_unwritable_junit_file_is_an_error(mirror: Mirror, layout: Path) -> None:
    assert "nowhere" in mirror("verify", layout, "--junit", "nowhere/out.xml", code=1).err


# One screen


@pytest.mark.slow
def test_output_for_many_intact_images_fits_on_a_screen(mirror: Mirror, tmp_path: Path) -> None:
    many = [images.image("linux/amd64", images.layer(seed, 100)) for seed in range(100)]
    layouts.write(tmp_path / "layout", *many)
    result = mirror("verify", "layout")
    assert len(result.lines) == 21
    assert "80 more images" in result.lines[-1]


@pytest.mark.slow
def test_images_that_are_not_ok_come_first_and_verbose_lists_all(mirror: Mirror, tmp_path: Path) -> None:
    many = [images.image("linux/amd64", images.layer(seed, 100)) for seed in range(100)]
    layout = layouts.write(tmp_path / "layout", *many)
    for image in many[50:80]:
        layout.joinpath("blobs", *image.root.split(":")).unlink()

    def verdicts(*flags: str) -> list[str]:
        lines = mirror("verify", "layout", *flags, code=3).lines
        return [line[:8].strip() for line in lines if line.startswith(("ok ", "not ok ", "…"))]

    assert verdicts() == 3 * ["not ok"] + 3 * ["ok"] + ["… and 27"]
    assert verdicts("-v") == 30 * ["not ok"] + 70 * ["ok"]


# Streaming and interruption


def test_findings_are_yielded_singly_and_then_the_report_is_complete(layout: Path) -> None:
    flip(layout, LAYERS[0].digest)
    layout.joinpath("blobs", *LAYERS[1].digest.split(":")).unlink()

    async def main() -> None:
        verification = Verification(layout, options=VerifyOptions(VerifyLevel.LAYERS))
        assert not verification.report.complete
        seen: list[Finding] = []
        async for finding in verification:
            seen.append(finding)
            assert finding in verification.report.findings
        report = verification.report
        assert report.complete
        assert set(seen) == set(report.findings)
        assert {finding.kind for finding in seen} == {Kind.CORRUPT, Kind.MISSING}

    asyncio.run(main())


def test_closing_the_iterator_stops_verification_and_closes_files(layout: Path) -> None:
    for layer in LAYERS:
        flip(layout, layer.digest)

    async def main() -> VerifyReport:
        verification = Verification(layout)
        findings = aiter(verification)
        await anext(findings)
        await findings.aclose()
        return verification.report

    open_before = len(os.listdir("/dev/fd"))
    report = asyncio.run(main())
    assert not report.complete
    assert len(os.listdir("/dev/fd")) == open_before


def test_report_before_verification_is_incomplete(layout: Path) -> None:
    report = Verification(layout).report
    assert (report.verdict, report.exit_code) == (Verdict.INCOMPLETE, 1)


def has_open(pid: int, path: Path) -> bool:
    """Return whether a process has a file open."""
    for found in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if found.readlink() == path:
                return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_verification_shows_its_findings(mirror: Mirror, layout: Path, number: int) -> None:
    layout.joinpath("blobs", *LAYERS[0].digest.split(":")).unlink()
    huge = images.digest_of(b"huge")
    with layouts.add(layout, huge, b"").open("r+b") as file:
        file.truncate(1 << 40)  # a sparse file that takes minutes to read
    running = mirror.start("verify", "layout", "--junit", "out.xml")
    while not has_open(running.pid, Path(file.name)):
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == 130
    assert LAYERS[0].digest in out.decode()
    assert "interrupted" in err.decode()
    assert "Traceback" not in err.decode()
    assert ElementTree.parse(layout.parent / "out.xml").getroot().attrib["failures"] == "1"


def test_findings_are_sorted_by_severity(layout: Path) -> None:
    layouts.add(layout, images.digest_of(b"orphan"), b"orphan")
    flip(layout, LAYERS[0].digest)
    severities = [finding.severity for finding in verified(layout).findings]
    assert severities == [Severity.ERROR, Severity.WARNING]


# Progress


@pytest.mark.parametrize("level", VerifyLevel)
def test_progress_of_every_phase_reaches_its_total(layout: Path, level: VerifyLevel) -> None:
    counter = Counter()
    layouts.add(layout, images.digest_of(b"orphan"), b"orphan")
    assert verified(layout, level=level, progress=counter).exit_code == 0
    root, blobs = len(IMAGE.data), {**IMAGE.blobs, IMAGE.root: IMAGE.data}
    size = sum(map(len, blobs.values()))
    assert counter.planned["walking"] == (1, root)
    assert counter.planned["checking"] == (len(blobs) + 1, size)  # the expected size of an orphan is unknown
    config = 0 if level == VerifyLevel.CONTENT else json.loads(IMAGE.data)["config"]["size"]  # read in an earlier phase
    read = (len(blobs) - bool(config), size - root + len(b"orphan") - config)
    assert counter.planned["verifying"] == ((0, 0) if level == VerifyLevel.STRUCTURE else read)
    assert counter.done == {phase: size for phase, (_, size) in counter.planned.items()}
