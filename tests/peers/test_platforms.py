"""Tests of pulls and pushes of some platforms of an image."""

import json
from pathlib import Path

import pytest

from tests.peers.layouts import THREE, assert_clean, copied, entries, everything, part, root, stored
from tests.peers.programs import DockerRegistry, Program, Skopeo
from tests.support.images import Image, multi_arch

pytestmark = pytest.mark.peer

OCI = multi_arch(THREE)
DOCKER = multi_arch(THREE, docker=True)
BOTH = pytest.mark.parametrize("published", [pytest.param(DOCKER, id="docker"), pytest.param(OCI, id="oci")])


@pytest.mark.slow
@BOTH
def test_one_platform_is_pulled_and_pushed(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path, published: Image
) -> None:
    wanted = part(published, "linux/arm/v7")
    pulled = mirror("pull", registry.publish(published, "app", "1"), "--platform", "linux/arm/v7", "-o", "layout").out
    assert pulled == f"{registry.host}/app:1@{wanted.root}\n"
    assert stored(tmp_path / "layout") == everything(wanted)
    assert_clean(mirror, "layout")
    mirror("push", "layout", second.host)
    skopeo.copy(f"docker://{second.host}/app:1", "dir:copy", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(wanted)
    assert skopeo.raw(f"docker://{second.host}/app:1") == wanted.data


@pytest.mark.slow
def test_entry_of_one_platform_names_the_original_index(
    registry: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    mirror("pull", registry.publish(OCI, "app", "1"), "--platform", "linux/arm/v7", "-o", "layout")
    annotations = entries(tmp_path / "layout")[0]["annotations"]
    assert annotations["dev.oci-mirror.index"] == OCI.root


@pytest.mark.slow
@BOTH
def test_two_of_three_platforms_are_pulled_and_pushed(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path, published: Image
) -> None:
    name = registry.publish(published, "app", "1")
    mirror("pull", name, "--platform", "linux/arm/v7,linux/amd64", "-o", "layout")
    assert_clean(mirror, "layout")
    pushed = mirror("push", "layout", second.host).out.strip()
    skopeo.copy(f"docker://{second.host}/app:1", "dir:copy", "--all", "--preserve-digests")
    children = [part(published, platform) for platform in ("linux/amd64", "linux/arm/v7")]
    ours = root(tmp_path / "copy")
    assert pushed == f"{second.host}/app:1@{ours}"
    assert copied(tmp_path / "copy") == everything(*children) | {ours}


@pytest.mark.slow
@BOTH
def test_reduced_index_names_the_original_index(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path, published: Image
) -> None:
    """The layout always names it; an OCI index names it in an annotation, which Docker's manifest lists lack."""
    name = registry.publish(published, "app", "1")
    mirror("pull", name, "--platform", "linux/arm64", "--platform", "linux/amd64", "-o", "layout")
    assert entries(tmp_path / "layout")[0]["annotations"]["dev.oci-mirror.index"] == published.root
    mirror("push", "layout", second.host)
    document = json.loads(skopeo.raw(f"docker://{second.host}/app:1"))
    original = json.loads(published.data)
    assert document["mediaType"] == original["mediaType"]
    assert document["manifests"] == original["manifests"][:2]
    own = {"dev.oci-mirror.index": published.root} if published is OCI else None
    assert document.get("annotations") == own


@pytest.mark.slow
def test_skopeo_reads_one_of_two_platforms_in_a_layout(
    registry: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    mirror("pull", registry.publish(OCI, "app", "1"), "--platform", "linux/arm64,linux/arm/v7", "-o", "layout")
    skopeo.copy("oci:layout:1", "dir:copy", platform="linux/arm64")
    assert copied(tmp_path / "copy") == everything(part(OCI, "linux/arm64"))


@pytest.mark.slow
def test_a_sparse_image_keeps_the_published_index(
    registry: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    name = registry.publish(OCI, "app", "1")
    pulled = mirror("pull", name, "--platform", "linux/arm64,linux/amd64", "--sparse", "-o", "layout").out
    assert pulled == f"{name}@{OCI.root}\n"
    kept = [part(OCI, platform) for platform in ("linux/amd64", "linux/arm64")]
    assert stored(tmp_path / "layout") == everything(*kept) | {OCI.root}
    assert mirror("verify", "layout", "--json").json["verdict"] == "ok"
    skopeo.copy("oci:layout:1", "dir:copy", platform="linux/arm64")
    assert copied(tmp_path / "copy") == everything(kept[1])


@pytest.mark.slow
@BOTH
def test_refused_push_of_a_sparse_image_is_explained(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, published: Image
) -> None:
    """docker-registry requires all children of an index."""
    name = registry.publish(published, "app", "1")
    mirror("pull", name, "--platform", "linux/arm64,linux/amd64", "--sparse", "-o", "layout")
    refused = mirror("push", "layout", second.host, code=1)
    assert refused.out == ""
    assert second.host in refused.err
    assert "sparse" in refused.err
    assert second.tags("app") == []


@pytest.mark.slow
def test_error_for_an_unknown_platform_lists_the_available_ones(registry: DockerRegistry, mirror: Program) -> None:
    refused = mirror("pull", registry.publish(OCI, "app", "1"), "--platform", "linux/s390x", "-o", "layout", code=2)
    assert all(platform in refused.err for platform in ("linux/s390x", *THREE))


def test_error_for_an_unknown_image_has_its_name(registry: DockerRegistry, mirror: Program) -> None:
    refused = mirror("pull", f"{registry.host}/no/such:1", "-o", "layout", code=2)
    assert f"{registry.host}/no/such:1" in refused.err
