"""Tests of what `mirror verify` shows about a layout with many faults."""

import re
import shlex
from pathlib import Path

import pytest

from mirror.text import size
from tests.support import images, layouts
from tests.support.command import Mirror
from tests.support.damage import Damaged, damaged_layout


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Damaged:
    return damaged_layout(tmp_path_factory.mktemp("damaged") / "layout")


def on_terminal(mirror: Mirror, *args: object, **variables: str) -> list[str]:
    """Return what a terminal of 80 columns shows, stdout and stderr together."""
    command = shlex.join(mirror.command(*args))
    shown = mirror.run(["script", "-qec", command, "/dev/null"], env={"TERM": "xterm", "COLUMNS": "80", **variables})
    return shown.out.splitlines()


def test_worst_cause_comes_first(mirror: Mirror, damaged: Damaged) -> None:
    lines = mirror("verify", damaged.folder, code=3).lines
    assert lines[0] == f"error: corrupt {damaged.faults['corrupt base']}"
    assert lines[2] == f"  affects 19 images: {', '.join(damaged.on_base[:3])} and 16 more"


def test_totals_are_by_kind(mirror: Mirror, damaged: Damaged) -> None:
    result = mirror("verify", damaged.folder, code=3)
    assert "10 errors: 4 missing, 3 corrupt, 1 too-short, 1 not-a-file, 1 too-long" in result.lines
    assert "4 warnings: 2 orphan, 1 leftover, 1 stray (-v lists all)" in result.lines
    assert "not ok: 10 errors, 4 warnings." in result.err


def test_command_that_repairs_is_shown_once(mirror: Mirror, damaged: Damaged) -> None:
    out = mirror("verify", damaged.folder, code=3).out
    command = f"hint: Repair it from a good copy: mirror verify {damaged.folder} --repair --from SOURCE\n"
    assert out.count(command) == 1
    assert out.count("hint:") == 2  # the other one is about the link
    assert "prune" not in out


def test_verbose_lists_every_finding_and_image(mirror: Mirror, damaged: Damaged) -> None:
    out = mirror("verify", damaged.folder, "-v", code=3).out
    assert [digest for digest in damaged.faults.values() if digest not in out] == []
    assert [name for name in damaged.names if out.count(name) < 1 + (name in damaged.on_base)] == []
    assert out.count("affects 19 images") == 1
    assert "-v lists all" not in out


def test_json_has_every_finding(mirror: Mirror, damaged: Damaged) -> None:
    found = mirror("verify", damaged.folder, "--json", code=3).json["findings"]
    assert len(found) == 14
    assert {one["subject"] for one in found if one["severity"] == "error"} == set(damaged.faults.values())


def test_digest_of_an_image_without_a_name_is_shown_once(mirror: Mirror) -> None:
    image = images.image("linux/amd64", images.layer(1, 300))
    layouts.write(mirror.folder / "layout", image)
    layouts.write_index(mirror.folder / "layout", [image.descriptor()])
    (line,) = mirror("verify", "layout").lines
    assert line == f"ok      {image.root} (1 platform, 2 blobs, {size(sum(map(len, image.blobs.values())))})"


@pytest.mark.slow
def test_output_fits_on_one_screen(mirror: Mirror, damaged: Damaged) -> None:
    """The path of the layout is short, as a user types it."""
    (mirror.folder / "layout").symlink_to(damaged.folder)
    rows = [line[start : start + 80] for line in _plain(mirror) for start in range(0, max(len(line), 1), 80)]
    assert len(rows) <= 23  # and the prompt
    assert rows[0].startswith("error: corrupt")
    assert rows[1] == "  affects 19 images: registry.example:5000/team/app-00:v1 and 18 more"


def _plain(mirror: Mirror) -> list[str]:
    """The lines on the terminal, without those of the progress bar, which are erased."""
    shown = on_terminal(mirror, "verify", "layout", NO_COLOR="1")
    return [line for line in shown if line.replace("\x1b[K", "")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "coloured"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_labels_are_coloured_on_a_terminal(
    mirror: Mirror, damaged: Damaged, variables: dict[str, str], coloured: bool
) -> None:
    shown = "\n".join(on_terminal(mirror, "verify", damaged.folder, **variables))
    assert ("\033[1;31merror\033[0m: corrupt" in shown) is coloured
    assert ("\033[1;31mnot ok\033[0m  registry" in shown) is coloured
    assert bool(re.search(r"\033\[[\d;]*m", shown)) is coloured  # a slow machine also shows, and erases, progress


def test_output_to_a_file_has_no_colour(mirror: Mirror, damaged: Damaged) -> None:
    assert "\033" not in mirror("verify", damaged.folder, code=3, env={"TERM": "xterm"}).out


@pytest.mark.slow
def test_many_agreements_are_counted(mirror: Mirror, tmp_path: Path, damaged: Damaged) -> None:
    expect = [f"--expect={name}={digest}" for name, digest in _digests(mirror, damaged).items()]
    short, complete = (mirror("verify", damaged.folder, *expect, *more, code=3).lines for more in ([], ["-v"]))
    assert sum(line.startswith("agrees ") for line in short) == 20
    assert short[-1] == "… and 5 more agree (-v lists all)"
    assert sum(line.startswith("agrees ") for line in complete) == 25


def _digests(mirror: Mirror, damaged: Damaged) -> dict[str, str]:
    return {one["name"]: one["digest"] for one in mirror("ls", damaged.folder, "--json").json["images"]}
