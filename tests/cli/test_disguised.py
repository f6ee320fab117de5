"""Tests of manifests that an index lists under the media type of a blob: they are not taken for blobs without links."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import images, layouts
from tests.support.command import Mirror, blob_path, blobs, tree
from tests.support.images import Blob, Image
from tests.support.registry import EmbeddedRegistry

JSON = "application/json"
GOOD = images.image("linux/amd64", images.layer(1, 500))
LAYER = images.layer(2, 300)
INNER = images.image("linux/arm64", LAYER)
NAME = "quay.io/a/b:v1"


def disguised(image: Image, media_type: str, data: bytes = b"") -> Image:
    """Return an image whose descriptor has another media type; `data` replaces the bytes of its root."""
    root = images.digest_of(data) if data else image.root
    below = {digest: found for digest, found in image.manifests.items() if digest != image.root}
    return replace(
        image, root=root, root_media_type=media_type, manifests={**below, root: (data or image.data, media_type)}
    )


def as_entry(layout: Path, odd: Image) -> str:
    layouts.write(layout, GOOD, odd)
    return odd.root


def as_child(layout: Path, odd: Image) -> str:
    layouts.write(layout, images.index([GOOD, odd]), name=NAME)
    return NAME


def as_grandchild(layout: Path, odd: Image) -> str:
    layouts.write(layout, images.index([GOOD, images.index([odd])]), name=NAME)
    return NAME


Place = Callable[[Path, Image], str]
PLACES = pytest.mark.parametrize("place", [as_entry, as_child, as_grandchild])
TYPES = ["application/json", "application/vnd.oci.image.config.v1+json", images.OCI_LAYER, "text/plain", "a/b"]
MARK = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OLD = images.encode({"schemaVersion": 1, "name": "a", "fsLayers": [{"blobSum": LAYER.digest}]})
FUTURE = images.encode({"chunks": [LAYER.descriptor()]})
TWICE = INNER.data.replace(b'{"schemaVersion":2', b'{"schemaVersion":2,"schemaVersion":2')
FOLDED = images.encode({"Layers": [{key.title(): value for key, value in LAYER.descriptor().items()}]})
ODD = [
    *(pytest.param(disguised(INNER, media_type), id=media_type) for media_type in [*TYPES, MARK]),
    pytest.param(disguised(images.index([INNER]), JSON), id="index"),
    pytest.param(disguised(INNER, JSON, b" \n" * 100_000 + INNER.data), id="indented"),
    pytest.param(disguised(INNER, JSON, OLD), id="schema 1"),
    pytest.param(disguised(INNER, JSON, FUTURE), id="unknown fields"),
    pytest.param(disguised(INNER, JSON, TWICE), id="ambiguous"),
    pytest.param(disguised(INNER, JSON, FOLDED), id="other case"),
]
ONE = pytest.mark.parametrize("odd", [disguised(INNER, JSON)], ids=[""])


@PLACES
@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("level", ["structure", "content"])
def test_disguised_manifest_is_never_ok(
    mirror: Mirror, tmp_path: Path, place: Place, odd: Image, is_whole: bool, level: str
) -> None:
    name = place(tmp_path / "layout", odd)
    if not is_whole:
        blob_path(tmp_path / "layout", LAYER.digest).unlink()
    result = mirror("verify", "layout", "--level", level, "--json", code=1).json
    found = [one for one in result["findings"] if one["kind"] != "orphan"]
    assert [(one["kind"], one["severity"], one["subject"]) for one in found] == [
        ("unsupported-type", "unverified", odd.root)
    ]
    assert found[0]["images"] == [name]
    assert result["verdict"] == "could not check"


@PLACES
@pytest.mark.parametrize("odd", ODD)
def test_prune_and_rm_keep_everything_while_there_is_a_disguised_manifest(
    mirror: Mirror, tmp_path: Path, place: Place, odd: Image
) -> None:
    layout = tmp_path / "layout"
    place(layout, odd)
    other = images.image("linux/s390x", images.layer(3, 100))
    layouts.add(layout, images.digest_of(other.data), other.data)
    before = tree(layout)
    assert odd.root in mirror("prune", "layout", "--delete", code=3).err
    assert odd.root in mirror("prune", "layout", code=3).err
    if place is as_entry:
        assert odd.root in mirror("rm", "layout", GOOD.root, code=3).err
    assert tree(layout) == before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["copy oci:layout oci:other", "export layout other.tar"])
@pytest.mark.parametrize("place", [as_child, as_grandchild])
@pytest.mark.parametrize("odd", ODD)
def test_transfer_leaves_a_disguised_child_behind(
    mirror: Mirror, tmp_path: Path, command: str, place: Place, odd: Image
) -> None:
    place(tmp_path / "layout", odd)
    result = mirror(*command.split(), "--json", code=4)
    assert f"{odd.root} ({odd.root_media_type})" in result.json["images"][0]["leftBehind"]
    assert f"{NAME} is not complete" in result.err
    if "other.tar" in command:
        mirror("import", "other.tar", "other")
    assert not blobs(tmp_path / "other") & {odd.root, *odd.manifests, *odd.blobs}
    assert {GOOD.root, *GOOD.blobs} <= blobs(tmp_path / "other")
    (found,) = mirror("verify", "other", "--json").json["findings"]
    assert (found["kind"], found["subject"], found["hint"]) == (
        "absent",
        odd.root,
        "Harmless, unless it is needed here.",
    )


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD)
def test_transfer_of_a_disguised_entry_copies_the_others(mirror: Mirror, tmp_path: Path, odd: Image) -> None:
    as_entry(tmp_path / "layout", odd)
    assert odd.root in mirror("copy", "oci:layout", "oci:other", code=4).err
    assert odd.root in mirror("export", "layout", "other.tar", code=4).err
    assert blobs(tmp_path / "other") == {GOOD.root, *GOOD.blobs}
    mirror("verify", "other")
    mirror("verify", "other.tar")


@pytest.mark.slow
@ONE
def test_transfer_of_nothing_but_a_disguised_manifest_fails(mirror: Mirror, tmp_path: Path, odd: Image) -> None:
    layouts.write(tmp_path / "layout", odd)
    for command in ("copy oci:layout oci:other", "export layout other.tar"):
        err = mirror(*command.split(), code=4).err
        assert f"error: {odd.root}: manifests of the type {JSON} are not supported" in err
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "other.tar").exists()


@pytest.mark.slow
@ONE
@pytest.mark.parametrize("is_child", [True, False])
def test_push_leaves_an_image_behind_that_has_a_disguised_manifest(
    mirror: Mirror, tmp_path: Path, registry: EmbeddedRegistry, odd: Image, is_child: bool
) -> None:
    other = images.image("linux/s390x", images.layer(3, 300))
    roots = [images.index([GOOD, odd]) if is_child else odd, other]
    layouts.write(tmp_path / "layout", *roots)
    ref = "org.opencontainers.image.ref.name"
    layouts.write_index(
        tmp_path / "layout",
        [
            {**root.descriptor(), "annotations": {ref: f"quay.io/team/app:v{number}"}}
            for number, root in enumerate(roots)
        ],
    )
    assert odd.root in mirror("push", "layout", registry.host, code=4).err
    assert registry.manifests("team/app") == {other.root}


@pytest.mark.slow
@ONE
def test_pull_leaves_a_disguised_child_in_the_registry(
    mirror: Mirror, tmp_path: Path, registry: EmbeddedRegistry, odd: Image
) -> None:
    image = images.index([GOOD, odd])
    image.publish(registry, "a", "v1")
    registry.put_blob("a", odd.data)
    assert odd.root in mirror("pull", f"{registry.host}/a:v1", "--all", code=4).err
    assert blobs(tmp_path / "layout") == {image.root, GOOD.root, *GOOD.blobs}
    findings = mirror("verify", f"docker://{registry.host}/a:v1", "--json", code=1).json["findings"]
    assert [(one["kind"], one["subject"]) for one in findings] == [("unsupported-type", odd.root)]


@ONE
def test_chosen_platform_does_not_need_the_disguised_child(mirror: Mirror, tmp_path: Path, odd: Image) -> None:
    as_child(tmp_path / "layout", odd)
    mirror("copy", "oci:layout", "oci:other", "--platform", "linux/amd64")
    assert blobs(tmp_path / "other") == {GOOD.root, *GOOD.blobs}
    assert odd.root in mirror("copy", "oci:layout", "oci:more", "--platform", "linux/arm64", code=4).err


@ONE
def test_disguised_child_is_listed_and_can_be_removed(mirror: Mirror, tmp_path: Path, odd: Image) -> None:
    as_child(tmp_path / "layout", odd)
    assert "1 of unsupported type" in mirror("ls", "layout").out
    mirror("inspect", "layout")
    mirror("rm", "layout", NAME)
    assert not blobs(tmp_path / "layout") & {GOOD.root, odd.root}


@ONE
def test_disguised_entry_is_listed_and_can_be_removed(mirror: Mirror, tmp_path: Path, odd: Image) -> None:
    as_entry(tmp_path / "layout", odd)
    (problem,) = (one["problem"] for one in mirror("ls", "layout", "--json").json["images"] if one["problem"])
    assert f"manifests of the type {JSON} are not supported" in problem
    mirror("rm", "layout", odd.root)
    mirror("prune", "layout", "--delete")
    assert blobs(tmp_path / "layout") == {GOOD.root, *GOOD.blobs}


CACHE = images.encode(
    {"layers": [{"blob": LAYER.digest, "parent": -1}], "records": [{"digest": LAYER.digest, "layers": [{"layer": 0}]}]}
)
REAL = [
    Blob.of(images.config("linux", "arm64", layers=[LAYER]).data, "application/vnd.oci.image.config.v1+json"),
    Blob.of(CACHE, "application/vnd.buildkit.cacheconfig.v0"),
    Blob.of(b'{"spdxVersion": "SPDX-2.3", "packages": [{"checksums": []}]}', "application/spdx+json"),
    Blob.of(b'{"a": 1, "a": NaN}', JSON),
    Blob.of(b"[1]", JSON),
    Blob.of(b"", "text/plain"),
    LAYER,
    Blob.of(images.encode({"layers": [LAYER.descriptor()], "": "x" * (4 << 20)}), JSON),  # larger than manifests are
]


@pytest.mark.slow
@pytest.mark.parametrize("blob", REAL, ids=lambda blob: f"{blob.media_type} {blob.size}")
def test_blob_is_still_a_blob(mirror: Mirror, tmp_path: Path, blob: Blob) -> None:
    odd = Image(blob.digest, blob.media_type, {blob.digest: (blob.data, blob.media_type)}, {})
    layout = layouts.write(tmp_path / "layout", images.index([GOOD, odd]), odd)
    found = mirror("verify", "layout", "--json").json["findings"]
    assert {(one["kind"], one["subject"]) for one in found} == {("unknown-type", odd.root)}
    assert "nothing to prune" in mirror("prune", "layout", "--delete").err
    mirror("copy", f"oci:layout:{images.index([GOOD, odd]).root}", "oci:other")
    assert blobs(tmp_path / "other") == blobs(layout)


@ONE
def test_disguised_subject_is_not_pruned(mirror: Mirror, tmp_path: Path, odd: Image) -> None:
    signature = images.artifact("a/b", Blob.of(b"signature", "text/plain"), subject=odd.descriptor())
    contents = {odd.root: odd.data, **odd.blobs}
    before = tree(layouts.write(tmp_path / "layout", signature, contents=contents))
    assert odd.root in mirror("prune", "layout", "--delete", code=3).err
    assert tree(tmp_path / "layout") == before
    kinds = {one["kind"] for one in mirror("verify", "layout", "--json", code=1).json["findings"]}
    assert "unsupported-type" in kinds


@pytest.mark.slow
def test_blobs_of_a_registry_are_still_blobs(mirror: Mirror, tmp_path: Path, registry: EmbeddedRegistry) -> None:
    listed = [*REAL, images.layer(4, 3_000_000)]  # as BuildKit lists the layers of a cache
    odd = [Image(one.digest, one.media_type, {one.digest: (one.data, one.media_type)}, {}) for one in listed]
    image = images.index([GOOD, *odd])
    image.publish(registry, "a", "v1")
    for blob in listed:
        registry.put_blob("a", blob.data)
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert blobs(tmp_path / "layout") == {image.root, GOOD.root, *GOOD.blobs, *(one.digest for one in listed)}
    mirror("verify", f"docker://{registry.host}/a:v1")
