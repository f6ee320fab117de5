"""Tests of round trips through registries, layouts and archives: every manifest and blob arrives unchanged."""

import asyncio
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror import PlatformSelection, PullOptions, copy_images, pull_image, push_images, verify_layout
from mirror.report.transfers import TransferReport
from tests.support import images
from tests.support.command import blobs, entries, tree
from tests.support.images import Image
from tests.support.profiles import examples
from tests.support.registry import EmbeddedRegistry, serving
from tests.support.strategies import Family, families, graphs

EVERYTHING = PullOptions(platforms=PlatformSelection(all=True))


def publish(family: Family, registry: EmbeddedRegistry, api: bool) -> None:
    """Publish an image with its referrers; without the referrers API, the publisher pushes the list as a tag."""
    family.image.publish(registry, "a/b", "v1")
    for one, _ in family.referring:
        one.publish(registry, "a/b", None)
    for tag, one in family.tagged:
        one.publish(registry, "a/b", tag)
    lists: dict[str, list[Image]] = {}
    for one, subject in () if api else family.referring:
        lists.setdefault(subject.root, []).append(one)
    for root, some in lists.items():
        nodes = [{**one.descriptor(), "artifactType": "wrong/type"} for one in some]
        data = images.encode({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": nodes})
        registry.put_manifest("a/b", root.replace(":", "-"), data, images.OCI_INDEX)


def pulled(registry: EmbeddedRegistry, layout: Path) -> TransferReport:
    report = asyncio.run(pull_image(f"{registry.host}/a/b:v1", layout, EVERYTHING))
    report.raise_failures()
    assert report.warnings == ()
    return report


def tags(layout: Path) -> dict[str, str]:
    """Return the tags of a layout with one repository, and their digests."""
    return {
        entry["annotations"]["io.containerd.image.name"].rpartition(":")[2]: entry["digest"]
        for entry in entries(layout)
    }


@pytest.mark.slow
@given(families(), st.booleans(), st.booleans())
@examples(40)
def test_image_and_referrers_are_unchanged_after_push_and_pull(
    family: Family, first_api: bool, second_api: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out, back = Path(folder, "out"), Path(folder, "back")
        with serving(EmbeddedRegistry(referrers=first_api)) as registry:
            publish(family, registry, first_api)
            report = pulled(registry, out)
        wanted = {one.root for one, _ in family.referring} | {one.root for _, one in family.tagged}
        assert report.images[0].referrers is not None
        assert report.images[0].referrers.count == len(wanted)
        assert wanted <= blobs(out)
        with serving(EmbeddedRegistry(referrers=second_api)) as private:
            asyncio.run(push_images(out, private.host)).raise_failures()
            for one in (family.image, *(one for one, _ in family.referring), *(one for _, one in family.tagged)):
                assert {digest: private.get_manifest("a/b", digest) for digest in one.manifests} == one.manifests
            pulled(private, back)
        assert (blobs(back), tags(back)) == (blobs(out), tags(out))
        assert asyncio.run(verify_layout(back)).exit_code == 0


# Registry, layout, archive, layout, registry, layout


def copied(source: str, target: str) -> TransferReport:
    report = asyncio.run(copy_images(source, target))
    report.raise_failures()
    return report


def round_trip(folder: Path, first: EmbeddedRegistry, second: EmbeddedRegistry) -> Path:
    """Pull, copy to an archive, copy back, push and pull again. Return the last layout."""
    name = f"{first.host}/a/b:v1"
    asyncio.run(pull_image(name, folder / "one", EVERYTHING)).raise_failures()
    copied(f"oci:{folder}/one", f"oci-archive:{folder}/two.tar")
    copied(f"oci-archive:{folder}/two.tar", f"oci:{folder}/three")
    assert tree(folder / "three") == tree(folder / "one")
    asyncio.run(push_images(folder / "three", second.host)).raise_failures()
    asyncio.run(pull_image(f"{second.host}/a/b:v1", folder / "four", EVERYTHING)).raise_failures()
    assert blobs(folder / "four") == blobs(folder / "one")
    assert tags(folder / "four") == tags(folder / "one")
    return folder / "four"


@pytest.mark.slow
@given(families(), st.booleans())
@examples(25)
def test_any_image_with_referrers_survives_the_round_trip(family: Family, api: bool) -> None:
    with tempfile.TemporaryDirectory() as name, serving(EmbeddedRegistry(referrers=True)) as first:
        publish(family, first, api=True)
        with serving(EmbeddedRegistry(referrers=api)) as second:
            last = round_trip(Path(name), first, second)
            for one in (family.image, *(one for one, _ in family.referring), *(one for _, one in family.tagged)):
                assert {digest: second.get_manifest("a/b", digest) for digest in one.manifests} == one.manifests
                assert {*one.manifests, *one.blobs} <= blobs(last)


@pytest.mark.slow
@given(graphs())
@examples(25)
def test_any_graph_survives_a_round_trip_of_copies(image: Image) -> None:
    with tempfile.TemporaryDirectory() as folder, serving(EmbeddedRegistry()) as registry:
        image.publish(registry, "a/b", "v1")
        stops = [f"docker://{registry.host}/a/b:v1", *(f"{stop.format(folder=folder)}" for stop in STOPS)]
        stops[4:4] = [f"docker://{registry.host}/c/d:v2"]
        for source, target in pairwise(stops):
            copied(source, target)
        assert stored(registry, "c/d") == stored(registry, "a/b") == everything(image)
        assert blobs(Path(folder, "last")) == everything(image)
        assert asyncio.run(verify_layout(Path(folder, "last"))).exit_code == 0


STOPS = ["oci:{folder}/one", "oci-archive:{folder}/two.tar", "oci:{folder}/three", "oci:{folder}/last"]

KINDS = {
    "docker": images.multi_arch(docker=True),
    "oci": images.multi_arch(),
    "attestations": images.index(
        [images.image("linux/amd64", images.layer(1, 300)), images.attestation(images.image("linux/amd64"))]
    ),
    "nested": images.index([images.index([images.image("linux/s390x", images.layer(4, 300))])]),
    "artifact": images.artifact("application/vnd.example.chart", images.Blob.of(b"chart", "text/plain")),
    "single": images.image("linux/amd64", images.layer(1, 300), docker=True),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_survives_the_round_trip(kind: str, tmp_path: Path) -> None:
    with serving(EmbeddedRegistry()) as first, serving(EmbeddedRegistry()) as second:
        KINDS[kind].publish(first, "a/b", "v1")
        last = round_trip(tmp_path, first, second)
        assert stored(second, "a/b") == blobs(last) == everything(KINDS[kind])
        assert tags(last) == {"v1": KINDS[kind].root}


@pytest.mark.slow
@pytest.mark.peer
def test_a_real_image_survives_the_round_trip(tmp_path: Path, busybox: Image) -> None:
    with serving(EmbeddedRegistry()) as first, serving(EmbeddedRegistry()) as second:
        busybox.publish(first, "a/b", "v1")
        assert blobs(round_trip(tmp_path, first, second)) == everything(busybox)


def everything(image: Image) -> set[str]:
    return {*image.manifests, *image.blobs}


def stored(registry: EmbeddedRegistry, repo: str) -> set[str]:
    return registry.blobs(repo) | registry.manifests(repo)
