"""Tests of copies to a mirror of the source: the image is read from the registry itself, not from the mirror."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror
from tests.support.registry import EmbeddedRegistry, serving

pytestmark = pytest.mark.slow

NEW, OLD = (images.image("linux/amd64", images.layer(number, 1000)) for number in (1, 2))


@pytest.fixture
def two() -> Iterator[tuple[EmbeddedRegistry, EmbeddedRegistry]]:
    """A registry with a new image, and a mirror of it in hub/ with an old one."""
    with serving(EmbeddedRegistry()) as origin, serving(EmbeddedRegistry()) as near:
        NEW.publish(origin, "library/a", "v1")
        OLD.publish(near, "hub/library/a", "v1")
        yield origin, near


def configure(mirror: Mirror, origin: EmbeddedRegistry, near: EmbeddedRegistry, where: str) -> None:
    """Make `near` a mirror in registries.conf or mirror.toml, or the location to which names are rewritten."""
    name, text = {
        "registries.conf": (
            "containers/registries.conf",
            f'[[registry]]\nlocation = "{origin.host}"\n[[registry.mirror]]\nlocation = "{near.host}/hub"\n',
        ),
        "mirror.toml": ("mirror/mirror.toml", f'[host."{origin.host}"]\nmirrors = ["{near.host}/hub"]\n'),
        "location": (
            "containers/registries.conf",
            f'[[registry]]\nprefix = "{origin.host}"\nlocation = "{near.host}/hub"\n',
        ),
    }[where]
    path = Path(mirror.env["XDG_CONFIG_HOME"]) / name
    path.parent.mkdir(parents=True)
    path.write_text(text)


@pytest.mark.parametrize("where", ["registries.conf", "mirror.toml"])
def test_image_is_read_from_the_registry_itself(
    mirror: Mirror, two: tuple[EmbeddedRegistry, EmbeddedRegistry], where: str
) -> None:
    origin, near = two
    configure(mirror, origin, near, where)
    done = mirror("copy", f"docker://{origin.host}/library/a:v1", f"docker://{near.host}/hub/library/a:v1")
    assert near.tags("hub/library/a") == {"v1": NEW.root}
    assert (
        f"warning: {near.host}/hub/library/a is a mirror of {origin.host}/library/a, so the image is read from "
        f"{origin.host} itself.\n"
    ) in done.err


def test_image_that_only_the_mirror_has_is_not_found(
    mirror: Mirror, two: tuple[EmbeddedRegistry, EmbeddedRegistry]
) -> None:
    origin, near = two
    configure(mirror, origin, near, "registries.conf")
    origin.remove_tag("library/a", "v1")
    failed = mirror("copy", f"docker://{origin.host}/library/a:v1", f"docker://{near.host}/hub/library/a:v1", code=2)
    assert f"There is no image {origin.host}/library/a:v1." in failed.err
    assert near.tags("hub/library/a") == {"v1": OLD.root}


@pytest.mark.parametrize("target", ["hub/library/b", "other/library/a", "hub/library/a/b"])
def test_copy_to_another_repository_still_reads_from_the_mirror(
    mirror: Mirror, two: tuple[EmbeddedRegistry, EmbeddedRegistry], target: str
) -> None:
    origin, near = two
    configure(mirror, origin, near, "registries.conf")
    mirror("copy", f"docker://{origin.host}/library/a:v1", f"docker://{near.host}/{target}:v1")
    assert near.tags(target) == {"v1": OLD.root}
    assert origin.requests == []


def test_copy_to_the_location_that_the_source_is_rewritten_to_is_refused(
    mirror: Mirror, two: tuple[EmbeddedRegistry, EmbeddedRegistry]
) -> None:
    """It would copy the image onto itself, and say that it was copied."""
    origin, near = two
    configure(mirror, origin, near, "location")
    failed = mirror("copy", f"docker://{origin.host}/library/a:v1", f"docker://{near.host}/hub/library/a:v1", code=2)
    assert f"registries.conf rewrites {origin.host}/library/a to {near.host}/hub/library/a, the target" in failed.err
    assert near.requests == []
