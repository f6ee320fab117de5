"""Tests of writing layouts: creation, blobs, names, and concurrent writers."""

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import stat
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TypeVar

import pytest

from mirror.content import stream
from mirror.content.stream import BlobReader, Fetch
from mirror.errors import BrokenLayout, DigestMismatch, MirrorError, StorageError, UsageError
from mirror.fs.directory import Directory
from mirror.layout import Layout, LayoutWriter
from mirror.layout.refuse import refuse_foreign
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.fs.test_directory import ODD, make
from tests.support import images
from tests.support.command import leftovers, wrong_blobs
from tests.support.memory import descriptor_of, fetching
from tests.support.strategies import digest_by

T = TypeVar("T")
DATA = b"0123456789" * 100
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
IMAGE = images.image("linux/amd64", images.layer(1, 100))
ROOT = descriptor_of(IMAGE)
NAME = "quay.io/a/b:v1"


def body(*chunks: bytes, failure: Exception | None = None, modified: float | None = None) -> Fetch:
    async def pieces() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk
        if failure:
            raise failure

    return fetching(BlobReader(pieces(), "a test", modified))


def writing(path: Path, action: Callable[[LayoutWriter], Awaitable[T]], *, exclusive: bool = False) -> T:
    async def main() -> T:
        async with LayoutWriter.writing(path, exclusive=exclusive) as layout:
            return await action(layout)

    return asyncio.run(main())


async def nothing(_: LayoutWriter) -> None: ...


async def put(layout: LayoutWriter) -> None:
    await layout.put(NODE, body(DATA))


async def put_image(layout: LayoutWriter) -> None:
    for data in IMAGE.blobs.values():
        await layout.put(Descriptor("a/b", Digest.of(data), len(data)), body(data))
    await layout.put(ROOT, body(IMAGE.data))
    await layout.tag(NAME, ROOT, IMAGE.data)


def path_of(layout: Path, node: Descriptor = NODE) -> Path:
    return layout / "blobs" / node.digest.algorithm / node.digest.encoded


def assert_clean(layout: Path) -> None:
    assert leftovers(layout) == []
    assert wrong_blobs(layout) == []


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "layout"


# Opening


def test_new_layout_is_complete(path: Path) -> None:
    writing(path, nothing)
    assert (path / "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'
    assert json.loads((path / "index.json").read_bytes())["manifests"] == []
    assert (path / "blobs" / "sha256").is_dir()
    with Layout.open(path) as found:
        assert found.entries() == []


def test_parent_directories_are_created(tmp_path: Path) -> None:
    writing(tmp_path / "a" / "b" / "c", nothing)
    assert (tmp_path / "a" / "b" / "c" / "oci-layout").is_file()


def test_opening_again_changes_nothing(path: Path) -> None:
    writing(path, put_image)
    before = {one: one.read_bytes() for one in path.rglob("*") if one.is_file()}
    writing(path, nothing)
    assert {one: one.read_bytes() for one in path.rglob("*") if one.is_file()} == before


@pytest.mark.parametrize("there", [[], [".mirror/tmp"], [".mirror/tmp", "blobs/sha256"], ["lost+found"]])
def test_interrupted_creation_is_completed(path: Path, there: list[str]) -> None:
    for name in there:
        (path / name).mkdir(parents=True)
    writing(path, put_image)
    with Layout.open(path) as found:
        assert [entry.name for entry in found.entries()] == [NAME]


def test_creation_interrupted_before_oci_layout_is_completed(path: Path) -> None:
    writing(path, nothing)
    (path / "oci-layout").unlink()
    writing(path, nothing)
    assert (path / "oci-layout").is_file()


def test_directory_with_other_files_is_refused_and_unchanged(path: Path) -> None:
    path.mkdir()
    (path / "thesis.txt").write_bytes(b"mine")
    with pytest.raises(UsageError, match="is not empty"):
        writing(path, nothing)
    assert [one.name for one in path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("kind", ["file", "dangling", "link", "fifo"])
def test_path_that_is_not_a_directory_is_refused(path: Path, kind: str) -> None:
    path.write_bytes(b"") if kind == "file" else make(path, kind)
    with pytest.raises(UsageError, match="is not a directory"):
        writing(path, nothing)


def test_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match="xxx"):
        writing(tmp_path / ("x" * 300), nothing)


def test_link_to_a_directory_is_accepted(path: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path.symlink_to("real")
    writing(path, put_image)
    assert (tmp_path / "real" / "oci-layout").is_file()


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff"])
def test_broken_layout_is_refused_and_unchanged(path: Path, name: str, data: bytes) -> None:
    """Writing to it would lose its other images."""
    writing(path, put_image)
    (path / name).write_bytes(data)
    with pytest.raises(BrokenLayout):
        writing(path, put)
    assert (path / name).read_bytes() == data
    assert not path_of(path).exists()


@pytest.mark.parametrize("gone", [["oci-layout"], ["oci-layout", "index.json"]])
def test_layout_without_oci_layout_is_refused_with_a_command_to_repair_it(path: Path, gone: list[str]) -> None:
    writing(path, put_image)
    for name in gone:
        (path / name).unlink()
    with pytest.raises(BrokenLayout) as caught:
        writing(path, put)
    assert "printf" in (caught.value.hint or "")
    assert not (path / "oci-layout").exists()


@pytest.mark.parametrize("name", [".mirror", ".mirror/tmp", "blobs"])
@pytest.mark.parametrize("kind", ["file", "link to a directory", "dangling"])
def test_file_or_link_instead_of_a_layout_directory_is_refused(path: Path, name: str, kind: str) -> None:
    writing(path, nothing)
    (path / name).rename(path.parent / "real")
    (path / name).write_bytes(b"") if kind == "file" else make(path / name, kind)
    with pytest.raises(BrokenLayout):
        writing(path, put)
    assert list((path / "another").iterdir() if (path / "another").exists() else []) == []


def test_link_to_a_directory_of_blobs_is_not_followed(path: Path, tmp_path: Path) -> None:
    writing(path, nothing)
    (path / "blobs" / "sha256").rmdir()
    (tmp_path / "outside").mkdir()
    (path / "blobs" / "sha256").symlink_to(tmp_path / "outside")
    with pytest.raises(BrokenLayout):
        writing(path, put)
    assert list((tmp_path / "outside").iterdir()) == []
    assert leftovers(path) == []


def test_directory_that_is_swapped_for_another_is_checked_too(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = path.with_name("other")
    other.mkdir()
    (other / "thesis.txt").write_bytes(b"mine")
    monkeypatch.setattr("mirror.layout.writer.make_directories", lambda path: path.symlink_to("other"))
    with pytest.raises(UsageError, match="is not empty"):
        writing(path, nothing)
    assert os.listdir(other) == ["thesis.txt"]


def test_refuse_foreign_creates_no_files(path: Path) -> None:
    refuse_foreign(path)
    assert not path.exists()
    path.mkdir()
    refuse_foreign(path)
    assert list(path.iterdir()) == []


# Blobs


def test_a_blob_is_stored_under_its_digest(path: Path) -> None:
    writing(path, put)
    assert path_of(path).read_bytes() == DATA
    assert_clean(path)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_blob_is_stored_in_the_directory_of_its_algorithm(path: Path, algorithm: str) -> None:
    node = Descriptor("a/b", Digest.parse(digest_by(algorithm, DATA)), len(DATA))
    writing(path, lambda layout: layout.put(node, body(DATA)))
    assert (path / "blobs" / algorithm / node.digest.encoded).read_bytes() == DATA


@pytest.mark.slow
def test_large_blob_in_many_chunks_is_stored(path: Path) -> None:
    chunks = [hashlib.sha256(bytes([number])).digest() * 4096 for number in range(100)]
    data = b"".join(chunks)
    node = Descriptor("a/b", Digest.of(data), len(data))
    writing(path, lambda layout: layout.put(node, body(*chunks)))
    assert path_of(path, node).read_bytes() == data


def test_modification_time_of_the_source_is_kept(path: Path) -> None:
    writing(path, lambda layout: layout.put(NODE, body(DATA, modified=1_500_000_000)))
    assert path_of(path).stat().st_mtime == 1_500_000_000


def test_written_files_are_readable_by_all_users(path: Path) -> None:
    before = os.umask(0o022)
    writing(path, put_image)
    os.umask(before)
    files = [one for one in path.rglob("*") if one.is_file() and ".mirror" not in one.parts]
    assert {stat.S_IMODE(one.stat().st_mode) for one in files} == {0o644}


WRONG = [(DATA[:-1],), (DATA + b"\0",), (DATA[:-1] + b"\0",), (b"\0" + DATA[1:],), (), (DATA, DATA)]


@pytest.mark.parametrize("chunks", WRONG)
@pytest.mark.parametrize("there", [False, True])
def test_wrong_bytes_are_never_stored(path: Path, chunks: Sequence[bytes], there: bool) -> None:
    if there:
        writing(path, put)
    with pytest.raises(MirrorError):
        writing(path, lambda layout: layout.put(NODE, body(*chunks)))
    assert path_of(path).exists() is there
    assert_clean(path)


def test_interrupted_body_leaves_no_files(path: Path) -> None:
    with pytest.raises(MirrorError, match="It broke"):
        writing(path, lambda layout: layout.put(NODE, body(DATA[:10], failure=MirrorError("It broke."))))
    assert not path_of(path).exists()
    assert_clean(path)


def test_cancelled_put_leaves_no_files(path: Path) -> None:
    async def interrupted(layout: LayoutWriter) -> None:
        begun = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield DATA[:10]
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(layout.put(NODE, fetching(BlobReader(pieces(), "a test"))))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    writing(path, interrupted)
    assert not path_of(path).exists()
    assert_clean(path)


@pytest.mark.parametrize("call", ["writev", "fsync", "rename", "open"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_disk_error_leaves_no_files(path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, "no")

    async def failing(layout: LayoutWriter) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(f"mirror.fs.directory.os.{call}", fail)
            await layout.put(NODE, body(DATA))

    with pytest.raises(StorageError) as caught:
        writing(path, failing)
    assert caught.value.hint
    assert not path_of(path).exists()
    assert_clean(path)


@pytest.mark.parametrize("data", [b"", DATA[:-1], DATA + b"\0", b"\0" * len(DATA)])
def test_wrong_blob_is_replaced(path: Path, data: bytes) -> None:
    writing(path, put)
    path_of(path).write_bytes(data)
    writing(path, put)
    assert path_of(path).read_bytes() == DATA


@pytest.mark.parametrize("kind", ODD)
def test_path_that_is_not_a_regular_file_is_moved_to_quarantine(path: Path, kind: str) -> None:
    async def put_and_list_quarantine(layout: LayoutWriter) -> list[Path]:
        await put(layout)
        return layout.quarantined_files

    writing(path, nothing)
    make(path_of(path), kind)
    quarantined = writing(path, put_and_list_quarantine)
    kept = path / ".mirror" / "quarantine" / f"sha256-{NODE.digest.encoded}"
    assert quarantined == [kept]
    assert stat.S_IFMT(kept.lstat().st_mode) != stat.S_IFREG
    assert path_of(path).read_bytes() == DATA
    assert path_of(path).lstat().st_mode & stat.S_IFREG


def test_files_in_quarantine_are_not_overwritten(path: Path) -> None:
    writing(path, nothing)
    for _ in range(3):
        path_of(path).mkdir()
        writing(path, put)
        path_of(path).unlink()
    assert len(list((path / ".mirror" / "quarantine").iterdir())) == 3


def test_target_of_a_link_at_a_blob_path_is_unchanged(path: Path, tmp_path: Path) -> None:
    (tmp_path / "passwd").write_bytes(b"secret")
    writing(path, nothing)
    path_of(path).symlink_to(tmp_path / "passwd")
    writing(path, put)
    assert (tmp_path / "passwd").read_bytes() == b"secret"


def test_correct_manifest_is_not_written_again(path: Path) -> None:
    writing(path, put_image)
    before = path_of(path, ROOT).stat()
    writing(path, put_image)
    after = path_of(path, ROOT).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_wrong_manifest_is_written_again(path: Path) -> None:
    writing(path, put_image)
    path_of(path, ROOT).write_bytes(b"{}")
    writing(path, put_image)
    assert path_of(path, ROOT).read_bytes() == IMAGE.data


def test_has_finds_a_blob_after_put(path: Path) -> None:
    async def asked(layout: LayoutWriter) -> list[bool]:
        before = await layout.has(NODE)
        await put(layout)
        return [before, await layout.has(NODE)]

    assert writing(path, asked) == [False, True]


@pytest.mark.parametrize("keep_bad", [False, True])
def test_only_a_repair_hashes_checked_blobs_again(path: Path, monkeypatch: pytest.MonkeyPatch, keep_bad: bool) -> None:
    """A disk that loses bits does not change the times of the file."""
    monkeypatch.setattr("mirror.fs.filestate._COARSEST", -1.0)

    async def main() -> None:
        async with LayoutWriter.writing(path, keep_bad=keep_bad) as layout:
            await put(layout)
            assert await layout.has(NODE)
            monkeypatch.setattr("os.readv", lambda fd, buffers: os.preadv(fd, buffers, 1))
            assert await layout.has(NODE) is not keep_bad

    asyncio.run(main())


@pytest.mark.slow
def test_blobs_can_be_put_concurrently(path: Path) -> None:
    some = [hashlib.sha256(bytes([number])).digest() * 1000 for number in range(20)]
    nodes = [Descriptor("a/b", Digest.of(data), len(data)) for data in some]

    async def all_at_once(layout: LayoutWriter) -> None:
        await asyncio.gather(*(layout.put(node, body(data)) for node, data in zip(nodes, some, strict=True)))
        await asyncio.gather(*(layout.put(NODE, body(DATA)) for _ in range(5)))

    writing(path, all_at_once)
    assert [path_of(path, node).read_bytes() for node in nodes] == some
    assert_clean(path)


# Names


def test_name_is_written_in_both_annotations(path: Path) -> None:
    writing(path, put_image)
    entry = json.loads((path / "index.json").read_bytes())["manifests"][0]
    assert entry["digest"] == ROOT.digest
    assert entry["annotations"]["io.containerd.image.name"] == NAME
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "v1"


def test_tag_returns_the_digest_that_the_name_had(path: Path) -> None:
    other = Descriptor(images.OCI_INDEX, Digest.of(b"other"), 5)

    async def twice(layout: LayoutWriter) -> list[Digest | None]:
        return [await layout.tag(NAME, node, b"") for node in (ROOT, other, other)]

    assert writing(path, twice) == [None, ROOT.digest, other.digest]
    with Layout.open(path) as found:
        assert [entry.root.digest for entry in found.entries()] == [other.digest]


def test_unchanged_name_does_not_rewrite_index_json(path: Path) -> None:
    writing(path, put_image)
    before = (path / "index.json").stat().st_ino
    writing(path, lambda layout: layout.tag(NAME, ROOT, b""))
    assert (path / "index.json").stat().st_ino == before


def test_index_broken_by_another_process_is_not_replaced(path: Path) -> None:
    async def broken(layout: LayoutWriter) -> None:
        (path / "index.json").write_bytes(b"{")
        await layout.tag(NAME, ROOT, b"")

    with pytest.raises(BrokenLayout):
        writing(path, broken)
    assert (path / "index.json").read_bytes() == b"{"


@pytest.mark.slow
def test_names_of_concurrent_writers_are_all_written(path: Path) -> None:
    """Each writer has its own thread and opens the layout itself, as processes do."""
    names = [f"quay.io/a/b:{number}" for number in range(12)]

    def name(one: str) -> None:
        writing(path, lambda layout: layout.tag(one, ROOT, b""))

    threads = [threading.Thread(target=name, args=(one,)) for one in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Layout.open(path) as found:
        assert sorted(entry.name for entry in found.entries()) == sorted(names)


def in_another_thread(action: Callable[[], object]) -> None:
    """Call the function in another thread, as another process would do it meanwhile."""
    thread = threading.Thread(target=action)
    thread.start()
    thread.join()


def test_directory_that_is_created_concurrently_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.is_dir

    def looked_at(self: Path) -> bool:
        answer = real(self)
        if self == path and not answer:
            path.mkdir()
        return answer

    monkeypatch.setattr(Path, "is_dir", looked_at)
    writing(path, put_image)
    assert path_of(path, ROOT).is_file()


def test_layout_that_is_completed_concurrently_is_used(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, done = Directory.names, threading.Event()

    def looked_at(self: Directory) -> list[str]:
        answer = real(self)
        if self.path == path and not done.is_set():
            done.set()
            in_another_thread(lambda: writing(path, put_image))
        return answer

    path.mkdir()
    monkeypatch.setattr(Directory, "names", looked_at)
    writing(path, lambda layout: layout.tag("quay.io/other:v2", ROOT, b""))
    with Layout.open(path) as found:
        assert [entry.name for entry in found.entries()] == [NAME, "quay.io/other:v2"]


def test_removing_a_name_keeps_the_blobs(path: Path) -> None:
    async def remove(layout: LayoutWriter) -> None:
        await layout.remove(layout.find([NAME]))

    writing(path, put_image)
    writing(path, remove, exclusive=True)
    with Layout.open(path) as found:
        assert found.entries() == []
    assert path_of(path, ROOT).is_file()


def test_delete_removes_only_the_given_blobs(path: Path) -> None:
    writing(path, put_image)
    writing(path, put)
    writing(path, lambda layout: layout.delete([NODE.digest]), exclusive=True)
    assert not path_of(path).exists()
    assert path_of(path, ROOT).exists()


# Several writers


def test_temporary_files_of_ended_writers_are_removed(path: Path) -> None:
    writing(path, nothing)
    (path / ".mirror" / "tmp" / "0123456789abcdef").write_bytes(b"half of a blob")
    (path / ".mirror" / "tmp" / "link").symlink_to(path / "oci-layout")
    writing(path, nothing)
    assert leftovers(path) == []
    assert (path / "oci-layout").is_file()


def test_temporary_files_of_running_writers_are_kept(path: Path) -> None:
    async def second(_: LayoutWriter) -> list[str]:
        temporary = path / ".mirror" / "tmp" / "0123456789abcdef"
        temporary.write_bytes(b"half of a blob")
        async with LayoutWriter.writing(path):
            return leftovers(path)

    assert writing(path, second) == ["0123456789abcdef"]


def test_directory_among_temporary_files_is_ignored(path: Path) -> None:
    writing(path, nothing)
    (path / ".mirror" / "tmp" / "directory").mkdir()
    writing(path, put)
    assert path_of(path).exists()


@pytest.mark.parametrize("exclusive", [(True, False), (False, True), (True, True)])
def test_exclusive_writer_excludes_other_writers(
    path: Path, monkeypatch: pytest.MonkeyPatch, exclusive: tuple[bool, bool]
) -> None:
    monkeypatch.setattr("mirror.layout.writer._LOCK_TIMEOUT", 0.0)

    async def second(_: LayoutWriter) -> None:
        async with LayoutWriter.writing(path, exclusive=exclusive[1]):
            pass

    with pytest.raises(StorageError, match="locked by another mirror process"):
        writing(path, second, exclusive=exclusive[0])


@pytest.mark.slow
@pytest.mark.parametrize("held", [False, True])
def test_waiting_is_logged_only_if_the_lock_is_held(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, held: bool
) -> None:
    monkeypatch.setattr("mirror.layout.writer._WARN_AFTER", 0.05)
    monkeypatch.setattr("mirror.layout.writer._LOCK_TIMEOUT", 0.2)
    writing(path, nothing)
    with (path / ".mirror/lock").open("r+b") as other:
        if held:
            fcntl.flock(other, fcntl.LOCK_EX)

        async def slow(_: LayoutWriter) -> None:
            await asyncio.sleep(0.15)

        with pytest.raises(StorageError) if held else nullcontext():
            writing(path, slow)
    logged = [record.getMessage() for record in caplog.records if record.name == "mirror.layout.writer"]
    assert logged == ([f"{path} is locked by another mirror process; waiting."] if held else [])


@pytest.mark.slow
def test_exclusive_writer_waits_for_the_current_writer(path: Path) -> None:
    async def second(_: LayoutWriter) -> "asyncio.Task[None]":
        async def enter() -> None:
            async with LayoutWriter.writing(path, exclusive=True) as layout:
                await put(layout)

        return asyncio.create_task(enter())

    async def main() -> None:
        async with LayoutWriter.writing(path) as layout:
            task = await second(layout)
            await asyncio.sleep(0)
            assert not path_of(path).exists()
        await task

    asyncio.run(main())
    assert path_of(path).exists()


def test_lock_is_released_after_a_failure(path: Path) -> None:
    for _ in range(2):
        with pytest.raises(DigestMismatch):
            writing(path, lambda layout: layout.put(NODE, body(b"\0" * len(DATA))), exclusive=True)


def test_closed_writer_leaves_no_open_files(path: Path) -> None:
    writing(path, put_image)
    before = len(os.listdir("/dev/fd"))
    writing(path, put_image)
    with pytest.raises(MirrorError):
        writing(path, lambda layout: layout.put(NODE, body()))
    assert len(os.listdir("/dev/fd")) == before


def test_parents_of_new_directories_are_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: set[Path] = set()
    real = Directory.sync

    def sync(folder: Directory) -> None:
        synced.add(folder.path)
        real(folder)

    monkeypatch.setattr(Directory, "sync", sync)
    path = tmp_path / "a" / "layout"
    writing(path, put)
    assert {tmp_path, tmp_path / "a", path, path / "blobs", path / "blobs" / "sha256"} <= synced


def test_bytes_from_memory_can_be_put(path: Path) -> None:
    writing(path, lambda layout: layout.put(NODE, stream.from_verified(DATA, "a test")))
    assert path_of(path).read_bytes() == DATA
