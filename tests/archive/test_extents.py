"""Tests of reading the headers of a tar archive: the members that are found, and the faults."""

import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.archive import extents
from mirror.archive.extents import Extent, Members
from mirror.archive.tar import Tar
from mirror.errors import BrokenArchive, NotFound, StorageError
from tests.fs.test_directory import make
from tests.support.archives import BLOCK, END, HOSTILE, archive, member, packed, pax, sparse_member
from tests.support.strategies import THOROUGH, mutated

FORMS = {"ustar": tarfile.USTAR_FORMAT, "GNU": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
HEX = "ab" * 32


def look(data: bytes, most: int = extents.MOST) -> Members:
    return Members(lambda offset, size: data[offset : offset + size], len(data), most)


def contents(data: bytes) -> dict[str, bytes]:
    """Return the files of an archive, read from the offsets that were found; there must be no fault."""
    found = look(data)
    assert found.fault is None
    return {name: data[at : at + size] for name, (at, size, _) in found.by_name.items()}


# Valid archives


_part = st.text("abü-_.:0", min_size=1, max_size=90).filter(lambda part: part.strip("."))
_names = st.lists(_part, min_size=1, max_size=3).map("/".join)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@given(st.dictionaries(_names, st.binary(max_size=1500), max_size=8))
@THOROUGH
def test_members_packed_by_tarfile_are_found(form: str, files: dict[str, bytes]) -> None:
    try:
        data = packed(files, FORMS[form])
    except ValueError:
        return  # a name that this form cannot have
    assert contents(data) == files


@pytest.mark.parametrize("form", FORMS)
def test_names_and_sizes_of_any_length_are_found(form: str) -> None:
    name = "/".join(["d" * 50] * 3)
    assert contents(packed({name: b"x" * 70_000, "y": b""}, FORMS[form])) == {name: b"x" * 70_000, "y": b""}


def test_members_after_a_9_gib_member_are_found() -> None:
    large = tarfile.TarInfo("large")
    large.size = 9 * 1024**3
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        head = large.tobuf(form)
        last = archive(member("last", b"x"))

        def pread(offset: int, size: int, head: bytes = head, last: bytes = last) -> bytes:
            if offset < len(head):
                return head[offset : offset + size]
            start = offset - len(head) - large.size
            return last[start : start + size] if start >= 0 else b""

        found = Members(pread, len(head) + large.size + len(last))
        assert found.fault is None
        assert found.by_name["large"] == Extent(len(head), large.size)
        assert found.by_name["last"].size == 1


def test_leading_dot_slash_is_removed_from_names() -> None:
    data = archive(member("./", kind=b"5"), member("./blobs/", kind=b"5"), member("./blobs/x", b"1"), member("./y"))
    assert contents(data) == {"blobs/x": b"1", "y": b""}


def test_irrelevant_pax_fields_are_ignored() -> None:
    data = archive(
        pax(("comment", "x"), kind=b"g"),
        pax(("mtime", "1.5"), ("SCHILY.xattr.user.x", b"\xff\0"), ("LIBARCHIVE.creationtime", "1")),
        member("x", b"1"),
    )
    assert contents(data) == {"x": b"1"}


def test_symbolic_link_to_a_layer_has_the_content_of_the_layer() -> None:
    other = "cd" * 32
    data = archive(
        member(f"{HEX}/layer.tar", b"layer"), member(f"{other}/layer.tar", kind=b"2", link=f"../{HEX}/layer.tar")
    )
    assert contents(data) == {f"{HEX}/layer.tar": b"layer", f"{other}/layer.tar": b"layer"}


def test_symbolic_link_may_precede_its_layer() -> None:
    data = archive(member(f"{HEX}/layer.tar", kind=b"2", link=f"../{HEX}.tar"), member(f"{HEX}.tar", b"layer"))
    assert contents(data)[f"{HEX}/layer.tar"] == b"layer"


def test_bytes_after_the_end_of_the_archive_are_ignored() -> None:
    assert contents(archive(member("x")) + b"tail" * 999) == {"x": b""}


def test_one_zero_block_at_the_end_of_the_file_ends_the_archive() -> None:
    assert contents(member("x", b"1") + END[:BLOCK]) == {"x": b"1"}


# Faults


@pytest.mark.parametrize("attack", HOSTILE)
def test_a_hostile_archive_has_a_fault(attack: str) -> None:
    data, words = HOSTILE[attack]
    found = look(data)
    assert words in (found.fault or "")
    assert "at byte" in (found.fault or "")
    assert found.by_name == {"a": Extent(BLOCK, 4)}, "members before the fault are found"


def test_too_many_headers_are_a_fault() -> None:
    data = archive(*(member(str(number)) for number in range(11)))
    assert look(data, most=11).fault is None
    assert look(data, most=10).fault == f"has more than 10 headers, at byte {10 * BLOCK}"


def test_pax_headers_without_a_member_count_towards_the_limit() -> None:
    assert "more than 10" in (look(archive(*[pax(("mtime", "1"))] * 11), most=10).fault or "")


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 5000, bytes(100), b"\0" * BLOCK + b"x" * BLOCK])
def test_other_data_is_reported_as_not_a_tar_archive(data: bytes) -> None:
    found = look(data)
    assert (found.fault or "").startswith("is not a tar archive")
    assert found.by_name == {}


@pytest.mark.slow
@given(st.data())
@THOROUGH
def test_members_of_a_mutated_archive_stay_inside_the_file(data: st.DataObject) -> None:
    holes = sparse_member("holes", 900, [(0, b"abc"), (600, b"d" * 100)])
    original = archive(pax(("path", "y" * 200)), member("x", b"1"), member("d/", kind=b"5"), *holes, member("z", b"2"))
    changed = data.draw(mutated(original))
    for name, (at, size, regions) in look(changed).by_name.items():
        assert name.isprintable()
        if regions is None:
            assert 0 <= at <= at + size <= len(changed)
            continue
        end = 0
        for region in regions:
            assert end <= region.start < region.start + region.size <= size
            assert 0 <= region.offset <= region.offset + region.size <= len(changed)
            end = region.start + region.size


def test_holes_of_all_sparse_files_share_a_limit() -> None:
    first = sparse_member("x", 2**29, [])
    assert look(archive(*first, *sparse_member("y", 2**29, []))).fault is None
    fault = look(archive(*first, *sparse_member("y", 2**29 + 1, []))).fault
    assert fault
    assert "a sparse file 'y' that is larger than any genuine one" in fault


# Opening files


def test_a_fault_before_the_first_member_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"hello" * 1000)
    with pytest.raises(BrokenArchive, match=r"x is not a tar archive\.$") as caught:
        Tar.open(tmp_path / "x")
    assert (caught.value.hint or "").startswith("Is this the right file?")


def test_a_fault_after_the_first_header_has_no_hint_about_another_file(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(member("d/", kind=b"5") + b"hello" * 1000)
    with pytest.raises(BrokenArchive, match="at byte 512") as caught:
        Tar.open(tmp_path / "x")
    assert caught.value.hint is None


@pytest.mark.parametrize(
    ("magic", "cat"), [(b"\x1f\x8b\x08", "zcat"), (b"\x28\xb5\x2f\xfd", "zstdcat"), (b"\xfd7zXZ\0", "xzcat")]
)
def test_compressed_archive_is_refused_with_a_command_to_unpack_it(tmp_path: Path, magic: bytes, cat: str) -> None:
    path = tmp_path / "x.tar.z"
    path.write_bytes(magic.ljust(2000, b"x"))
    with pytest.raises(BrokenArchive, match="compressed") as caught:
        Tar.open(path)
    assert f"{cat} {path} | mirror import - " in (caught.value.hint or "")


@pytest.mark.parametrize("kind", ["fifo", "socket", "directory"])
def test_path_that_is_not_a_regular_file_is_refused(tmp_path: Path, kind: str) -> None:
    make(tmp_path / "x", kind)
    with pytest.raises(StorageError):
        Tar.open(tmp_path / "x")


def test_missing_archive_raises_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Tar.open(tmp_path / "x")


def test_archive_that_shrinks_during_a_read_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(archive(member("x", b"y" * 5000)))
    tar = Tar.open(path)
    path.write_bytes(b"")
    with pytest.raises(BrokenArchive, match="truncated while it was read"):
        tar.read(tar.members["x"], 10_000)
    tar.close()
