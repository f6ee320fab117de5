"""Tests of long lists of images: early start of the transfer, and missing images."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror, assert_whole, names
from tests.support.registry import EmbeddedRegistry, Fault, Seen, Status, serving

NUMBER = 2000


def name(number: int) -> str:
    return f"v{number:05}"


@pytest.fixture(scope="module")
def shop() -> Iterator[EmbeddedRegistry]:
    """Run a registry with a repository of many tags and images."""
    with serving(EmbeddedRegistry()) as registry:
        for number in range(NUMBER):
            images.image("linux/amd64", images.layer(number, 200)).publish(registry, "a", name(number))
        yield registry


@pytest.fixture
def registry(shop: EmbeddedRegistry) -> EmbeddedRegistry:
    shop.clear_faults()
    shop.clear_log()
    return shop


def write_list(folder: Path, registry: EmbeddedRegistry, number: int) -> Path:
    path = folder / "images.txt"
    path.write_text("".join(f"{registry.host}/a:{name(one)}\n" for one in range(number)))
    return path


def requested_tags(seen: list[Seen]) -> list[str]:
    return [one.path.rpartition("/")[2] for one in seen if "/manifests/v" in one.path]


@pytest.mark.slow
def test_transfer_starts_before_100_tags_are_requested(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    registry.fault(
        Fault(action=Status(404), method="GET", path="/v2/a/blobs/", times=None)
    )  # ends the pull at its first blob
    mirror("pull", "--from-file", write_list(mirror.folder, registry, NUMBER), "--platform", "linux/amd64", code=1)
    seen = registry.requests
    first = next(place for place, one in enumerate(seen) if "/blobs/" in one.path and one.method == "GET")
    assert len(set(requested_tags(seen[:first]))) < 100


@pytest.mark.slow
def test_dry_run_reads_all_images(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    listed_images = write_list(mirror.folder, registry, 150)
    result = mirror("pull", "--from-file", listed_images, "--platform", "linux/amd64", "--dry-run", "--json")
    assert len(result.json["images"]) == 150
    assert result.json["moved"]["blobs"] == 300
    assert set(requested_tags(registry.requests)) == {name(number) for number in range(150)}


@pytest.mark.slow
def test_missing_image_ends_the_pull(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    path = write_list(mirror.folder, registry, 150)
    path.write_text(path.read_text().replace(name(100), "missing"))
    result = mirror("pull", "--from-file", path, "--platform", "linux/amd64", code=2)
    assert "missing" in result.err
    layout = mirror.folder / "layout"
    if layout.exists():
        assert_whole(layout)
        assert f"{registry.host}/a:missing" not in names(layout)
        assert f"{registry.host}/a:{name(149)}" not in names(layout)


@pytest.mark.slow
def test_keep_going_pulls_all_but_the_missing_image(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    path = write_list(mirror.folder, registry, 60)
    path.write_text(path.read_text().replace(name(30), "missing"))
    result = mirror("pull", "--from-file", path, "--platform", "linux/amd64", "--keep-going", "--json", code=4)
    assert [image["error"] is None for image in result.json["images"]] == [number != 30 for number in range(60)]
    layout = mirror.folder / "layout"
    assert_whole(layout)
    assert names(layout) == [f"{registry.host}/a:{name(number)}" for number in range(60) if number != 30]
    mirror("verify", "layout")


@pytest.mark.slow
def test_blob_shared_by_many_images_is_transferred_and_counted_once(mirror: Mirror) -> None:
    shared = images.layer(1, 5000)
    with serving(EmbeddedRegistry()) as registry:
        for number in range(50):
            images.image("linux/amd64", shared, images.layer(number + 2, 200)).publish(registry, "a", name(number))
        path = write_list(mirror.folder, registry, 50)
        result = mirror("pull", "--from-file", path, "--platform", "linux/amd64", "--json")
        assert result.json["moved"]["blobs"] == 101
        assert result.json["reused"]["blobs"] == 0
        fetched = [one.path for one in registry.requests if one.method == "GET" and one.path.endswith(shared.digest)]
        assert len(fetched) == 1
        pushed = mirror("push", "layout", registry.host, "--prefix", "copy", "--json")
        assert pushed.json["moved"]["blobs"] == 101
        assert registry.tags("copy/a").keys() == {name(number) for number in range(50)}
