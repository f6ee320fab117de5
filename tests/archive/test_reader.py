"""Tests of reading image archives of different tools as layouts."""

import asyncio
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mirror.archive.reader import Archive
from mirror.content import decompress, stream
from mirror.content.walk import walk
from mirror.errors import BrokenArchive, ContentError, DigestMismatch, NotFound, UsageError
from mirror.oci.descriptor import OCI_MANIFEST, Descriptor
from mirror.oci.digest import Digest
from tests.support import images, tools
from tests.support.archives import (
    Saved,
    containerd_archive,
    crane_archive,
    docker_archive,
    docker_new,
    docker_old,
    encode_list,
    layout,
    named,
    oci_archive,
    packed,
    with_folders,
)
from tests.support.memory import descriptor_of

NAME = "quay.io/a/b:v1"
MULTI = images.multi_arch()
SAVED = Saved(1, "busybox:1.36", "busybox:latest")
FIRST, SECOND = SAVED.layers.values()
PACKED_FIRST, PACKED_SECOND = SAVED.compressed.values()
OTHER = Saved(50, "quay.io/a/b:v2", shared=[images.layer(1, 3000)])


def opened(tmp_path: Path, data: bytes) -> Archive:
    path = tmp_path / "images.tar"
    path.write_bytes(data)
    return Archive.open(path)


def read(archive: Archive, node: Descriptor, start: int = 0) -> bytes:
    async def main() -> bytes:
        async with archive.open_blob(node, start) as body:
            assert body.start == start
            return b"".join([chunk async for chunk in body.chunks])

    return asyncio.run(main())


def content(archive: Archive, root: Descriptor) -> dict[str, bytes]:
    """Return all content of an image; check the digests."""

    async def main() -> dict[str, bytes]:
        graph = await walk(archive, root)
        found = {str(digest): node.data for digest, node in graph.nodes.items()}
        for blob in graph.blobs.values():
            async with archive.open_blob(blob) as body:
                found[blob.digest] = await stream.read(body, blob)
        return found

    return asyncio.run(main())


# Layouts in a tar archive


@pytest.mark.parametrize("pack", [packed, lambda files: packed(with_folders(files))], ids=["in our order", "sorted"])
def test_a_layout_in_an_archive_is_read(tmp_path: Path, pack: Callable[[dict[str, bytes]], bytes]) -> None:
    with opened(tmp_path, pack(layout(named(MULTI, NAME), content=[MULTI]))) as archive:
        (entry,) = archive.entries()
        assert (entry.name, entry.root.digest) == (NAME, MULTI.root)
        assert content(archive, entry.root) == {**MULTI.blobs, **{k: data for k, (data, _) in MULTI.manifests.items()}}


def test_images_are_found_by_their_names(tmp_path: Path) -> None:
    with opened(tmp_path, oci_archive(MULTI, NAME)) as archive:
        assert [entry.name for entry in archive.find(["a/b:v1"])] == [NAME]
        assert asyncio.run(archive.resolve("v1")).digest == MULTI.root
        with pytest.raises(NotFound, match="no image 'v2'"):
            archive.find(["v2"])


@pytest.mark.slow
def test_blob_can_be_read_from_any_offset(tmp_path: Path) -> None:
    blob = images.layer(7, 3_000_000)
    image = images.image("linux/amd64", blob)
    node = Descriptor("x/y", Digest.parse(blob.digest), blob.size)
    with opened(tmp_path, oci_archive(image, NAME)) as archive:
        for start in (0, 1, 1_500_000, blob.size - 1, blob.size):
            assert read(archive, node, start) == blob.data[start:]


def test_missing_blob_or_blob_of_another_size_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path, oci_archive(MULTI, NAME)) as archive:
        with pytest.raises(BrokenArchive, match="lacks sha256:"):
            read(archive, Descriptor("x/y", Digest.of(b"x"), 1))
        with pytest.raises(BrokenArchive, match="should have 5 bytes"):
            read(archive, Descriptor("x/y", Digest.parse(MULTI.root), 5))


def test_wrong_byte_in_a_blob_is_found(tmp_path: Path) -> None:
    image = images.image("linux/amd64", images.layer(1, 500))
    data = oci_archive(image, NAME)
    blob = next(iter(image.blobs.values()))
    with (
        opened(tmp_path, data.replace(blob, blob[:-1] + bytes([blob[-1] ^ 1]))) as archive,
        pytest.raises(DigestMismatch),
    ):
        content(archive, descriptor_of(image))


def test_docker_25_archive_is_read_as_a_layout(tmp_path: Path) -> None:
    with opened(tmp_path, docker_new(SAVED)) as archive:
        (entry,) = archive.entries()
        assert entry.name == "docker.io/library/busybox:1.36"
        assert set(SAVED.layers) <= content(archive, entry.root).keys()


def test_containerd_archive_with_some_platforms_of_an_index_is_read(tmp_path: Path) -> None:
    child = images.image("linux/amd64", images.layer(1, 100))
    index = images.index([child, images.image("linux/arm64", images.layer(2, 100))])
    with opened(tmp_path, containerd_archive(index, NAME, child)) as archive:
        (entry,) = archive.entries()
        assert (entry.name, entry.root.digest) == (NAME, index.root)
        assert archive.holds(Digest.parse(child.root))


# Archives with a manifest.json of Docker


@pytest.mark.parametrize("pack", [docker_old, docker_archive], ids=["docker save", "podman save"])
def test_docker_archive_image_becomes_a_manifest_of_its_config_and_layers(
    tmp_path: Path, pack: Callable[[Saved], bytes]
) -> None:
    with opened(tmp_path, pack(SAVED)) as archive:
        first, second = archive.entries()
        assert [first.name, second.name] == ["docker.io/library/busybox:1.36", "docker.io/library/busybox:latest"]
        assert first.root.digest == second.root.digest
        found = content(archive, first.root)
        document = json.loads(found[first.root.digest])
        assert {"config": document["config"], "layers": document["layers"]} == SAVED.manifest()
        assert document["annotations"] == {"dev.oci-mirror.made-from": "docker-archive"}
        assert found == {
            **SAVED.layers,
            SAVED.config.digest: SAVED.config.data,
            first.root.digest: found[first.root.digest],
        }


def test_manifest_of_an_image_does_not_depend_on_the_tool_that_saved_it(tmp_path: Path) -> None:
    roots = set()
    for pack in (docker_old, docker_archive):
        with opened(tmp_path, pack(SAVED)) as archive:
            roots.add(archive.entries()[0].root.digest)
    assert len(roots) == 1


def test_layer_shared_by_two_images_is_found_for_the_second_image(tmp_path: Path) -> None:
    data = docker_old(SAVED, OTHER)
    assert data.count(FIRST) == 1
    with opened(tmp_path, data) as archive:
        *_, last = archive.entries()
        assert last.name == "quay.io/a/b:v2"
        assert content(archive, last.root).keys() >= OTHER.layers.keys()


def test_a_compressed_layer_keeps_its_digest(tmp_path: Path) -> None:
    with opened(tmp_path, crane_archive(SAVED)) as archive:
        root = archive.entries()[0].root
        found = content(archive, root)
        assert {*map(images.digest_of, SAVED.compressed.values())} <= found.keys()
        types = {layer["mediaType"] for layer in json.loads(found[root.digest])["layers"]}
        assert types == {"application/vnd.oci.image.layer.v1.tar+gzip"}


def test_image_without_a_name_is_named_by_its_digest(tmp_path: Path) -> None:
    with opened(tmp_path, docker_old(Saved(1))) as archive:
        (entry,) = archive.entries()
        assert (entry.name, entry.root.media_type) == (entry.root.digest, OCI_MANIFEST)


def test_layer_that_does_not_match_its_diff_id_is_found(tmp_path: Path) -> None:
    with (
        opened(tmp_path, docker_old(SAVED).replace(FIRST, FIRST[:-1] + b"x")) as archive,
        pytest.raises(DigestMismatch),
    ):
        content(archive, archive.entries()[0].root)


def test_config_that_does_not_match_its_digest_is_found(tmp_path: Path) -> None:
    data = docker_old(SAVED).replace(b'"created":"2020', b'"created":"2021')
    with opened(tmp_path, data) as archive, pytest.raises(DigestMismatch):
        content(archive, archive.entries()[0].root)


def classic(**changes: Any) -> bytes:
    """Return a small docker archive with some of its files replaced."""
    files = {"c.json": SAVED.config.data, "l0": FIRST, "l1": SECOND}
    listed = {"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["l0", "l1"]}
    listed |= {key: value for key, value in changes.items() if key[0].isupper()}
    files |= {key: value for key, value in changes.items() if key in files}
    listing = changes.get("listing", encode_list([listed]))
    return packed({**files, "manifest.json": listing})


def test_config_and_layers_may_have_any_file_names(tmp_path: Path) -> None:
    with opened(tmp_path, classic()) as archive:
        assert content(archive, archive.entries()[0].root).keys() >= SAVED.layers.keys()


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "invalid JSON": ({"listing": b"["}, "not valid JSON"),
    "an object for the list": ({"listing": b"{}"}, "not a list of images"),
    "a list of lists": ({"listing": b"[[]]"}, "[0]: not a JSON object"),
    "a duplicate key": ({"listing": b'[{"Config":"c.json","Config":"d.json"}]'}, "twice"),
    "a key in another case": ({"config": 1, "Config": "c.json", "listing": b'[{"config":"x"}]'}, "'config'"),
    "a missing config": ({"Config": None}, "[0]: 'Config' is missing"),
    "a number for a config": ({"Config": 1}, "[0]: 'Config' is not a string"),
    "a config that is not in the archive": ({"Config": "d.json"}, "'d.json' is listed, but not in the archive"),
    "a config path outside of the archive": ({"Config": "../../etc/passwd"}, "is listed, but not in the archive"),
    "a config that is not JSON": ({"c.json": b"x"}, "not valid JSON"),
    "a config without layers": ({"c.json": b"{}"}, "0 diff_ids, but 2 layers"),
    "diff_ids that are not a list": ({"c.json": b'{"rootfs":{"diff_ids":{}}}'}, "'diff_ids' is not a list"),
    "an invalid diff_id": ({"c.json": b'{"rootfs":{"diff_ids":["sha256:../../x","x"]}}'}, "is not a valid digest"),
    "too few layers": ({"Layers": ["l0"]}, "2 diff_ids, but 1 layers are listed"),
    "too many layers": ({"Layers": ["l0", "l1", "l1"]}, "2 diff_ids, but 3 layers are listed"),
    "a layer that is not in the archive": ({"Layers": ["l0", "l2"]}, "'l2' is listed, but not in the archive"),
    "a number for a layer": ({"Layers": ["l0", 1]}, "is not a list of strings"),
    "names that are not a list": ({"RepoTags": "a:1"}, "is not a list of strings"),
    "a truncated gzip": ({"l0": PACKED_FIRST[:-9]}, "not valid gzip"),
    "an invalid gzip": ({"l0": b"\x1f\x8b" + b"x" * 50}, "not valid gzip"),
    "another layer, compressed": ({"l0": PACKED_SECOND}, "does not unpack to its diff_id"),
    "zstd": ({"l0": b"\x28\xb5\x2f\xfd" + b"x" * 50}, "compressed with zstd"),
    "a config of 5 MB": ({"c.json": b"{" + b" " * 5_000_000 + b"}"}, "4194304 are the limit"),
}


@pytest.mark.parametrize("flaw", BROKEN)
def test_broken_docker_archive_is_refused(tmp_path: Path, flaw: str) -> None:
    changes, words = BROKEN[flaw]
    with pytest.raises(BrokenArchive) as caught:
        opened(tmp_path, classic(**changes))
    assert words in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "images.tar"))


def test_manifest_json_may_be_larger_than_the_limit_of_oci_manifests(tmp_path: Path) -> None:
    """Archives of 10,000 images with ten layers have a manifest.json of ten megabytes."""
    listing = encode_list([{"Config": "c.json", "RepoTags": ["a/b:v1"], "Layers": ["l0", "l1"]}]) + b" " * 5_000_000
    with opened(tmp_path, classic(listing=listing)) as archive:
        assert [entry.name for entry in archive.entries()] == ["docker.io/a/b:v1"]


@pytest.mark.slow
def test_layer_that_is_a_gzip_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompress, "FREE", 64 << 20)
    bomb = gzip.compress(bytes(200_000_000), 9)
    with pytest.raises(BrokenArchive, match=r"l0 unpacks to more than 67\.1 MB, which no genuine layer does"):
        opened(tmp_path, classic(l0=bomb))


@pytest.mark.slow
def test_layer_that_many_links_lead_to_is_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would unpack to more than the limit of all layers together."""
    monkeypatch.setattr(decompress, "FREE", 8 << 20)
    content = bytes(4 << 20)
    files, links = tools.docker_24_linked(content, 80)
    data = packed(files, links=links)
    assert len(data) < 200_000
    with opened(tmp_path, data) as archive:
        assert len(archive.entries()) == 1


@pytest.mark.slow
def test_layers_that_unpack_to_too_much_together_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decompress, "FREE", 8 << 20)
    contents = [bytes([number]) * (3 << 20) for number in range(3)]
    layers = {f"l{number}": gzip.compress(content) for number, content in enumerate(contents)}
    config = images.encode({"rootfs": {"diff_ids": [images.digest_of(content) for content in contents]}})
    listing = encode_list([{"Config": "c.json", "RepoTags": None, "Layers": list(layers)}])
    with pytest.raises(BrokenArchive, match=r"l2 and the layers before it unpack to more than 8\.4 MB"):
        opened(tmp_path, packed({"c.json": config, "manifest.json": listing, **layers}))


@pytest.mark.slow
@pytest.mark.parametrize(("layers", "times"), [(40_000, 1), (20_000, 25)])
def test_manifest_json_with_too_many_layers_is_refused(tmp_path: Path, layers: int, times: int) -> None:
    config = images.encode({"rootfs": {"diff_ids": ["sha256:" + "ab" * 32] * layers}})
    item = {"Config": "c.json", "RepoTags": None, "Layers": ["l0"] * layers}
    listing = encode_list([item] * times)
    assert max(len(listing), len(config)) < 4 * 1024 * 1024
    with pytest.raises(BrokenArchive, match="more images than any genuine archive"):
        opened(tmp_path, packed({"c.json": config, "l0": b"x", "manifest.json": listing}))


# Tar files that are not image archives


@pytest.mark.parametrize(
    ("files", "words", "hint"),
    [
        ({"readme": b"x"}, "not an image archive", "write image archives"),
        ({"layout/oci-layout": b"x", "layout/index.json": b"x"}, "not an image archive", "tar -C layout -cf ARCHIVE ."),
        ({"repositories": b"{}", "x/json": b"{}"}, "not an image archive", "before version 1.10"),
        ({"oci-layout": b'{"imageLayoutVersion":"2.0.0"}'}, "imageLayoutVersion", ""),
        ({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}'}, "has no index.json", ""),
        ({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}', "index.json": b"{}"}, "index.json", ""),
        ({"oci-layout": b'{"imageLayoutVersion":"1.0.0"}' + b" " * 9999}, "4096 are the limit", ""),
    ],
)
def test_tar_that_is_not_a_valid_image_archive_is_refused(
    tmp_path: Path, files: dict[str, bytes], words: str, hint: str
) -> None:
    with pytest.raises(ContentError, match=words) as caught:
        opened(tmp_path, packed(files))
    assert hint in (caught.value.hint or "")


def test_find_in_an_archive_without_images_is_an_error(tmp_path: Path) -> None:
    with opened(tmp_path, packed(layout())) as archive, pytest.raises(UsageError, match="no images"):
        archive.find()
