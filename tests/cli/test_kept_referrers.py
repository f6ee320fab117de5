"""Tests of referrers that a layout already has: a transfer adds referrers, and drops none."""

import json
from pathlib import Path

import pytest

from tests.cli.test_same_image_at_once import end, held_up
from tests.support import images
from tests.support.command import Mirror, blob_path, entries
from tests.support.images import Image, cosign_tag, signature
from tests.support.registry import EmbeddedRegistry, serving

IMAGE = images.index([images.image("linux/amd64", images.layer(1, 500))])
TAG = cosign_tag(IMAGE)
LIST = TAG.removesuffix(".sig")

pytestmark = pytest.mark.slow


@pytest.fixture
def name(registry: EmbeddedRegistry) -> str:
    IMAGE.publish(registry, "a", "v1")
    return f"{registry.host}/a:v1"


def cosigned(*numbers: int) -> Image:
    """A manifest as cosign writes it: one payload, signed several times."""
    payload = images.Blob.of(b"signed", "application/vnd.dev.cosign.simplesigning.v1+json")
    signed = [{**payload.descriptor(), "annotations": {"signature": str(number)}} for number in numbers]
    configuration = images.Blob.of(json.dumps(numbers).encode(), images.OCI_CONFIG)
    data = images.encode(
        {
            "schemaVersion": 2,
            "mediaType": images.OCI_MANIFEST,
            "config": configuration.descriptor(),
            "layers": signed,
        }
    )
    root = images.digest_of(data)
    blobs = {payload.digest: payload.data, configuration.digest: configuration.data}
    return Image(root, images.OCI_MANIFEST, {root: (data, images.OCI_MANIFEST)}, blobs)


def digests(layout: Path) -> dict[str, str]:
    """The digest of each tag in a layout."""
    return {
        entry["annotations"]["io.containerd.image.name"].rpartition(":")[2]: entry["digest"]
        for entry in entries(layout)
    }


def listed(layout: Path, tag: str = LIST) -> set[str]:
    document = json.loads(blob_path(layout, digests(layout)[tag]).read_bytes())
    return {child["digest"] for child in document["manifests"]}


@pytest.mark.parametrize(("old", "new", "kept"), [((1, 2), (1,), (1, 2)), ((1,), (2,), (1,)), ((1,), (1, 2), (1, 2))])
def test_signatures_under_a_tag_are_not_dropped(
    mirror: Mirror,
    registry: EmbeddedRegistry,
    name: str,
    layout: Path,
    old: tuple[int, ...],
    new: tuple[int, ...],
    kept: tuple[int, ...],
) -> None:
    cosigned(*old).publish(registry, "a", TAG)
    mirror("pull", name, "--all")
    cosigned(*new).publish(registry, "a", TAG)
    err = mirror("pull", name, "--all").err
    assert digests(layout)[TAG] == cosigned(*kept).root
    assert ("--replace takes the new one" in err) == (kept != new)
    mirror("verify", layout)


def test_replace_takes_the_new_signatures(mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path) -> None:
    cosigned(1).publish(registry, "a", TAG)
    mirror("pull", name, "--all")
    cosigned(2).publish(registry, "a", TAG)
    mirror("pull", name, "--all", "--replace")
    assert digests(layout)[TAG] == cosigned(2).root


def test_damaged_signatures_are_replaced(mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path) -> None:
    cosigned(1).publish(registry, "a", TAG)
    mirror("pull", name, "--all")
    blob_path(layout, cosigned(1).root).write_bytes(b"damaged")
    cosigned(2).publish(registry, "a", TAG)
    mirror("pull", name, "--all")
    assert digests(layout)[TAG] == cosigned(2).root


def test_signature_whose_tag_is_gone_stays(mirror: Mirror, registry: EmbeddedRegistry, name: str, layout: Path) -> None:
    cosigned(1).publish(registry, "a", TAG)
    mirror("pull", name, "--all")
    registry.remove_manifest("a", cosigned(1).root)
    mirror("pull", name, "--all")
    assert digests(layout)[TAG] == cosigned(1).root


def test_copy_adds_to_the_list_of_referrers(mirror: Mirror, layout: Path) -> None:
    with serving(EmbeddedRegistry(referrers=True)) as registry:
        name = f"{registry.host}/a:v1"
        IMAGE.publish(registry, "a", "v1")
        for number, folder in enumerate((layout, "other")):
            signature(IMAGE, number).publish(registry, "a", None)
            mirror("pull", name, "--all", "-o", folder)
            registry.remove_manifest("a", signature(IMAGE, number).root)
    result = mirror("copy", "oci:other", f"oci:{layout}", "--json").json
    assert listed(layout) == {signature(IMAGE, 0).root, signature(IMAGE, 1).root}
    assert result["moved"]["blobs"] == 1
    mirror("verify", layout)


def test_referrer_that_another_process_has_added_stays(mirror: Mirror, layout: Path) -> None:
    with serving(EmbeddedRegistry(referrers=True)) as registry:
        name = f"{registry.host}/a:v1"
        IMAGE.publish(registry, "a", "v1")
        first, second = signature(IMAGE, 0), signature(IMAGE, 1)
        first.publish(registry, "a", None)
        gate, process = held_up(mirror, registry, first, name, "--all", "--json")
        second.publish(registry, "a", None)
        mirror("pull", name, "--all")
        end(gate, process)
    assert listed(layout) == {first.root, second.root}
    mirror("verify", layout)
