"""Tests of `scripts/demo`: its output is right, and it leaves no files behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import demo
from tests.demo import Unexpected
from tests.support.images import seed_image

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.slow


def started(folder: Path, *command: str) -> "subprocess.Popen[str]":
    """Start the demo with a separate directory for temporary files, and with settings that it has to ignore."""
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(folder), "MIRROR_OUTPUT": "elsewhere", "HTTP_PROXY": "http://127.0.0.1:1"},
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def after(text: str, title: str) -> str:
    """Return the output from a title to the next one."""
    return text.partition(title)[2].partition("\n\n")[0]


@pytest.mark.slow
def test_demo_shows_every_step_and_leaves_no_files_behind(tmp_path: Path) -> None:
    with started(tmp_path, str(ROOT / "scripts" / "demo")) as process:
        shown, _ = process.communicate()
    assert process.returncode == 0, shown
    image = seed_image()
    largest = max(image.blobs, key=lambda digest: len(image.blobs[digest]))
    for title, *facts in (
        ("1. Pull", f"@{image.root}", "2 platforms: 14 blobs (74.5 MB)"),
        ("2. What", "linux/amd64, linux/arm/v7"),
        ("4. Push", "pushed 1 image, 2 platforms: 14 blobs (74.5 MB)"),
        ("5. Pull it back", "Compared 17 of 17 blobs, 74.5 MB: identical"),
        ("6. Media", "corrupt", largest, "(exit code 3)"),
        ("7. Pull again", "1 blob (30.1 MB)"),
        ("8. And", "layout: ok."),
    ):
        assert [fact for fact in facts if fact not in after(shown, title)] == []
    assert "$ mirror pull redis:4.0 --all-platforms\n" in shown
    assert not {"\033", "\r"} & set(shown)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_demo_leaves_no_files_behind(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, sys.executable, "-m", "tests.demo") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("$ mirror pull"):  # not a later step, which might end before the signal arrives
                break
        assert list(tmp_path.iterdir()) != []
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    assert "demo: interrupted." in rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", [{"one": b"same size 2"}, {"one": b"same size 1", "two": b""}])
def test_comparison_of_different_layouts_fails(tmp_path: Path, other: dict[str, bytes]) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    for layout, files in ((first, {"one": b"same size 1"}), (second, other)):
        demo.blob_folder(layout).mkdir(parents=True)
        (layout / "index.json").write_text('{"manifests": [{"digest": "sha256:one"}]}')
        for name, data in files.items():
            (demo.blob_folder(layout) / name).write_bytes(data)
    with pytest.raises(Unexpected, match="a and b differ"):
        demo.compare(first, second)
