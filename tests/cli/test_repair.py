"""Tests of `mirror verify --repair`: damaged blobs are moved to quarantine and fetched again."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import images, layouts
from tests.support.command import Mirror, blob_path, blobs, entries, tree, wrong_blobs
from tests.support.registry import EmbeddedRegistry, Fault, Flip, Status

IMAGE = images.multi_arch()
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))
CHILD = next(digest for digest in IMAGE.manifests if digest != IMAGE.root)
EVERYTHING = sorted({*IMAGE.blobs, *IMAGE.manifests})


@pytest.fixture
def layout(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> Path:
    """An image, in a layout and in a registry; `good` is a copy of the layout."""
    IMAGE.publish(registry, "team/app", "v1")
    mirror("pull", f"{registry.host}/team/app:v1", "--all", "--no-referrers")
    shutil.copytree(tmp_path / "layout", tmp_path / "good")
    mirror("export", "good", "good.tar")
    registry.clear_log()
    return tmp_path / "layout"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"!"),
    "empty": lambda path: path.write_bytes(b""),
    "gone": Path.unlink,
    "a directory": to_directory,
}


def content(folder: Path) -> dict[str, bytes | str]:
    """The files of a layout, without those in `.mirror`."""
    return {name: data for name, data in tree(folder).items() if not name.startswith(".mirror")}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("digest", [LAYER, CHILD, IMAGE.root])
def test_damaged_blob_is_repaired_from_a_registry(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, damage: str, digest: str
) -> None:
    DAMAGES[damage](blob_path(layout, digest))
    result = mirror("verify", "layout", "--repair", "--from", registry.host, "--json").json
    assert (result["verdict"], result["repair"]["healed"]) == ("ok", [digest])
    assert content(layout) == content(layout.parent / "good")
    got = {seen.path.rpartition("/")[2] for seen in registry.requests if seen.method == "GET" and seen.sent}
    assert got <= {digest, "v2", ""}


@pytest.mark.slow
@pytest.mark.parametrize("source", ["./good", "good.tar", "oci:good", "oci-archive:good.tar"])
@pytest.mark.parametrize("digest", [LAYER, IMAGE.root])
def test_damaged_blob_is_repaired_from_a_layout_or_an_archive(
    mirror: Mirror, layout: Path, source: str, digest: str
) -> None:
    flip(blob_path(layout, digest))
    assert f"1 blob repaired from {source}" in mirror("verify", "layout", "--repair", "--from", source).err
    assert content(layout) == content(layout.parent / "good")


@pytest.mark.slow
def test_tilde_in_a_source_is_expanded(mirror: Mirror, layout: Path) -> None:
    flip(blob_path(layout, LAYER))
    assert "There is no" in mirror("verify", "layout", "--repair", "--from", "~no-such-user/x", code=2).err
    mirror("verify", "layout", "--repair", "--from", "~/good", env={"HOME": str(layout.parent)})
    assert content(layout) == content(layout.parent / "good")


@pytest.mark.slow
def test_layout_without_any_blobs_is_repaired(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    for digest in EVERYTHING:
        blob_path(layout, digest).unlink()
    mirror("verify", "layout", "--repair", "--from", registry.host)
    assert content(layout) == content(layout.parent / "good")


@pytest.mark.slow
def test_damaged_blob_is_moved_to_quarantine(mirror: Mirror, layout: Path) -> None:
    flip(blob_path(layout, LAYER))
    bad = blob_path(layout, LAYER).read_bytes()
    result = mirror("verify", "layout", "--repair", "--from", "./good")
    kept = layout / ".mirror/quarantine" / LAYER.replace(":", "-")
    assert kept.read_bytes() == bad
    assert str(kept.relative_to(layout.parent)) in result.err


@pytest.mark.slow
def test_several_damaged_files_are_reported_in_one_line(mirror: Mirror, layout: Path) -> None:
    for digest in (LAYER, CHILD):
        flip(blob_path(layout, digest))
    result = mirror("verify", "layout", "--repair", "--from", "./good")
    assert "warning: 2 damaged files were moved to layout/.mirror/quarantine\n" in result.err
    assert len(list((layout / ".mirror/quarantine").iterdir())) == 2


@pytest.mark.slow
def test_corrupt_orphan_is_moved_to_quarantine(mirror: Mirror, layout: Path) -> None:
    orphan = "sha256:" + "0" * 64
    blob_path(layout, orphan).write_bytes(b"something else")
    result = mirror("verify", "layout", "--repair", "--from", "./good", "--json").json
    assert (result["verdict"], result["findings"]) == ("ok", [])
    assert (layout / ".mirror/quarantine" / orphan.replace(":", "-")).read_bytes() == b"something else"


@pytest.mark.slow
def test_repair_of_an_undamaged_layout_does_nothing(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    shutil.rmtree(layout / ".mirror")
    mirror("verify", "layout", "--repair", "--from", registry.host)
    assert registry.requests == []
    assert not (layout / ".mirror").exists()


@pytest.mark.slow
def test_verify_without_repair_changes_nothing(mirror: Mirror, layout: Path) -> None:
    flip(blob_path(layout, LAYER))
    before = tree(layout)
    mirror("verify", "layout", code=3)
    assert tree(layout) == before


@pytest.mark.slow
def test_repair_keeps_the_annotations_of_other_tools(mirror: Mirror, layout: Path) -> None:
    document = json.loads((layout / "index.json").read_bytes())
    document["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "v1", "mine": "yes"}
    (layout / "index.json").write_text(json.dumps(document))
    flip(blob_path(layout, LAYER))
    mirror("verify", "layout", "--repair", "--from", "./good")
    assert entries(layout)[0]["annotations"] == {"org.opencontainers.image.ref.name": "v1", "mine": "yes"}


@pytest.mark.slow
@pytest.mark.parametrize("lie", [Flip(0), Status(404)])
def test_source_with_a_corrupt_or_missing_blob_repairs_nothing(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, lie: Flip | Status
) -> None:
    flip(blob_path(layout, LAYER))
    registry.fault(Fault(path=LAYER, times=None, action=lie))
    result = mirror("verify", "layout", "--repair", "--from", registry.host, "--json", code=3)
    assert result.json["repair"]["healed"] == []
    assert len(result.json["repair"]["failures"]) == 1
    assert [finding["subject"] for finding in result.json["findings"]] == [LAYER]
    assert wrong_blobs(layout) in ([LAYER], [])  # unchanged, or already in quarantine


@pytest.mark.slow
def test_quiet_repair_still_reports_why_an_image_could_not_be_repaired(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    flip(blob_path(layout, LAYER))
    registry.fault(Fault(path=LAYER, times=None, action=Status(404)))
    result = mirror("verify", "layout", "--repair", "--from", registry.host, "-q", code=3)
    (line,) = result.err.splitlines()
    assert line.startswith(f"error: {registry.host}/")
    assert LAYER in line


@pytest.mark.slow
def test_repair_of_one_image_does_not_repair_others(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    other = images.image("linux/amd64", images.layer(55, 400))
    other.publish(registry, "other", "v1")
    mirror("pull", f"{registry.host}/other:v1", "--all", "--no-referrers")
    bad = next(iter(other.blobs))
    for digest in (LAYER, bad):
        flip(blob_path(layout, digest))
    mirror("verify", "layout", f"{registry.host}/other:v1", "--repair", "--from", registry.host)
    assert wrong_blobs(layout) == [LAYER]


@pytest.mark.slow
def test_repair_does_not_fetch_the_omitted_platforms_of_a_sparse_image(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    mirror("pull", f"{registry.host}/team/app:v1", "--platform", "linux/amd64", "--sparse", "-o", "sparse")
    before = blobs(layout.parent / "sparse")
    flip(blob_path(layout.parent / "sparse", LAYER))
    mirror("verify", "sparse", "--repair", "--from", registry.host)
    assert blobs(layout.parent / "sparse") == before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_broken_oci_layout_or_index_is_not_repaired(mirror: Mirror, layout: Path, name: str) -> None:
    flip(blob_path(layout, LAYER))
    (layout / name).write_text("{")
    before = tree(layout)
    mirror("verify", "layout", "--repair", "--from", "./good", code=3)
    assert tree(layout) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        ["layout", "--repair"],
        ["layout", "--from", "./good"],
        ["layout", "--repair", "--from", "./nowhere"],
        ["layout", "--repair", "--from", "No Registry"],
        ["layout", "--repair", "--from", "./good", "--sample", "1/2"],
    ],
)
def test_invalid_options_are_refused(mirror: Mirror, layout: Path, words: list[str]) -> None:
    flip(blob_path(layout, LAYER))
    before = tree(layout)
    mirror("verify", *words, code=2)
    assert tree(layout) == before


@pytest.mark.slow
@pytest.mark.parametrize("source", ["good2", "good2.tar", "./good2", "oci:good2"])
def test_missing_source_is_refused(mirror: Mirror, layout: Path, source: str) -> None:
    flip(blob_path(layout, LAYER))
    before = tree(layout)
    assert "There is no " in mirror("verify", "layout", "--repair", "--from", source, code=2).err
    assert tree(layout) == before


@pytest.mark.slow
def test_corrupt_orphan_is_not_reported_as_healed(mirror: Mirror, layout: Path) -> None:
    digest = images.digest_of(b"an orphan")
    layouts.add(layout, digest, b"another")
    result = mirror("verify", "layout", "--repair", "--from", "./good", "--json").json
    assert (result["repair"]["healed"], len(result["repair"]["movedAside"])) == ([], 1)
