"""Tests of malicious layouts: verification needs bounded time and memory, and reports findings."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mirror import verify_layout
from mirror.content.finding import Kind, Severity
from mirror.report.findings import VerifyReport
from mirror.report.json import to_json
from mirror.verify import structure
from tests.support import images, layouts
from tests.support.command import Mirror
from tests.support.images import Json
from tests.support.profiles import scaled

MOST_MEMORY = 300 << 20  # bytes of a whole run


def put(layout: Path, document: Json, media_type: str = images.OCI_INDEX) -> Json:
    """Store a manifest or an index, and return its descriptor."""
    data = images.encode({"schemaVersion": 2, "mediaType": media_type, **document})
    layouts.add(layout, images.digest_of(data), data)
    return {"mediaType": media_type, "digest": images.digest_of(data), "size": len(data)}


def missing(number: int, **fields: object) -> Json:
    return {"mediaType": images.OCI_MANIFEST, "digest": images.digest_of(b"%d" % number), "size": 5, **fields}


def named(node: Json, name: str) -> Json:
    return {**node, "annotations": {"io.containerd.image.name": name, "org.opencontainers.image.ref.name": "v1"}}


def verified(layout: Path) -> VerifyReport:
    return asyncio.run(verify_layout(layout))


def kinds(report: VerifyReport) -> set[Kind]:
    return {finding.kind for finding in report.findings}


def measured(layout: Path, *flags: str) -> tuple[int, int]:
    """Run `mirror verify`, and return the exit code and the peak memory in bytes."""
    code = (
        "import resource, subprocess, sys; code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode; "
    )
    code += "print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
    command = [sys.executable, "-c", code, sys.executable, "-m", "mirror", "verify", str(layout), "-q", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    exit_code, memory = map(int, done.stdout.split())
    return exit_code, memory


@pytest.mark.slow
def test_index_json_of_100000_entries_is_read_in_bounded_memory(tmp_path: Path) -> None:
    entries = [named(missing(number), f"registry.example/team/image-{number}:v1") for number in range(scaled(100_000))]
    layouts.write_index(tmp_path, entries)
    code, memory = measured(tmp_path, "--level", "structure")
    assert code == 3
    assert memory < 2 * MOST_MEMORY


@pytest.mark.slow
def test_index_json_above_its_size_limit_is_broken(tmp_path: Path) -> None:
    layouts.write_index(tmp_path, [])
    (tmp_path / "index.json").write_bytes(b'{"schemaVersion":2,"manifests":[]' + b" " * (64 << 20) + b"}")
    assert kinds(verified(tmp_path)) == {Kind.BROKEN_INDEX}


@pytest.mark.slow
@pytest.mark.parametrize("value", [b"[]", b"{}"])
def test_index_json_of_many_tiny_entries_fails_in_bounded_memory(tmp_path: Path, value: bytes) -> None:
    layouts.write_index(tmp_path, [])
    (tmp_path / "index.json").write_bytes(
        b'{"schemaVersion":2,"manifests":[' + (value + b",") * (20 << 20) + value + b"]}"
    )
    code, memory = measured(tmp_path)
    assert code == 3
    assert memory < MOST_MEMORY


@pytest.mark.slow
def test_nested_index_just_below_the_size_limit_is_read(tmp_path: Path) -> None:
    children = [{"mediaType": "a", "digest": images.digest_of(b"%d" % number), "size": 5} for number in range(38_000)]
    node = put(tmp_path, {"manifests": children})
    assert (4 << 20) - 100_000 < node["size"] < 4 << 20
    layouts.write_index(tmp_path, [node])
    report = verified(tmp_path)
    assert kinds(report) == {Kind.MISSING}
    assert len(report.findings) == len(children)


def test_nested_index_above_the_size_limit_is_not_read(tmp_path: Path) -> None:
    node = put(tmp_path, {"manifests": [], "x": "x" * (4 << 20)})
    layouts.write_index(tmp_path, [node])
    assert kinds(verified(tmp_path)) == {Kind.BROKEN_MANIFEST}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("levels", "errors"), [(31, {Kind.MISSING}), (32, {Kind.MISSING, Kind.TOO_MANY}), (1000, {Kind.TOO_MANY})]
)
def test_nested_indexes_are_followed_to_the_same_depth_as_by_copies(
    tmp_path: Path, levels: int, errors: set[Kind]
) -> None:
    node = missing(1)
    for _ in range(levels):
        node = put(tmp_path, {"manifests": [node, node]})
    layouts.write_index(tmp_path, [node])
    assert {finding.kind for finding in verified(tmp_path).findings if finding.severity is Severity.ERROR} == errors


def test_index_that_contains_itself_is_corrupt(tmp_path: Path) -> None:
    """Such an index cannot match its digest."""
    digest = images.digest_of(b"loop")
    data = images.index([]).data.replace(
        b"[]", b'[{"mediaType":"%s","digest":"%s","size":%%d}]' % (images.OCI_INDEX.encode(), digest.encode())
    )
    data = data % (len(data) + 1)
    layouts.add(tmp_path, digest, data)
    layouts.write_index(tmp_path, [{"mediaType": images.OCI_INDEX, "digest": digest, "size": len(data)}])
    assert kinds(verified(tmp_path)) == {Kind.CORRUPT}


@pytest.mark.slow
def test_too_many_links_to_shared_children_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "FREE_LINKS", 1000)
    shared = put(tmp_path, {"manifests": [missing(number) for number in range(200)]})
    tops = [put(tmp_path, {"manifests": [shared], "annotations": {"n": str(number)}}) for number in range(200)]
    layouts.write_index(tmp_path, tops)
    report = verified(tmp_path)
    assert kinds(report) >= {Kind.TOO_MANY, Kind.MISSING}
    assert report.verdict == "not ok"


@pytest.mark.slow
def test_image_with_many_names_is_walked_once(tmp_path: Path) -> None:
    count = scaled(20_000)
    shared = put(tmp_path, {"manifests": [missing(number) for number in range(3000)]})
    layouts.write_index(tmp_path, [named(shared, f"a.example/b-{number}:v1") for number in range(count)])
    report = verified(tmp_path)
    assert kinds(report) == {Kind.MISSING}
    assert len(report.findings) == 3000
    found = to_json(report)["findings"][0]
    assert (len(found["images"]), found["moreImages"]) == (50, count - 50)


@pytest.mark.parametrize("size", [2**62, 2**63 - 1])
@pytest.mark.parametrize("media_type", [images.OCI_MANIFEST, images.OCI_LAYER])
def test_absurd_descriptor_size_is_a_finding(tmp_path: Path, size: int, media_type: str) -> None:
    there = missing(1, size=size, mediaType=media_type)
    layouts.add(tmp_path, there["digest"], b"1")
    layouts.write_index(tmp_path, [put(tmp_path, {"manifests": [there, missing(2, size=size)]})])
    report = verified(tmp_path)
    assert {Kind.TOO_SHORT, Kind.MISSING} <= kinds(report)
    json.dumps(to_json(report))


@pytest.mark.parametrize("name", ["a\x1b]0;owned\x07", "\x9b2J", "a\nok b", "\u202eb", "a\udcff", "<&\"'>\0]]>"])
def test_control_characters_and_markup_in_names_are_escaped(mirror: Mirror, tmp_path: Path, name: str) -> None:
    from xml.etree import ElementTree

    entry = {**missing(1), "annotations": {"org.opencontainers.image.ref.name": name}}
    layouts.write_index(tmp_path / "layout", [entry])
    result = mirror("verify", "layout", "--junit", "out.xml", code=3)
    assert result.out.replace("\n", "").isprintable()
    assert len(ElementTree.parse(tmp_path / "out.xml").getroot().findall("testcase")) == 2
    assert mirror("verify", "layout", "--json", code=3).json["images"][0]["name"] == name


def test_digest_with_two_media_types_is_an_error(tmp_path: Path) -> None:
    """Tools could disagree on whether it is an index or a manifest (CVE-2021-41190)."""
    node = put(tmp_path, {"manifests": []})
    layouts.write_index(tmp_path, [node, {**node, "mediaType": images.OCI_MANIFEST}])
    found = {(finding.kind, finding.severity) for finding in verified(tmp_path).findings}
    assert (Kind.TYPE_CONFLICT, Severity.ERROR) in found
