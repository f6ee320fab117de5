"""Tests of `mirror prune`: the files that it deletes and the files that it keeps."""

import fcntl
import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import images, layouts
from tests.support.command import Mirror, assert_whole, blob_path, blobs, partials, tree
from tests.support.registry import EmbeddedRegistry

FIRST = images.multi_arch()
SECOND = images.image("linux/amd64", images.layer(7, 500))


@pytest.fixture
def layout(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> Path:
    """A layout with an image, and the unreferenced blobs of an image that had the same name before."""
    SECOND.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    FIRST.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    return tmp_path / "layout"


OLD = {SECOND.root, *SECOND.blobs}


@pytest.mark.slow
def test_prune_without_delete_lists_orphans_and_changes_nothing(mirror: Mirror, layout: Path) -> None:
    before = tree(layout)
    result = mirror("prune", "layout")
    assert {line.split()[0] for line in result.lines} == OLD
    assert "3 blobs" in result.err
    assert "--delete" in result.err
    assert tree(layout) == before


@pytest.mark.slow
def test_prune_deletes_unreferenced_blobs(mirror: Mirror, layout: Path) -> None:
    found = mirror("prune", "layout", "--delete", "--json").json
    assert {orphan["digest"] for orphan in found["orphans"]} == OLD
    assert found["deleted"] is True
    assert not blobs(layout) & OLD
    assert_whole(layout)
    assert mirror("verify", "layout", "--json").json["findings"] == []
    assert "nothing to prune" in mirror("prune", "layout", "--delete").err


@pytest.mark.slow
def test_prune_deletes_unfinished_downloads(mirror: Mirror, layout: Path) -> None:
    partial = layout / ".mirror/partial" / SECOND.root.replace(":", "-")
    partial.write_bytes(b"half")
    (layout / ".mirror/tmp/0123").write_bytes(b"other half")
    found = mirror("prune", "layout", "--json").json
    assert found["unfinished"] == [
        {"file": f".mirror/partial/{partial.name}", "size": 4},
        {"file": ".mirror/tmp/0123", "size": 10},
    ]
    assert partial.exists()
    mirror("prune", "layout", "--delete")
    assert partials(layout) == {}
    assert list(layout.glob(".mirror/tmp/*")) == []


@pytest.mark.slow
def test_partial_file_and_its_journal_are_one_download_without_its_holes(mirror: Mirror, layout: Path) -> None:
    partial = layout / ".mirror/partial" / SECOND.root.replace(":", "-")
    with partial.open("wb") as file:
        file.truncate(10_000_000)
    journal, alone = (partial.with_name(f"{name}.ranges") for name in (partial.name, "other"))
    for path in (journal, alone):
        path.write_bytes(b"a journal")
    found = mirror("prune", "layout", "--json").json
    assert found["unfinished"] == [
        {"file": f".mirror/partial/{alone.name}", "size": 9},
        {"file": f".mirror/partial/{partial.name}", "size": 0},
    ]
    mirror("prune", "layout", "--delete")
    assert partials(layout) == {}


@pytest.mark.slow
def test_prune_keeps_files_that_are_not_blobs(mirror: Mirror, layout: Path) -> None:
    (layout / "blobs/sha256/README").write_text("mine")
    (layout / "blobs/sha256" / ("A" * 64)).write_text("mine too")
    (layout / "blobs/sha256" / ("a" * 64)).mkdir()
    (layout / "notes.txt").write_text("mine")
    (layout / ".mirror/quarantine").mkdir()
    (layout / ".mirror/quarantine/x").write_text("their file")
    assert "1 file (10 B) in layout/.mirror/quarantine: inspect" in mirror("prune", "layout", "--delete").err
    assert "nothing to prune. 1 file (10 B) in layout/.mirror/quarantine" in mirror("prune", "layout").err
    document = mirror("prune", "layout", "--json").json
    assert document["quarantined"] == [{"file": ".mirror/quarantine/x", "size": 10}]
    assert (layout / "blobs/sha256/README").read_text() == "mine"
    assert (layout / "blobs/sha256" / ("A" * 64)).exists()
    assert (layout / "blobs/sha256" / ("a" * 64)).is_dir()
    assert (layout / "notes.txt").exists()
    assert (layout / ".mirror/quarantine/x").exists()


@pytest.mark.slow
def test_prune_keeps_a_corrupt_blob_that_is_referenced(mirror: Mirror, layout: Path) -> None:
    layer = max(FIRST.blobs, key=lambda digest: len(FIRST.blobs[digest]))
    blob_path(layout, layer).write_bytes(b"wrong")
    mirror("prune", "layout", "--delete")
    assert blob_path(layout, layer).read_bytes() == b"wrong"


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gone", "changed"])
def test_prune_deletes_nothing_if_a_manifest_is_missing_or_broken(mirror: Mirror, layout: Path, how: str) -> None:
    manifest = next(digest for digest in FIRST.manifests if digest != FIRST.root)
    blob_path(layout, manifest).unlink() if how == "gone" else blob_path(layout, manifest).write_bytes(b"{}")
    before = blobs(layout)
    mirror("prune", "layout", "--delete", code=3)
    assert blobs(layout) == before


@pytest.mark.slow
def test_prune_without_delete_creates_no_mirror_directory(mirror: Mirror, layout: Path) -> None:
    shutil.rmtree(layout / ".mirror")
    mirror("prune", "layout")
    assert not (layout / ".mirror").exists()


def test_directory_without_a_layout_is_refused(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    mirror("prune", "other", "--delete", code=3)
    mirror("prune", "nowhere", "--delete", code=2)
    assert list((tmp_path / "other").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("command", ["prune layout --delete", "rm layout {image}", "pull {image}"])
def test_command_that_waits_for_the_lock_warns_unless_quiet(
    mirror: Mirror, layout: Path, registry: EmbeddedRegistry, command: str, quiet: bool
) -> None:
    with (layout / ".mirror/lock").open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        words = command.format(image=f"{registry.host}/a:v1").split()
        with mirror.start(*words, *(["-q"] if quiet else [])) as waiting:
            assert waiting.stderr
            warning = b"" if quiet else waiting.stderr.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                waiting.wait(1)
            fcntl.flock(other, fcntl.LOCK_UN)
            _, rest = waiting.communicate(timeout=30)
    assert waiting.returncode == 0
    assert warning == (b"" if quiet else b"warning: layout is locked by another mirror process; waiting.\n")
    assert b"in use" not in rest


def strange(folder: Path) -> dict[str, Path]:
    """Add files below `blobs/` whose names match the grammar of a digest, of algorithms that are not supported."""
    names = ("notes/README", f"md5/{'a' * 32}", f"blake3/{'b' * 64}", f"sha256/{'c' * 63}", f"sha512/{'d' * 64}")
    paths = {name: folder / "blobs" / name for name in names}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    return paths


def test_prune_deletes_only_digests_of_known_algorithms_and_lengths(mirror: Mirror, tmp_path: Path) -> None:
    layout = layouts.write(tmp_path / "layout", FIRST, contents={SECOND.root: SECOND.data}, ref="v1")
    paths = strange(layout)
    assert mirror("prune", "layout", "--delete").lines == [f"{SECOND.root}  {len(SECOND.data)} B"]
    assert all(path.read_text() == "mine" for path in paths.values())
    assert blobs(layout) >= {*FIRST.manifests, *FIRST.blobs}


@pytest.mark.parametrize("manifests", ["[]", "null"])
def test_prune_asks_before_it_empties_a_layout_without_images(mirror: Mirror, tmp_path: Path, manifests: str) -> None:
    layout = layouts.write(tmp_path / "layout", FIRST)
    (layout / "index.json").write_text(f'{{"schemaVersion":2,"manifests":{manifests}}}')
    before = blobs(layout)
    refused = mirror("prune", "layout", "--delete", code=2)
    assert f"layout has no images, so all of its blobs would be deleted ({len(before)})." in refused.err
    assert "mirror prune layout --delete --yes" in refused.err
    assert blobs(layout) == before
    mirror("prune", "layout", "--delete", "--yes")
    assert blobs(layout) == set()
    mirror("prune", "layout", "--delete")


def on_terminal(mirror: Mirror, answer: str, *args: str) -> tuple[str, int]:
    """Run it with a terminal as stdin, type an answer, and return stderr and the exit code."""
    keyboard, terminal = pty.openpty()
    os.write(keyboard, f"{answer}\n".encode())
    command = mirror.command(*args)
    done = subprocess.run(
        command, stdin=terminal, capture_output=True, cwd=mirror.folder, env=mirror.env, check=False, timeout=60
    )
    os.close(keyboard)
    os.close(terminal)
    return done.stderr.decode(), done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["y", "n"])
def test_prune_on_a_terminal_asks_for_an_answer(mirror: Mirror, tmp_path: Path, answer: str) -> None:
    layout = layouts.write(tmp_path / "layout", FIRST)
    layouts.write_index(layout, [])
    before = blobs(layout)
    shown, code = on_terminal(mirror, answer, "prune", "layout", "--delete")
    assert f"layout has no images. Delete all of its blobs ({len(before)})?" in shown
    assert (blobs(layout), code) == ((set(), 0) if answer == "y" else (before, 2))
