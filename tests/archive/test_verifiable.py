"""Tests of verifying archives in place: their faults are findings."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from mirror import verify_layout
from mirror.errors import BrokenArchive
from mirror.report.findings import VerifyReport
from tests.support import images
from tests.support.archives import (
    HOSTILE,
    Saved,
    containerd_archive,
    crane_archive,
    docker_archive,
    docker_new,
    docker_old,
    layout,
    member,
    named,
    oci_archive,
    packed,
    place,
    unpacked,
    with_folders,
)

NAME = "quay.io/a/b:v1"
MULTI = images.multi_arch()
SAVED = Saved(1, "busybox:1.36")
FILES = layout(named(MULTI, NAME), content=[MULTI])
BLOB = next(iter(MULTI.blobs))


def verify(tmp_path: Path, data: bytes) -> VerifyReport:
    path = tmp_path / "images.tar"
    path.write_bytes(data)
    before = path.stat().st_mtime_ns
    report = asyncio.run(verify_layout(path))
    assert (path.stat().st_mtime_ns, path.read_bytes()) == (before, data)
    assert [file.name for file in tmp_path.iterdir()] == ["images.tar"]
    return report


def kinds(report: VerifyReport) -> list[tuple[str, str]]:
    return [(finding.kind, finding.subject) for finding in report.findings]


@pytest.mark.parametrize(
    "data",
    [
        oci_archive(MULTI, NAME),
        packed(with_folders(FILES)),
        docker_old(SAVED),
        docker_old(SAVED, Saved(7, "other:1", shared=[images.layer(1, 3000)])),
        docker_archive(SAVED),
        crane_archive(SAVED),
    ],
    ids=["oci-archive", "sorted", "docker save", "two images", "podman save", "crane"],
)
def test_valid_archive_is_ok(tmp_path: Path, data: bytes) -> None:
    report = verify(tmp_path, data)
    assert (report.verdict, kinds(report)) == ("ok", [])
    assert report.path == str(tmp_path / "images.tar")


@pytest.mark.parametrize("data", [docker_new(SAVED), containerd_archive(MULTI, NAME)], ids=["docker", "containerd"])
def test_valid_archive_of_docker_25_or_containerd_is_ok(tmp_path: Path, data: bytes) -> None:
    assert verify(tmp_path, data).verdict == "ok"


def test_all_blobs_of_an_archive_are_hashed(tmp_path: Path) -> None:
    report = verify(tmp_path, packed(FILES))
    assert report.files == len(MULTI.blobs) + len(MULTI.manifests)
    assert report.size == sum(map(len, FILES.values())) - len(FILES["oci-layout"]) - len(FILES["index.json"])


def changed(name: str, data: bytes | None) -> bytes:
    files = {**FILES, name: data or b""}
    if data is None:
        del files[name]
    return packed(files)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (changed(place(BLOB), None), "missing"),
        (changed(place(BLOB), MULTI.blobs[BLOB][:-1]), "too-short"),
        (changed(place(BLOB), MULTI.blobs[BLOB] + b"x"), "too-long"),
        (changed(place(BLOB), MULTI.blobs[BLOB][:-1] + b"x"), "corrupt"),
        (changed(place(MULTI.root), MULTI.data[:-1] + b" "), "corrupt"),
        (changed(place(MULTI.root), None), "missing"),
    ],
)
def test_fault_of_a_blob_is_a_finding(tmp_path: Path, data: bytes, kind: str) -> None:
    report = verify(tmp_path, data)
    assert report.exit_code == 3
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert [(finding.kind, finding.images) for finding in errors] == [(kind, (NAME,))]


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("index.json", b"{", "broken-index"),
        ("index.json", None, "broken-index"),
        ("oci-layout", b"{}", "broken-layout"),
        ("oci-layout", b" " * 5000, "broken-layout"),
    ],
)
def test_fault_of_a_layout_file_is_a_finding(tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    assert (kind, name) in kinds(verify(tmp_path, changed(name, data)))


def test_orphan_and_stray_are_different_findings(tmp_path: Path) -> None:
    report = verify(tmp_path, packed({**FILES, place(images.digest_of(b"x")): b"x", "blobs/README": b"", "notes": b""}))
    assert kinds(report) == [("stray", "blobs/README"), ("orphan", images.digest_of(b"x"))]


def test_layer_that_does_not_match_its_diff_id_is_corrupt(tmp_path: Path) -> None:
    diff_id, layer = next(iter(SAVED.layers.items()))
    report = verify(tmp_path, docker_old(SAVED).replace(layer, layer[:-1] + b"x"))
    assert kinds(report) == [("corrupt", diff_id)]


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_archive_is_a_finding(tmp_path: Path, attack: str) -> None:
    """Members before the attack are verified, too."""
    body, words = HOSTILE[attack]
    head = packed(FILES).rstrip(b"\0")
    whole = head + bytes(-len(head) % 512) + body
    report = verify(tmp_path, whole)
    assert report.exit_code == 3
    (finding,) = [finding for finding in report.findings if finding.severity == "error"]
    assert (finding.kind, finding.subject) == ("broken-archive", str(tmp_path / "images.tar"))
    assert words in finding.message
    assert report.images[0].digest == MULTI.root


@pytest.mark.parametrize("attack", HOSTILE)
def test_hostile_docker_archive_is_a_finding(tmp_path: Path, attack: str) -> None:
    body, words = HOSTILE[attack]
    head = docker_old(SAVED).rstrip(b"\0")
    report = verify(tmp_path, head + bytes(-len(head) % 512) + body)
    assert report.exit_code == 3
    assert [finding.kind for finding in report.findings if finding.severity == "error"] == ["broken-archive"]
    assert words in report.findings[0].message
    assert report.complete


def test_manifest_json_with_missing_layers_is_a_finding(tmp_path: Path) -> None:
    files = {name: data for name, data in unpacked(docker_old(SAVED)).items() if not name.endswith("layer.tar")}
    report = verify(tmp_path, packed(files))
    assert kinds(report) == [("broken-archive", str(tmp_path / "images.tar"))]
    assert report.exit_code == 3


# Archives with an index.json and a manifest.json

NEWER = unpacked(docker_new(SAVED))
(LISTED,) = json.loads(NEWER["manifest.json"])


def relisted(*items: Any) -> bytes:
    return packed({**NEWER, "manifest.json": json.dumps(items).encode()})


@pytest.mark.parametrize(
    "listed",
    [
        LISTED | {"Config": LISTED["Layers"][0]},
        LISTED | {"Layers": LISTED["Layers"][::-1]},
        LISTED | {"Layers": LISTED["Layers"][:1]},
        LISTED | {"RepoTags": None, "Layers": []},
    ],
    ids=["another config", "another order", "fewer layers", "without a name"],
)
def test_manifest_json_that_contradicts_index_json_is_found(tmp_path: Path, listed: dict[str, Any]) -> None:
    report = verify(tmp_path, relisted(listed))
    assert ("ambiguous-archive", "manifest.json") in kinds(report)
    assert report.exit_code == 3


def test_swapped_names_in_manifest_json_are_found(tmp_path: Path) -> None:
    children = [images.image("linux/amd64", images.layer(seed, 100)) for seed in (1, 2)]
    tags = ["quay.io/a/b:1", "quay.io/a/b:2"]
    files = layout(*map(named, children, tags), content=children)
    documents = [json.loads(child.data) for child in children]
    paths = [(place(each["config"]["digest"]), [place(each["layers"][0]["digest"])]) for each in documents]
    right = [{"Config": paths[n][0], "RepoTags": [tags[n]], "Layers": paths[n][1]} for n in (0, 1)]
    swapped = [{**right[0], "RepoTags": [tags[1]]}, {**right[1], "RepoTags": [tags[0]]}]
    for listed, found in ((right, []), (swapped, [("ambiguous-archive", "manifest.json")] * 2)):
        assert kinds(verify(tmp_path, packed({**files, "manifest.json": json.dumps(listed).encode()}))) == found


@pytest.mark.parametrize(
    "data", [b"{", b"{}", b'[{"Config":"x","Config":"y"}]', b'[{"Config":"x","RepoTags":["a:1"]}]']
)
def test_broken_manifest_json_is_found(tmp_path: Path, data: bytes) -> None:
    report = verify(tmp_path, packed({**NEWER, "manifest.json": data}))
    assert kinds(report) == [("ambiguous-archive", "manifest.json")]


def test_verification_of_an_index_that_contains_itself_ends(tmp_path: Path) -> None:
    """Such an index is always corrupt, but its comparison with manifest.json must end, too."""
    child = {"mediaType": images.OCI_INDEX, "digest": "sha256:" + "ab" * 32, "size": 0}
    data = images.encode({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": [child]})
    files = layout({**child, "size": len(data)})
    report = verify(tmp_path, packed({**files, place(child["digest"]): data, "manifest.json": b"[]"}))  # type: ignore[arg-type]
    assert [kind for kind, _ in kinds(report)] == ["corrupt"]


def test_manifest_json_of_docker_agrees_with_index_json(tmp_path: Path) -> None:
    assert kinds(verify(tmp_path, relisted(LISTED))) == []


# Broken archives


def test_truncated_archive_is_reported_as_truncated(tmp_path: Path) -> None:
    data = packed(with_folders(FILES))
    (finding,) = verify(tmp_path, data[: len(data) // 2]).findings
    assert finding.kind == "broken-archive"
    assert "is truncated" in finding.message


def test_only_the_cut_is_reported_of_an_archive_whose_index_may_be_behind_it(tmp_path: Path) -> None:
    """`tar -c .` writes files in the order of the directory, so that index.json may be the last one."""
    last = dict(sorted(with_folders(FILES).items(), key=lambda pair: pair[0] == "index.json"))
    data = packed(last)
    report = verify(tmp_path, data[: data.index(b"index.json") + 100])
    assert [finding.kind for finding in report.findings if finding.severity == "error"] == ["broken-archive"]


def test_tar_that_is_not_an_image_archive_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BrokenArchive, match="not an image archive"):
        verify(tmp_path, member("x", b"1") + bytes(1024))
