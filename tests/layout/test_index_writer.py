"""Tests of writing names in batches: other writers of index.json and killed processes lose no names."""

import asyncio
import errno
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirror.errors import BrokenLayout, InvalidReference, MirrorError, StorageError
from mirror.fs import atomic
from mirror.fs.directory import Directory
from mirror.layout import Layout, LayoutWriter, index, index_editor, index_writer
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from tests.support import naming
from tests.support.command import assert_whole, entries, lacking, leftovers, names, wrong_blobs

ROOT = Descriptor(OCI_INDEX, Digest.of(b"root"), 4)
OTHER = Descriptor(OCI_INDEX, Digest.of(b"other"), 5)
NAMES = [f"quay.io/a/b:v{number}" for number in range(9)]
THEIRS = {"mediaType": OCI_INDEX, "digest": Digest.of(b"theirs"), "size": 6, "unknown": [1.5]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "layout"


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pauses between batches very short."""
    monkeypatch.setattr(index_writer, "_PAUSE", 0.001)
    monkeypatch.setattr(index_writer, "_SHARE", 0)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Record the names in `index.json` after each write."""
    found: list[list[str]] = []
    replace = atomic.replace_file

    def noted(folder: Directory, name: str, *args: Any, **fields: Any) -> None:
        replace(folder, name, *args, **fields)
        found.append(names(folder.path))

    monkeypatch.setattr(index_writer, "replace_file", noted)
    return found


def failing(monkeypatch: pytest.MonkeyPatch, *numbers: int) -> None:
    """Make the first batches fail with these errno values."""
    left, replace = [*numbers], atomic.replace_file

    def fail(*args: Any, **fields: Any) -> None:
        if left:
            raise StorageError(os.strerror(left.pop(0)))
        replace(*args, **fields)

    monkeypatch.setattr(index_writer, "replace_file", fail)


def writing(path: Path, action: Callable[[LayoutWriter], Awaitable[object]]) -> None:
    async def main() -> None:
        async with LayoutWriter.writing(path) as layout:
            await action(layout)

    asyncio.run(main())


async def tag(layout: LayoutWriter, *some: str, root: Descriptor = ROOT) -> list[Digest | None]:
    return [await layout.tag(name, root, b"") for name in some]


def test_the_same_names_leave_the_file_as_it_is(path: Path) -> None:
    writing(path, lambda layout: tag(layout, *NAMES))
    compact = json.dumps(json.loads((path / "index.json").read_bytes()) | {"unknown": 1.5})
    (path / "index.json").write_text(compact)
    before = (path / "index.json").stat()
    writing(path, lambda layout: tag(layout, *NAMES))
    assert (path / "index.json").read_text() == compact
    assert (path / "index.json").stat() == before


async def until(holds: Callable[[], bool]) -> None:
    """Wait until the condition holds."""
    while not holds():
        await asyncio.sleep(0.01)


def add_theirs(path: Path, **fields: object) -> None:
    """Add an entry as another tool does: write `index.json` in place."""
    document = json.loads((path / "index.json").read_bytes())
    document["manifests"].append(THEIRS)
    (path / "index.json").write_text(json.dumps({**document, **fields}))


# Batches


@pytest.mark.slow
def test_names_are_written_when_the_layout_is_closed(
    path: Path, written: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index_writer, "_PAUSE", 60.0)

    async def name(layout: LayoutWriter) -> None:
        await tag(layout, *NAMES)
        assert names(path) == []

    writing(path, name)
    assert names(path) == NAMES
    assert written == [NAMES]


@pytest.mark.slow
def test_many_names_need_few_batches_and_parses(
    path: Path, written: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed, parse = [], index.parse
    monkeypatch.setattr(index_editor, "parse", lambda data: parsed.append(data) or parse(data))  # type: ignore[func-returns-value]
    many = sorted(f"quay.io/a/b:v{number}" for number in range(3000))
    writing(path, lambda layout: tag(layout, *many))
    assert names(path) == many
    assert len(written) <= 20  # one every half second on a slow machine
    assert len(parsed) == 2  # the empty index, and the index of the new layout


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_names_are_written_before_the_layout_is_closed(path: Path) -> None:
    async def name(layout: LayoutWriter) -> None:
        for number, one in enumerate(NAMES):
            await tag(layout, one)
            await until(lambda expected=NAMES[: number + 1]: names(path) == expected)  # type: ignore[misc]

    writing(path, name)


@pytest.mark.slow
def test_pause_is_ten_times_as_long_as_a_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "_PAUSE", 0.01)
    replace, times = atomic.replace_file, []

    def slow(*args: Any, **fields: Any) -> None:
        times.append(time.monotonic())
        time.sleep(0.05)
        replace(*args, **fields)

    monkeypatch.setattr(index_writer, "replace_file", slow)

    async def name(layout: LayoutWriter) -> None:
        for one in NAMES[:3]:
            await tag(layout, one)
            await until(lambda one=one: one in names(path))  # type: ignore[misc]

    writing(path, name)
    assert len(times) == 3
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(times))


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_batches_grow_with_the_number_of_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many, more = ([f"quay.io/{part}/b:v{number:03}" for number in range(320)] for part in "ab")
    writing(path, lambda layout: tag(layout, *many))

    async def name(layout: LayoutWriter) -> None:
        await tag(layout, *more[:9])
        await asyncio.sleep(0.05)
        assert names(path) == many
        await tag(layout, *more[9:11])
        await until(lambda: len(names(path)) == 331)
        monkeypatch.setattr(index_writer, "_LONGEST", 0.0)
        await tag(layout, more[11])
        await until(lambda: len(names(path)) == 332)

    writing(path, name)


def test_names_added_during_a_batch_are_in_the_next_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, began, may_end = atomic.replace_file, threading.Event(), threading.Event()

    def slow(*args: Any, **fields: Any) -> None:
        began.set()
        assert may_end.wait(60)
        replace(*args, **fields)

    monkeypatch.setattr(index_writer, "replace_file", slow)

    async def name(layout: LayoutWriter) -> None:
        await tag(layout, NAMES[0])
        flushing = asyncio.create_task(layout.flush())
        await until(began.is_set)
        await tag(layout, NAMES[1])
        assert [entry.name for entry in layout.entries()] == NAMES[:2]
        may_end.set()
        await flushing
        assert names(path) == NAMES[:1]

    writing(path, name)
    assert names(path) == NAMES[:2]


def test_flush_writes_only_new_names(path: Path, written: list[list[str]]) -> None:
    async def name(layout: LayoutWriter) -> None:
        await layout.flush()
        await tag(layout, NAMES[0])
        await layout.flush()
        await layout.flush()
        await tag(layout, NAMES[0])  # the image already has this name
        await layout.flush()

    writing(path, name)
    assert written == [NAMES[:1]]


def test_names_are_found_before_they_are_written(path: Path) -> None:
    async def name(layout: LayoutWriter) -> None:
        assert await tag(layout, NAMES[1], NAMES[0], root=OTHER) == [None, None]
        assert await tag(layout, NAMES[1]) == [OTHER.digest]
        assert [(entry.name, entry.root.digest) for entry in layout.entries()] == [
            (NAMES[0], OTHER.digest),
            (NAMES[1], ROOT.digest),
        ]
        assert (await layout.resolve("v1")).digest == layout.find(["b:v1"])[0].root.digest == ROOT.digest
        await layout.remove(layout.find([NAMES[0]]))
        assert [entry.name for entry in layout.entries()] == [NAMES[1]]
        assert names(path) == [NAMES[1]]

    writing(path, name)


def test_many_names_are_removed_in_one_write(path: Path, written: list[list[str]]) -> None:
    writing(path, lambda layout: tag(layout, *NAMES))
    writing(path, lambda layout: layout.remove(layout.find(NAMES[1:])))
    assert written == [NAMES, NAMES[:1]]


def test_invalid_name_is_refused_and_the_others_are_written(path: Path) -> None:
    async def name(layout: LayoutWriter) -> None:
        await tag(layout, NAMES[0])
        with pytest.raises(InvalidReference):
            await tag(layout, "No Name")
        await tag(layout, NAMES[1])

    writing(path, name)
    assert names(path) == NAMES[:2]


# Errors and cancellation


@pytest.mark.parametrize("error", [KeyError("x"), MirrorError("x"), asyncio.CancelledError()], ids=repr)
def test_staged_names_are_written_after_an_error(path: Path, error: BaseException) -> None:
    async def fail(layout: LayoutWriter) -> None:
        await tag(layout, *NAMES)
        raise error

    with pytest.raises(type(error)):
        writing(path, fail)
    assert names(path) == NAMES


def test_staged_names_are_written_after_a_cancellation(path: Path) -> None:
    async def main() -> None:
        staged = asyncio.Event()

        async def work() -> None:
            async with LayoutWriter.writing(path) as layout:
                await tag(layout, *NAMES)
                staged.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await staged.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert names(path) == NAMES
    assert leftovers(path) == []


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_cancellation_during_a_batch_leaves_no_open_files(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, began = atomic.replace_file, threading.Event()

    def slow(*args: Any, **fields: Any) -> None:
        began.set()
        time.sleep(0.1)
        replace(*args, **fields)

    async def main() -> None:
        async def work() -> None:
            async with LayoutWriter.writing(path) as layout:
                await tag(layout, NAMES[0])
                await until(began.is_set)
                await tag(layout, NAMES[1])
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await until(began.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    writing(path, tag)
    before = len(os.listdir("/dev/fd"))
    monkeypatch.setattr(index_writer, "replace_file", slow)
    asyncio.run(main())
    assert len(os.listdir("/dev/fd")) == before
    assert names(path) in (NAMES[:1], NAMES[:2])
    assert leftovers(path) == []


# Disk errors


@pytest.mark.parametrize("call", ["writev", "fsync", "rename", "open"])
def test_full_disk_is_an_error_and_keeps_the_old_names(path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "no")

    async def name(layout: LayoutWriter) -> None:
        await tag(layout, NAMES[1])
        monkeypatch.setattr(f"mirror.fs.directory.os.{call}", fail)

    writing(path, lambda layout: tag(layout, NAMES[0]))
    with pytest.raises(StorageError, match="No space left"):
        writing(path, name)
    monkeypatch.undo()
    assert names(path) == NAMES[:1]
    assert leftovers(path) == []
    writing(path, lambda layout: tag(layout, NAMES[1]))
    assert names(path) == NAMES[:2]


def test_failed_batch_is_written_with_the_next_batch(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def name(layout: LayoutWriter) -> None:
        failing(monkeypatch, errno.ENOSPC)
        await tag(layout, NAMES[0])
        with pytest.raises(StorageError):
            await layout.flush()
        await tag(layout, NAMES[1])

    writing(path, name)
    assert names(path) == NAMES[:2]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("then", ["tag", "flush", "close"])
def test_error_of_a_background_batch_is_raised_once(path: Path, monkeypatch: pytest.MonkeyPatch, then: str) -> None:
    async def name(layout: LayoutWriter) -> None:
        failing(monkeypatch, errno.EIO)
        await tag(layout, NAMES[0])
        await until(lambda: names(path) == NAMES[:1])  # the next batch writes it, but the error must be raised
        if then != "close":
            with pytest.raises(StorageError):
                await (tag(layout, NAMES[1]) if then == "tag" else layout.flush())
            await tag(layout, NAMES[2])

    if then == "close":
        with pytest.raises(StorageError):
            writing(path, name)
    else:
        writing(path, name)
    assert names(path) == [NAMES[0], *([] if then == "close" else NAMES[2:3])]


def test_first_error_is_raised_and_a_later_error_is_logged(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def name(layout: LayoutWriter) -> None:
        failing(monkeypatch, *[errno.ENOSPC] * 9)
        await tag(layout, *NAMES)
        raise KeyError

    with pytest.raises(KeyError):
        writing(path, name)
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(logged) == 1
    assert os.strerror(errno.ENOSPC) in logged[0]


def test_failed_sync_of_the_directory_is_repeated_by_the_next_flush(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = [], Directory.sync

    def once_broken(folder: Directory) -> None:
        synced.append(folder.path)
        if synced.count(path) == 1:
            raise StorageError("broken")
        sync(folder)

    async def name(layout: LayoutWriter) -> None:
        monkeypatch.setattr(Directory, "sync", once_broken)
        await tag(layout, *NAMES)
        with pytest.raises(StorageError):
            await layout.flush()
        await layout.flush()

    writing(path, name)
    assert synced.count(path) == 2


def test_index_larger_than_the_limit_is_not_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "CAP", 1000)
    writing(path, lambda layout: tag(layout, *NAMES[:2]))
    with pytest.raises(StorageError, match=r"index\.json would have more than 1000 bytes"):
        writing(path, lambda layout: tag(layout, *NAMES))
    assert names(path) == NAMES[:2]


# Other writers


def test_changes_of_another_tool_between_batches_are_kept(path: Path) -> None:
    async def name(layout: LayoutWriter) -> None:
        await tag(layout, NAMES[1])
        await layout.flush()
        add_theirs(path, unknown={"ü": 1})
        await tag(layout, NAMES[0])

    writing(path, name)
    assert json.loads((path / "index.json").read_bytes())["unknown"] == {"ü": 1}
    assert [entry["digest"] for entry in entries(path)] == [ROOT.digest, ROOT.digest, THEIRS["digest"]]
    assert entries(path)[2] == THEIRS
    with Layout.open(path) as layout:
        assert [entry.name for entry in layout.entries()] == [*NAMES[:2], THEIRS["digest"]]


def test_names_removed_by_another_tool_between_batches_stay_removed(path: Path) -> None:
    async def name(layout: LayoutWriter) -> None:
        await tag(layout, NAMES[0])
        await layout.flush()
        (path / "index.json").write_bytes(index.EMPTY)
        await tag(layout, NAMES[1])
        await layout.flush()
        assert [entry.name for entry in layout.entries()] == [NAMES[1]]

    writing(path, name)
    assert names(path) == [NAMES[1]]


def test_change_that_keeps_size_and_times_is_detected(path: Path) -> None:
    async def name(layout: LayoutWriter) -> None:
        await tag(layout, NAMES[0])
        await layout.flush()
        file = path / "index.json"
        before = file.stat()
        file.write_bytes(file.read_bytes().replace(ROOT.digest.encode(), OTHER.digest.encode()))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        await tag(layout, NAMES[1])

    writing(path, name)
    assert {entry["digest"] for entry in entries(path)} == {ROOT.digest, OTHER.digest}


@pytest.mark.parametrize("data", [b"{", b"", b"[]", None])
def test_index_broken_by_another_tool_is_not_overwritten(path: Path, data: bytes | None) -> None:
    async def name(layout: LayoutWriter) -> None:
        await tag(layout, NAMES[0])
        (path / "index.json").unlink()
        if data is not None:
            (path / "index.json").write_bytes(data)

    with pytest.raises(BrokenLayout):
        writing(path, name)
    assert (path / "index.json").exists() is (data is not None)
    assert data is None or (path / "index.json").read_bytes() == data


@pytest.mark.usefixtures("eager")
def test_index_broken_by_another_tool_stops_the_writer(path: Path) -> None:
    async def name(layout: LayoutWriter) -> None:
        (path / "index.json").write_bytes(b"{")
        while True:
            await tag(layout, NAMES[0])
            await asyncio.sleep(0.01)

    with pytest.raises(BrokenLayout):
        writing(path, name)


def test_concurrent_writers_give_different_ref_names_to_the_same_tag(path: Path) -> None:
    async def main() -> None:
        async with LayoutWriter.writing(path) as one, LayoutWriter.writing(path) as other:
            await tag(one, "quay.io/one:v1")
            await tag(other, "quay.io/other:v1")

    asyncio.run(main())
    ref_names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in entries(path)]
    assert sorted(ref_names) == ["quay.io/one:v1", "v1"]


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("tag"), st.integers(0, 1), st.sampled_from(NAMES), st.sampled_from([ROOT, OTHER])),
        st.tuples(st.just("flush"), st.integers(0, 1), st.none(), st.none()),
        st.tuples(st.just("theirs"), st.none(), st.none(), st.none()),
    ),
    max_size=15,
)


@pytest.mark.slow
@given(_steps)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_is_lost_by_writers_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, steps: Sequence[Any]
) -> None:
    path = tmp_path_factory.mktemp("layout")
    flushed: dict[str, set[str]] = {}

    async def main() -> None:
        async with AsyncExitStack() as stack:
            writers = [await stack.enter_async_context(LayoutWriter.writing(path)) for _ in range(2)]
            for kind, writer, name, root in steps:
                if kind == "tag":
                    await writers[writer].tag(name, root, b"")
                    flushed.setdefault(name, set()).add(root.digest)
                elif kind == "flush":
                    await writers[writer].flush()
                else:
                    add_theirs(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mirror.layout.index_writer._PAUSE", 1000.0)  # no batch meanwhile: the other tool takes no lock
        asyncio.run(main())
    theirs = sum(kind == "theirs" for kind, *_ in steps)
    found = entries(path)
    assert found.count(THEIRS) == theirs
    ours = [entry for entry in found if entry != THEIRS]
    called = [entry["annotations"]["io.containerd.image.name"] for entry in ours]
    assert called == sorted(flushed)
    assert all(entry["digest"] in flushed[name] for name, entry in zip(called, ours, strict=True))


# Killed processes


def run(path: Path, when: str = "never", number: int = 0) -> int:
    command = [sys.executable, "-m", "tests.support.naming", str(path), when, str(number)]
    return subprocess.run(command, check=False, timeout=60).returncode


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(len(naming.NAMES) + 1))  # the first is the empty index of a new layout
def test_killed_writer_names_only_complete_images_and_can_be_repeated(path: Path, when: str, number: int) -> None:
    assert run(path, when, number) == -signal.SIGKILL
    assert (wrong_blobs(path), lacking(path)) == ([], [])
    if (path / "index.json").exists():
        assert names(path) == naming.NAMES[: number if when == "after" else number - 1]
    assert run(path) == 0
    assert names(path) == naming.NAMES
    assert_whole(path)
