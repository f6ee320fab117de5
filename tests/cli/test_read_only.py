"""Tests of commands on read-only layouts: reading works and creates nothing, writing is refused."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror, tree
from tests.support.registry import EmbeddedRegistry, serving

IMAGE = images.multi_arch()


@pytest.fixture(scope="module")
def shop() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry()) as registry:
        IMAGE.publish(registry, "a", "v1")
        IMAGE.publish(registry, "a", "v2")
        yield registry


@pytest.fixture(params=["as pulled", "without .mirror"])
def medium(request: pytest.FixtureRequest, mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path) -> Iterator[Path]:
    """A read-only directory with a read-only layout."""
    folder = tmp_path / "medium"
    mirror("pull", f"{shop.host}/a:v1", "--all", "-o", folder / "layout")
    if request.param == "without .mirror":
        shutil.rmtree(folder / "layout/.mirror")
    change(folder, 0o222, take=True)
    yield folder
    change(folder, 0o222, take=False)


def change(folder: Path, bits: int, *, take: bool) -> None:
    for path in (folder, *folder.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode & ~bits if take else mode | bits)


def state(folder: Path) -> object:
    """The content and the modification times below a directory."""
    times = {str(path): path.stat().st_mtime_ns for path in (folder, *folder.rglob("*"))}
    return tree(folder), times


@pytest.mark.slow
@pytest.mark.parametrize("command", ["verify", "ls", "inspect", "push", "pull --dry-run"])
def test_reading_commands_work_and_create_nothing(
    mirror: Mirror, shop: EmbeddedRegistry, medium: Path, command: str
) -> None:
    before = state(medium)
    with serving(EmbeddedRegistry()) as private:
        full = {
            "push": ["push", medium / "layout", private.host],
            "pull --dry-run": ["pull", f"{shop.host}/a:v1", "--all", "--dry-run", "-o", medium / "layout"],
        }
        mirror(*full.get(command, [command, medium / "layout"]), bound=True)
        assert private.tags("a") == ({"v1": IMAGE.root} if command == "push" else {})
    assert state(medium) == before


@pytest.mark.slow
@pytest.mark.parametrize("command", ["pull", "rm"])
def test_writing_commands_are_refused_and_change_nothing(
    mirror: Mirror, shop: EmbeddedRegistry, medium: Path, command: str
) -> None:
    before = state(medium)
    full = {
        "pull": ["pull", f"{shop.host}/a:v2", "--all", "-o", medium / "layout"],
        "rm": ["rm", medium / "layout", f"{shop.host}/a:v1"],
    }
    assert "ermission denied" in mirror(*full[command], code=1, bound=True).err
    assert state(medium) == before


@pytest.mark.slow
def test_unreadable_blobs_directory_means_could_not_check(
    mirror: Mirror, shop: EmbeddedRegistry, tmp_path: Path
) -> None:
    mirror("pull", f"{shop.host}/a:v1", "--all")
    os.chmod(tmp_path / "layout/blobs/sha256", 0)
    report = mirror("verify", "layout", "--json", code=1, bound=True).json
    os.chmod(tmp_path / "layout/blobs/sha256", 0o755)
    assert report["verdict"] == "could not check"
    assert {finding["kind"] for finding in report["findings"]} == {"unreadable"}
