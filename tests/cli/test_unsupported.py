"""Tests of manifests whose type is not supported: nothing pretends to know what they reference."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import images, layouts
from tests.support.command import Mirror, blob_path, blobs, tree
from tests.support.images import Blob, Image
from tests.support.registry import EmbeddedRegistry

SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
UNKNOWN = "application/vnd.example.manifest.v3+json"
SHOUTED = "application/vnd.OCI.image.Manifest.v1+JSON"
PAYLOAD = Blob.of(b"what only the manifest of an unsupported type references", "application/octet-stream")
GOOD = images.image("linux/amd64", images.layer(1, 500))


def artifact(media_type: str, key: str = "blobs") -> Image:
    """Return a manifest with a blob, such as those of artifacts before version 1.1 of the specification."""
    data = images.encode({"mediaType": media_type, "artifactType": "a/b", key: [PAYLOAD.descriptor()]})
    root = images.digest_of(data)
    return Image(root, media_type, {root: (data, media_type)}, {PAYLOAD.digest: PAYLOAD.data})


def as_entry(folder: Path, odd: Image) -> str:
    layouts.write(folder / "layout", GOOD, odd)
    return odd.root


def as_child(folder: Path, odd: Image) -> str:
    layouts.write(folder / "layout", images.index([GOOD, odd]), name="quay.io/a/b:v1")
    return "quay.io/a/b:v1"


TYPES = pytest.mark.parametrize("media_type", [UNKNOWN, SCHEMA1])
PLACES = pytest.mark.parametrize("place", [as_entry, as_child])
Place = Callable[[Path, Image], str]


@PLACES
@pytest.mark.parametrize(
    ("media_type", "kind", "severity", "code"),
    [
        (UNKNOWN, "unsupported-type", "unverified", 1),
        (SHOUTED, "unsupported-type", "unverified", 1),
        (SCHEMA1, "broken-manifest", "error", 3),
    ],
)
def test_manifest_that_cannot_be_followed_is_never_ok(
    mirror: Mirror, tmp_path: Path, place: Place, media_type: str, kind: str, severity: str, code: int
) -> None:
    odd = artifact(media_type)
    name = place(tmp_path, odd)
    blob_path(tmp_path / "layout", PAYLOAD.digest).unlink()
    (found,) = mirror("verify", "layout", "--json", code=code).json["findings"]
    assert (found["kind"], found["severity"], found["subject"], found["images"]) == (kind, severity, odd.root, [name])


@PLACES
@TYPES
def test_prune_keeps_everything_while_a_manifest_cannot_be_followed(
    mirror: Mirror, tmp_path: Path, place: Place, media_type: str
) -> None:
    odd = artifact(media_type)
    place(tmp_path, odd)
    before = tree(tmp_path / "layout")
    assert odd.root in mirror("prune", "layout", "--delete", code=3).err
    assert tree(tmp_path / "layout") == before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["copy oci:layout oci:other", "export layout other.tar"])
@TYPES
def test_transfer_reports_a_child_that_it_leaves_behind(
    mirror: Mirror, tmp_path: Path, command: str, media_type: str
) -> None:
    odd = artifact(media_type)
    as_child(tmp_path, odd)
    result = mirror(*command.split(), "--json", code=4)
    assert f"{odd.root} ({media_type})" in result.json["images"][0]["leftBehind"]
    assert "quay.io/a/b:v1 is not complete" in result.err
    if "other.tar" in command:
        mirror("import", "other.tar", "other")
    assert blobs(tmp_path / "other") == {images.index([GOOD, odd]).root, GOOD.root, *GOOD.blobs}
    assert "recorded as absent" not in result.err
    (found,) = mirror("verify", "other", "--json").json["findings"]
    size = len(odd.data)
    assert found["kind"] == "absent"
    assert found["message"] == f"left behind: manifests of the type {media_type} are not supported ({size} bytes)"


@pytest.mark.slow
@TYPES
def test_push_leaves_an_image_behind_that_a_registry_would_refuse(
    mirror: Mirror, tmp_path: Path, registry: EmbeddedRegistry, media_type: str
) -> None:
    odd, other = artifact(media_type), images.image("linux/arm64", images.layer(2, 300))
    layouts.write(tmp_path / "layout", images.index([GOOD, odd]), other)
    layouts.write_index(
        tmp_path / "layout",
        [
            {**one.descriptor(), "annotations": {"org.opencontainers.image.ref.name": f"quay.io/team/app:{tag}"}}
            for one, tag in ((images.index([GOOD, odd]), "v1"), (other, "v2"))
        ],
    )
    result = mirror("push", "layout", registry.host, code=4)
    assert f"{odd.root} ({media_type})" in result.err
    assert registry.manifests("team/app") == {other.root}


@pytest.mark.slow
@TYPES
def test_transfer_of_an_entry_that_cannot_be_followed_copies_the_others(
    mirror: Mirror, tmp_path: Path, media_type: str
) -> None:
    odd = artifact(media_type)
    as_entry(tmp_path, odd)
    result = mirror("copy", "oci:layout", "oci:other", code=4)
    assert odd.root in result.err
    assert blobs(tmp_path / "other") == {GOOD.root, *GOOD.blobs}
    mirror("verify", "other")


def test_transfer_of_nothing_but_an_unsupported_manifest_fails(mirror: Mirror, tmp_path: Path) -> None:
    odd = artifact(UNKNOWN)
    layouts.write(tmp_path / "layout", odd)
    for command in ("copy oci:layout oci:other", "export layout other.tar"):
        err = mirror(*command.split(), code=4).err
        assert f"error: {odd.root}: manifests of the type {UNKNOWN} are not supported" in err
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "other.tar").exists()


@pytest.mark.slow
def test_chosen_platform_does_not_need_the_unsupported_child(mirror: Mirror, tmp_path: Path) -> None:
    as_child(tmp_path, artifact(UNKNOWN))
    mirror("copy", "oci:layout", "oci:other", "--platform", "linux/amd64")
    assert blobs(tmp_path / "other") == {GOOD.root, *GOOD.blobs}


@pytest.mark.slow
def test_pull_leaves_an_unsupported_child_in_the_registry(
    mirror: Mirror, tmp_path: Path, registry: EmbeddedRegistry
) -> None:
    odd = artifact(UNKNOWN)
    images.index([GOOD, odd]).publish(registry, "a", "v1")
    assert odd.root in mirror("pull", f"{registry.host}/a:v1", "--all", code=4).err
    assert blobs(tmp_path / "layout") == {images.index([GOOD, odd]).root, GOOD.root, *GOOD.blobs}
    findings = mirror("verify", f"docker://{registry.host}/a:v1", "--json", code=1).json["findings"]
    assert [(one["kind"], one["subject"]) for one in findings] == [("unsupported-type", odd.root)]


@PLACES
@pytest.mark.parametrize(
    "media_type",
    ["application/vnd.oci.artifact.manifest.v1+json", "application/vnd.cncf.oras.artifact.manifest.v1+json"],
)
def test_artifact_manifests_of_old_tools_are_followed(
    mirror: Mirror, tmp_path: Path, place: Place, media_type: str
) -> None:
    place(tmp_path, artifact(media_type))
    mirror("verify", "layout")
    mirror("copy", "oci:layout", "oci:other")
    assert PAYLOAD.digest in blobs(tmp_path / "other")
    assert "nothing to prune" in mirror("prune", "layout").err
    blob_path(tmp_path / "layout", PAYLOAD.digest).unlink()
    (found,) = mirror("verify", "layout", "--json", code=3).json["findings"]
    assert (found["kind"], found["subject"]) == ("missing", PAYLOAD.digest)


def test_layer_may_have_any_type(mirror: Mirror, tmp_path: Path) -> None:
    deployment = Blob.of(b"{}", "application/vnd.example.manifest.v1+json")
    layouts.write(tmp_path / "layout", images.artifact("a/b", deployment))
    mirror("verify", "layout")
    mirror("copy", "oci:layout", "oci:other")
    assert "nothing to prune" in mirror("prune", "layout").err


def test_unsupported_child_is_listed_and_can_be_removed(mirror: Mirror, tmp_path: Path) -> None:
    odd = artifact(UNKNOWN)
    as_child(tmp_path, odd)
    assert "linux/amd64 (1 of unsupported type)" in mirror("ls", "layout").out
    mirror("inspect", "layout")
    mirror("rm", "layout", "quay.io/a/b:v1")
    assert odd.root not in blobs(tmp_path / "layout")
