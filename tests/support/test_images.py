"""The sample images: every digest, size and archive in them is what it says."""

import gzip
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.images import Blob, Image, Json
from tests.support.registry import EmbeddedRegistry, serving

SIZES = [96, 97, 98, 99, 100, 101, 102, 103, 401, 402, 1559, 1560, 2090, 66_000, 300_000]


@pytest.fixture(scope="module")
def seed() -> Image:
    return images.seed_image()


def documents(image: Image) -> Iterator[Json]:
    for data, _ in image.manifests.values():
        yield json.loads(data)


def nodes(image: Image) -> Iterator[Json]:
    for document in documents(image):
        yield from document.get("manifests", [])
        yield from document.get("layers", [])
        yield from [document["config"]] if "config" in document else []


# Layers


@pytest.mark.parametrize("size", SIZES)
def test_layer_has_exactly_its_size(size: int) -> None:
    assert len(images.layer(7, size).data) == size


@pytest.mark.parametrize("size", SIZES)
def test_layer_is_an_archive_with_its_diff_id(size: int) -> None:
    layer = images.layer(7, size)
    archive = gzip.decompress(layer.data)
    assert f"sha256:{hashlib.sha256(archive).hexdigest()}" == layer.diff_id
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        assert tar.getnames() == ["7.bin"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not installed")
def test_layer_is_read_by_tar(size: int) -> None:
    listed = subprocess.run(["tar", "-tz"], input=images.layer(7, size).data, capture_output=True, check=True)
    assert (listed.stdout, listed.stderr) == (b"7.bin\n", b"")


def test_layer_is_deterministic() -> None:
    assert images.layer(7, 5000) == images.layer(7, 5000)


@pytest.mark.parametrize("size", [96, 5000])
def test_layers_differ_by_seed(size: int) -> None:
    assert images.layer(1, size).diff_id != images.layer(2, size).diff_id


def test_layer_can_be_too_small() -> None:
    with pytest.raises(ValueError, match="too small"):
        images.layer(7, 50)


# Images


def empty_layer() -> Image:
    return images.image("linux/amd64", Blob.of(b"", "application/vnd.oci.image.layer.v1.tar", images.digest_of(b"")))


def nested() -> Image:
    return images.index([images.multi_arch(), images.image("linux/riscv64", images.layer(8, 100))])


def attested() -> Image:
    image = images.image("linux/amd64", images.layer(1, 500))
    return images.index([image, images.attestation(image)])


def chart() -> Image:
    content = Blob.of(b"chart", "application/vnd.example.chart")
    return images.artifact("application/vnd.example", content, subject=images.multi_arch().descriptor())


IMAGES = [images.multi_arch, lambda: images.multi_arch(docker=True), empty_layer, nested, attested, chart]


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> Image:
    built: Image = request.param()
    return built


def test_contents_hash_to_their_digests(image: Image) -> None:
    contents = image.blobs | {digest: data for digest, (data, _) in image.manifests.items()}
    assert [images.digest_of(data) for data in contents.values()] == list(contents)


def test_everything_named_is_there(image: Image) -> None:
    contents = image.blobs | {digest: data for digest, (data, _) in image.manifests.items()}
    assert {node["digest"]: node["size"] for node in nodes(image)} == {
        digest: len(data) for digest, data in contents.items() if digest != image.root
    }


def test_manifests_say_their_type(image: Image) -> None:
    assert all(json.loads(data)["mediaType"] == media_type for data, media_type in image.manifests.values())


def test_children_come_before_their_parents(image: Image) -> None:
    seen: set[str] = set(image.blobs)
    for digest, (data, _) in image.manifests.items():
        document = json.loads(data)
        assert seen.issuperset(node["digest"] for node in document.get("manifests", []))
        seen.add(digest)


def test_image_can_be_published(image: Image) -> None:
    registry = EmbeddedRegistry()
    image.publish(registry, "a", "v1")
    assert registry.get_manifest("a", "v1") == (image.data, image.root_media_type)
    assert registry.blobs("a") == set(image.blobs)


def test_docker_image_has_only_docker_types() -> None:
    types = {node["mediaType"] for node in nodes(images.multi_arch(docker=True))}
    assert types == {images.DOCKER_MANIFEST, images.DOCKER_CONFIG, images.DOCKER_LAYER}


def test_platforms_share_a_layer() -> None:
    first, second, _ = documents(images.multi_arch())
    assert first["layers"][-1] == second["layers"][-1]


def test_attestation_is_tied_to_its_image() -> None:
    image, note = json.loads(attested().data)["manifests"]
    assert note["platform"] == {"architecture": "unknown", "os": "unknown"}
    assert note["annotations"] == {
        "vnd.docker.reference.digest": image["digest"],
        "vnd.docker.reference.type": "attestation-manifest",
    }


def test_empty_descriptor_has_its_data() -> None:
    digest = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    node = json.loads(chart().data)["config"]
    assert (node["digest"], node["size"], node["data"]) == (digest, 2, "e30=")


# The sample


def published(name: str) -> bytes:
    return (images.RECORD / name).read_bytes()


def without_digests(data: bytes) -> list[str]:
    return [line for line in data.decode().splitlines() if '"digest"' not in line]


def test_seed_looks_like_the_published_list(seed: Image) -> None:
    assert without_digests(seed.data) == without_digests(published("manifest-list.json"))


@pytest.mark.parametrize("number", [0, 1])
def test_seed_looks_like_the_published_manifests(seed: Image, number: int) -> None:
    name = ["manifest-linux-amd64.json", "manifest-linux-arm-v7.json"][number]
    data = list(seed.manifests.values())[number][0]
    assert without_digests(data) == without_digests(published(name))


def test_seed_has_the_published_sizes(seed: Image) -> None:
    assert [len(data) for data, _ in seed.manifests.values()] == [1571, 1571, 770]
    assert sum(map(len, seed.blobs.values())) == 74_540_576


def test_seed_is_sound(seed: Image) -> None:
    assert all(images.digest_of(data) == digest for digest, data in seed.blobs.items())


def test_seed_configs_describe_their_layers(seed: Image) -> None:
    for document in documents(seed):
        if "config" in document:
            config = json.loads(seed.blobs[document["config"]["digest"]])
            layers = [gzip.decompress(seed.blobs[node["digest"]]) for node in document["layers"]]
            assert config["rootfs"]["diff_ids"] == [images.digest_of(layer) for layer in layers]
            assert sum("empty_layer" not in step for step in config["history"]) == len(layers)


def test_seed_config_resembles_the_record(seed: Image) -> None:
    first = next(documents(seed))
    config = json.loads(seed.blobs[first["config"]["digest"]])
    assert config["config"]["Entrypoint"] == ["docker-entrypoint.sh"]
    assert config["config"]["Env"][1] == "REDIS_VERSION=4.0.2"
    assert config["history"][0]["created"] == "2017-09-13T08:40:50Z"


def test_seed_is_deterministic(seed: Image) -> None:
    assert images.seed_image().root == seed.root


# Over HTTP


def test_command_publishes_the_seed(seed: Image, tmp_path: Path) -> None:
    with serving(EmbeddedRegistry(tmp_path)) as registry:
        command = [sys.executable, "-m", "tests.support.images", registry.host, "library/redis", "4.0"]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == f"{seed.root}\n"
    assert registry.tags("library/redis") == {"4.0": seed.root}
    assert registry.blobs("library/redis") == set(seed.blobs)


def test_bench_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert 4 * sum(images.BENCH_SIZES) == 1_200_000_000
    monkeypatch.setattr(images, "BENCH_SIZES", (5000, 1000))
    registry = EmbeddedRegistry()
    root = images.publish_bench(registry, "big", "v1")
    assert registry.tags("big") == {"v1": root}
    assert len(registry.blobs("big")) == 4 * 2 + 4


def test_remote_says_what_failed() -> None:
    with serving(EmbeddedRegistry(read_only=True)) as registry:
        remote = images.Remote(registry.host)
        with pytest.raises(SystemExit, match="405"):
            images.multi_arch().publish(remote, "a", "v1")
        remote.close()
