"""Tests of open directories: links are not followed, files appear complete, and locks are exclusive."""

import errno
import os
import socket
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import BrokenLayout, StorageError
from mirror.fs.atomic import AtomicFile
from mirror.fs.directory import Directory, kind_name, os_errors


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Directory]:
    """Open a directory inside another one."""
    (tmp_path / "root").mkdir()
    with Directory.open(tmp_path / "root") as found:
        yield found


def make(path: Path, kind: str) -> None:
    """Create something other than a regular file or a directory."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # the path of a socket must have less than about 100 characters
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(path.name)
        os.chdir(here)
    elif kind == "directory":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to("nowhere")
    elif kind == "link":
        path.with_name("elsewhere").write_bytes(b"secret")
        path.symlink_to("elsewhere")
    else:
        path.with_name("another").mkdir()
        path.symlink_to("another")


ODD = ["fifo", "socket", "directory", "dangling", "link", "link to a directory"]


# Directories


def test_a_directory_is_created_once_and_opened_again(folder: Directory) -> None:
    for _ in range(2):
        with folder.sub("sub", create=True) as sub:
            assert sub.path == folder.path / "sub"
    assert stat.S_IMODE((folder.path / "sub").stat().st_mode) & 0o700 == 0o700


def test_missing_directory_is_not_created_by_default(folder: Directory) -> None:
    with pytest.raises(FileNotFoundError):
        folder.sub("sub")
    assert folder.names() == []


@pytest.mark.slow
@pytest.mark.parametrize("create", [False, True])
@pytest.mark.parametrize("kind", ["file", *(odd for odd in ODD if odd != "directory")])
def test_path_that_is_not_a_directory_is_refused(folder: Directory, kind: str, create: bool) -> None:
    path = folder.path / "sub"
    path.write_bytes(b"") if kind == "file" else make(path, kind)
    with pytest.raises(BrokenLayout, match="is not a directory"):
        folder.sub("sub", create=create)


def test_link_that_replaces_an_open_directory_is_not_followed(folder: Directory, tmp_path: Path) -> None:
    """Names are resolved against the open directory, not against a path."""
    with folder.sub("sub", create=True) as sub:
        (folder.path / "sub").rename(tmp_path / "moved")
        (folder.path / "sub").symlink_to(tmp_path)
        temporary = AtomicFile.create(sub)
        temporary.write([b"data"])
        temporary.commit(sub, "name")
    assert (tmp_path / "moved" / "name").read_bytes() == b"data"
    assert not (tmp_path / "name").exists()


def test_directory_that_the_user_names_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with Directory.open(tmp_path / "link") as found:
        assert found.names() == []


@pytest.mark.parametrize("name", ["missing", "file"])
def test_directory_that_cannot_be_opened_is_a_storage_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match=name):
        Directory.open(tmp_path / name)


def test_names_are_sorted(folder: Directory) -> None:
    for name in ("b", "a", "c"):
        (folder.path / name).write_bytes(b"")
    assert folder.names() == ["a", "b", "c"]


# Kinds of files


@pytest.mark.parametrize(
    ("kind", "bits", "word"),
    [
        ("fifo", stat.S_IFIFO, "a FIFO"),
        ("socket", stat.S_IFSOCK, "a socket"),
        ("directory", stat.S_IFDIR, "a directory"),
        ("dangling", stat.S_IFLNK, "a symbolic link"),
        ("link", stat.S_IFLNK, "a symbolic link"),
        ("link to a directory", stat.S_IFLNK, "a symbolic link"),
    ],
)
def test_kind_does_not_follow_links(folder: Directory, kind: str, bits: int, word: str) -> None:
    make(folder.path / "odd", kind)
    assert folder.kind("odd") == bits
    assert kind_name(bits) == word


def test_kind_and_status_of_a_missing_file_are_none(folder: Directory) -> None:
    assert (folder.kind("missing"), folder.status("missing")) == (None, None)


@pytest.mark.parametrize(
    ("bits", "word"), [(stat.S_IFREG, "a file"), (stat.S_IFBLK, "a device"), (0, "something else")]
)
def test_other_kinds_of_files_have_names(bits: int, word: str) -> None:
    assert kind_name(bits) == word


# Reading


@pytest.mark.parametrize("size", [0, 1, 10])
def test_file_up_to_the_limit_is_read(folder: Directory, size: int) -> None:
    (folder.path / "file").write_bytes(b"x" * size)
    assert folder.read("file", 10) == b"x" * size


def test_file_larger_than_the_limit_is_refused(folder: Directory) -> None:
    (folder.path / "file").write_bytes(b"x" * 11)
    with pytest.raises(BrokenLayout, match="more than 10 bytes"):
        folder.read("file", 10)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ODD)
def test_path_that_is_not_a_regular_file_is_not_read(folder: Directory, kind: str) -> None:
    make(folder.path / "odd", kind)
    with pytest.raises(BrokenLayout, match="not a file"):
        folder.read("odd", 10)


def test_read_of_a_missing_file_is_an_error(folder: Directory) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read("missing", 10)


@pytest.mark.parametrize("kind", ["dangling", "link", "link to a directory"])
def test_a_link_is_not_opened(folder: Directory, kind: str) -> None:
    make(folder.path / "odd", kind)
    with pytest.raises(OSError, match="odd") as caught:
        folder.open_file("odd")
    assert caught.value.errno == errno.ELOOP


# Writing


def write(folder: Directory, name: str, chunks: Sequence[bytes], modified: float | None = None) -> Path:
    temporary = AtomicFile.create(folder)
    temporary.write(chunks)
    temporary.commit(folder, name, modified)
    return folder.path / name


@pytest.mark.parametrize(
    "chunks",
    [[], [b""], [b"data"], [b"", b"a", b"", b"b"], [b"x"] * 3000, [bytes(100_000)] * 5],
)
def test_a_file_appears_with_all_its_bytes(folder: Directory, chunks: list[bytes]) -> None:
    assert write(folder, "name", chunks).read_bytes() == b"".join(chunks)
    assert folder.names() == ["name"]


def test_short_writes_are_continued(folder: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(fd: int, views: Sequence[memoryview]) -> int:
        return os.write(fd, b"".join(views)[:3])

    monkeypatch.setattr("mirror.fs.directory.os.writev", few)
    assert write(folder, "name", [b"ab", b"cdefg", b"h"]).read_bytes() == b"abcdefgh"


def test_file_has_no_name_before_the_commit(folder: Directory) -> None:
    temporary = AtomicFile.create(folder)
    temporary.write([b"data"])
    assert "name" not in folder.names()
    temporary.discard()
    assert folder.names() == []


def test_temporary_files_have_different_names(folder: Directory) -> None:
    some = [AtomicFile.create(folder) for _ in range(20)]
    assert len(folder.names()) == 20
    for temporary in some:
        temporary.discard()


def test_written_file_is_readable_by_all_users(folder: Directory) -> None:
    before = os.umask(0o022)
    path = write(folder, "name", [b"data"])
    os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


def test_modification_time_can_be_given(folder: Directory) -> None:
    assert write(folder, "name", [b"data"], modified=1_500_000_000.0).stat().st_mtime == 1_500_000_000


def test_open_reader_sees_the_old_content_of_a_replaced_file(folder: Directory) -> None:
    path = write(folder, "name", [b"old"])
    with path.open("rb") as reader:
        write(folder, "name", [b"new and longer"])
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new and longer"


def test_a_link_at_the_name_is_replaced_and_not_written_through(folder: Directory) -> None:
    make(folder.path / "name", "link")
    write(folder, "name", [b"data"])
    assert (folder.path / "elsewhere").read_bytes() == b"secret"
    assert folder.kind("name") == stat.S_IFREG


def test_failed_commit_leaves_no_temporary_file(folder: Directory) -> None:
    make(folder.path / "name", "directory")
    with pytest.raises(StorageError):
        write(folder, "name", [b"data"])
    assert folder.names() == ["name"]


@pytest.mark.parametrize("call", ["fsync", "rename"])
def test_disk_error_leaves_no_temporary_file(folder: Directory, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "broken")

    temporary = AtomicFile.create(folder)
    temporary.write([b"data"])
    monkeypatch.setattr(f"mirror.fs.directory.os.{call}", fail)
    with pytest.raises(StorageError) as caught:
        temporary.commit(folder, "name", 1.0)
    assert "hardware" in (caught.value.hint or "")
    assert folder.names() == []


def test_file_is_synced_before_the_rename_and_the_directory_after_it(
    folder: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, os.rename

    def synced(fd: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(fd).st_mode) else f"file of {os.fstat(fd).st_size} bytes")
        fsync(fd)

    def renamed(*args: Any, **kwargs: Any) -> None:
        steps.append("name")
        rename(*args, **kwargs)

    monkeypatch.setattr("mirror.fs.directory.os.fsync", synced)
    monkeypatch.setattr("mirror.fs.directory.os.rename", renamed)
    write(folder, "name", [b"data"])
    assert steps == ["file of 4 bytes", "name", "directory"]


def test_parent_of_a_new_directory_is_synced(folder: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr("mirror.fs.directory.os.fsync", lambda fd: synced.append(os.fstat(fd).st_ino))
    folder.sub("sub", create=True).close()
    assert synced == [folder.path.stat().st_ino]


@pytest.mark.parametrize(("number", "fails"), [(errno.EINVAL, False), (errno.EIO, True), (errno.ENOSPC, True)])
def test_unsupported_directory_sync_is_accepted_but_errors_are_raised(
    folder: Directory, monkeypatch: pytest.MonkeyPatch, number: int, fails: bool
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, "no")

    monkeypatch.setattr("mirror.fs.directory.os.fsync", fail)
    if fails:
        with pytest.raises(StorageError):
            folder.sync()
    else:
        folder.sync()


# Moving, removing, free space


def test_a_file_moves_between_open_directories(folder: Directory) -> None:
    (folder.path / "name").write_bytes(b"data")
    with folder.sub("sub", create=True) as sub:
        folder.move("name", sub, "other")
    assert (folder.path / "sub" / "other").read_bytes() == b"data"


def test_removing_a_missing_file_is_allowed(folder: Directory) -> None:
    (folder.path / "name").write_bytes(b"")
    for _ in range(2):
        folder.remove("name")
    assert folder.names() == []


def test_free_space_is_known(folder: Directory) -> None:
    assert folder.free() > 0


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "quota"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "permissions"),
        (errno.EPERM, "permissions"),
        (errno.EFBIG, "4 GiB"),
        (errno.EIO, "hardware"),
        (errno.EMFILE, ""),
    ],
)
def test_system_errors_become_storage_errors_with_hints(number: int, hint: str) -> None:
    with pytest.raises(StorageError, match=f"it: {os.strerror(number)}") as caught, os_errors("it"):
        raise OSError(number, "words of the system")
    assert hint in (caught.value.hint or "")
    assert caught.value.exit_code == 1


# Locks


def test_exclusive_lock_excludes_all_other_locks(folder: Directory) -> None:
    with folder.lock("lock") as one, folder.lock("lock") as other:
        assert one.take(wait=False)
        assert not other.take(wait=False)
        assert not other.take(shared=True, wait=False)


def test_shared_lock_excludes_only_exclusive_locks(folder: Directory) -> None:
    with folder.lock("lock") as one, folder.lock("lock") as other:
        assert one.take(shared=True, wait=False)
        assert other.take(shared=True, wait=False)
        assert not other.take(wait=False)


def test_lock_is_released_when_it_is_closed(folder: Directory) -> None:
    with folder.lock("lock") as one:
        assert one.take(wait=False)
    with folder.lock("lock") as other:
        assert other.take(wait=False)


def test_a_lock_that_is_a_link_is_refused(folder: Directory) -> None:
    make(folder.path / "lock", "link")
    with pytest.raises(StorageError):
        folder.lock("lock")
    assert (folder.path / "elsewhere").read_bytes() == b"secret"


def test_threads_that_wait_for_the_same_directory_share_one_fsync(
    folder: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, may_end, calls = threading.Event(), threading.Event(), 0
    there, done = list[int](), list[int]()

    def fsync(_: int) -> None:
        nonlocal calls
        calls += 1
        began.set()
        may_end.wait(10)

    def sync(number: int) -> None:
        there.append(number)
        folder.sync()
        done.append(number)

    monkeypatch.setattr("mirror.fs.directory.os.fsync", fsync)
    threads = [threading.Thread(target=sync, args=(number,)) for number in range(8)]
    threads[0].start()
    assert began.wait(10)
    for thread in threads[1:]:  # what they have renamed may be too late for the fsync that has begun
        thread.start()
    while len(there) < 8:
        threading.Event().wait(0.01)
    threading.Event().wait(0.05)  # until they wait
    assert done == []
    may_end.set()
    for thread in threads:
        thread.join()
    assert 2 <= calls < 5
    folder.sync()
    assert calls > 2


def test_each_thread_gets_an_error_of_fsync(folder: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    failures = iter([OSError(errno.EIO, "broken"), OSError(errno.EIO, "broken")])

    def fsync(_: int) -> None:
        raise next(failures)

    monkeypatch.setattr("mirror.fs.directory.os.fsync", fsync)
    for _ in range(2):
        with pytest.raises(StorageError):
            folder.sync()
