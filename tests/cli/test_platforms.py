"""Tests of the selection of platforms in `mirror pull`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror import Platform
from tests.support import images
from tests.support.command import Mirror, blob_path, blobs, entries
from tests.support.images import Image
from tests.support.registry import EmbeddedRegistry, serving

HOST = str(Platform.host())
OTHER = "linux/s390x"
PLATFORMS = [HOST, "linux/arm/v5", "linux/arm/v7", "linux/arm/v6", "linux/arm64/v8", OTHER]


def child(platform: str, seed: int) -> Image:
    return images.image(platform, images.layer(seed, 200))


CHILDREN = {platform: child(platform, seed) for seed, platform in enumerate(dict.fromkeys(PLATFORMS))}
ATTESTATIONS = {platform: images.attestation(image) for platform, image in CHILDREN.items()}
WHOLE = images.index([*CHILDREN.values(), *ATTESTATIONS.values()], annotations={"org.example": "kept"})
DOCKER = images.multi_arch(PLATFORMS[1:4], docker=True)
WINDOWS = [
    images.manifest(
        images.config("windows", "amd64", layers=[images.layer(seed, 150)]),
        [images.layer(seed, 150)],
        {"architecture": "amd64", "os": "windows", "os.version": version},
    )
    for seed, version in enumerate(["10.0.17763.1", "10.0.20348.2"], 50)
]
NESTED = images.index([CHILDREN[HOST], images.index([CHILDREN[OTHER], CHILDREN["linux/arm/v7"]])])


@pytest.fixture(scope="module")
def shop() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry()) as registry:
        WHOLE.publish(registry, "whole", "v1")
        DOCKER.publish(registry, "docker", "v1")
        NESTED.publish(registry, "nested", "v1")
        images.index(WINDOWS).publish(registry, "windows", "v1")
        images.index([CHILDREN[OTHER]]).publish(registry, "foreign", "v1")
        CHILDREN[HOST].publish(registry, "host", "v1")
        CHILDREN[OTHER].publish(registry, "other", "v1")
        yield registry


def root(layout: Path) -> dict[str, Any]:
    """The entry of the only image."""
    (entry,) = entries(layout)
    return entry


def kept(layout: Path) -> list[str]:
    """The digests in the root index, in its order."""
    data = blob_path(layout, root(layout)["digest"]).read_bytes()
    return [node["digest"] for node in json.loads(data)["manifests"]]


def test_host_platform_is_the_default(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    image = CHILDREN[HOST]
    assert mirror("pull", f"{shop.host}/whole:v1").lines == [f"{shop.host}/whole:v1@{image.root}"]
    assert blobs(tmp_path / "layout") == {*image.blobs, *image.manifests}


def test_single_platform_records_its_index(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", f"{shop.host}/whole:v1", "--platform", OTHER)
    annotations = root(tmp_path / "layout")["annotations"]
    assert annotations["dev.oci-mirror.index"] == WHOLE.root
    assert annotations["dev.oci-mirror.origin"] == f"{shop.host}/whole:v1@{WHOLE.root}"
    mirror("verify", "layout")


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["-a", "--all-platforms"])
def test_all_platforms_keep_the_index(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path, flag: str) -> None:
    mirror("pull", f"{shop.host}/whole:v1", flag)
    assert root(tmp_path / "layout")["digest"] == WHOLE.root
    assert blobs(tmp_path / "layout") == {*WHOLE.manifests, *WHOLE.blobs}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/aarch64", "linux/arm64/v8"),
        ("LINUX/ARM/V5", "linux/arm/v5"),
    ],
)
def test_platform_option_is_normalized(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path, asked: str, found: str
) -> None:
    mirror("pull", f"{shop.host}/whole:v1", "--platform", asked)
    assert root(tmp_path / "layout")["digest"] == CHILDREN[found].root


def test_os_version_selects_the_platform(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", f"{shop.host}/windows:v1", "--platform", "windows/amd64:10.0.20348.2")
    assert root(tmp_path / "layout")["digest"] == WINDOWS[1].root


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [["--platform", f"{OTHER},linux/arm/v7"], ["--platform", "linux/arm/v7", "--platform", f" {OTHER} "]],
)
def test_several_platforms_are_stored_as_a_new_index(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path, flags: list[str]
) -> None:
    mirror("pull", f"{shop.host}/whole:v1", *flags)
    layout, chosen = tmp_path / "layout", ["linux/arm/v7", OTHER]  # the published order
    wanted = [CHILDREN[name].root for name in chosen] + [ATTESTATIONS[name].root for name in chosen]
    assert kept(layout) == wanted
    assert root(layout)["mediaType"] == images.OCI_INDEX
    assert root(layout)["annotations"]["dev.oci-mirror.index"] == WHOLE.root
    assert set(wanted) < blobs(layout)
    mirror("verify", "layout")


def test_new_index_keeps_the_published_descriptors(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", f"{shop.host}/whole:v1", "--platform", f"{OTHER},linux/arm/v7")
    ours = json.loads(blob_path(tmp_path / "layout", root(tmp_path / "layout")["digest"]).read_bytes())
    published = json.loads(WHOLE.data)["manifests"]
    assert [node for node in published if node in ours["manifests"]] == ours["manifests"]
    assert ours["annotations"] == {"dev.oci-mirror.index": WHOLE.root}


@pytest.mark.slow
def test_subset_of_a_docker_manifest_list_is_a_docker_manifest_list(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path
) -> None:
    mirror("pull", f"{shop.host}/docker:v1", "--platform", "linux/arm/v5,linux/arm/v6")
    assert root(tmp_path / "layout")["mediaType"] == images.DOCKER_LIST
    data = blob_path(tmp_path / "layout", root(tmp_path / "layout")["digest"]).read_bytes()
    assert set(json.loads(data)) == {"schemaVersion", "mediaType", "manifests"}


@pytest.mark.slow
def test_choosing_every_platform_keeps_the_published_index(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path
) -> None:
    mirror("pull", f"{shop.host}/docker:v1", "--platform", "linux/arm/v6,linux/arm/v5,linux/arm/v7")
    assert root(tmp_path / "layout")["digest"] == DOCKER.root


def test_platform_of_a_nested_index_is_found(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", f"{shop.host}/nested:v1", "--platform", OTHER)
    assert root(tmp_path / "layout")["digest"] == CHILDREN[OTHER].root


@pytest.mark.slow
@pytest.mark.parametrize("image", ["whole", "nested"])
def test_sparse_keeps_the_index_and_omits_the_other_platforms(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path, image: str
) -> None:
    published = {"whole": WHOLE, "nested": NESTED}[image]
    mirror("pull", f"{shop.host}/{image}:v1", "--platform", OTHER, "--sparse")
    layout = tmp_path / "layout"
    assert root(layout)["digest"] == published.root
    assert CHILDREN[OTHER].root in blobs(layout)
    assert CHILDREN["linux/arm/v7"].root not in blobs(layout)
    assert mirror("verify", "layout", "--json").json["verdict"] == "ok"
    assert "sparse" in mirror("ls", "layout").out


@pytest.mark.slow
def test_sparse_stores_only_the_attestation_of_the_selected_platform(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path
) -> None:
    mirror("pull", f"{shop.host}/whole:v1", "--platform", OTHER, "--sparse")
    there = {name for name, image in ATTESTATIONS.items() if image.root in blobs(tmp_path / "layout")}
    assert there == {OTHER}


@pytest.mark.slow
def test_pull_of_all_platforms_completes_a_sparse_image(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", f"{shop.host}/whole:v1", "--platform", OTHER, "--sparse")
    mirror("pull", f"{shop.host}/whole:v1", "--all")
    assert "dev.oci-mirror.sparse" not in root(tmp_path / "layout")["annotations"]
    assert mirror("verify", "layout", "--json").json["findings"] == []


@pytest.mark.parametrize(
    "flags", [["--platform", "linux/riscv64"], ["--platform", f"{HOST},linux/riscv64"], ["--platform", "linux/arm/v8"]]
)
def test_error_for_a_missing_platform_lists_the_available_ones(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path, flags: list[str]
) -> None:
    result = mirror("pull", f"{shop.host}/whole:v1", *flags, code=2)
    assert all(platform in result.err for platform in PLATFORMS)
    assert "unknown" not in result.err
    assert not (tmp_path / "layout").exists()


def test_error_for_a_missing_host_platform_lists_the_available_ones(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    assert f"It has: {OTHER}" in mirror("pull", f"{shop.host}/foreign:v1", code=2).err


def test_single_platform_image_for_another_host_is_pulled_with_a_warning(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path
) -> None:
    assert OTHER in mirror("pull", f"{shop.host}/other:v1").err
    assert root(tmp_path / "layout")["digest"] == CHILDREN[OTHER].root


def test_single_platform_image_for_this_host_causes_no_warning(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    result = mirror("pull", f"{shop.host}/host:v1", "--json")
    assert result.json["warnings"] == []


def test_single_platform_image_is_refused_if_it_lacks_the_requested_platform(
    mirror: Mirror, shop: EmbeddedRegistry
) -> None:
    assert f"It has: {OTHER}" in mirror("pull", f"{shop.host}/other:v1", "--platform", HOST, code=2).err


@pytest.mark.parametrize("platform", ["linux", "a/b/c/d", "", ","])
def test_bad_platform_is_refused(mirror: Mirror, platform: str) -> None:
    err = mirror("pull", "127.0.0.1:9/a", "--platform", platform, code=2).err
    assert err.startswith(f"error: Unknown platform '{platform.strip(',')}'.\nhint: Platforms look like ")


def test_platform_and_all_platforms_exclude_each_other(mirror: Mirror) -> None:
    assert "cannot be combined" in mirror("pull", "127.0.0.1:9/a", "--platform", HOST, "--all", code=2).err


@pytest.mark.slow
def test_platform_option_overrides_the_environment(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", f"{shop.host}/whole:v1", "--platform", OTHER, env={"MIRROR_ALL_PLATFORMS": "1"})
    assert root(tmp_path / "layout")["digest"] == CHILDREN[OTHER].root


@pytest.mark.slow
def test_environment_variable_selects_the_platforms(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror("pull", f"{shop.host}/whole:v1", env={"MIRROR_PLATFORM": f"{OTHER},linux/arm/v7"})
    assert kept(tmp_path / "layout")[:2] == [CHILDREN["linux/arm/v7"].root, CHILDREN[OTHER].root]
