"""Tests of images that a layout already has: a transfer adds platforms, and drops none without --replace."""

import json
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror, assert_whole, blob_path, blobs, entries, tree
from tests.support.images import Image
from tests.support.registry import EmbeddedRegistry

PLATFORMS = ("linux/amd64", "linux/arm64", "linux/s390x")
CHILDREN = [images.image(platform, images.layer(seed, 500)) for seed, platform in enumerate(PLATFORMS)]
INDEX = images.index(CHILDREN)
NEXT = images.index([images.image(platform, images.layer(seed, 600)) for seed, platform in enumerate(PLATFORMS, 10)])
AMD64, ARM64, S390X = CHILDREN
SPARSE = "dev.oci-mirror.sparse"
ORIGIN = "dev.oci-mirror.index"

pytestmark = pytest.mark.slow


@pytest.fixture
def name(registry: EmbeddedRegistry) -> str:
    INDEX.publish(registry, "a", "v1")
    return f"{registry.host}/a:v1"


def pull(mirror: Mirror, name: str, *platforms: str) -> str:
    """Pull platforms, or all if none are given; return stderr."""
    flags = [f"--platform={platform}" for platform in platforms] or ["--all"]
    return mirror("pull", name, *flags).err


def only_entry(layout: Path) -> tuple[str, dict[str, str]]:
    (entry,) = entries(layout)
    return entry["digest"], entry["annotations"]


def whole(layout: Path, *parts: Image) -> None:
    """Check that these images are in the layout, and that pruning it would delete nothing of them."""
    wanted = {digest for part in parts for digest in (*part.manifests, *part.blobs)}
    assert wanted <= blobs(layout)
    orphans = Mirror(layout.parent)("prune", layout, "--json").json["orphans"]
    assert wanted.isdisjoint(orphan["digest"] for orphan in orphans)


# Pinned digests


@pytest.mark.parametrize("flags", [["--platform=linux/amd64"], ["--platform=linux/amd64,linux/arm64"], ["--all"]])
def test_pinned_index_is_stored_under_its_digest(
    mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path, flags: list[str]
) -> None:
    pinned = f"{registry.host}/a@{INDEX.root}"
    assert mirror("pull", pinned, *flags).lines == [pinned]
    assert only_entry(layout)[0] == INDEX.root
    mirror("verify", layout)
    assert INDEX.root in blobs(layout)


def test_pinned_index_with_a_tag_is_stored(mirror: Mirror, name: str, layout: Path) -> None:
    result = mirror("pull", f"{name}@{INDEX.root}", "--platform", "linux/arm64")
    assert result.lines == [f"{name}@{INDEX.root}"]
    assert only_entry(layout) == (INDEX.root, only_entry(layout)[1] | {SPARSE: ARM64.root})
    assert "linux/arm64 only" in result.err
    assert "--all-platforms" in result.err


def test_pinned_index_is_copied_to_an_archive(mirror: Mirror, registry: EmbeddedRegistry, name: str) -> None:
    pinned = f"{registry.host}/a@{INDEX.root}"
    copied = mirror("copy", f"docker://{pinned}", "oci-archive:a.tar", "--platform", "linux/amd64")
    assert copied.lines == [pinned]
    assert INDEX.root in mirror("ls", "oci-archive:a.tar", "--json", code=0).out


def test_digest_of_a_platform_is_stored_as_it_is(
    mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path
) -> None:
    pinned = f"{registry.host}/a@{ARM64.root}"
    assert mirror("pull", pinned, "--platform", "linux/arm64").lines == [pinned]
    assert only_entry(layout)[0] == ARM64.root


# Fewer or other platforms of the same published image


@pytest.mark.parametrize("flags", [[], ["--sparse"]])
def test_pull_of_fewer_platforms_keeps_the_others(mirror: Mirror, name: str, layout: Path, flags: list[str]) -> None:
    pull(mirror, name)
    before = tree(layout)
    result = mirror("pull", name, "--platform", "linux/amd64", *flags, "--json")
    assert tree(layout) == before
    assert result.json["images"][0]["replaced"] is None
    assert "stands for" not in result.err
    assert "linux/arm64, linux/s390x: kept. --replace drops" in result.err
    whole(layout, INDEX)


def test_two_sparse_pulls_are_merged(mirror: Mirror, name: str, layout: Path) -> None:
    mirror("pull", name, "--sparse", "--platform", "linux/amd64")
    result = mirror("pull", name, "--sparse", "--platform", "linux/s390x")
    assert only_entry(layout)[0] == INDEX.root
    assert only_entry(layout)[1][SPARSE] == f"{AMD64.root},{S390X.root}"
    assert "healed" not in result.err
    whole(layout, AMD64, S390X)


def test_last_missing_platform_completes_the_index(mirror: Mirror, name: str, layout: Path) -> None:
    for platform in PLATFORMS:
        pull(mirror, name, platform)
    assert only_entry(layout)[0] == INDEX.root
    assert SPARSE not in only_entry(layout)[1]
    whole(layout, INDEX)


def test_pulls_of_single_platforms_become_one_index(mirror: Mirror, name: str, layout: Path) -> None:
    pull(mirror, name, "linux/amd64")
    result = mirror("pull", name, "--platform", "linux/arm64", "--json")
    digest, annotations = only_entry(layout)
    assert annotations[ORIGIN] == INDEX.root
    document = json.loads(layout.joinpath("blobs", *digest.split(":")).read_bytes())
    assert [child["digest"] for child in document["manifests"]] == [AMD64.root, ARM64.root]
    assert result.json["images"][0]["replaced"] is None
    pull(mirror, name, "linux/arm64")
    assert only_entry(layout)[0] == digest
    whole(layout, AMD64, ARM64)


def test_replace_drops_the_other_platforms(mirror: Mirror, name: str, layout: Path) -> None:
    pull(mirror, name)
    result = mirror("pull", name, "--platform", "linux/amd64", "--replace")
    assert only_entry(layout)[0] == AMD64.root
    assert "linux/arm64, linux/s390x: no longer part of" in result.err
    assert "stands for" not in result.err
    mirror("verify", layout)


def test_image_that_another_tool_stored_alone_is_merged(mirror: Mirror, name: str, layout: Path) -> None:
    pull(mirror, name, "linux/amd64")
    document = json.loads((layout / "index.json").read_bytes())
    document["manifests"][0].pop("platform", None)
    del document["manifests"][0]["annotations"][ORIGIN]
    (layout / "index.json").write_text(json.dumps(document))
    pull(mirror, name, "linux/arm64")
    assert only_entry(layout)[1][ORIGIN] == INDEX.root
    whole(layout, AMD64, ARM64)


def test_damaged_sparse_index_is_fetched_again(mirror: Mirror, name: str, layout: Path) -> None:
    mirror("pull", name, "--sparse", "--platform", "linux/amd64")
    blob_path(layout, INDEX.root).write_bytes(b"damaged")
    mirror("pull", name, "--sparse", "--platform", "linux/arm64")
    assert only_entry(layout)[1][SPARSE] == f"{AMD64.root},{ARM64.root}"
    whole(layout, AMD64, ARM64)


def test_dry_run_names_the_platforms_that_would_be_kept(mirror: Mirror, name: str) -> None:
    pull(mirror, name)
    assert "linux/arm64, linux/s390x: kept" in mirror("pull", name, "--platform=linux/amd64", "--dry-run").err


# Images that have moved


def test_moved_image_keeps_its_platforms(mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path) -> None:
    pull(mirror, name, "linux/amd64", "linux/arm64")
    before = only_entry(layout)[0]
    NEXT.publish(registry, "a", "v1")
    result = mirror("pull", name, "--platform", "linux/amd64", "--json")
    image = result.json["images"][0]
    assert image["replaced"] == before
    assert image["platforms"] == ["linux/amd64", "linux/arm64"]
    assert "linux/arm64: fetched too, because the layout had it" in result.err
    assert only_entry(layout)[1][ORIGIN] == NEXT.root
    assert_whole(layout)


def test_whole_image_that_has_moved_stays_whole(
    mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path
) -> None:
    pull(mirror, name)
    more = images.index([AMD64, ARM64, S390X, images.image("linux/riscv64", images.layer(30, 500))])
    more.publish(registry, "a", "v1")
    pull(mirror, name, "linux/amd64")
    assert only_entry(layout)[0] == more.root
    whole(layout, more)


def test_unpublished_platform_is_reported(mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path) -> None:
    pull(mirror, name)
    images.index([ARM64]).publish(registry, "a", "v1")
    assert "linux/amd64, linux/s390x: no longer part of" in pull(mirror, name)
    assert_whole(layout)


def test_moved_image_without_index_is_replaced(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    AMD64.publish(registry, "b", "v1")
    pull(mirror, f"{registry.host}/b:v1", "linux/amd64")
    NEXT.publish(registry, "b", "v1")
    result = mirror("pull", f"{registry.host}/b:v1", "--platform", "linux/arm64", "--json")
    assert result.json["images"][0]["replaced"] == AMD64.root
    assert result.json["images"][0]["platforms"] == ["linux/amd64", "linux/arm64"]


# From other layouts and archives


def test_import_of_fewer_platforms_keeps_the_others(mirror: Mirror, name: str, layout: Path) -> None:
    mirror("pull", name, "--platform", "linux/amd64", "-o", "part")
    mirror("export", "part", "part.tar")
    pull(mirror, name)
    before = tree(layout)
    mirror("import", "part.tar", layout)
    assert tree(layout) == before


def test_sparse_images_of_two_archives_are_merged(mirror: Mirror, name: str, layout: Path) -> None:
    for platform in ("linux/amd64", "linux/s390x"):
        mirror("pull", name, "--platform", platform, "--sparse", "-o", "part")
        mirror("export", "part", "part.tar")
        mirror("rm", "part", name)
        mirror("prune", "part", "--delete")
        mirror("import", "part.tar", layout)
    assert only_entry(layout)[1][SPARSE] == f"{AMD64.root},{S390X.root}"
    whole(layout, AMD64, S390X)


def test_copy_adds_a_platform_to_the_whole_index(mirror: Mirror, name: str, layout: Path) -> None:
    mirror("pull", name, "--platform", "linux/arm64", "-o", "part")
    mirror("pull", name, "--platform", "linux/amd64", "--sparse")
    mirror("copy", "oci:part", f"oci:{layout}")
    assert only_entry(layout)[0] == INDEX.root
    assert only_entry(layout)[1][SPARSE] == f"{AMD64.root},{ARM64.root}"
    whole(layout, AMD64, ARM64)


def test_import_that_would_lose_a_platform_is_refused(
    mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path
) -> None:
    pull(mirror, name)
    before = tree(layout)
    NEXT.publish(registry, "a", "v1")
    mirror("pull", name, "--platform", "linux/amd64", "-o", "part")
    mirror("export", "part", "part.tar")
    refused = mirror("import", "part.tar", layout, code=2)
    assert name in refused.err
    assert "linux/s390x" in refused.err
    assert "--replace" in refused.err
    assert tree(layout) == before
    mirror("import", "part.tar", layout, "--replace")
    assert only_entry(layout)[1][ORIGIN] == NEXT.root
    assert_whole(layout)


def test_parts_without_their_index_are_not_merged(mirror: Mirror, name: str, layout: Path) -> None:
    mirror("pull", name, "--platform", "linux/amd64", "-o", "part")
    pull(mirror, name, "linux/arm64")
    before = tree(layout)
    mirror("copy", "oci:part", f"oci:{layout}", code=2)
    assert tree(layout) == before


def test_replace_is_for_layouts_only(mirror: Mirror, name: str) -> None:
    assert "--replace" in mirror("copy", f"docker://{name}", "oci-archive:a.tar", "--replace", code=2).err
