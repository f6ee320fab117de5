"""Tests of replacing files atomically, and of writing output files."""

import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import StorageError
from mirror.fs.atomic import AtomicFile, replace_file, replacing, write_output
from mirror.fs.directory import Directory
from tests.fs.test_directory import ODD, make


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Directory]:
    with Directory.open(tmp_path) as found:
        yield found


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_file_is_replaced_by_all_chunks_in_order(directory: Directory, count: int) -> None:
    pieces = [b"%d," % number for number in range(count)]
    (directory.path / "name").write_bytes(b"old")
    replace_file(directory, "name", iter(pieces))
    assert (directory.path / "name").read_bytes() == b"".join(pieces)
    assert directory.names() == ["name"]


def test_replaced_file_has_its_mode_and_leaves_no_temporary_file(directory: Directory) -> None:
    with directory.sub("tmp", create=True) as temporary:
        replace_file(directory, "name", [b"x"], staging=temporary, mode=0o600)
        assert temporary.names() == []
    assert stat.S_IMODE((directory.path / "name").stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["writev", "fsync", "rename", "open"])
def test_failed_replacement_keeps_the_old_file(
    directory: Directory, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, "no")

    path = directory.path / "name"
    path.write_bytes(b"old")
    writes: list[Callable[[], None]] = [
        lambda: replace_file(directory, "name", [b"new"]),
        lambda: write_output(path, b"new"),
    ]
    for write in writes:
        with monkeypatch.context() as broken:
            broken.setattr(f"mirror.fs.directory.os.{call}", fail)
            with pytest.raises(StorageError, match="No space left"):
                write()
        assert path.read_bytes() == b"old"
        assert directory.names() == ["name"]


def test_error_of_the_source_keeps_the_old_file(directory: Directory) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"new"
        raise KeyError

    (directory.path / "name").write_bytes(b"old")
    with pytest.raises(KeyError):
        replace_file(directory, "name", pieces())
    assert (directory.path / "name").read_bytes() == b"old"
    assert directory.names() == ["name"]


# Temporary files beside outputs


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make all temporary files have names, as on file systems without O_TMPFILE."""
    monkeypatch.setattr("mirror.fs.temporary.open_nameless", lambda *_: None)


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without names")
def test_file_beside_an_output_has_no_name_before_it_is_complete(directory: Directory) -> None:
    file = AtomicFile.create(directory, beside="out")
    file.write([b"data"])
    assert directory.names() == []
    file.commit(directory, "out")
    assert directory.names() == ["out"]
    assert (directory.path / "out").read_bytes() == b"data"


def test_file_that_is_being_written_is_not_taken_for_a_leftover(named: None, directory: Directory) -> None:
    first = AtomicFile.create(directory, beside="out")
    second = AtomicFile.create(directory, beside="out")
    assert len(directory.names()) == 2
    for number, file in enumerate([first, second]):
        file.write([b"%d" % number])
        file.commit(directory, "out")
    assert directory.names() == ["out"]
    assert (directory.path / "out").read_bytes() == b"1"


LEFTOVER = ".old.mirror-0123456789abcdef"
NO_LEFTOVERS = ["old.mirror-0123456789abcdef", ".old.0123456789abcdef", ".old.mirror-0123456789ABCDEF", ".old.mirror-0"]


def test_only_unlocked_files_with_the_name_of_a_leftover_are_deleted(named: None, directory: Directory) -> None:
    for name in [LEFTOVER, *NO_LEFTOVERS]:
        (directory.path / name).write_bytes(b"x")
    replace_file(directory, "out", [b"new"])
    assert directory.names() == sorted(["out", *NO_LEFTOVERS])


@pytest.mark.parametrize("kind", ODD)
def test_leftover_that_is_not_a_regular_file_is_kept(directory: Directory, kind: str) -> None:
    make(directory.path / LEFTOVER, kind)
    before = directory.names()
    replace_file(directory, "out", [b"new"])
    assert directory.names() == sorted([*before, "out"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_leftover_of_another_user_is_kept(directory: Directory) -> None:
    (directory.path / LEFTOVER).write_bytes(b"x")
    os.chown(directory.path / LEFTOVER, 1234, 1234)
    replace_file(directory, "out", [b"new"])
    assert directory.names() == [LEFTOVER, "out"]


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127])
def test_longest_name_of_an_output_is_accepted(named: None, directory: Directory, name: str) -> None:
    replace_file(directory, name, [b"new"])
    assert directory.names() == [name]


# Output files


@pytest.mark.parametrize("before", [None, b"old and longer"])
def test_output_file_is_replaced_completely(tmp_path: Path, before: bytes | None) -> None:
    path = tmp_path / "out"
    if before:
        path.write_bytes(before)
    write_output(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.parametrize("exists", [False, True])
def test_a_link_to_an_output_file_stays_a_link(tmp_path: Path, exists: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere/out"
    if exists:
        target.write_bytes(b"old")
    (tmp_path / "link").symlink_to("elsewhere/out")
    write_output(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.timeout(20)
def test_output_can_be_written_to_a_fifo(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    read: list[bytes] = []
    thread = threading.Thread(target=lambda: read.append((tmp_path / "fifo").read_bytes()))
    thread.start()
    write_output(tmp_path / "fifo", b"new")
    thread.join()
    assert read == [b"new"]


def test_file_that_takes_the_place_of_a_fifo_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The owner of the directory can swap it between any two system calls."""
    path, secret, real = tmp_path / "fifo", tmp_path / "secret", os.open
    secret.write_bytes(b"secret")
    os.mkfifo(path)

    def swap(*args: Any, **fields: Any) -> int:
        path.unlink(missing_ok=True)
        path.symlink_to(secret)
        return real(*args, **fields)

    monkeypatch.setattr("mirror.fs.atomic.os.open", swap)
    with pytest.raises(StorageError, match="changed"):
        write_output(path, b"new")
    assert secret.read_bytes() == b"secret"


@pytest.mark.parametrize("name", [".", "no/such/directory/out", "x" * 300])
def test_invalid_output_path_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError):
        write_output(tmp_path / name, b"new")


@pytest.mark.parametrize("kind", ODD)
def test_only_a_regular_file_is_replaced(tmp_path: Path, kind: str) -> None:
    make(tmp_path / "odd", kind)
    before = sorted(os.listdir(tmp_path))
    with pytest.raises(StorageError), replacing(tmp_path / "odd"):
        pytest.fail("`replacing` accepted the path")
    assert sorted(os.listdir(tmp_path)) == before


def test_replacing_without_a_write_keeps_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"old")
    with pytest.raises(KeyError), replacing(tmp_path / "out"):
        raise KeyError
    with replacing(tmp_path / "out"):
        pass
    assert os.listdir(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"old"
