"""Tests of `mirror push --flatten`, for registries whose names have few levels."""

import json
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror
from tests.support.registry import EmbeddedRegistry, Fault, Status

pytestmark = pytest.mark.slow

ONE, TWO = (images.image("linux/amd64", images.layer(number, 1000)) for number in (1, 2))
INVALID = Status(400, body=json.dumps({"errors": [{"code": "NAME_INVALID", "message": "invalid name"}]}).encode())


@pytest.fixture
def layout(mirror: Mirror, registry: EmbeddedRegistry) -> Path:
    """A layout with the images team/group/one and two."""
    ONE.publish(registry, "team/group/one", "v1")
    TWO.publish(registry, "two", "v1")
    mirror("pull", f"{registry.host}/team/group/one:v1", f"{registry.host}/two:v1")
    return mirror.folder / "layout"


@pytest.mark.parametrize(
    ("options", "target", "paths"),
    [
        ((), "", ("team-group-one", "two")),
        ((), "/me", ("me/team-group-one", "me/two")),
        (("--prefix", "a/b"), "/me", ("me/a/b/team-group-one", "me/a/b/two")),
        (("--strip-prefix", "team"), "/me", ("me/group-one", "me/two")),
        (("--map", "team/group=x/y"), "", ("x-y-one", "two")),
    ],
)
def test_slashes_of_names_become_hyphens(
    mirror: Mirror,
    registry: EmbeddedRegistry,
    layout: Path,
    options: tuple[str, ...],
    target: str,
    paths: tuple[str, str],
) -> None:
    expected = [f"{registry.host}/{path}:v1@{image.root}" for path, image in zip(paths, (ONE, TWO), strict=True)]
    shown = mirror("push", layout, f"{registry.host}{target}", "--flatten", *options, "--dry-run").out
    assert all(f" {name}" in shown for name in expected)
    mirror("push", layout, f"{registry.host}{target}", "--flatten", *options)
    assert [registry.tags(path) for path in paths] == [{"v1": ONE.root}, {"v1": TWO.root}]


def test_given_name_is_kept(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    mirror("push", layout, registry.host, f"{registry.host}/two:v1", "--as", "a/b/c", "--flatten")
    assert registry.tags("a/b/c") == {"v1": TWO.root}


def test_two_images_with_the_same_flat_name_are_refused(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    ONE.publish(registry, "a/b", "v1")
    TWO.publish(registry, "a-b", "v1")
    mirror("pull", f"{registry.host}/a/b:v1", f"{registry.host}/a-b:v1")
    failed = mirror("push", "layout", f"{registry.host}/flat", "--flatten", code=2)
    assert f" would both become {registry.host}/flat/a-b:v1." in failed.err
    assert "--map" in failed.err


def test_refusal_of_a_long_name_mentions_the_option(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    registry.fault(Fault(method="POST|PUT|HEAD", path="^/v2/team/group/one/", times=None, action=INVALID))
    failed = mirror("push", layout, registry.host, f"{registry.host}/team/group/one:v1", code=1)
    assert f"If {registry.host} allows only few slashes in a name: mirror push --flatten\n" in failed.err
    mirror("push", layout, f"{registry.host}/me", "--flatten")


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("text", "mentions"),
    [("DENIED", False), ("NAME_INVALID", True), ("nested repositories are not allowed", True)],
)
def test_refusal_because_of_permissions_mentions_it_only_if_it_is_about_the_name(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, status: int, text: str, mentions: bool
) -> None:
    refused = Status(status, body=json.dumps({"errors": [{"code": text}]}).encode())
    registry.fault(Fault(method="POST|PUT|HEAD", path="^/v2/team/group/one/", times=None, action=refused))
    failed = mirror("push", layout, registry.host, f"{registry.host}/team/group/one:v1", code=1)
    assert ("--flatten" in failed.err) is mentions


@pytest.mark.parametrize("status", [400, 403])
def test_refusal_of_a_short_name_does_not_mention_it(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, status: int
) -> None:
    registry.fault(Fault(method="POST|PUT|HEAD", path="^/v2/me/two/", times=None, action=Status(status)))
    failed = mirror("push", layout, f"{registry.host}/me", f"{registry.host}/two:v1", code=1)
    assert "--flatten" not in failed.err
