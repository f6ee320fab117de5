"""Tests that skopeo and umoci read the layouts that mirror pulls from docker-registry."""

import json
from pathlib import Path

import pytest

from tests.peers.layouts import THREE, assert_clean, copied, everything, files, part, root, stored, tagged, tree
from tests.peers.programs import DockerRegistry, Program, Skopeo
from tests.support.images import multi_arch

pytestmark = pytest.mark.peer

IMAGE = multi_arch(THREE)
AMD64 = part(IMAGE, "linux/amd64")


@pytest.fixture
def layout(registry: DockerRegistry, mirror: Program, tmp_path: Path) -> Path:
    """A layout with every platform of the image, as team/app:1."""
    mirror("pull", registry.publish(IMAGE, "team/app", "1"), "--all-platforms", "-o", "layout")
    return tmp_path / "layout"


@pytest.mark.slow
def test_pull_stores_every_manifest_and_blob(layout: Path, mirror: Program) -> None:
    assert stored(layout) == everything(IMAGE)
    assert tagged(layout) == {"1": IMAGE.root}
    assert_clean(mirror, "layout")


@pytest.mark.slow
def test_skopeo_copies_every_platform_from_a_layout(layout: Path, skopeo: Skopeo, tmp_path: Path) -> None:
    skopeo.copy(f"oci:{layout}:1", "dir:copy", "--all")
    assert copied(tmp_path / "copy") == everything(IMAGE)
    assert root(tmp_path / "copy") == IMAGE.root


@pytest.mark.slow
def test_skopeo_copies_a_layout_to_a_registry(layout: Path, skopeo: Skopeo, second: DockerRegistry) -> None:
    skopeo.copy(f"oci:{layout}:1", f"docker://{second.host}/app:1", "--all")
    assert skopeo.raw(f"docker://{second.host}/app:1") == IMAGE.data


@pytest.mark.slow
@pytest.mark.parametrize("platform", THREE)
def test_skopeo_copies_one_platform_from_a_layout(layout: Path, skopeo: Skopeo, tmp_path: Path, platform: str) -> None:
    skopeo.copy(f"oci:{layout}:1", "dir:copy", platform=platform)
    assert copied(tmp_path / "copy") == everything(part(IMAGE, platform))


@pytest.mark.slow
def test_skopeo_inspects_a_layout(layout: Path, skopeo: Skopeo) -> None:
    assert skopeo.raw(f"oci:{layout}:1") == IMAGE.data
    amd64 = skopeo("--override-os=linux", "--override-arch=amd64", "inspect", f"oci:{layout}:1").json
    layers = [node["digest"] for node in json.loads(AMD64.data)["layers"]]
    assert (amd64["Architecture"], amd64["Layers"]) == ("amd64", layers)


@pytest.mark.slow
def test_skopeo_inspects_one_platform(
    registry: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    mirror("pull", registry.publish(IMAGE, "app", "1"), "--platform", "linux/arm/v7", "-o", "layout")
    found = skopeo("inspect", f"oci:{tmp_path / 'layout'}:1").json
    assert (found["Digest"], found["Architecture"]) == (part(IMAGE, "linux/arm/v7").root, "arm")


@pytest.mark.slow
def test_umoci_lists_the_tags_of_a_layout(
    layout: Path, registry: DockerRegistry, mirror: Program, umoci: Program
) -> None:
    mirror("pull", registry.publish(AMD64, "team/app", "1.1"), "--platform", "linux/amd64", "-o", "layout")
    assert set(umoci("ls", "--layout", layout).out.split()) == {"1", "1.1"}


@pytest.mark.slow
def test_umoci_unpacks_one_platform(registry: DockerRegistry, mirror: Program, umoci: Program, tmp_path: Path) -> None:
    mirror("pull", registry.publish(IMAGE, "app", "1"), "--platform", "linux/amd64", "-o", "layout")
    umoci("unpack", "--rootless", "--image", "layout:1", "bundle")
    assert tree(tmp_path / "bundle/rootfs") == files(AMD64)


@pytest.mark.slow
def test_umoci_gc_removes_nothing_from_a_layout(layout: Path, umoci: Program, mirror: Program) -> None:
    umoci("gc", "--layout", layout)
    assert stored(layout) == everything(IMAGE)
    assert_clean(mirror, "layout")
