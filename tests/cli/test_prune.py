"""Tests of `mirror prune`: the files that it deletes and the files that it keeps."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import images
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
def test_prune_keeps_files_that_are_not_blobs(mirror: Mirror, layout: Path) -> None:
    (layout / "blobs/sha256/README").write_text("mine")
    (layout / "blobs/sha256" / ("A" * 64)).write_text("mine too")
    (layout / "blobs/sha256" / ("a" * 64)).mkdir()
    (layout / "notes.txt").write_text("mine")
    (layout / ".mirror/quarantine").mkdir()
    (layout / ".mirror/quarantine/x").write_text("their file")
    assert "1 file (10 B) in quarantine: inspect" in mirror("prune", "layout", "--delete").err
    assert "nothing to prune. 1 file (10 B) in quarantine" in mirror("prune", "layout").err
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
