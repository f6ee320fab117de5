"""Tests of transfers to a layout that no other process writes to: no image is transferred a second time."""

import asyncio
from pathlib import Path

import pytest

from mirror import copy_images
from tests.support import images, layouts
from tests.support.images import Image, Json
from tests.support.memory import Counter

NAME, REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"
FIRST, SECOND, SIGNATURE = (images.image("linux/amd64", images.layer(seed, 300)) for seed in (1, 2, 3))


class Phases(Counter):
    """Progress that counts the copies."""

    def __init__(self) -> None:
        super().__init__()
        self.copies = 0

    def plan(self, phase: str, blobs: int, size: int) -> None:
        super().plan(phase, blobs, size)
        self.copies += phase == "copying"


def entry(image: Image, **annotations: str) -> Json:
    return {**image.descriptor(), "annotations": annotations}


def write(path: Path, *pairs: tuple[Image, Json]) -> str:
    layouts.write(path, *(image for image, _ in pairs))
    layouts.write_index(path, [entry(image, **naming) for image, naming in pairs])
    return f"oci:{path}"


@pytest.mark.parametrize(
    ("source", "target"),
    [
        pytest.param(
            [(FIRST, {REF: "v1"}), (SIGNATURE, {REF: images.cosign_tag(FIRST)})],
            [(FIRST, {REF: "v1"}), (SIGNATURE, {REF: images.cosign_tag(FIRST)})],
            id="referrer without a repository",
        ),
        pytest.param(
            [(SECOND, {NAME: "a.b/c:1"})],
            [(FIRST, {NAME: "a.b/c:1"}), (SECOND, {NAME: "a.b/c:1"})],
            id="full name of two images",
        ),
    ],
)
def test_images_are_copied_once(
    source: list[tuple[Image, Json]], target: list[tuple[Image, Json]], tmp_path: Path
) -> None:
    progress = Phases()
    asyncio.run(copy_images(write(tmp_path / "a", *source), write(tmp_path / "b", *target), progress=progress))
    assert progress.copies == 1
