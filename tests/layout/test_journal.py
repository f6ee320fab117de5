"""Tests of the journal of a partial file: what is damaged or planted is never believed."""

import os
import random
from pathlib import Path

import pytest

from mirror.content.extents import Extents
from mirror.fs.directory import Directory
from mirror.layout.journal import SUFFIX, Journal

PARTS = [(0, 10), (20, 30), (2**62, 2**62 + 5)]


def journal(folder: Path) -> Journal:
    return Journal(Directory.open(folder), "blob")


def path(folder: Path) -> Path:
    return folder / f"blob{SUFFIX}"


def written(folder: Path, *records: list[tuple[int, int]]) -> bytes:
    """Write these records, one after another, and return the file."""
    file = journal(folder)
    for parts in records:
        file.write(Extents(parts))
    file.close()
    return path(folder).read_bytes()


def read(folder: Path) -> list[tuple[int, int]] | None:
    file = journal(folder)
    assert file.find()
    found = file.read()
    file.close()
    return None if found is None else list(found)


def test_last_record_is_read(tmp_path: Path) -> None:
    assert read(tmp_path) is None
    for count in range(1, 5):
        written(tmp_path, *([(0, number)] for number in range(1, count + 1)), PARTS)
        assert read(tmp_path) == PARTS
        path(tmp_path).unlink()
    written(tmp_path, [])
    assert read(tmp_path) == []


def test_journal_that_is_continued_by_another_process_is_read(tmp_path: Path) -> None:
    written(tmp_path, [(0, 1)])
    file = journal(tmp_path)
    file.read()
    file.write(Extents(PARTS))
    file.close()
    assert read(tmp_path) == PARTS


def test_journal_does_not_grow(tmp_path: Path) -> None:
    assert len(written(tmp_path, *([(0, number)] for number in range(50)))) == 2 * 4096


def test_parts_that_do_not_fit_are_forgotten(tmp_path: Path) -> None:
    many = [(2**62 + 2 * number, 2**62 + 2 * number + 1) for number in range(500)]
    written(tmp_path, many)
    found = read(tmp_path)
    assert found
    assert found == many[: len(found)]


def test_damaged_record_leaves_the_one_before(tmp_path: Path) -> None:
    data = written(tmp_path, [(0, 10)], PARTS)
    newest = data.index(b"mirror-ranges 1 2 ")
    for position in range(newest, newest + data[newest:].index(b"\n") + 1):
        path(tmp_path).write_bytes(data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :])
        assert read(tmp_path) == [(0, 10)]


def test_truncated_journal_has_a_record_or_nothing(tmp_path: Path) -> None:
    data = written(tmp_path, [(0, 10)], PARTS)
    for length in [*range(0, 200), *range(4090, 4300), len(data) - 1]:
        path(tmp_path).write_bytes(data[:length])
        assert read(tmp_path) in ([], [(0, 10)], PARTS)


def test_nonsense_is_nothing(tmp_path: Path) -> None:
    source = random.Random(1)
    for data in [b"", b"\0" * 8192, b"mirror-ranges", source.randbytes(8192), b"mirror-ranges 1 " + b"1-1" * 2000]:
        path(tmp_path).write_bytes(data)
        assert read(tmp_path) == []


@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "hard link"])
def test_something_else_with_its_name_is_not_usable(tmp_path: Path, kind: str) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"secret")
    if kind == "link":
        path(tmp_path).symlink_to(victim)
    elif kind == "fifo":
        os.mkfifo(path(tmp_path))
    elif kind == "directory":
        path(tmp_path).mkdir()
    else:
        os.link(victim, path(tmp_path))
    assert not journal(tmp_path).is_usable
    assert victim.read_bytes() == b"secret"
