"""Tests of kills, disk errors, concurrent commands and interrupts: the layout stays valid and can be continued."""

import asyncio
import errno
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import click
import pytest

from mirror import cli
from mirror.cli.interrupt import RESUME, SEND_AGAIN
from tests.support import images
from tests.support.command import (
    Mirror,
    Result,
    assert_whole,
    blob_path,
    blobs,
    check_manners,
    entries,
    lacking,
    leftovers,
    names,
    tree,
    wrong_blobs,
)
from tests.support.profiles import every
from tests.support.registry import Action, EmbeddedRegistry, Fault, Stall, Status, serving
from tests.support.registry.messages import Answer, Call

pytestmark = pytest.mark.usefixtures("each_exchange")

PARTS = 3  # of a long test, so that several workers share it
SHARED = images.layer(1, 3000)
FIRST = images.index([images.image("linux/amd64", SHARED, images.layer(2, 200))])
SECOND = images.image("linux/amd64", SHARED, images.layer(3, 300))
LAYER = SHARED.digest


@dataclass(frozen=True)
class Scene:
    """A registry with two images, the file system calls of a pull of the first, and the resulting layout."""

    registry: EmbeddedRegistry
    first: str
    second: str
    calls: list[str]
    clean: dict[str, bytes | str]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    mirror = Mirror(tmp_path_factory.mktemp("clean"))
    with serving(EmbeddedRegistry()) as registry:
        FIRST.publish(registry, "first", "v1")
        SECOND.publish(registry, "second", "v1")
        first, second = f"{registry.host}/first:v1", f"{registry.host}/second:v1"
        mirror(*pull(first), plan="trace:calls")
        mirror("verify", "layout")
        calls = (mirror.folder / "calls").read_text().splitlines()
        yield Scene(registry, first, second, calls, tree(mirror.folder / "layout"))


@pytest.fixture
def scene(honest: Scene) -> Iterator[Scene]:
    honest.registry.clear_log()
    yield honest
    honest.registry.clear_faults()


def pull(*names: str) -> list[object]:
    """Return the arguments of a pull of one blob at a time, so that every run makes the same calls."""
    return ["pull", *names, "--all", "-j", 1]


def assert_consistent(layout: Path) -> None:
    """Assert that all blobs match their digests, and that all referenced blobs exist."""
    assert wrong_blobs(layout) == []
    assert lacking(layout) == []


# Kill -9


def moments(calls: list[str]) -> list[str]:
    """Return a kill before each call and after each except fsync: the next call follows an fsync directly."""
    numbered = list(enumerate(calls))
    after = [f"after:{number}" for number, call in numbered if not call.startswith("fsync")]
    return [f"before:{number}" for number, _ in numbered] + after


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_pull_resumes_after_a_kill_at_any_call(mirror: Mirror, scene: Scene, layout: Path, part: int) -> None:
    assert len(scene.calls) > 20
    for moment in every(moments(scene.calls)[part::PARTS]):
        mirror(*pull(scene.first), plan=moment, code=-signal.SIGKILL)
        assert_consistent(layout)
        mirror(*pull(scene.first))
        assert tree(layout) == scene.clean
        assert leftovers(layout) == []
        shutil.rmtree(layout)


def damaged(mirror: Mirror, scene: Scene, registry: EmbeddedRegistry) -> tuple[str, str]:
    """Pull two images, corrupt their shared layer and move the tag of the first; return their names."""
    moved, other = f"{registry.host}/moved:v1", scene.second
    SECOND.publish(registry, "moved", "v1")
    mirror(*pull(moved, other))
    FIRST.publish(registry, "moved", "v1")
    blob_path(mirror.folder / "layout", LAYER).write_bytes(bytes(SHARED.size))
    return moved, other


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_update_resumes_after_a_kill_at_any_call(
    mirror: Mirror, scene: Scene, registry: EmbeddedRegistry, layout: Path, tmp_path: Path, part: int
) -> None:
    moved, other = damaged(mirror, scene, registry)
    layout.rename(tmp_path / "before")
    shutil.copytree(tmp_path / "before", layout)
    mirror(*pull(moved), plan="trace:calls")
    calls, clean = len((tmp_path / "calls").read_text().splitlines()), tree(layout)
    for number in every(range(part, calls, PARTS)):
        shutil.rmtree(layout)
        shutil.copytree(tmp_path / "before", layout)
        mirror(*pull(moved), plan=f"before:{number}", code=-signal.SIGKILL)
        assert sorted(names(layout)) == sorted([moved, other])
        assert lacking(layout) == []
        assert set(wrong_blobs(layout)) <= {LAYER}
        mirror(*pull(moved))
        assert tree(layout) == clean
        assert leftovers(layout) == []


@pytest.mark.slow
def test_pull_resumes_after_a_kill_during_the_removal_of_leftovers(mirror: Mirror, scene: Scene, layout: Path) -> None:
    named = next(number for number, call in enumerate(scene.calls) if call.endswith("/index.json") and "rename" in call)
    mirror(*pull(scene.first), plan=f"before:{named}", code=-signal.SIGKILL)
    assert len(leftovers(layout)) == 1
    mirror(*pull(scene.first), plan="before:0", code=-signal.SIGKILL)
    mirror(*pull(scene.first), plan="after:0", code=-signal.SIGKILL)
    mirror(*pull(scene.first))
    assert tree(layout) == scene.clean
    assert leftovers(layout) == []


@pytest.mark.slow
def test_rm_killed_at_any_call_leaves_other_images_complete(
    mirror: Mirror, scene: Scene, layout: Path, tmp_path: Path
) -> None:
    mirror(*pull(scene.first, scene.second))
    layout.rename(tmp_path / "before")
    shutil.copytree(tmp_path / "before", layout)
    mirror("rm", "layout", scene.first, plan="trace:calls")
    numbers = range(len((tmp_path / "calls").read_text().splitlines()))
    for plan in [f"{how}:{number}" for number in numbers for how in ("before", "after")]:
        shutil.rmtree(layout)
        shutil.copytree(tmp_path / "before", layout)
        mirror("rm", "layout", scene.first, plan=plan, code=-signal.SIGKILL)
        assert_consistent(layout)
        assert scene.second in names(layout)
        assert {*SECOND.blobs, SECOND.root} <= blobs(layout)
        is_named = scene.first in names(layout)
        mirror("rm", "layout", scene.first, code=0 if is_named else 2)  # deletes what the killed one left
        assert blobs(layout) == {*SECOND.blobs, SECOND.root}
        assert not (layout / ".mirror/deleting").exists()


@pytest.mark.slow
def test_rm_does_not_delete_what_was_pulled_again_after_a_kill(mirror: Mirror, scene: Scene, layout: Path) -> None:
    mirror(*pull(scene.first, scene.second))
    (layout / ".mirror/deleting").write_text("\n".join([*FIRST.blobs, "sha256:0", "../../index.json"]))
    mirror("rm", "layout", scene.second)
    assert_consistent(layout)
    assert names(layout) == [scene.first]
    (layout / ".mirror/deleting").write_text("\n".join(FIRST.blobs))
    mirror("rm", "layout", "no-such-image", code=2)
    assert_consistent(layout)


@pytest.mark.slow
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_rm_frees_the_space_that_it_needs_on_a_full_disk(
    mirror: Mirror, scene: Scene, layout: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The shorter index.json is written beside the old one."""
    mirror(*pull(scene.first, scene.second))
    writev, unlink, deleted = os.writev, os.unlink, list[str]()

    def full(fd: int, data: Any) -> int:
        if not deleted:
            raise OSError(number, os.strerror(number))
        return writev(fd, data)

    def unlinked(name: str, **fields: Any) -> None:
        unlink(name, **fields)
        deleted.extend([name] if len(name) == 64 else [])

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        patch.setattr(os, "unlink", unlinked)
        mirror("rm", "layout", scene.first)
    assert names(layout) == [scene.second]
    assert blobs(layout) == {*SECOND.blobs, SECOND.root}
    assert_whole(layout)


@pytest.mark.slow
def test_disk_that_is_full_while_the_index_is_written_keeps_no_temporary_file(
    mirror: Mirror, scene: Scene, layout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror(*pull(scene.first, scene.second))
    before = tree(layout)

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", full)
        name = f"{scene.first.rpartition(':')[0]}:v2"
        assert "is full" in mirror("copy", f"oci:layout:{scene.first}", "oci:layout", "--as", name, code=1).err
    assert tree(layout) == before
    assert leftovers(layout) == []


# Durability: a kill does not lose data that was not synced, so these tests check the order of the calls


def test_files_are_synced_before_their_rename_and_directories_after_it(scene: Scene) -> None:
    calls = scene.calls
    moves = [position for position, call in enumerate(calls) if call.startswith("rename ")]
    assert len(moves) == len(FIRST.blobs) + len(FIRST.manifests) + 3  # index.json twice, oci-layout once
    for position, following in pairwise([*moves, len(calls)]):
        _, source, target = calls[position].split(" ")
        assert f"fsync {source}" in calls[:position]
        assert f"fsync {os.path.dirname(target)}" in calls[position:following]


def test_parents_of_new_directories_are_synced(scene: Scene) -> None:
    layout = next(call for call in scene.calls if call.endswith("/layout")).removeprefix("fsync ")
    parents = [os.path.dirname(layout), layout, f"{layout}/.mirror", f"{layout}/blobs"]
    assert [folder for folder in parents if f"fsync {folder}" not in scene.calls] == []


def test_content_is_written_before_the_manifests_that_refer_to_it(scene: Scene) -> None:
    targets = [call.rpartition("/")[2] for call in scene.calls if call.startswith("rename")]
    at = {name: position for position, name in enumerate(targets)}
    manifest, index = (digest.removeprefix("sha256:") for digest in FIRST.manifests)
    assert max(at[digest.removeprefix("sha256:")] for digest in FIRST.blobs) < at[manifest] < at[index]
    assert at[index] < at["index.json"]  # the last time that it was written
    assert targets[:2] == ["index.json", "oci-layout"]


# Disk errors


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_disk_error_at_any_call_is_reported(mirror: Mirror, scene: Scene, layout: Path, part: int) -> None:
    for number in every(range(part, len(scene.calls), PARTS)):
        error, text = (("ENOSPC", "space"), ("EIO", "error"))[number % 2]
        result = mirror(*pull(scene.first), plan=f"{error}:{number}", code=1)
        assert text in result.err
        assert all(names(layout) == [line.rpartition("@")[0]] for line in result.lines)  # what was printed is true
        if layout.exists():
            assert_whole(layout)
            mirror(*pull(scene.first))
            assert tree(layout) == scene.clean
            shutil.rmtree(layout)


@pytest.mark.slow
def test_directory_that_does_not_support_fsync_is_accepted(mirror: Mirror, scene: Scene, layout: Path) -> None:
    number = next(at for at, call in enumerate(scene.calls) if call.endswith("/blobs/sha256"))
    mirror(*pull(scene.first), plan=f"EINVAL:{number}")
    assert tree(layout) == scene.clean


# Concurrent commands


def finish(process: "subprocess.Popen[bytes]") -> Result:
    """Wait at most a minute for the end of a command."""
    out, err = process.communicate(timeout=60)
    result = Result(process.returncode, out, err.decode())
    check_manners(result)
    return result


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(6))
def test_two_concurrent_pulls_store_both_images(mirror: Mirror, scene: Scene, layout: Path, attempt: int) -> None:
    running = [mirror.start("pull", name, "--all") for name in (scene.first, scene.second)]
    assert [finish(process).code for process in running] == [0, 0]
    assert sorted(names(layout)) == sorted([scene.first, scene.second])
    assert_whole(layout)
    assert mirror("verify", "layout", "--json").json["findings"] == []


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(4))
def test_three_concurrent_pulls_of_one_image_leave_the_layout_of_one(
    mirror: Mirror, scene: Scene, layout: Path, attempt: int
) -> None:
    running = [mirror.start("pull", scene.first, "--all") for _ in range(3)]
    assert [finish(process).code for process in running] == [0, 0, 0]
    assert tree(layout) == scene.clean
    assert leftovers(layout) == []


@dataclass(frozen=True)
class Seen(Action):
    """Set an event when the response is ready."""

    event: threading.Event

    def on_answer(self, call: Call, given: Answer) -> Answer:
        self.event.set()
        return given


@dataclass(frozen=True)
class Gate(Stall):
    """Stall after some bytes until the test opens the gate; then close the connection too early."""

    opened: threading.Event = field(default_factory=threading.Event)

    async def leave(self, transport: asyncio.Transport) -> None:
        while not self.opened.is_set():  # not in a thread: the registry of a test that fails could not stop
            await asyncio.sleep(0.01)
        transport.close()


def stalled(scene: Scene, action: Action, path: str = f"/blobs/{LAYER}", method: str = "GET") -> threading.Event:
    """Stall the next matching request; return an event that is set when it arrives."""
    event = threading.Event()
    scene.registry.fault(Fault(method=method, path=path, action=(action, Seen(event))))
    return event


@pytest.mark.slow
def test_pull_keeps_partial_files_of_a_running_pull(mirror: Mirror, scene: Scene, layout: Path) -> None:
    gate = Gate(1000)
    began = stalled(scene, gate)
    slow = mirror.start("pull", scene.first, "--all")
    assert began.wait(60)
    mirror("pull", scene.second, "--all")
    assert names(layout) == [scene.second]
    gate.opened.set()
    assert finish(slow).code == 0
    assert names(layout) == [scene.first, scene.second]
    assert_whole(layout)


@pytest.mark.slow
def test_verify_during_a_pull_reports_ok(mirror: Mirror, scene: Scene, layout: Path) -> None:
    mirror("pull", scene.second, "--all")
    gate = Gate(1000)
    new = next(digest for digest in FIRST.blobs if digest not in SECOND.blobs)
    began = stalled(scene, gate, f"/blobs/{new}")
    slow = mirror.start("pull", scene.first, "--all")
    assert began.wait(60)
    assert mirror("verify", "layout", "--json").json["verdict"] == "ok"
    gate.opened.set()
    assert finish(slow).code == 0


# Ctrl-C


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_pull_exits_and_can_be_repeated(
    mirror: Mirror, scene: Scene, layout: Path, number: signal.Signals
) -> None:
    began = stalled(scene, Stall(1000))
    running = mirror.start("pull", scene.first, "--all")
    assert began.wait(60)
    running.send_signal(number)
    result = finish(running)
    assert (result.code, result.out) == (130, "")
    assert result.err.endswith("error: interrupted.\nhint: Run the same command again to resume.\n")
    assert_whole(layout)
    assert entries(layout) == []
    mirror("pull", scene.first, "--all")
    assert tree(layout) == scene.clean


@pytest.mark.slow
def test_interrupt_ends_a_pull_that_waits_for_a_manifest(mirror: Mirror, scene: Scene, layout: Path) -> None:
    began = stalled(scene, Stall(None), "/manifests/v1")
    running = mirror.start("pull", scene.first, "--all")
    assert began.wait(60)
    running.send_signal(signal.SIGINT)
    assert finish(running).code == 130
    assert not layout.exists()


@pytest.mark.slow
def test_interrupted_listing_has_nothing_to_resume(mirror: Mirror, scene: Scene) -> None:
    began = stalled(scene, Stall(None), "/tags/list")
    running = mirror.start("tags", scene.first.removesuffix(":v1"))
    assert began.wait(60)
    running.send_signal(signal.SIGINT)
    result = finish(running)
    assert (result.code, result.err.strip()) == (130, "error: interrupted.")


AGAIN = {
    "pull redis": RESUME,
    "pull redis --dry-run": None,
    "push ./layout 127.0.0.1:9": SEND_AGAIN,
    "push ./layout 127.0.0.1:9 --dry-run": None,
    "copy oci:layout docker://127.0.0.1:9/a": SEND_AGAIN,
    "copy oci:layout oci:other": RESUME,
    "copy oci:layout oci:other --dry-run": None,
    "copy oci:layout oci-archive:images.tar": None,
    "copy oci-archive:- oci:layout": None,
    "import images.tar layout": RESUME,
    "import - layout": None,
    "export layout images.tar": None,
    "verify layout --repair --from other": RESUME,
    "copy docker://127.0.0.1:9/a docker://127.0.0.1:9/b": SEND_AGAIN,
    "copy docker://127.0.0.1:9/a oci:layout": RESUME,
    "verify docker://127.0.0.1:9/a": None,
    "inspect docker://127.0.0.1:9/a": None,
    "ls layout": None,
    "prune layout": None,
}


@pytest.mark.parametrize("line", AGAIN)
def test_hint_says_what_the_same_command_would_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    told = []

    def interrupt(main: Coroutine[Any, Any, object], *, again: str | None = None) -> NoReturn:
        main.close()
        told.append(again)
        raise KeyboardInterrupt

    words = line.split()
    name = "import_" if words[0] == "import" else words[0]
    monkeypatch.setattr(import_module(f"mirror.cli.{name}"), "run", interrupt)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(click.Abort):
        cli.mirror.main(words, "mirror", standalone_mode=False)
    assert told == [AGAIN[line]]


@pytest.mark.slow
def test_interrupt_ends_the_pause_before_a_retry(mirror: Mirror, scene: Scene, layout: Path) -> None:
    began = stalled(scene, Status(429, (("Retry-After", "3600"),)))
    running = mirror.start("pull", scene.first, "--all", "-v", "--max-wait", "7200")
    assert began.wait(60)
    assert running.stderr
    while b"429" not in (said := running.stderr.readline()):
        assert said, "the command ended before it reported a retry"
    running.send_signal(signal.SIGINT)
    assert finish(running).code == 130
    assert_whole(layout)


@pytest.mark.slow
def test_interrupted_push_leaves_no_tag(mirror: Mirror, scene: Scene, registry: EmbeddedRegistry) -> None:
    mirror("pull", scene.first, "--all")
    event = threading.Event()
    registry.fault(Fault(method="PUT", path=f"digest={LAYER}", action=(Arrived(event), Stall(100))))
    running = mirror.start("push", "layout", registry.host)
    assert event.wait(60)
    running.send_signal(signal.SIGINT)
    result = finish(running)
    again = "Run the same command again: blobs that have arrived completely are not sent again."
    assert (result.code, result.err.split("hint: ")[1]) == (130, f"{again}\n")
    assert registry.tags("first") == {}
    registry.clear_faults()
    mirror("push", "layout", registry.host)
    assert registry.tags("first") == {"v1": FIRST.root}


@dataclass(frozen=True)
class Arrived(Action):
    """Set an event when the request arrives, before its body is read."""

    event: threading.Event

    def on_call(self, call: Call) -> Call:
        self.event.set()
        return call


@pytest.mark.slow
def test_killed_push_leaves_no_tag(mirror: Mirror, scene: Scene, registry: EmbeddedRegistry) -> None:
    mirror("pull", scene.first, "--all")
    for path in (f"digest={LAYER}", "/manifests/sha256", "/manifests/v1"):
        event = threading.Event()
        registry.fault(Fault(method="PUT", path=path, action=(Arrived(event), Stall(None))))
        running = mirror.start("push", "layout", registry.host)
        assert event.wait(60)
        running.kill()
        running.communicate()
        assert registry.tags("first") == {}
        registry.clear_faults()
    mirror("push", "layout", registry.host)
    assert registry.tags("first") == {"v1": FIRST.root}
    assert json.loads(registry.get_manifest("first", "v1")[0])["manifests"]
