"""Tests of properties of the sample images that other tests rely on."""

import json
from collections.abc import Iterator

from tests.support import images
from tests.support.images import Image, Json


def documents(image: Image) -> Iterator[Json]:
    for data, _ in image.manifests.values():
        yield json.loads(data)


def nodes(image: Image) -> Iterator[Json]:
    for document in documents(image):
        yield from document.get("manifests", [])
        yield from document.get("layers", [])
        yield from [document["config"]] if "config" in document else []


def test_docker_image_has_only_docker_types() -> None:
    image = images.multi_arch(docker=True)
    types = {node["mediaType"] for node in nodes(image)}
    assert types == {images.DOCKER_MANIFEST, images.DOCKER_CONFIG, images.DOCKER_LAYER}
    assert image.root_media_type == images.DOCKER_LIST


def test_platforms_share_a_layer() -> None:
    first, second, _ = documents(images.multi_arch())
    assert first["layers"][-1] == second["layers"][-1]
