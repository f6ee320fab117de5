"""Tests of the forms of locations that each command accepts or refuses."""

from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror
from tests.support.registry import EmbeddedRegistry

IMAGE = images.multi_arch(["linux/amd64", "linux/arm64"])
NAME = "team/app:v1"


@pytest.fixture
def stock(mirror: Mirror, registry: EmbeddedRegistry) -> str:
    """Store the image in a registry, in `layout` and in `x.tar`; return its name."""
    IMAGE.publish(registry, "team/app", "v1")
    mirror("pull", f"{registry.host}/{NAME}", "-a", "-o", "layout")
    mirror("export", "layout", "x.tar")
    return f"{registry.host}/{NAME}"


PLACES = ["layout", "oci:layout", "oci:layout:v1", "x.tar", "oci-archive:x.tar", "oci-archive:x.tar:v1"]


@pytest.mark.slow
@pytest.mark.parametrize("place", [*PLACES, "docker://"])
def test_inspect_and_record_read_any_location(mirror: Mirror, stock: str, place: str) -> None:
    where = f"docker://{stock}" if place == "docker://" else place
    assert mirror("inspect", where, "--digest").lines == [IMAGE.root]
    assert f"sha256:{IMAGE.root.removeprefix('sha256:')}" in mirror("record", where).out


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES)
def test_ls_and_verify_and_push_read_layouts_and_archives(
    mirror: Mirror, stock: str, registry: EmbeddedRegistry, place: str
) -> None:
    assert [image["digest"] for image in mirror("ls", place, "--json").json["images"]] == [IMAGE.root]
    assert mirror("verify", place).lines[-1].startswith("ok ")
    mirror("push", place, registry.host, "--prefix", "copy")
    assert registry.tags("copy/team/app") == {"v1": IMAGE.root}


@pytest.mark.slow
def test_ls_of_a_registry_suggests_tags(mirror: Mirror, stock: str) -> None:
    assert f"mirror tags {stock.rpartition(':')[0]}" in mirror("ls", f"docker://{stock}", code=2).err


@pytest.mark.slow
def test_push_of_a_registry_image_suggests_copy(mirror: Mirror, stock: str) -> None:
    assert f"mirror copy docker://{stock}" in mirror("push", f"docker://{stock}", "127.0.0.1:1", code=2).err


def test_missing_directory_is_not_looked_up_in_a_registry(mirror: Mirror) -> None:
    for command in (("ls",), ("verify",), ("push", "127.0.0.1:1")):
        result = mirror(command[0], "missing", *command[1:], code=2)
        assert "There is no" in result.err
        assert "cannot connect" not in result.err


@pytest.mark.parametrize("command", ["inspect", "record"])
def test_names_after_an_image_of_a_registry_are_refused(mirror: Mirror, command: str) -> None:
    assert "no other name can follow it" in mirror(command, "127.0.0.1:1/a", "b", code=2).err


@pytest.mark.slow
@pytest.mark.parametrize("command", [("inspect",), ("record",), ("pull",)])
def test_registry_blocked_in_registries_conf_is_not_contacted(
    mirror: Mirror, stock: str, registry: EmbeddedRegistry, command: tuple[str, ...]
) -> None:
    conf = Path(mirror.env["XDG_CONFIG_HOME"], "containers", "registries.conf")
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text(f'[[registry]]\nlocation = "{registry.host}"\nblocked = true\n')
    registry.clear_log()
    assert "blocked" in mirror(*command, stock, code=2).err
    assert registry.requests == []
