"""Tests of output files: they never destroy a layout, or a file that the command reads."""

import asyncio
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mirror import ExportOptions, PushOptions, UsageError, export_layout, push_images
from tests.support import images, layouts
from tests.support.command import Mirror, tree
from tests.support.registry import EmbeddedRegistry

IMAGE = images.image("linux/amd64", images.layer(1, 300))
NAME = "quay.io/team/app:v1"

# Every option that names an output, with {out} in its place
COMMANDS = {
    "export": "export layout {out}",
    "export docker": "export oci:layout {out} --format docker-archive --platform linux/amd64",
    "copy": "copy oci:layout:v1 oci-archive:{out}",
    "copy docker": "copy layout docker-archive:{out}",
    "record": "record layout -o {out}",
    "record of an image": "record docker://{host}/team/app:v1 -o {out}",
    "junit": "verify layout --junit {out}",
    "junit of a repair": "verify other --repair --from layout --junit {out}",
    "receipt": "push layout {host} --receipt {out}",
    "digestfile": "pull {host}/team/app:v1 -o layout --digestfile {out}",
}


@pytest.fixture
def layout(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> Path:
    IMAGE.publish(registry, "team/app", "v1")
    layouts.write(tmp_path / "layout", IMAGE, name=NAME, ref="v1")
    shutil.copytree(tmp_path / "layout", tmp_path / "other")
    return tmp_path / "layout"


def linked(layout: Path) -> str:
    (layout.parent / "link").symlink_to("layout/index.json")
    return "link"


def linked_directory(layout: Path) -> str:
    (layout.parent / "linked").symlink_to("layout/blobs")
    return "linked/new"


PLACES: dict[str, Callable[[Path], str]] = {
    "index.json": lambda layout: "layout/index.json",
    "oci-layout": lambda layout: str(layout / "oci-layout"),
    "a blob": lambda layout: f"layout/blobs/{IMAGE.root.replace(':', '/')}",
    "a new file": lambda layout: "layout/../layout/new",
    "a link": linked,
    "a link to a directory": linked_directory,
}


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("place", PLACES)
def test_output_in_a_layout_is_refused(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, command: str, place: str
) -> None:
    before, out = tree(layout), PLACES[place](layout)
    registry.clear_log()
    result = mirror(*COMMANDS[command].format(out=out, host=registry.host).split(), code=2)
    assert "is inside" in result.err
    assert str(layout) in result.err
    assert tree(layout) == before
    assert registry.requests == []


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_output_in_a_broken_layout_that_is_read_is_refused(mirror: Mirror, layout: Path, name: str) -> None:
    (layout / name).unlink()
    before = tree(layout)
    for out in ("layout/index.json", "layout/new"):
        assert "is inside" in mirror("verify", "layout", "--junit", out, code=2).err
    assert tree(layout) == before


@pytest.fixture
def files(mirror: Mirror, layout: Path, tmp_path: Path) -> Path:
    mirror("export", "layout", "images.tar")
    mirror("record", "layout", "-o", "record.md")
    (tmp_path / "names.txt").write_text("quay.io/team/app:v1\n")
    (tmp_path / "auth.json").write_text("{}")
    (tmp_path / "mirror.toml").write_text("jobs = 2\n")
    os.link(tmp_path / "images.tar", tmp_path / "same.tar")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        "copy oci-archive:images.tar oci-archive:images.tar",
        "copy images.tar oci-archive:same.tar",
        "copy oci-archive:images.tar:v1 docker-archive:./images.tar",
        "record images.tar -o images.tar",
        "record images.tar -o mirror.toml",
        "record images.tar -o auth.json --authfile auth.json",
        "verify images.tar --junit same.tar",
        "verify layout --record record.md --junit record.md",
        "verify other --repair --from images.tar --junit images.tar",
        "verify --receipt record.md --junit record.md",
        "push images.tar 127.0.0.1:9 --receipt images.tar",
        "pull --from-file names.txt --digestfile names.txt",
    ],
)
def test_output_onto_an_input_is_refused(mirror: Mirror, files: Path, command: str) -> None:
    before = tree(files)
    assert "is an input of this command" in mirror(*command.split(), code=2).err
    assert tree(files) == before


@pytest.mark.slow
def test_layout_inside_a_layout_that_is_copied_is_refused(mirror: Mirror, layout: Path) -> None:
    before = tree(layout)
    assert "is inside" in mirror("copy", "oci:layout", "oci:layout/copy", code=2).err
    assert tree(layout) == before


@pytest.mark.slow
def test_library_refuses_an_output_in_a_layout(layout: Path) -> None:
    before = tree(layout)
    with pytest.raises(UsageError, match="is inside"):
        asyncio.run(export_layout(layout, layout / "index.json", options=ExportOptions()))
    with pytest.raises(UsageError, match="is inside"):
        asyncio.run(push_images(layout, "127.0.0.1:9", options=PushOptions(receipt=layout / "index.json")))
    assert tree(layout) == before


@pytest.mark.slow
def test_outputs_elsewhere_are_written(mirror: Mirror, registry: EmbeddedRegistry, files: Path) -> None:
    (files / "images.tar").rename(files / "old.tar")
    for out, command in enumerate(COMMANDS.values()):
        mirror(*command.format(out=f"out{out}.tar", host=registry.host).split())
        assert (files / f"out{out}.tar").stat().st_size
    mirror("export", "layout", "same.tar")  # an archive that is not read is replaced, as before
    mirror("copy", "oci:layout:v1", "oci:layout", "--as", "quay.io/team/app:v2")
    mirror("verify", "layout", "--junit", "/dev/null")
