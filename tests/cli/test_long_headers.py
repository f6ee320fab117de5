"""Tests of long response headers: signed redirects, Locations of uploads, security policies."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror, assert_whole
from tests.support.registry import Action, EmbeddedRegistry, Fault, Header, Redirect, serving
from tests.support.registry.messages import Answer, Call

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_exchange")]

IMAGE = images.image("linux/amd64", images.layer(1, 1000))
LONG = "x" * 60_000


@dataclass(frozen=True)
class LongLocation(Action):
    def on_answer(self, call: Call, given: Answer) -> Answer:
        location = given.header("Location")
        return given.without("Location").plus("Location", f"{location}&signature={LONG}") if location else given


@pytest.mark.parametrize("name", ["Content-Security-Policy", "Link", "Set-Cookie", "WWW-Authenticate"])
def test_long_header_does_not_matter(mirror: Mirror, registry: EmbeddedRegistry, name: str) -> None:
    IMAGE.publish(registry, "a", "v1")
    registry.fault(Fault(times=None, action=Header(name, LONG)))
    mirror("pull", f"{registry.host}/a:v1")
    assert_whole(mirror.folder / "layout")


def test_long_redirect_is_followed_byte_for_byte(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    IMAGE.publish(registry, "a", "v1")
    with serving(EmbeddedRegistry()) as storage:
        IMAGE.publish(storage, "a", "v1")
        for digest in IMAGE.blobs:
            target = f"{storage.url}/v2/a/blobs/{digest}?signature={LONG}"
            registry.fault(Fault(path=f"/blobs/{digest}", times=None, action=Redirect(target)))
        mirror("pull", f"{registry.host}/a:v1")
        assert all(seen.target.endswith(f"?signature={LONG}") for seen in storage.requests)
    assert_whole(mirror.folder / "layout")


@pytest.mark.parametrize("options", [(), ("--chunk-size", "1k")])
def test_long_location_of_an_upload_is_used(
    mirror: Mirror, registry: EmbeddedRegistry, options: tuple[str, ...]
) -> None:
    IMAGE.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1")
    registry.fault(Fault(path="/blobs/uploads/", times=None, action=LongLocation()))
    mirror("push", "layout", f"{registry.host}/copy", *options)
    assert registry.tags("copy/a") == {"v1": IMAGE.root}
    assert any(LONG in seen.target for seen in registry.requests)


def test_longer_header_is_an_error_that_says_so(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    IMAGE.publish(registry, "a", "v1")
    registry.fault(Fault(times=None, action=Header("Content-Security-Policy", "x" * 70_000)))
    found = mirror("pull", f"{registry.host}/a:v1", code=1)
    assert f"{registry.host}: a header of the response has more than 64 KiB (manifest a:v1)." in found.err
    assert registry.count("GET") == 1
