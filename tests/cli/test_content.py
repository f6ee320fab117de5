"""Tests of unusual content: from a registry into a layout and to another registry, byte for byte."""

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.command import Mirror, blob_path, blobs, entries
from tests.support.images import Blob, Image
from tests.support.registry import EmbeddedRegistry, Fault, Header, serving

ARTIFACT_MANIFEST = "application/vnd.oci.artifact.manifest.v1+json"
LAYER = images.layer(1, 100)
NAME = "io.containerd.image.name"


def attested() -> Image:
    image = images.image("linux/amd64", LAYER)
    return images.index([image, images.attestation(image)])


def nested() -> Image:
    inner = images.index([images.image("linux/arm/v7", LAYER), images.image("linux/arm64", LAYER)])
    return images.index([images.image("linux/amd64", LAYER), inner])


def mixed() -> Image:
    """Return an OCI index of Docker manifests, as some versions of BuildKit wrote it."""
    return images.index([images.image("linux/amd64", images.layer(1, 100, docker=True), docker=True)])


def chart() -> Image:
    content = Blob.of(b"a chart", "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    configuration = Blob.of(b"name: a", "application/vnd.cncf.helm.config.v1+json")
    return images.artifact("application/vnd.cncf.helm.chart.v1", content, configuration=configuration)


def strange_types() -> Image:
    content = Blob.of(b"?", "application/vnd.example.never-heard-of.v7; charset=x")
    return images.artifact("application/vnd.example.thing", content, annotations={"org.example": "a/../b"})


def artifact_manifest() -> Image:
    """Return a manifest of the type that was withdrawn before image-spec 1.1."""
    content = Blob.of(b"signed", "text/plain")
    document = {"mediaType": ARTIFACT_MANIFEST, "artifactType": "x/y", "blobs": [content.descriptor()]}
    data = images.encode(document)
    root = images.digest_of(data)
    return Image(root, ARTIFACT_MANIFEST, {root: (data, ARTIFACT_MANIFEST)}, {content.digest: content.data})


def zero_length() -> Image:
    return images.image("linux/amd64", Blob.of(b"", images.OCI_LAYER), LAYER)


def same_layer_twice() -> Image:
    return images.image("linux/amd64", LAYER, LAYER)


def layer_that_is_also_the_config() -> Image:
    return images.manifest(images.EMPTY, [Blob.of(images.EMPTY.data, "text/plain")])


def no_layers() -> Image:
    return images.image("linux/amd64")


def empty_index() -> Image:
    return images.index([])


def same_child_twice() -> Image:
    child = images.image("linux/amd64", LAYER)
    return images.index([child, child])


def pretty() -> Image:
    """Return a manifest with unusual white space and unknown fields."""
    return images.manifest(images.EMPTY, [LAYER], indent=7, annotations={"ü": "\n"}, newField={"a": [1.5, None]})


def dangling_subject() -> Image:
    subject = {"mediaType": images.OCI_MANIFEST, "digest": images.digest_of(b"gone"), "size": 4}
    return images.artifact("application/vnd.example.signature", LAYER, subject=subject)


def zstd() -> Image:
    return images.image("linux/amd64", Blob.of(b"\x28\xb5\x2f\xfd", "application/vnd.oci.image.layer.v1.tar+zstd"))


def without_media_type() -> Image:
    """Return a manifest without mediaType, which is optional in OCI manifests."""
    document = {"schemaVersion": 2, "config": images.EMPTY.descriptor(), "layers": [LAYER.descriptor()]}
    data = images.encode(document)
    root = images.digest_of(data)
    held = {images.EMPTY.digest: images.EMPTY.data, LAYER.digest: LAYER.data}
    return Image(root, images.OCI_MANIFEST, {root: (data, images.OCI_MANIFEST)}, held)


def docker_multi_arch() -> Image:
    return images.multi_arch(docker=True)


def docker_image() -> Image:
    return images.image("linux/amd64", images.layer(3, 300, docker=True), docker=True)


BUILDERS: list[Callable[[], Image]] = [
    images.multi_arch,
    attested,
    nested,
    mixed,
    chart,
    strange_types,
    artifact_manifest,
    zero_length,
    same_layer_twice,
    layer_that_is_also_the_config,
    no_layers,
    empty_index,
    same_child_twice,
    pretty,
    dangling_subject,
    zstd,
    without_media_type,
    docker_multi_arch,
    docker_image,
]


@pytest.fixture(scope="module")
def private() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry()) as registry:
        yield registry


@dataclass(frozen=True)
class Journey:
    """The images, pulled and pushed in one call each; the output of the push, and its target."""

    images: dict[str, Image]
    layout: Path
    pushed: list[str]
    private: EmbeddedRegistry


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory, private: EmbeddedRegistry) -> Journey:
    mirror = Mirror(tmp_path_factory.mktemp("journey"))
    built = {build.__name__.replace("_", "-"): build() for build in BUILDERS}
    with serving(EmbeddedRegistry()) as shop:
        for repo, image in built.items():
            image.publish(shop, repo, "v1")
        mirror("pull", *(f"{shop.host}/{repo}:v1" for repo in built), "--all")
    mirror("verify", "layout")
    return Journey(built, mirror.folder / "layout", mirror("push", "layout", private.host).lines, private)


def content_of(image: Image) -> dict[str, bytes]:
    return {**image.blobs, **{digest: data for digest, (data, _) in image.manifests.items()}}


REPOS = [build.__name__.replace("_", "-") for build in BUILDERS]


@pytest.mark.slow
@pytest.mark.parametrize("repo", REPOS)
def test_image_is_stored_as_published(journey: Journey, repo: str) -> None:
    image = journey.images[repo]
    stored = {digest: blob_path(journey.layout, digest).read_bytes() for digest in content_of(image)}
    assert stored == content_of(image)
    (entry,) = [each for each in entries(journey.layout) if each["annotations"][NAME].endswith(f"/{repo}:v1")]
    assert (entry["mediaType"], entry["digest"], entry["size"]) == (image.root_media_type, image.root, len(image.data))


@pytest.mark.parametrize("repo", REPOS)
def test_image_is_pushed_as_published(journey: Journey, repo: str) -> None:
    image, registry = journey.images[repo], journey.private
    assert f"{registry.host}/{repo}:v1@{image.root}" in journey.pushed
    lists = {tag: digest for tag, digest in registry.tags(repo).items() if tag.startswith("sha256-")}
    pushed = registry.manifests(repo) - set(lists.values())
    assert {digest: registry.get_manifest(repo, digest) for digest in pushed} == image.manifests
    assert {digest: registry.get_blob(repo, digest) for digest in registry.blobs(repo)} == image.blobs
    assert registry.tags(repo) == {"v1": image.root, **lists}
    assert len(lists) == (repo == "dangling-subject")  # the referrers tag, for registries without the API


def test_nothing_else_is_stored(journey: Journey) -> None:
    wanted = {digest for image in journey.images.values() for digest in content_of(image)}
    assert blobs(journey.layout) == wanted
    assert (journey.layout / "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'


def sha512() -> tuple[Blob, Image]:
    """Return a layer with a SHA-512 digest and its image."""
    layer = Blob(LAYER.data, LAYER.media_type, sha512_of(LAYER.data), LAYER.size)
    return layer, images.manifest(images.EMPTY, [layer])


def sha512_of(data: bytes) -> str:
    return EmbeddedRegistry().put_blob("a", data, "sha512")


@pytest.mark.slow
def test_sha512_layer_is_stored_below_blobs_sha512(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    layer, image = sha512()
    registry.put_blob("a", layer.data, "sha512")
    registry.put_blob("a", images.EMPTY.data)
    registry.put_manifest("a", "v1", image.data, image.root_media_type)
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert (tmp_path / "layout/blobs/sha512" / layer.digest[7:]).read_bytes() == layer.data
    mirror("verify", "layout")


@pytest.mark.slow
def test_image_pinned_by_sha512_keeps_that_digest(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    image = images.image("linux/amd64", LAYER)
    image.publish(registry, "a", "v1")
    digest = registry.put_manifest("a", None, image.data, image.root_media_type, "sha512")
    assert mirror("pull", f"{registry.host}/a@{digest}", "--all").lines == [f"{registry.host}/a@{digest}"]
    assert entries(tmp_path / "layout")[0]["digest"] == digest
    mirror("verify", "layout")


# Embedded data


def with_data(blob: Blob, data: Any) -> Image:
    node = {**blob.descriptor(), "data": data}
    document = {"schemaVersion": 2, "mediaType": images.OCI_MANIFEST, "config": node, "layers": []}
    encoded = images.encode(document)
    root = images.digest_of(encoded)
    return Image(root, images.OCI_MANIFEST, {root: (encoded, images.OCI_MANIFEST)}, {})


def test_embedded_data_is_stored_without_a_blob_request(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    blob = Blob.of(b"{}", "application/vnd.oci.empty.v1+json")
    with_data(blob, "e30=").publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert blob_path(tmp_path / "layout", blob.digest).read_bytes() == b"{}"
    assert registry.count("GET", "/blobs/") == 0


WRONG_DATA = [base64.b64encode(b"[]").decode(), "e30", "e30=\n", "!e30=", "", 7, {}]


def test_invalid_embedded_data_is_refused(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    for number, data in enumerate(WRONG_DATA):
        with_data(Blob.of(b"{}", "text/plain"), data).publish(registry, "a", f"v{number}")
    assert all("data" in error for error in pull_errors(mirror, registry, len(WRONG_DATA)))
    assert not (tmp_path / "layout").exists()


def pull_errors(mirror: Mirror, registry: EmbeddedRegistry, count: int) -> list[str]:
    """Pull the images a:v0, a:v1, … and return the error of each."""
    names = [f"{registry.host}/a:v{number}" for number in range(count)]
    report = mirror("pull", *names, "--all", "--keep-going", "--json", code=3).json
    return [image["error"] or "" for image in report["images"]]


# Foreign layers


def foreign() -> tuple[Blob, Image]:
    layer = Blob.of(b"windows", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    node = layer.descriptor(urls=["http://127.0.0.1:9/layer"])
    config = images.config("windows", "amd64", layers=[LAYER], docker=True)
    document = {"config": config.descriptor(), "layers": [node, LAYER.descriptor()]}
    data = images.encode({"schemaVersion": 2, "mediaType": images.DOCKER_MANIFEST, **document})
    root = images.digest_of(data)
    held = {config.digest: config.data, LAYER.digest: LAYER.data}
    return layer, Image(root, images.DOCKER_MANIFEST, {root: (data, images.DOCKER_MANIFEST)}, held)


@pytest.mark.slow
def test_foreign_layer_is_omitted_and_reported(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    layer, image = foreign()
    image.publish(registry, "a", "v1")
    assert "foreign" in mirror("pull", f"{registry.host}/a:v1", "--all").err
    assert layer.digest not in blobs(tmp_path / "layout")
    (finding,) = mirror("verify", "layout", "--json").json["findings"]
    assert (finding["kind"], finding["severity"], finding["subject"]) == ("absent", "warning", layer.digest)


@pytest.mark.slow
def test_foreign_layer_is_not_pushed(
    mirror: Mirror, registry: EmbeddedRegistry, private: EmbeddedRegistry, tmp_path: Path
) -> None:
    layer, image = foreign()
    image.publish(registry, "foreign", "v1")
    mirror("pull", f"{registry.host}/foreign:v1", "--all")
    blob_path(tmp_path / "layout", layer.digest).write_bytes(layer.data)
    mirror("push", "layout", private.host)
    assert private.blobs("foreign") == set(image.blobs)


# Schema 1


SCHEMA_1: list[tuple[dict[str, Any], str]] = [
    ({"schemaVersion": 1, "fsLayers": [], "signatures": []}, "v1+prettyjws"),
    ({"schemaVersion": 1, "fsLayers": []}, "v1+json"),
    ({"schemaVersion": 1, "fsLayers": []}, "v2+json"),
    ({"schemaVersion": 2, "fsLayers": []}, "v2+json"),
    ({"schemaVersion": 1}, "v2+json"),
]


def test_schema_1_manifest_is_refused(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    for number, (document, kind) in enumerate(SCHEMA_1):
        media_type = f"application/vnd.docker.distribution.manifest.{kind}"
        registry.put_manifest("a", f"v{number}", json.dumps(document).encode(), media_type)
    assert all("schema 1" in error for error in pull_errors(mirror, registry, len(SCHEMA_1)))
    assert not (tmp_path / "layout").exists()


def test_blobs_keep_the_last_modified_time_of_the_registry(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    images.image("linux/amd64", LAYER).publish(registry, "a", "v1")
    when = Header("Last-Modified", "Thu, 21 Sep 2017 20:55:13 GMT")
    registry.fault(Fault(path=f"/blobs/{LAYER.digest}", times=None, action=when))
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert blob_path(tmp_path / "layout", LAYER.digest).stat().st_mtime == 1506027313
