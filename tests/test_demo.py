"""`scripts/demo`: what it shows is true, it fails aloud, and it leaves nothing behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import demo
from tests.demo import Stage, Unexpected
from tests.support.images import seed_image

ROOT = Path(__file__).parent.parent
LAYERS = {digest: len(data) for digest, data in seed_image().blobs.items()}
DAMAGED = max(LAYERS, key=lambda digest: LAYERS[digest])


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(folder), "MIRROR_OUTPUT": "elsewhere", "HTTP_PROXY": "http://127.0.0.1:1"}


def started(folder: Path, *command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command or [str(ROOT / "scripts" / "demo")],
        cwd=ROOT,
        env=environment(folder),
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def shown(folder: Path) -> str:
    """All that the demo prints when it is not on a terminal, after it has ended well."""
    with started(folder) as process:
        text, _ = process.communicate()
    assert process.returncode == 0, text
    return text


def after(text: str, title: str) -> str:
    """What is shown from a title to the next one."""
    return text.partition(title)[2].partition("\n\n")[0]


def test_demo_pulls_both_platforms(shown: str) -> None:
    pulled = after(shown, "1. Pull")
    assert f"@{seed_image().root}" in pulled
    assert "2 platforms: 14 blobs (74.5 MB)" in pulled


def test_demo_lists_what_was_pulled(shown: str) -> None:
    assert "linux/amd64, linux/arm/v7" in after(shown, "2. What")


def test_demo_pushes_every_blob(shown: str) -> None:
    assert "pushed 1 image, 2 platforms: 14 blobs (74.5 MB)" in after(shown, "4. Push")


def test_demo_compares_every_blob_that_came_back(shown: str) -> None:
    assert "Compared 17 of 17 blobs, 74.5 MB: identical" in after(shown, "5. Pull it back")


def test_demo_names_the_damaged_layer(shown: str) -> None:
    damaged = after(shown, "6. Media")
    assert "corrupt" in damaged
    assert DAMAGED in damaged
    assert "(exit code 3)" in damaged


def test_demo_heals_the_damaged_layer_alone(shown: str) -> None:
    assert "1 blob (30.1 MB)" in after(shown, "7. Pull again")


def test_healed_layout_verifies(shown: str) -> None:
    healed = after(shown, "8. And")
    assert "layout: ok." in healed
    assert "error" not in healed


def test_demo_says_the_command_for_the_real_thing(shown: str) -> None:
    assert "$ mirror pull redis:4.0 --all-platforms\n" in shown


def test_demo_is_plain_text_where_nobody_watches(shown: str) -> None:
    assert "\033" not in shown
    assert "\r" not in shown


@pytest.mark.usefixtures("shown")
def test_demo_leaves_nothing_behind(folder: Path) -> None:
    assert list(folder.iterdir()) == []


# When it does not go well


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_demo_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    with started(tmp_path, sys.executable, "-m", "tests.demo") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("$ mirror pull"):  # the first step: on a busy machine, the others might be over too soon
                break
        assert list(tmp_path.iterdir()) != []
        process.send_signal(number)
        rest = process.stdout.read()
    assert process.returncode == 130, rest
    assert "demo: interrupted." in rest
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


def test_demo_says_which_step_failed(tmp_path: Path) -> None:
    with_little_room = f"ulimit -f 20000; exec {sys.executable} -m tests.demo"  # no file over 20 MB
    with started(tmp_path, "bash", "-c", with_little_room) as process:
        text, _ = process.communicate()
    assert process.returncode == 1
    assert "demo: step 1 failed, with 1 in place of 0: mirror pull" in text
    assert list(tmp_path.iterdir()) == []


def test_demo_whose_reader_leaves_ends_without_a_traceback(tmp_path: Path) -> None:
    into_head = f"{sys.executable} -m tests.demo | head -n 1"
    with started(tmp_path, "bash", "-c", into_head) as process:
        text, _ = process.communicate()
    assert "Traceback" not in text
    assert "Exception ignored" not in text
    assert list(tmp_path.iterdir()) == []


def stage(folder: Path, *, live: bool) -> Stage:
    return Stage(folder, dict(os.environ), live)


def test_colour_is_for_terminals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stage(tmp_path, live=True).say("one", demo.BOLD)
    stage(tmp_path, live=False).say("two", demo.BOLD)
    assert capsys.readouterr().out == "\033[1mone\033[0m\ntwo\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colour_is_not_for_those_who_want_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    stage(tmp_path, live=True).say("one", demo.BOLD)
    assert capsys.readouterr().out == "one\n"


def small_layout(folder: Path, content: bytes) -> Path:
    blobs = demo.blob_folder(folder)
    blobs.mkdir(parents=True)
    (blobs / "one").write_bytes(content)
    (folder / "index.json").write_text('{"manifests": [{"digest": "sha256:one"}]}')
    return folder


def test_layouts_with_different_bytes_are_not_the_same(tmp_path: Path) -> None:
    first, second = small_layout(tmp_path / "a", b"same size 1"), small_layout(tmp_path / "b", b"same size 2")
    with pytest.raises(Unexpected, match="a and b differ"):
        demo.compare(first, second)


def test_layout_with_one_more_blob_is_not_the_same(tmp_path: Path) -> None:
    first, second = small_layout(tmp_path / "a", b"1"), small_layout(tmp_path / "b", b"1")
    (demo.blob_folder(second) / "two").write_bytes(b"2")
    with pytest.raises(Unexpected, match="a and b differ"):
        demo.compare(first, second)


def test_exactly_one_bit_is_flipped(tmp_path: Path) -> None:
    layout = small_layout(tmp_path / "a", bytes(99))
    demo.flip_a_bit(layout)
    assert int.from_bytes((demo.blob_folder(layout) / "one").read_bytes()).bit_count() == 1
