"""Tests that damage in the storage of docker-registry or in a layout is not copied."""

import json
from pathlib import Path

import pytest

from tests.peers.layouts import THREE, assert_clean, entries, everything, stored
from tests.peers.programs import DockerRegistry, Program
from tests.support.images import OCI_MANIFEST, Image, multi_arch

pytestmark = pytest.mark.peer

IMAGE = multi_arch(THREE)


def layer_of(image: Image) -> str:
    """Return the digest of a layer that only one platform has."""
    child = next(data for data, media_type in image.manifests.values() if media_type == OCI_MANIFEST)
    digest: str = json.loads(child)["layers"][0]["digest"]
    return digest


def flip(path: Path, position: int) -> bytes:
    """Change one bit of a file, and return its previous content."""
    original = path.read_bytes()
    damaged = bytearray(original)
    damaged[position] ^= 1
    path.write_bytes(damaged)
    return original


def assert_not_stored(layout: Path, digest: str) -> None:
    assert digest not in stored(layout)  # `stored` hashes every blob
    assert entries(layout) == []
    assert not list(layout.glob(".mirror/tmp/*"))


@pytest.mark.slow
@pytest.mark.parametrize("position", [0, 1500, -1])
def test_a_flipped_bit_in_a_layer_is_never_stored(
    registry: DockerRegistry, mirror: Program, tmp_path: Path, position: int
) -> None:
    digest = layer_of(IMAGE)
    name = registry.publish(IMAGE, "app", "1")
    flip(registry.blob(digest), position)
    refused = mirror("pull", name, "--all-platforms", "-o", "layout", code=3)
    assert refused.out == ""
    assert digest in refused.err
    assert_not_stored(tmp_path / "layout", digest)


@pytest.mark.slow
def test_pull_succeeds_after_the_registry_is_repaired(
    registry: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    digest = layer_of(IMAGE)
    name = registry.publish(IMAGE, "app", "1")
    original = flip(registry.blob(digest), 100)
    mirror("pull", name, "--all-platforms", "-o", "layout", code=3)
    registry.blob(digest).write_bytes(original)
    mirror("pull", name, "--all-platforms", "-o", "layout")
    assert_clean(mirror, "layout")
    assert stored(tmp_path / "layout") == everything(IMAGE)


@pytest.mark.slow
@pytest.mark.parametrize("extra", [-1, 1])
def test_a_layer_of_another_size_is_never_stored(
    registry: DockerRegistry, mirror: Program, tmp_path: Path, extra: int
) -> None:
    digest = layer_of(IMAGE)
    name = registry.publish(IMAGE, "app", "1")
    path = registry.blob(digest)
    path.write_bytes((path.read_bytes() + b"\0")[: len(path.read_bytes()) + extra])
    refused = mirror("pull", name, "--all-platforms", "--retries", "1", "-o", "layout", code=3)
    assert digest in refused.err
    assert_not_stored(tmp_path / "layout", digest)


@pytest.mark.slow
def test_damaged_config_is_never_stored(registry: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    child = next(data for data, media_type in IMAGE.manifests.values() if media_type == OCI_MANIFEST)
    digest = json.loads(child)["config"]["digest"]
    name = registry.publish(IMAGE, "app", "1")
    flip(registry.blob(digest), 20)
    refused = mirror("pull", name, "--all-platforms", "-o", "layout", code=3)
    assert digest in refused.err
    assert_not_stored(tmp_path / "layout", digest)


@pytest.mark.slow
def test_damaged_manifest_is_never_stored(registry: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    """The manifest stays valid, but has another size for its first layer."""
    digest, data = next((digest, data) for digest, (data, kind) in IMAGE.manifests.items() if kind == OCI_MANIFEST)
    name = registry.publish(IMAGE, "app", "1")
    flip(registry.blob(digest), data.index(b'"size":3000') + len('"size":'))
    refused = mirror("pull", name, "--all-platforms", "-o", "layout", code=3)
    assert digest in refused.err
    assert not (tmp_path / "layout").exists() or stored(tmp_path / "layout") == set()


@pytest.mark.slow
def test_pull_of_a_damaged_index_by_digest_is_refused(
    registry: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    registry.publish(IMAGE, "app", "1")
    flip(registry.blob(IMAGE.root), IMAGE.data.index(b"amd64"))
    refused = mirror("pull", f"{registry.host}/app@{IMAGE.root}", "--all-platforms", "-o", "layout", code=3)
    assert IMAGE.root in refused.err
    assert not (tmp_path / "layout").exists() or stored(tmp_path / "layout") == set()


@pytest.mark.slow
def test_error_names_a_layer_that_the_registry_lacks(registry: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    digest = layer_of(IMAGE)
    name = registry.publish(IMAGE, "app", "1")
    registry.blob(digest).unlink()
    refused = mirror("pull", name, "--all-platforms", "--retries", "0", "-o", "layout", code=1)
    assert digest in refused.err
    assert_not_stored(tmp_path / "layout", digest)


@pytest.mark.slow
def test_keep_going_stores_the_image_that_is_not_damaged(
    registry: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    other = multi_arch(["linux/s390x"], sizes=[5000])
    names = [registry.publish(IMAGE, "bad", "1"), registry.publish(other, "good", "1")]
    flip(registry.blob(layer_of(IMAGE)), 100)
    done = mirror("pull", *names, "--all-platforms", "--keep-going", "-o", "layout", code=4)
    assert done.out == f"{names[1]}@{other.root}\n"
    assert layer_of(IMAGE) in done.err
    assert [entry["digest"] for entry in entries(tmp_path / "layout")] == [other.root]
    assert mirror("verify", "layout", "--json").json["verdict"] == "ok"


@pytest.mark.slow
def test_pull_repairs_damage_in_a_layout(registry: DockerRegistry, mirror: Program, tmp_path: Path) -> None:
    name = registry.publish(IMAGE, "app", "1")
    mirror("pull", name, "--all-platforms", "-o", "layout")
    digest = layer_of(IMAGE)
    flip(tmp_path.joinpath("layout/blobs", *digest.split(":")), 100)
    assert digest in mirror("verify", "layout", code=3).out
    healed = mirror("pull", name, "--all-platforms", "-o", "layout", "--json").json
    assert (healed["healed"], healed["moved"]["blobs"]) == ([digest], 1)
    assert_clean(mirror, "layout")


@pytest.mark.slow
def test_push_does_not_send_a_damaged_layer(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    mirror("pull", registry.publish(IMAGE, "app", "1"), "--all-platforms", "-o", "layout")
    digest = layer_of(IMAGE)
    flip(tmp_path.joinpath("layout/blobs", *digest.split(":")), 100)
    assert digest in mirror("push", "layout", second.host, code=3).err
    assert not second.blob(digest).exists()
    assert second.tags("app") == []
