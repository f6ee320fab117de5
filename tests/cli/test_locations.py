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


def test_names_after_an_image_of_a_registry_are_refused(mirror: Mirror) -> None:
    assert "no other name can follow it" in mirror("inspect", "127.0.0.1:1/a", "b", code=2).err


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


@pytest.mark.slow
def test_commands_that_change_a_layout_accept_its_location(mirror: Mirror, stock: str, tmp_path: Path) -> None:
    mirror("pull", stock, "-a", "-o", "oci:pulled")
    mirror("export", "oci:pulled", "oci-archive:y.tar")
    mirror("import", "oci-archive:y.tar", "oci:imported")
    mirror("prune", "oci:imported", "--delete")
    assert mirror("verify", "oci:imported:v1").lines == mirror("verify", "layout").lines
    mirror("rm", "oci:imported", stock)
    assert mirror("ls", "imported", "--json").json["images"] == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "layout", "x.tar", "pulled", "y.tar", "imported"}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["oci:layout:@0", "oci-archive:x.tar:@0"])
def test_verify_accepts_an_image_by_its_position(mirror: Mirror, stock: str, place: str) -> None:
    assert mirror("verify", place).lines == mirror("verify", "layout").lines
    assert "has no image @1" in mirror("verify", place.replace("@0", "@1"), code=2).err


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "prune oci-archive:x.tar",
        "prune docker://{name}",
        "rm x.tar {name}",
        "pull {name} -o oci-archive:x.tar",
        "export oci-archive:x.tar y.tar",
        "export layout docker-archive:y.tar",
        "import oci:layout back",
        "import x.tar oci:back:v1",
        "prune oci:layout:v1",
        "serve oci-archive:x.tar",
        "verify oci-archive:layout",
        "verify oci:x.tar",
        "verify layout --repair --from missing.tar",
        "verify layout --repair --from missing",
    ],
)
def test_location_of_another_kind_is_refused_before_anything_happens(
    mirror: Mirror, stock: str, registry: EmbeddedRegistry, tmp_path: Path, command: str
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    registry.clear_log()
    result = mirror.run(mirror.command(*command.format(name=stock).split()))
    assert result.code in (1, 2, 3), result.err
    assert result.err.startswith("error: ")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert registry.requests == []
