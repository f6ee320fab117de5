"""Tests of repairs that are killed, or run beside other commands: a good blob is never moved or lost."""

import fcntl
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import Phase
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mirror.layout.names import IMAGE_NAME
from tests.cli.test_crash import Gate, Seen
from tests.support import images, layouts
from tests.support.command import Mirror, blob_path, blobs, entries, lacking, tree, wrong_blobs
from tests.support.profiles import every, examples
from tests.support.registry import Action, EmbeddedRegistry, Fault
from tests.support.registry.messages import Answer, Call

BASE = images.layer(1, 4000)
APPS = [images.image("linux/amd64", BASE, images.layer(2 + number, 200)) for number in range(5)]
REPAIR = ("verify", "layout", "--repair", "--from", "./good")


@pytest.fixture
def layout(mirror: Mirror, tmp_path: Path) -> Path:
    """Five images that share a layer; `good` is a copy of the layout."""
    make_layouts(tmp_path)
    return tmp_path / "layout"


def make_layouts(folder: Path) -> None:
    layouts.write(folder / "good", *APPS)
    named = [
        {**app.descriptor(), "annotations": {"io.containerd.image.name": f"quay.io/team/app:{number}"}}
        for number, app in enumerate(APPS)
    ]
    layouts.write_index(folder / "good", named)
    shutil.copytree(folder / "good", folder / "layout")


def flip(path: Path) -> bytes:
    """Change one bit of a file, and return its bytes."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return bytes(data)


def quarantined(layout: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(layout.glob(".mirror/quarantine/*"))]


# Stale reports


@pytest.mark.slow
def test_blob_that_many_images_share_is_fetched_and_quarantined_once(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    mirror("push", "good", registry.host)
    registry.clear_log()
    bad = flip(blob_path(layout, BASE.digest))
    result = mirror("verify", "layout", "--repair", "--from", registry.host, "--json").json
    fetched = [seen.path for seen in registry.requests if seen.method == "GET" and BASE.digest in seen.path]
    assert len(fetched) == 1
    assert quarantined(layout) == [bad]
    assert (result["verdict"], result["repair"]["healed"]) == ("ok", [BASE.digest])
    assert len(result["repair"]["movedAside"]) == 1


@pytest.mark.slow
def test_layer_below_a_missing_manifest_is_repaired_and_stays(mirror: Mirror, layout: Path) -> None:
    layer = next(digest for digest in APPS[0].blobs if digest not in APPS[1].blobs)
    blob_path(layout, APPS[0].root).unlink()
    bad = flip(blob_path(layout, layer))  # an orphan, as long as the manifest is missing
    result = mirror(*REPAIR, "--json").json
    assert (result["verdict"], result["repair"]["healed"]) == ("ok", sorted([layer, APPS[0].root]))
    assert wrong_blobs(layout) == lacking(layout) == []
    assert quarantined(layout) == [bad]


@contextmanager
def locked(layout: Path) -> Iterator[None]:
    """Hold the lock of a layout as a writer does."""
    (layout / ".mirror").mkdir(exist_ok=True)
    with (layout / ".mirror/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def wait_for(process: "subprocess.Popen[bytes]", text: bytes) -> None:
    assert process.stderr
    while text not in (said := process.stderr.readline()):
        assert said, "the command ended before it said so"


@pytest.mark.slow
def test_blobs_that_another_command_has_repaired_meanwhile_are_left_alone(mirror: Mirror, layout: Path) -> None:
    orphan = images.digest_of(b"an orphan")
    for digest, data in ((orphan, b"wrong"), (BASE.digest, BASE.data[:-1] + b"!")):
        layouts.add(layout, digest, data)
    with locked(layout):
        repairing = mirror.start(*REPAIR)  # it verifies, and then waits for the lock
        wait_for(repairing, b"is locked")
        for digest, data in ((orphan, b"an orphan"), (BASE.digest, BASE.data)):
            layouts.add(layout, digest, data)
        inode = blob_path(layout, BASE.digest).stat().st_ino
    out, _ = repairing.communicate(timeout=60)
    assert repairing.returncode == 0, out
    assert quarantined(layout) == []
    assert blob_path(layout, BASE.digest).stat().st_ino == inode
    assert blob_path(layout, orphan).read_bytes() == b"an orphan"


@pytest.mark.slow
def test_no_other_command_writes_to_a_layout_that_is_being_repaired(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    mirror("push", "good", registry.host)
    gate, began = Gate(100), threading.Event()
    registry.fault(Fault(method="GET", path=f"/blobs/{BASE.digest}", action=(gate, Seen(began))))
    bad = flip(blob_path(layout, BASE.digest))
    repairing = mirror.start("verify", "layout", "--repair", "--from", registry.host)
    assert began.wait(60)
    copying = mirror.start("copy", "oci:good", "oci:layout")
    try:
        wait_for(copying, b"is locked")
        assert blob_path(layout, BASE.digest).read_bytes() == bad
    finally:
        gate.opened.set()
    for process in (repairing, copying):
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert wrong_blobs(layout) == []
    assert quarantined(layout) == [bad]


@dataclass(frozen=True)
class Held(Action):
    """Hold a response back until the test lets it go."""

    began: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    def on_answer(self, call: Call, given: Answer) -> Answer:
        self.began.set()
        self.free.wait(60)
        return given


@pytest.mark.slow
def test_blob_that_another_tool_replaces_while_it_is_fetched_is_left_alone(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    """Other tools do not heed the lock."""
    mirror("push", "good", registry.host)
    registry.fault(Fault(method="GET", path=f"/blobs/{BASE.digest}", action=(held := Held())))
    flip(blob_path(layout, BASE.digest))
    repairing = mirror.start("verify", "layout", "--repair", "--from", registry.host)
    try:
        assert held.began.wait(60)
        inode = layouts.add(layout, BASE.digest, BASE.data).stat().st_ino
    finally:
        held.free.set()
    out, _ = repairing.communicate(timeout=60)
    assert repairing.returncode == 0, out
    assert quarantined(layout) == []
    assert blob_path(layout, BASE.digest).stat().st_ino == inode


# Kills


@pytest.mark.slow
@pytest.mark.parametrize("how", ["before", "after"])
def test_repair_killed_at_any_call_keeps_a_file_at_every_path(mirror: Mirror, layout: Path, how: str) -> None:
    gone = next(iter(APPS[1].blobs.keys() - {BASE.digest}))
    orphan = images.digest_of(b"an orphan")
    bad = sorted([flip(blob_path(layout, BASE.digest)), flip(blob_path(layout, APPS[2].root)), b"wrong"])
    layouts.add(layout, orphan, b"wrong")
    blob_path(layout, gone).unlink()
    there = blobs(layout) - {orphan}
    layout.rename(layout.with_name("before"))
    shutil.copytree(layout.with_name("before"), layout)
    mirror(*REPAIR, plan="trace:calls")
    calls = (layout.parent / "calls").read_text().splitlines()
    assert sum(call.startswith("link ") for call in calls) == 2
    for number in every(range(len(calls))):
        shutil.rmtree(layout)
        shutil.copytree(layout.with_name("before"), layout)
        mirror(*REPAIR, plan=f"{how}:{number}", code=-signal.SIGKILL)
        assert there <= blobs(layout)
        assert set(wrong_blobs(layout)) <= {BASE.digest, APPS[2].root, orphan}
        mirror(*REPAIR)
        assert content(layout) == content(layout.parent / "good")
        assert sorted(quarantined(layout)) == bad


@pytest.mark.slow
def test_corrupt_orphan_that_a_killed_repair_has_kept_is_removed(mirror: Mirror, layout: Path) -> None:
    orphan = images.digest_of(b"an orphan")
    kept = layout / ".mirror/quarantine" / orphan.replace(":", "-")
    kept.parent.mkdir(parents=True)
    kept.hardlink_to(layouts.add(layout, orphan, b"wrong"))
    mirror(*REPAIR)
    assert content(layout) == content(layout.parent / "good")
    assert quarantined(layout) == [b"wrong"]


def content(folder: Path) -> dict[str, bytes | str]:
    """The files of a layout, without those in `.mirror`, and of `index.json` the names and digests of the images."""
    files = {name: data for name, data in tree(folder).items() if not name.startswith(".mirror")}
    images_there = sorted((entry["annotations"][IMAGE_NAME], entry["digest"]) for entry in entries(folder))
    return files | {"index.json": repr(images_there)}


class Repairs(RuleBasedStateMachine):
    """Damage, and repairs that are killed at any moment beside a copy or a second repair."""

    @initialize()
    def begin(self) -> None:
        self._stack = ExitStack()
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        self._mirror, self._layout = Mirror(folder), folder / "layout"
        make_layouts(folder)
        self._whole = content(folder / "good")
        self._bad: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "_stack"):
            self._stack.close()

    @rule(data=st.data(), how=st.sampled_from(["flip", "gone", "directory"]))
    def damage(self, data: st.DataObject, how: str) -> None:
        digest = data.draw(st.sampled_from(sorted(blobs(self._layout.with_name("good")) - self._bad)))
        path = blob_path(self._layout, digest)
        if how == "flip":
            flip(path)
        else:
            path.unlink()
        if how == "directory":
            path.mkdir()
        self._bad.add(digest)

    @rule(moment=st.integers(0, 30), how=st.sampled_from(["before", "after"]), beside=st.sampled_from("-cr"))
    def repair_and_kill(self, moment: int, how: str, beside: str) -> None:
        other = {"c": ("copy", "oci:good", "oci:layout"), "r": REPAIR}.get(beside)
        running = self._mirror.start(*other) if other else None
        done = self._mirror.fail(f"{how}:{moment}", *REPAIR)
        assert done.code in (0, -signal.SIGKILL), done.err
        if running:
            _, err = running.communicate(timeout=60)
            assert running.returncode == 0, err
        if running or not done.code:
            self.only_damaged_blobs_are_wrong()
            self._repaired()

    @rule()
    def repair(self) -> None:
        self._mirror(*REPAIR)
        self._repaired()

    @invariant()
    def only_damaged_blobs_are_wrong(self) -> None:
        if hasattr(self, "_bad"):
            lost = blobs(self._layout.with_name("good")) - blobs(self._layout)
            assert {*wrong_blobs(self._layout), *lost} <= self._bad
            good = {path.read_bytes() for path in self._layout.with_name("good").glob("blobs/*/*")}
            kept = [path for path in self._layout.glob(".mirror/quarantine/*") if path.is_file()]
            assert not good & {path.read_bytes() for path in kept}

    def _repaired(self) -> None:
        self._bad.clear()
        assert content(self._layout) == self._whole


TestRepairs = pytest.mark.slow(pytest.mark.timeout(1800)(Repairs.TestCase))
TestRepairs.settings = examples(20, stateful_step_count=12, phases=(Phase.explicit, Phase.reuse, Phase.generate))
