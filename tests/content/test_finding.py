"""Tests of the kinds of findings: their messages, hints and documentation."""

import re
from pathlib import Path

import pytest

from mirror.content.finding import Finding, Kind, Severity, StoreKind, reason
from mirror.content.finding_text import ARCHIVE_HINTS, HINTS, REGISTRY_HINTS
from mirror.content.hashing import BlobFault
from mirror.errors import InvalidContent
from mirror.oci.digest import Digest
from mirror.report.json import to_json

ROOT = Path(__file__).parents[2]
LAYER, MANIFEST, OTHER = (Digest(f"sha256:{short}…") for short in ("382eae952932", "dbc6a7ed5f21", "065132d9f705"))
NAME = "docker.io/library/redis:4.0"

# One finding of each kind, as the documentation shows it.
EXAMPLES = [
    Finding(Kind.MISSING, Severity.ERROR, LAYER, 402),
    Finding(Kind.TOO_SHORT, Severity.ERROR, LAYER, 102_337, 102_237),
    Finding(Kind.TOO_LONG, Severity.ERROR, LAYER, 402, 403),
    Finding(Kind.CORRUPT, Severity.ERROR, LAYER, LAYER, OTHER),
    Finding(Kind.NOT_A_FILE, Severity.ERROR, LAYER, "a file", "a symbolic link"),
    Finding(Kind.BROKEN_LAYOUT, Severity.ERROR, "blobs", "directory", "a symbolic link"),
    Finding(Kind.BROKEN_INDEX, Severity.ERROR, "index.json", "a valid index", "not valid JSON: …"),
    Finding(Kind.BROKEN_ARCHIVE, Severity.ERROR, "images.tar", "a whole archive", "ends in the middle of a member"),
    Finding(Kind.AMBIGUOUS_ARCHIVE, Severity.ERROR, "manifest.json", NAME, "another image"),
    Finding(Kind.NO_IMAGES, Severity.ERROR, "index.json", "an image"),
    Finding(Kind.BROKEN_MANIFEST, Severity.ERROR, MANIFEST, "a valid manifest", "'config' is missing"),
    Finding(Kind.SIZE_CONFLICT, Severity.ERROR, LAYER, "one size", (762, 763)),
    Finding(Kind.TYPE_CONFLICT, Severity.ERROR, MANIFEST, "one type", ("…index.v1+json", "…manifest.v1+json")),
    Finding(Kind.NAME_CONFLICT, Severity.ERROR, NAME, "one digest", (MANIFEST, OTHER)),
    Finding(Kind.MOVED, Severity.ERROR, "4.0", MANIFEST, OTHER),
    Finding(Kind.NOT_PUSHED, Severity.ERROR, "registry.internal:5000/redis:4.0", MANIFEST, "…"),
    Finding(Kind.NOT_EXPECTED, Severity.ERROR, NAME, MANIFEST, OTHER),
    Finding(
        Kind.RECORD_MISMATCH,
        Severity.ERROR,
        "redis:4.0: manifest 1: command",
        '["redis-server"]',
        '["sh"]',
    ),
    Finding(Kind.RECORD_MISSING, Severity.ERROR, "redis:4.0", MANIFEST),
    Finding(Kind.BAD_NAME, Severity.ERROR, "INDEX.JSON", "index.json", "INDEX.JSON"),
    Finding(Kind.TOO_MANY, Severity.ERROR, MANIFEST, "fewer", "more than 10000 manifests"),
    Finding(Kind.BROKEN_CONFIG, Severity.ERROR, OTHER, "a config", "rootfs: 'type' is not 'layers'"),
    Finding(Kind.WRONG_PLATFORM, Severity.ERROR, OTHER, "linux/amd64", "linux/arm64"),
    Finding(Kind.LAYER_COUNT, Severity.ERROR, OTHER, "6 layers", "5 diff_ids"),
    Finding(Kind.WRONG_DIFF_ID, Severity.ERROR, LAYER, MANIFEST, OTHER),
    Finding(Kind.BROKEN_LAYER, Severity.ERROR, LAYER, "a layer", "it ends too early"),
    Finding(Kind.BOMB, Severity.ERROR, LAYER, 1 << 30, "more"),
    Finding(
        Kind.NOT_COMPARED,
        Severity.UNVERIFIED,
        "redis:4.0",
        "manifest 1: command",
        "its config is not available",
    ),
    Finding(Kind.UNREADABLE, Severity.UNVERIFIED, LAYER, "a readable file", "permission denied"),
    Finding(Kind.CHANGED, Severity.UNVERIFIED, LAYER, LAYER, "other bytes"),
    Finding(Kind.UNHASHABLE, Severity.UNVERIFIED, "blake3:aaaaaaaaaaaa…", None, "blake3"),
    Finding(Kind.UNKNOWN_COMPRESSION, Severity.UNVERIFIED, LAYER, "gzip, zstd or none", "it is compressed with xz"),
    Finding(Kind.UNSUPPORTED_TYPE, Severity.UNVERIFIED, OTHER, "a manifest", "application/vnd.a.manifest.v1+json"),
    Finding(Kind.NOT_UNPACKED, Severity.UNVERIFIED, LAYER, "a layer that can be unpacked", "it is encrypted"),
    Finding(Kind.NOT_AN_IMAGE, Severity.UNVERIFIED, OTHER, "the config of an image", "it has no rootfs"),
    Finding(Kind.ABSENT, Severity.WARNING, LAYER, 402),
    Finding(Kind.ORPHAN, Severity.WARNING, LAYER, "an image", 151_000),
    Finding(Kind.STRAY, Severity.WARNING, "blobs/sha256/notes.txt", "a digest", "notes.txt"),
    Finding(Kind.LEFTOVER, Severity.WARNING, ".mirror/tmp/half", None, "a file"),
    Finding(Kind.AMBIGUOUS_NAME, Severity.WARNING, "v1", "one image", ("quay.io/a/b:v1", "quay.io/c/d:v1")),
    Finding(Kind.DANGLING_SUBJECT, Severity.WARNING, OTHER, MANIFEST),
    Finding(Kind.UNKNOWN_TYPE, Severity.WARNING, OTHER, "a manifest", "text/plain"),
    Finding(Kind.NOT_RECORDED, Severity.WARNING, "quay.io/a/b:v1", "a record"),
    Finding(Kind.VARIANT, Severity.WARNING, OTHER, "linux/arm/v7", "linux/arm"),
    Finding(Kind.HISTORY_COUNT, Severity.WARNING, OTHER, "6 layers", "5 steps with a layer"),
    Finding(Kind.UNUSUAL_CONFIG, Severity.WARNING, OTHER, "a rootfs of type layers", "its rootfs has no type"),
    Finding(Kind.NOT_A_TAR, Severity.WARNING, LAYER, "a tar archive", "it ends in the middle of a member"),
    Finding(Kind.DUPLICATE_PATH, Severity.WARNING, LAYER, "each path once", "usr/bin/x and 3 more"),
    Finding(Kind.DANGEROUS_PATH, Severity.WARNING, LAYER, "paths inside", "../../etc/passwd"),
]


def rows(columns: int) -> list[list[str]]:
    """Return the rows of the documented tables with this number of columns, without their heads."""
    lines = (ROOT / "docs/reference/findings.md").read_text().splitlines()
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `"))
    return [row for row in cells if len(row) == columns]


def test_every_kind_is_documented_with_its_message_and_hint() -> None:
    expected = [
        [f"`{one.kind}`", str(one.severity), f"{one.subject}: {one.message}", HINTS[one.kind]] for one in EXAMPLES
    ]
    assert [[kind, severity, example, hint] for kind, severity, _, example, hint in rows(5)] == expected
    assert [one.kind for one in EXAMPLES] == list(Kind)
    assert all(meaning for _, _, meaning, _, _ in rows(5))


def test_the_hints_for_archives_and_registries_are_documented() -> None:
    expected = [
        [f"`{kind}`", place, hint]
        for place, hints in (("archive", ARCHIVE_HINTS), ("registry", REGISTRY_HINTS))
        for kind, hint in hints.items()
    ]
    assert rows(3) == expected


@pytest.mark.slow
@pytest.mark.parametrize("kind", Kind)
def test_every_kind_is_used_in_the_package(kind: Kind) -> None:
    modules = [path for path in (ROOT / "mirror").rglob("*.py") if path.name not in ("kinds.py", "finding_text.py")]
    used = {name for path in modules for name in re.findall(r"\bKind\.([A-Z_]+)", path.read_text())}
    assert kind.name in used or str(kind) in set(BlobFault)


@pytest.mark.parametrize("fault", BlobFault)
def test_every_fault_of_a_blob_is_a_kind(fault: BlobFault) -> None:
    assert str(fault) in set(Kind)


@pytest.mark.parametrize(
    ("finding", "text"),
    [
        (
            Finding(Kind.MISSING, Severity.ERROR, LAYER, 402, place=StoreKind.REGISTRY),
            "the registry does not have it (402 bytes)",
        ),
        (Finding(Kind.MISSING, Severity.ERROR, "v1", MANIFEST), f"there is no such tag; it was pushed as {MANIFEST}"),
        (
            Finding(Kind.MISSING, Severity.ERROR, "sha256-0", LAYER, MANIFEST),
            f"the list of referrers {MANIFEST} does not include {LAYER}",
        ),
        (Finding(Kind.TOO_LONG, Severity.ERROR, LAYER, 402), "more than the 402 that it should have"),
        (Finding(Kind.BROKEN_LAYOUT, Severity.ERROR, "oci-layout", "file"), "the file is not there"),
        (Finding(Kind.BROKEN_INDEX, Severity.ERROR, "index.json", "an index"), "the file is not there"),
        (
            Finding(Kind.AMBIGUOUS_ARCHIVE, Severity.UNVERIFIED, "manifest.json", None, "not valid JSON"),
            "cannot be compared with index.json: not valid JSON",
        ),
        (
            Finding(Kind.MOVED, Severity.ERROR, "v1", MANIFEST, "it is XML"),
            f"no longer points to {MANIFEST}: it is XML",
        ),
        (
            Finding(Kind.NOT_PUSHED, Severity.WARNING, NAME, "referrers", "busy"),
            "some of its referrers may not have been pushed: busy",
        ),
        (
            Finding(Kind.NOT_EXPECTED, Severity.ERROR, NAME, MANIFEST, (OTHER, MANIFEST)),
            f"has {OTHER}, which claims to be one platform of {MANIFEST}; pull all platforms (or --sparse) to compare",
        ),
        (Finding(Kind.NOT_EXPECTED, Severity.ERROR, NAME, MANIFEST, "no such image"), "no such image"),
        (
            Finding(Kind.RECORD_MISMATCH, Severity.ERROR, NAME, None, "its media type is odd"),
            "cannot be written as a record: its media type is odd",
        ),
        (
            Finding(Kind.BAD_NAME, Severity.ERROR, "a\x1b", None, '"a\\x1b"'),
            'image name contains control characters ("a\\x1b")',
        ),
        (
            Finding(Kind.WRONG_PLATFORM, Severity.ERROR, LAYER, "one", ("linux/a", "linux/b")),
            "two indexes disagree about its platform: linux/a and linux/b",
        ),
        (
            Finding(Kind.ABSENT, Severity.WARNING, LAYER, 402, "a foreign layer, which is not kept here"),
            "a foreign layer, which is not kept here (402 bytes)",
        ),
        (
            Finding(Kind.UNHASHABLE, Severity.UNVERIFIED, LAYER, "blake3:ab", "blake3"),
            "digest algorithm blake3 is not supported, so its diff_id blake3:ab cannot be checked",
        ),
        (
            Finding(Kind.NAME_CONFLICT, Severity.ERROR, NAME, "one", tuple(map(str, range(12)))),
            "the name stands for 12 images: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more",
        ),
    ],
)
def test_message_depends_on_the_fields_of_the_finding(finding: Finding, text: str) -> None:
    assert finding.message == text


def test_json_lists_fifty_images_and_counts_the_rest() -> None:
    images = tuple(map(str, range(250)))
    found = to_json(Finding(Kind.MISSING, Severity.ERROR, "sha256:0", 402, images=images))
    assert (found["images"], found["moreImages"]) == (list(images[:50]), 200)


def test_json_contains_the_expected_and_found_values_as_text() -> None:
    found = to_json(Finding(Kind.SIZE_CONFLICT, Severity.ERROR, LAYER, None, (1, 2)))
    assert (found["expected"], found["found"]) == ("nothing", "1 bytes, 2 bytes")
    assert found["message"] == "two manifests disagree about its size: 1 and 2 bytes"


def test_reason_does_not_repeat_the_subject() -> None:
    assert reason(InvalidContent("index.json: not valid JSON."), "index.json") == "not valid JSON"
    assert reason(InvalidContent("x.tar ends too early."), "x.tar") == "ends too early"
    assert reason(InvalidContent("x.tar: gone."), "y.tar") == "x.tar: gone"
