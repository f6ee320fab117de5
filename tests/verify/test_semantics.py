"""Tests of the severity of defects in a layout."""

import asyncio
import base64
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror import verify_layout
from mirror.content.finding import Finding, Kind, Severity
from mirror.report.findings import Verdict
from tests.support import images, layouts
from tests.support.images import Blob, Image

LAYER = images.layer(1, 3000)
IMAGE = images.image("linux/amd64", LAYER)
NAME = "docker.io/library/a:v1"
ERROR, WARNING, UNVERIFIED = Severity.ERROR, Severity.WARNING, Severity.UNVERIFIED


def found(layout: Path) -> list[tuple[Kind, Severity, str]]:
    return [(finding.kind, finding.severity, finding.subject) for finding in findings(layout)]


def findings(layout: Path) -> list[Finding]:
    return list(asyncio.run(verify_layout(layout)).findings)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return layouts.write(tmp_path / "layout", IMAGE, name=NAME)


def rename(layout: Path, old: str, new: str) -> None:
    (layout / old).rename(layout / new)


# Names in the wrong case, as some file systems on USB drives store them


@pytest.mark.parametrize(
    ("own", "other"), [("index.json", "INDEX.JSON"), ("oci-layout", "OCI-LAYOUT"), ("blobs", "Blobs")]
)
def test_layout_file_with_a_name_in_another_case_is_an_error(layout: Path, own: str, other: str) -> None:
    rename(layout, own, other)
    assert (Kind.BAD_NAME, ERROR, other) in found(layout)


@pytest.mark.parametrize("there", [True, False])
def test_blob_names_that_differ_only_in_case_are_an_error(layout: Path, there: bool) -> None:
    own = layout.joinpath("blobs", *LAYER.digest.split(":"))
    (own.parent / own.name.upper()).write_bytes(LAYER.data)
    if not there:
        own.unlink()
    kinds = {kind for kind, severity, _ in found(layout) if severity is ERROR}
    assert kinds == ({Kind.BAD_NAME} if there else {Kind.BAD_NAME, Kind.MISSING})


@pytest.mark.parametrize("algorithm", ["SHA256", "Sha512"])
def test_algorithm_directory_in_upper_case_is_an_error(layout: Path, algorithm: str) -> None:
    layouts.add(layout, f"{algorithm}:{'0' * (64 if algorithm == 'SHA256' else 128)}", b"")
    assert [(kind, severity) for kind, severity, _ in found(layout)] == [(Kind.BAD_NAME, ERROR)]


# Directories


@pytest.mark.parametrize("target", ["blobs", "blobs/sha256"])
@pytest.mark.parametrize("how", ["link", "file"])
def test_blob_directory_that_is_a_link_or_a_file_is_an_error(layout: Path, target: str, how: str) -> None:
    rename(layout, target, "elsewhere")
    (layout / target).symlink_to(layout / "elsewhere") if how == "link" else (layout / target).touch()
    assert (Kind.BROKEN_LAYOUT, ERROR, target) in found(layout)


def test_a_layout_without_blobs_is_broken(layout: Path) -> None:
    rename(layout, "blobs", "elsewhere")
    assert (Kind.BROKEN_LAYOUT, ERROR, "blobs") in found(layout)


# Files that change while they are read


def test_blob_that_changes_while_it_is_read_is_unverified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = Blob.of(bytes(3 << 20), images.OCI_LAYER, images.digest_of(bytes(3 << 20)))
    layout = layouts.write(tmp_path / "layout", images.image("linux/amd64", big))
    readv, times = os.readv, iter(range(1, 1000))

    def touch_and_read(descriptor: int, buffers: list[memoryview]) -> int:
        if os.fstat(descriptor).st_size == big.size:
            os.utime(descriptor, (when := next(times), when))
        return readv(descriptor, buffers)

    monkeypatch.setattr("mirror.layout.blobs.os.readv", touch_and_read)
    report = asyncio.run(verify_layout(layout))
    assert [(finding.kind, finding.severity) for finding in report.findings] == [(Kind.CHANGED, UNVERIFIED)]
    assert report.verdict is Verdict.COULD_NOT_CHECK


# Manifests


def with_changed_manifest(text: Callable[[bytes], bytes]) -> Image:
    """Return the image with a changed manifest under the digest that matches it."""
    data = text(IMAGE.data)
    root = images.digest_of(data)
    return Image(root, images.OCI_MANIFEST, {root: (data, images.OCI_MANIFEST)}, IMAGE.blobs)


def embedded(data: bytes) -> Callable[[bytes], bytes]:
    text = b'"layers":[{"data":"' + base64.b64encode(data) + b'",'
    return lambda manifest: manifest.replace(b'"layers":[{', text)


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"layers"', b'"layers":[],"layers"'),
        lambda data: data.replace(b'"layers"', b'"Layers"'),
        lambda data: data.replace(b'"schemaVersion":2', b'"schemaVersion":NaN'),
        lambda data: data.replace(b'"schemaVersion":2', b'"schemaVersion":1'),
        lambda data: data.replace(images.OCI_MANIFEST.encode(), images.OCI_INDEX.encode()),
        lambda data: data.replace(b"sha256:", b"SHA256:"),
        lambda data: data.replace(b"sha256:", b"sha256:../"),
        embedded(b"something else"),
        lambda data: data[:-1],
        lambda data: data + b"x",
    ],
    ids=[
        "a key twice",
        "a key in another case",
        "NaN",
        "schema 1",
        "another type",
        "upper-case digest",
        "a path",
        "embedded data that is something else",
        "cut",
        "more behind it",
    ],
)
def test_invalid_manifest_with_a_correct_digest_is_an_error(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    broken = with_changed_manifest(change)
    layouts.write(tmp_path / "layout", broken)
    assert (Kind.BROKEN_MANIFEST, ERROR, broken.root) in found(tmp_path / "layout")


def test_correct_embedded_data_is_accepted(tmp_path: Path) -> None:
    layouts.write(tmp_path / "layout", with_changed_manifest(embedded(LAYER.data)))
    assert found(tmp_path / "layout") == []


# Names


def test_full_name_of_two_images_is_an_error(tmp_path: Path) -> None:
    layouts.write(tmp_path / "layout", IMAGE, images.image("linux/arm64", LAYER), name=NAME)
    assert found(tmp_path / "layout") == [(Kind.NAME_CONFLICT, ERROR, NAME)]


def test_repeated_entry_of_one_image_is_accepted(tmp_path: Path) -> None:
    layouts.write(tmp_path / "layout", IMAGE, IMAGE, name=NAME)
    assert found(tmp_path / "layout") == []


def test_bare_tag_of_two_images_is_a_warning(tmp_path: Path) -> None:
    layouts.write(tmp_path / "layout", IMAGE, images.image("linux/arm64", LAYER), ref="v1")
    assert found(tmp_path / "layout") == [(Kind.AMBIGUOUS_NAME, WARNING, "v1")]


# Findings


def test_finding_names_the_affected_images_and_platforms(tmp_path: Path) -> None:
    own, shared = images.layer(2, 500), images.layer(3, 600)
    platforms = ("linux/amd64", "linux/arm/v7", "linux/s390x")
    of_three = images.index(
        [images.image(platform, shared, *[own][: number == 1]) for number, platform in enumerate(platforms)]
    )
    layouts.write(tmp_path / "layout", of_three, images.image("linux/riscv64", shared))
    for layer in (own, shared):
        tmp_path.joinpath("layout/blobs", *layer.digest.split(":")).unlink()
    by_subject = {finding.subject: finding for finding in findings(tmp_path / "layout")}
    assert by_subject[own.digest].platforms == ("linux/arm/v7",)
    assert by_subject[own.digest].images == (of_three.root,)
    assert by_subject[shared.digest].platforms == platforms
    assert len(by_subject[shared.digest].images) == 2


def test_finding_has_a_hint(layout: Path) -> None:
    layouts.add(layout, LAYER.digest, b"")
    (finding,) = findings(layout)
    assert "mirror verify LAYOUT --repair --from SOURCE" in finding.hint
