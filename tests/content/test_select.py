"""Tests of selecting platforms of an image."""

import asyncio
import json
from collections.abc import Iterable
from typing import Any

import pytest

from mirror.content import select as selection
from mirror.content.image_config import summarize
from mirror.content.select import PlatformSelection, SelectedImage
from mirror.errors import ContentError, DigestMismatch, NotFound
from mirror.oci.descriptor import Descriptor, Platform
from tests.support import images
from tests.support.images import Blob, Image, Json, encode
from tests.support.memory import MemorySource, descriptor_of

NAMES = ["linux/s390x", "linux/amd64", "linux/arm/v7", "linux/arm64/v8"]
CHILDREN = {name: images.image(name, images.layer(number, 100)) for number, name in enumerate(NAMES)}
AMD64, ARM = CHILDREN["linux/amd64"], CHILDREN["linux/arm/v7"]
PLAIN = images.index(CHILDREN.values())
ABOUT = {name: images.attestation(child) for name, child in CHILDREN.items()}
ATTESTED = images.index([*CHILDREN.values(), *ABOUT.values()])


def choose(image: Image, *platforms: str, source: MemorySource | None = None, **choice: Any) -> SelectedImage:
    wanted = PlatformSelection(platforms=tuple(map(Platform.parse, platforms)), **choice)
    return asyncio.run(selection.select(source or MemorySource(image), descriptor_of(image), wanted, "it"))


def document_of(found: SelectedImage) -> Json:
    data: Json = json.loads(found.graph.nodes[found.root.digest].data)
    return data


def listed(found: SelectedImage) -> list[str]:
    """Return the digests of the children of the root, in order."""
    return [child["digest"] for child in document_of(found)["manifests"]]


def roots(some: Iterable[Image]) -> list[str]:
    return [one.root for one in some]


# All platforms


def test_all_platforms_keep_the_index_as_published() -> None:
    found = choose(ATTESTED, all=True)
    assert (found.root.digest, found.published) == (ATTESTED.root, ATTESTED.root)
    assert found.graph.nodes[found.root.digest].data == ATTESTED.data
    assert set(found.graph.nodes) == set(ATTESTED.manifests)
    assert found.platforms == tuple(NAMES)


@pytest.mark.parametrize("sparse", [False, True])
def test_selection_of_every_platform_keeps_the_published_index(sparse: bool) -> None:
    found = choose(ATTESTED, *NAMES, sparse=sparse)
    assert found.root.digest == ATTESTED.root
    assert not found.graph.absent


# One platform


def test_one_platform_makes_its_manifest_the_root() -> None:
    source = MemorySource(PLAIN)
    found = choose(PLAIN, "linux/arm/v7", source=source)
    assert (found.root.digest, found.published) == (ARM.root, PLAIN.root)
    assert found.platforms == ("linux/arm/v7",)
    assert sorted(set(source.opened)) == sorted([PLAIN.root, ARM.root])


def test_default_platform_is_that_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Platform, "host", lambda: Platform.parse("linux/arm/v7"))
    assert choose(PLAIN).root.digest == ARM.root


def test_platform_that_is_given_twice_selects_one_manifest() -> None:
    assert choose(PLAIN, "linux/arm", "linux/arm/v7").root.digest == ARM.root


def test_a_platform_in_a_nested_index_is_found() -> None:
    image = images.index([AMD64, images.index([ARM, CHILDREN["linux/s390x"]])])
    assert choose(image, "linux/arm/v7").root.digest == ARM.root


def test_error_for_a_missing_platform_lists_the_available_platforms() -> None:
    with pytest.raises(NotFound, match="it has no image for linux/riscv64") as caught:
        choose(ATTESTED, "linux/amd64", "linux/riscv64")
    assert caught.value.hint == f"It has: {', '.join(NAMES)}."


@pytest.mark.parametrize("platform", ["unknown/unknown", "linux/unknown"])
def test_attestation_cannot_be_selected_as_a_platform(platform: str) -> None:
    with pytest.raises(NotFound):
        choose(ATTESTED, platform)


def test_one_manifest_for_two_platforms_is_found_by_either() -> None:
    """Images that contain only data are published like this."""
    first, second = ({**AMD64.descriptor(), "platform": images.platform_of(name)} for name in ("linux/a", "linux/b"))
    image = images.index([AMD64, ARM], manifests=[first, second, ARM.descriptor()])
    for platform in ("linux/a", "linux/b"):
        assert choose(image, platform).root.digest == AMD64.root


# Several platforms


@pytest.mark.parametrize("docker", [False, True])
def test_several_platforms_make_an_index_of_the_same_type(docker: bool) -> None:
    image = images.multi_arch(NAMES, docker=docker)
    found = choose(image, "linux/arm64", "linux/amd64")
    assert found.root.media_type == document_of(found)["mediaType"] == image.root_media_type
    assert found.root.digest not in image.manifests
    assert found.published == image.root
    assert set(found.graph.nodes) == {found.root.digest, *listed(found)}


def test_several_platforms_keep_the_published_order() -> None:
    found = choose(PLAIN, "linux/arm64", "linux/amd64", "linux/s390x")
    names = ["linux/s390x", "linux/amd64", "linux/arm64/v8"]
    assert listed(found) == roots(CHILDREN[name] for name in names)
    assert found.platforms == tuple(names)


def test_attestations_of_selected_images_are_kept() -> None:
    found = choose(ATTESTED, "linux/arm64", "linux/amd64")
    names = ["linux/amd64", "linux/arm64/v8"]
    assert listed(found) == [*roots(CHILDREN[name] for name in names), *roots(ABOUT[name] for name in names)]
    assert found.platforms == tuple(names)


def test_descriptors_in_a_reduced_index_are_unchanged() -> None:
    strange = {**AMD64.descriptor(), "newField": {"ü": [1, None]}, "annotations": {"a": "b"}}
    others = [CHILDREN[name].descriptor() for name in NAMES if name != "linux/amd64"]
    image = images.index(CHILDREN.values(), manifests=[strange, *others])
    found = choose(image, "linux/amd64", "linux/arm")
    assert document_of(found)["manifests"] == [strange, ARM.descriptor()]


def test_reduced_index_is_annotated_with_the_published_digest() -> None:
    found = choose(PLAIN, "linux/arm64", "linux/amd64")
    assert document_of(found)["annotations"] == {"dev.oci-mirror.index": PLAIN.root}


def test_reduced_manifest_list_has_no_annotations() -> None:
    found = choose(images.multi_arch(NAMES, docker=True), "linux/arm64", "linux/amd64")
    assert "annotations" not in document_of(found)


def test_order_of_the_platforms_does_not_change_the_digest() -> None:
    one, other = choose(PLAIN, "linux/arm", "linux/amd64"), choose(PLAIN, "linux/amd64", "linux/arm/v7")
    assert one.root.digest == other.root.digest


def test_reduced_index_contains_manifests_of_nested_indexes() -> None:
    inner = images.index([ARM, CHILDREN["linux/s390x"]])
    found = choose(images.index([AMD64, inner, CHILDREN["linux/arm64/v8"]]), "linux/arm", "linux/amd64")
    assert set(listed(found)) == {AMD64.root, ARM.root}
    assert set(found.graph.nodes) == {found.root.digest, AMD64.root, ARM.root}


def test_one_manifest_for_two_platforms_is_listed_for_both() -> None:
    nodes = [{**AMD64.descriptor(), "platform": images.platform_of(name)} for name in ("linux/a", "linux/b")]
    image = images.index([AMD64, ARM], manifests=[*nodes, ARM.descriptor()])
    found = choose(image, "linux/a", "linux/b")
    assert document_of(found)["manifests"] == nodes


# Sparse


def test_sparse_keeps_the_published_index_and_fetches_selected_manifests() -> None:
    source = MemorySource(ATTESTED)
    found = choose(ATTESTED, "linux/amd64", source=source, sparse=True)
    kept = [AMD64.root, ABOUT["linux/amd64"].root]
    assert found.root.digest == found.published == ATTESTED.root
    assert found.graph.nodes[found.root.digest].data == ATTESTED.data
    assert set(found.graph.nodes) == {ATTESTED.root, *kept}
    assert (found.graph.kept, found.platforms) == (kept, ("linux/amd64",))
    assert set(source.opened) == {ATTESTED.root, *kept}


def test_sparse_keeps_nested_indexes_unchanged() -> None:
    inner = images.index([ARM, CHILDREN["linux/s390x"]])
    image = images.index([AMD64, inner])
    found = choose(image, "linux/arm", sparse=True)
    assert set(found.graph.nodes) == {image.root, inner.root, ARM.root}
    assert set(found.graph.absent) == {AMD64.root, CHILDREN["linux/s390x"].root}


# Images without an index


@pytest.mark.parametrize("docker", [False, True])
def test_image_without_an_index_has_the_platform_of_its_config(docker: bool) -> None:
    image = images.image("linux/arm/v7", images.layer(1, 100, docker), docker=docker)
    found = choose(image, "linux/arm/v7")
    assert (found.root.digest, found.published, found.platforms) == (image.root, image.root, ("linux/arm/v7",))


def test_image_for_another_platform_than_the_selected_one_is_an_error() -> None:
    with pytest.raises(NotFound, match="no image for linux/amd64") as caught:
        choose(ARM, "linux/amd64")
    assert caught.value.hint == "It has: linux/arm/v7."


def test_one_missing_platform_of_two_is_an_error() -> None:
    with pytest.raises(NotFound, match="no image for linux/amd64"):
        choose(ARM, "linux/arm/v7", "linux/amd64")


def test_image_for_another_platform_than_the_host_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Platform, "host", lambda: Platform.parse("linux/amd64"))
    found = choose(ARM)
    assert found.root.digest == ARM.root
    assert found.warnings == ["it has no index: it is for linux/arm/v7 only, and this host is linux/amd64."]


def test_all_platforms_of_an_image_without_an_index_select_that_image() -> None:
    found = choose(ARM, all=True)
    assert (found.root.digest, found.platforms, found.warnings) == (ARM.root, ("linux/arm/v7",), [])


@pytest.mark.parametrize("choice", [{}, {"all": True}, {"platforms": (Platform.parse("linux/amd64"),)}])
def test_artifact_has_no_platform_and_is_always_selected(choice: dict[str, Any]) -> None:
    image = images.artifact("application/vnd.example", images.layer(1, 100))
    found = asyncio.run(selection.select(MemorySource(image), descriptor_of(image), PlatformSelection(**choice), "it"))
    assert (found.root.digest, found.platforms, found.warnings) == (image.root, (), [])


@pytest.mark.parametrize(
    "data",
    [b"", b"no json", b"[]", b"{}", b'{"os":1}', b'{"os":"linux"}', b'{"os":"linux","os":"windows"}', b"\xff"],
)
def test_image_with_a_config_without_a_valid_platform_is_selected(data: bytes) -> None:
    image = images.manifest(Blob.of(data, images.OCI_CONFIG), [images.layer(1, 100)])
    assert choose(image, "linux/amd64").platforms == ()


def test_the_config_is_fetched_once() -> None:
    source = MemorySource(AMD64)
    found = choose(AMD64, "linux/amd64", source=source)
    config = next(blob for blob in found.graph.blobs.values() if blob.media_type == images.OCI_CONFIG)
    assert config.data == AMD64.blobs[config.digest]
    assert source.opened.count(config.digest) == 1


@pytest.mark.parametrize(
    ("image", "platforms"), [(AMD64, ()), (ATTESTED, ()), (ATTESTED, ("linux/amd64",)), (PLAIN, NAMES[:2])]
)
def test_each_manifest_is_fetched_once(image: Image, platforms: tuple[str, ...]) -> None:
    source = MemorySource(image)
    choose(image, *platforms, source=source, all=not platforms)
    assert len(source.opened) == len(set(source.opened))


def test_config_with_wrong_bytes_is_an_error() -> None:
    source = MemorySource(AMD64)
    config = json.loads(AMD64.data)["config"]["digest"]
    source.contents[config] = source.contents[config].replace(b"amd64", b"arm64")
    with pytest.raises(DigestMismatch):
        choose(AMD64, "linux/amd64", source=source)


# Foreign layers and embedded data


def test_foreign_layers_are_listed_separately_from_blobs() -> None:
    foreign = Blob.of(b"licensed", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    found = choose(images.image("linux/amd64", images.layer(1, 100), foreign), all=True)
    assert foreign.digest not in found.graph.blobs
    assert list(found.graph.foreign) == [foreign.digest]


def test_embedded_data_is_removed_from_the_root_descriptor() -> None:
    root = Descriptor(PLAIN.root_media_type, descriptor_of(PLAIN).digest, len(PLAIN.data), data=PLAIN.data)
    found = asyncio.run(selection.select(MemorySource(PLAIN), root, PlatformSelection(all=True), "it"))
    assert found.root.data is None
    assert encode(json.loads(PLAIN.data)) == found.graph.nodes[found.root.digest].data


# Summaries of configs


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{}", {}),
        (b'{"created":"now","config":null}', {"created": "now"}),
        (b'{"config":{"Entrypoint":["a"],"Cmd":["b"],"Env":["SECRET=1"]}}', {"entry": ["a"], "command": ["b"]}),
        (b'{"config":{"Entrypoint":null,"Cmd":[]}}', {}),
        (b'{"config":{"User":"root","user":"ann"}}', {}),
    ],
)
def test_summary_of_a_config_has_the_date_and_the_command(data: bytes, told: Json) -> None:
    assert summarize(data) == told


@pytest.mark.parametrize(
    "data",
    [
        b"no json",
        b"[]",
        b'{"config":[]}',
        b'{"config":{"Cmd":["a"]},"Config":{"Cmd":["b"]}}',
        b'{"config":{"Entrypoint":["a"],"ENTRYPOINT":["b"]}}',
        b'{"config":{"cmd":["b"]}}',
    ],
)
def test_config_that_is_broken_or_ambiguous_has_no_summary(data: bytes) -> None:
    with pytest.raises(ContentError, match="the config: "):
        summarize(data)
