"""Tests of `mirror verify docker://IMAGE`, which reads all content from the registry and writes no files."""

from collections.abc import Callable

import pytest

from tests.support import images
from tests.support.command import Json, Mirror, tree
from tests.support.registry import Cut, EmbeddedRegistry, Fault, Flip, Status

AMD64 = images.image("linux/amd64", images.layer(1, 3000), images.layer(2, 500))
ARM = images.image("linux/arm64", images.layer(3, 900), images.layer(2, 500))
MULTI = images.index([AMD64, images.index([ARM]), images.attestation(AMD64)])
LAYER = images.layer(1, 3000).digest
SHARED = images.layer(2, 500).digest


@pytest.fixture
def shop(registry: EmbeddedRegistry) -> EmbeddedRegistry:
    """A registry with an image."""
    MULTI.publish(registry, "team/app", "v1")
    return registry


def verify(mirror: Mirror, registry: EmbeddedRegistry, code: int = 0) -> Json:
    before = tree(mirror.folder)
    result = mirror("verify", f"docker://{registry.host}/team/app:v1", "--json", "--retries", 1, code=code)
    assert tree(mirror.folder) == before
    return result.json


def found(report: Json) -> list[tuple[str, str, str]]:
    return [(one["kind"], one["severity"], one["subject"]) for one in report["findings"]]


def test_every_byte_of_an_image_is_fetched_once(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    report = verify(mirror, shop)
    assert (report["verdict"], report["findings"], report["path"]) == ("ok", [], f"docker://{shop.host}/team/app:v1")
    [image] = report["images"]
    assert (image["name"], image["digest"]) == (f"{shop.host}/team/app:v1", MULTI.root)
    assert image["platforms"] == ["linux/amd64", "linux/arm64"]
    assert report["files"] == len(MULTI.manifests) + len(MULTI.blobs)
    assert shop.blob_bytes_sent() == sum(map(len, MULTI.blobs.values()))
    assert shop.count("GET", "/manifests/") == len(MULTI.manifests)


def flip(registry: EmbeddedRegistry, digest: str) -> None:
    registry.fault(Fault(method="GET", path=digest, times=None, action=Flip(at=100)))


def lose(registry: EmbeddedRegistry, digest: str) -> None:
    registry.fault(Fault(path=digest, times=None, action=Status(404)))


def cut(registry: EmbeddedRegistry, digest: str) -> None:
    registry.fault(Fault(method="GET", path=digest, times=None, action=Cut(after=1)))


DAMAGE: dict[str, tuple[Callable[[EmbeddedRegistry, str], None], str, str, int]] = {
    "flipped": (flip, "corrupt", "error", 3),
    "lost": (lose, "missing", "error", 3),
    "cut": (cut, "unreadable", "unverified", 1),
}
PARTS = {"layer": LAYER, "manifest": ARM.root, "config": next(iter(AMD64.blobs))}


@pytest.mark.slow
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("part", PARTS)
def test_damaged_content_in_a_registry_is_found(mirror: Mirror, shop: EmbeddedRegistry, damage: str, part: str) -> None:
    how, kind, severity, code = DAMAGE[damage]
    how(shop, PARTS[part])
    report = verify(mirror, shop, code)
    assert found(report) == [(kind, severity, PARTS[part])]
    assert report["findings"][0]["images"] == [f"{shop.host}/team/app:v1"]


def test_all_findings_are_reported_in_one_run(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    flip(shop, LAYER)
    lose(shop, SHARED)
    lose(shop, ARM.root)
    assert sorted(kind for kind, _, _ in found(verify(mirror, shop, 3))) == ["corrupt", "missing", "missing"]


def test_a_broken_manifest_is_a_finding(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    data = images.encode({"schemaVersion": 2, "mediaType": images.OCI_MANIFEST, "layers": 5})
    digest = registry.put_manifest("team/app", None, data, images.OCI_MANIFEST)
    node = {"mediaType": images.OCI_MANIFEST, "digest": digest, "size": len(data)}
    index = images.encode({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": [node]})
    registry.put_manifest("team/app", "v1", index, images.OCI_INDEX)
    assert found(verify(mirror, registry, 3)) == [("broken-manifest", "error", digest)]


def test_sizes_that_contradict_each_other_are_a_finding(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    ARM.publish(registry, "team/app", "arm")
    nodes = [ARM.descriptor(), {**ARM.descriptor(), "size": 5}]
    data = images.encode({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": nodes})
    registry.put_manifest("team/app", "v1", data, images.OCI_INDEX)
    assert found(verify(mirror, registry, 3)) == [("size-conflict", "error", ARM.root)]


def test_blob_is_fetched_although_its_data_is_embedded(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    image = images.artifact("a/b", images.Blob.of(b"x", "x/y"))
    image.publish(registry, "team/app", "v1")
    lose(registry, images.EMPTY.digest)
    assert found(verify(mirror, registry, 3)) == [("missing", "error", images.EMPTY.digest)]


def test_missing_image_is_an_error_and_not_a_finding(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    assert "There is no image" in mirror("verify", f"docker://{registry.host}/a/b:v1", code=2).err


def test_second_argument_after_a_registry_image_is_refused(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    result = mirror("verify", f"docker://{shop.host}/team/app:v1", "other", code=2)
    assert "verified as a whole" in result.err
