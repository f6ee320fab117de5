"""Tests of result lines that are written before the end of a command: each is of an image that is complete."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror import ImageProgress, Progress, PullOptions, RegistryOptions, pull_images
from tests.support import images
from tests.support.command import Mirror
from tests.support.memory import Counter
from tests.support.registry import EmbeddedRegistry, Fault, Status, serving

FIRST, SECOND, THIRD = (images.image("linux/amd64", images.layer(seed, 400)) for seed in (1, 2, 3))
LAYER = next(iter(json.loads(SECOND.data)["layers"]))["digest"]
LOST = Fault(method="GET", path=LAYER, times=None, action=Status(404))


@pytest.fixture
def shop() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry()) as registry:
        for name, image in (("first", FIRST), ("second", SECOND), ("third", THIRD)):
            image.publish(registry, name, "v1")
        yield registry


def lines(host: str, *names: str) -> list[str]:
    roots = {"first": FIRST.root, "second": SECOND.root, "third": THIRD.root}
    return [f"{host}/{name}:v1@{roots[name]}" for name in names]


def names_of(shop: EmbeddedRegistry) -> list[str]:
    return [f"{shop.host}/{name}:v1" for name in ("first", "second", "third")]


def named(layout: Path) -> list[str]:
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    return [entry["annotations"]["io.containerd.image.name"] for entry in entries]


def test_images_before_a_failure_are_printed_and_named(mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> None:
    shop.fault(LOST)
    result = mirror("pull", *names_of(shop), "-j", "1", code=1)
    assert result.lines == lines(shop.host, "first")
    assert named(tmp_path / "layout") == names_of(shop)[:1]


def test_json_is_one_object_even_after_a_failure(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    shop.fault(LOST)
    assert mirror("pull", *names_of(shop), "-j", "1", "--json", code=1).json["error"]["exitCode"] == 1


def test_lines_have_the_order_of_the_list_without_those_that_failed(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    shop.fault(LOST)
    result = mirror("pull", *reversed(names_of(shop)), "--keep-going", code=4)
    assert result.lines == lines(shop.host, "third", "first")


def test_line_of_a_push_is_of_a_tag_that_was_read_back(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    mirror("pull", *names_of(shop))
    with serving(EmbeddedRegistry()) as target:
        target.fault(Fault(method="GET", path="/second/manifests/v1$", times=None, action=Status(403)))
        result = mirror("push", "layout", target.host, "-j", "1", code=1)
        assert result.lines == lines(target.host, "first")
        assert mirror("push", "layout", target.host, "--keep-going", code=4).lines == lines(
            target.host, "first", "third"
        )


def test_line_of_a_push_with_a_receipt_is_of_an_image_that_was_read_back(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path
) -> None:
    mirror("pull", *names_of(shop))
    with serving(EmbeddedRegistry()) as target:
        target.fault(LOST)
        arguments = ("push", "layout", target.host, "--receipt", "receipt.json")
        assert mirror(*arguments, "--keep-going", code=4).lines == lines(target.host, "first", "third")
        assert mirror(*arguments, code=3).lines == []


def test_export_prints_nothing_before_the_archive_is_complete(mirror: Mirror, shop: EmbeddedRegistry) -> None:
    mirror("pull", *names_of(shop))
    (mirror.folder / "layout/blobs/sha256" / LAYER.removeprefix("sha256:")).unlink()
    assert mirror("export", "layout", "images.tar", code=3).lines == []


class Told(Counter):
    """Progress that is told about images."""

    def __init__(self) -> None:
        super().__init__()
        self.expected = self.ended = 0
        self.places: set[tuple[str, str]] = set()
        self.lines: list[str] = []

    def expect_images(self, count: int) -> None:
        self.expected += count

    def skip(self, node: object, count: int) -> None: ...

    def locate(self, node: object, image: str, host: str) -> None:
        self.places.add((image, host))

    def end_image(self) -> None:
        self.ended += 1

    def result(self, line: str) -> None:
        self.lines.append(line)


def test_library_tells_progress_about_images_if_it_takes_such_calls(shop: EmbeddedRegistry, tmp_path: Path) -> None:
    told = Told()
    assert isinstance(told, ImageProgress)
    only_blobs: Progress = Counter()
    assert not isinstance(only_blobs, ImageProgress)
    for progress, layout in ((told, "one"), (only_blobs, "two")):
        options = PullOptions(registries=RegistryOptions())
        asyncio.run(pull_images(names_of(shop), tmp_path / layout, options, progress))
    assert (told.expected, told.ended, told.lines) == (3, 3, lines(shop.host, "first", "second", "third"))
    assert told.places == {(name, shop.host) for name in names_of(shop)}
