"""Tests of registries and mirrors that ask to slow down for longer than a moment."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror, assert_whole
from tests.support.registry import Action, EmbeddedRegistry, Fault, Redirect, Status, serving

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("each_exchange")]

IMAGES = [images.image("linux/amd64", images.layer(number, 1000)) for number in range(12)]
HOUR = (("Retry-After", "3600"),)
TOO_MANY = (Status(429), Status(429, (("Retry-After", "30"),)), Status(429, HOUR))


@pytest.fixture
def mirrored(mirror: Mirror) -> Iterator[tuple[EmbeddedRegistry, EmbeddedRegistry, EmbeddedRegistry]]:
    """A registry with six images, and two mirrors of it."""
    with serving(EmbeddedRegistry()) as origin, serving(EmbeddedRegistry()) as one, serving(EmbeddedRegistry()) as two:
        for registry in (origin, one, two):
            for number, image in enumerate(IMAGES):
                image.publish(registry, f"a{number}", "v1")
        path = Path(mirror.env["XDG_CONFIG_HOME"]) / "mirror/mirror.toml"
        path.parent.mkdir(parents=True)
        path.write_text(f'[host."{origin.host}"]\nmirrors = ["{one.host}", "{two.host}"]\n')
        yield origin, one, two


@pytest.mark.parametrize("action", TOO_MANY)
def test_mirror_that_answers_429_is_skipped_for_a_while(
    mirror: Mirror, mirrored: tuple[EmbeddedRegistry, EmbeddedRegistry, EmbeddedRegistry], action: Action
) -> None:
    origin, one, _ = mirrored
    one.fault(Fault(times=None, action=action))
    done = mirror("pull", *(f"{origin.host}/a{number}:v1" for number in range(6)), "-j", 1)
    assert len(one.requests) <= len(IMAGES)  # those in flight when the first one was answered
    assert "/blobs/" not in "".join(seen.path for seen in one.requests)
    assert origin.requests == []
    assert f"warning: The mirror {one.host}/a" in done.err
    assert_whole(mirror.folder / "layout")


def test_pause_beyond_the_limit_is_an_error_at_once(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(times=None, action=Status(429, HOUR)))
    failed = mirror("pull", f"{registry.host}/a:v1", code=1)
    assert len(registry.requests) == 1
    assert "429" in failed.err
    assert "hint: It asks to wait 60 minutes." in failed.err
    assert "--max-wait 3600" in failed.err


def test_other_images_do_not_wait_either(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    for number, image in enumerate(IMAGES):
        image.publish(registry, f"a{number}", "v1")
    registry.fault(Fault(path="/manifests/", times=None, action=Status(429, HOUR)))
    names = [f"{registry.host}/a{number}:v1" for number in range(12)]
    failed = mirror("pull", *names, "--keep-going", "-j", 1, code=1)
    assert failed.err.count("It asks to wait 60 minutes.") == len(IMAGES)
    assert len(registry.requests) < len(IMAGES)


def test_limit_can_be_raised_and_lowered(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    IMAGES[0].publish(registry, "a", "v1")
    registry.fault(Fault(path="/manifests/", action=Status(429, (("Retry-After", "1"),))))
    assert "--max-wait 1" in mirror("pull", f"{registry.host}/a:v1", "--max-wait", 0.5, code=1).err
    registry.clear_faults()
    registry.fault(Fault(path="/manifests/", action=Status(503, (("Retry-After", "1"),))))
    mirror("pull", f"{registry.host}/a:v1", env={"MIRROR_MAX_WAIT": "1"})
    assert_whole(mirror.folder / "layout")


def test_pause_of_storage_behind_a_redirect_is_reported_and_kept(
    mirror: Mirror, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    sleep = asyncio.sleep
    monkeypatch.setattr("mirror.retry.asyncio.sleep", lambda seconds: sleep(min(seconds, 0.01)))
    IMAGES[0].publish(registry, "a", "v1")
    with serving(EmbeddedRegistry()) as storage:
        storage.fault(Fault(times=None, action=Status(503, (("Retry-After", "250"),))))
        registry.fault(Fault(path="/blobs/", action=Redirect(f"{storage.url}/blob")))
        done = mirror("pull", f"{registry.host}/a:v1", "-j", 1)
        assert f"{storage.host} asked to slow down; pausing requests to it for 250.0 s." in done.err
    assert_whole(mirror.folder / "layout")


def test_pause_of_storage_behind_a_redirect_is_limited_too(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    IMAGES[0].publish(registry, "a", "v1")
    with serving(EmbeddedRegistry()) as storage:
        storage.fault(Fault(times=None, action=Status(503, HOUR)))
        registry.fault(Fault(path="/blobs/", times=None, action=Redirect(f"{storage.url}/blob")))
        failed = mirror("pull", f"{registry.host}/a:v1", "-j", 1, code=1)
        assert len(storage.requests) <= 2
    assert "It asks to wait 60 minutes." in failed.err
