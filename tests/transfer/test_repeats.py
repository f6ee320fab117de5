"""Tests of images that are transferred a second time, because another process has changed them: when, and how often."""

import asyncio
import json
from pathlib import Path

import pytest

from mirror import PullOptions, StorageError, copy_images, pull_images
from mirror.oci.descriptor import Descriptor
from tests.support import images, layouts
from tests.support.images import Image, Json
from tests.support.memory import Counter
from tests.support.registry import EmbeddedRegistry

NAME, REF = "io.containerd.image.name", "org.opencontainers.image.ref.name"
MOST = 20  # attempts
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


class Rival(Phases):
    """Another process, which gives a name in a layout to another image whenever it is about to be written."""

    def __init__(self, path: Path, name: str, times: int) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.images_ended = 0
        self._path, self._name, self._times = path, name, times

    def plan(self, phase: str, blobs: int, size: int) -> None:
        super().plan(phase, blobs, size)
        if phase == "copying" and self.copies <= self._times:
            other = images.image("linux/amd64", images.layer(10 + self.copies, 300))
            index = json.loads((self._path / "index.json").read_text())
            others = [one for one in index["manifests"] if one["annotations"].get(NAME) != self._name]
            write(self._path, (other, {}))
            layouts.write_index(self._path, [*others, entry(other, **{NAME: self._name})])

    def expect_images(self, count: int) -> None: ...
    def skip(self, node: Descriptor, count: int) -> None: ...
    def locate(self, node: Descriptor, image: str, host: str) -> None: ...

    def end_image(self) -> None:
        self.images_ended += 1

    def result(self, line: str) -> None:
        self.lines.append(line)


def publish_against_a_rival(registry: EmbeddedRegistry, layout: Path) -> tuple[list[str], Rival]:
    """Publish two images; the rival always takes the name of the first one, which the layout has."""
    names = [f"{registry.host}/{tag}" for tag in ("a:1", "b:1")]
    for image, name in zip((FIRST, SIGNATURE), ("a", "b"), strict=True):
        image.publish(registry, name, "1")
    write(layout, (SECOND, {NAME: names[0]}))
    return names, Rival(layout, names[0], MOST)


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, MOST - 1])
def test_image_that_changes_meanwhile_is_copied_again(tmp_path: Path, times: int) -> None:
    source = write(tmp_path / "a", (FIRST, {NAME: "a.b/c:1"}))
    target = write(tmp_path / "b", (SECOND, {NAME: "a.b/c:1"}))
    rival = Rival(tmp_path / "b", "a.b/c:1", times)
    report = asyncio.run(copy_images(source, target, progress=rival))
    assert rival.copies == times + 1
    assert rival.lines == [f"a.b/c:1@{FIRST.root}"] == [image.image for image in report.images]


@pytest.mark.slow
def test_image_that_always_changes_is_an_error_in_the_end(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    names, rival = publish_against_a_rival(registry, tmp_path / "b")
    with pytest.raises(StorageError, match=r"/a:1 has not been named: in each of 20 attempts, another process"):
        asyncio.run(pull_images(names, tmp_path / "b", progress=rival))
    assert (rival.copies, rival.lines) == (MOST, [])


@pytest.mark.slow
def test_other_images_are_complete_with_keep_going(registry: EmbeddedRegistry, tmp_path: Path) -> None:
    names, rival = publish_against_a_rival(registry, tmp_path / "b")
    report = asyncio.run(pull_images(names, tmp_path / "b", PullOptions(keep_going=True), progress=rival))
    assert [type(image.error) for image in report.images] == [StorageError, type(None)]
    assert rival.lines == [f"{names[1]}@{SIGNATURE.root}"]
    assert rival.images_ended == 2
    assert report.warnings == ()
    assert registry.count("GET", "/b/manifests/") == 1
