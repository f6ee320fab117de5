"""Tests of pull-through caches that know a digest only once its tag was requested."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror, assert_whole, names
from tests.support.registry import Action, EmbeddedRegistry, Fault, serving
from tests.support.registry.messages import Answer, Call, refusal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_exchange")]

IMAGE, OTHER = (images.image("linux/amd64", images.layer(number, 1000)) for number in (1, 2))


@dataclass(frozen=True)
class FilledByTag(Action):
    """Answers 404 to every digest until a tag was requested."""

    tags: list[str] = field(default_factory=list)

    def on_call(self, call: Call) -> Call | Answer:
        name = call.path.rpartition("/")[2]
        if "/manifests/" in call.path and ":" not in name:
            self.tags.append(name)
        return call if self.tags else refusal(404, "MANIFEST_UNKNOWN", "manifest unknown")


@pytest.fixture
def cache() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry()) as running:
        IMAGE.publish(running, "a", "v1")
        running.fault(Fault(times=None, action=FilledByTag()))
        yield running


def test_digest_is_found_by_the_tag_that_was_given_with_it(mirror: Mirror, cache: EmbeddedRegistry) -> None:
    mirror("pull", f"{cache.host}/a:v1@{IMAGE.root}")
    assert_whole(mirror.folder / "layout")
    assert cache.requests[0].path == f"/v2/a/manifests/{IMAGE.root}"
    assert cache.requests[1].path == "/v2/a/manifests/v1"


def test_cache_that_is_a_mirror_is_asked_by_tag_before_the_registry(mirror: Mirror, cache: EmbeddedRegistry) -> None:
    """The registry itself cannot be reached."""
    path = Path(mirror.env["XDG_CONFIG_HOME"]) / "mirror/mirror.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'[host."127.0.0.1:9"]\nmirrors = ["{cache.host}"]\n')
    mirror("pull", f"127.0.0.1:9/a:v1@{IMAGE.root}")
    assert_whole(mirror.folder / "layout")
    assert names(mirror.folder / "layout")[0].startswith("127.0.0.1:9/a")


def test_mirror_that_is_not_for_tags_is_not_asked_by_tag(mirror: Mirror, cache: EmbeddedRegistry) -> None:
    path = Path(mirror.env["XDG_CONFIG_HOME"]) / "mirror/mirror.toml"
    path.parent.mkdir(parents=True)
    path.write_text(f'[host."127.0.0.1:9"]\nmirrors = ["{cache.host}"]\nmirror_tags = false\n')
    mirror("pull", f"127.0.0.1:9/a:v1@{IMAGE.root}", code=1)
    assert cache.count("GET", "/manifests/v1") == 0


@pytest.mark.parametrize("missing", [True, False])
def test_tag_that_points_elsewhere_is_not_taken_for_the_digest(
    mirror: Mirror, cache: EmbeddedRegistry, missing: bool
) -> None:
    cache.remove_tag("a", "v1")
    if not missing:
        OTHER.publish(cache, "a", "v1")
        cache.remove_manifest("a", IMAGE.root)
    failed = mirror("pull", f"{cache.host}/a:v1@{IMAGE.root}", code=2)
    assert "There is no image" in failed.err
    assert not list((mirror.folder / "layout").glob("blobs/*/*"))


def test_digest_without_a_tag_is_not_found(mirror: Mirror, cache: EmbeddedRegistry) -> None:
    failed = mirror("pull", f"{cache.host}/a@{IMAGE.root}", code=2)
    assert f"There is no image {cache.host}/a@{IMAGE.root}." in failed.err
