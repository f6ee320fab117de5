"""Tests of the tar scanner, which finds duplicate and dangerous paths in a stream."""

import io
import random
import tarfile
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.verify.tar import TarScanner
from tests.support.strategies import QUICK

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
SIZES = [1, 3, 511, 512, 513, 1000, 1 << 20]


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, target
    return info, data


def archive(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=form) as made:
        for info, data in members:
            made.addfile(info, io.BytesIO(data))
    return packed.getvalue()


def scanned(data: bytes, size: int = 1 << 20) -> TarScanner:
    scanner = TarScanner()
    for start in range(0, len(data), size):
        scanner.feed(data[start : start + size])
    scanner.close()
    return scanner


def findings(scanner: TarScanner) -> tuple[str | None, str, str]:
    return scanner.problem, str(scanner.duplicates), str(scanner.dangerous)


def clean(scanner: TarScanner) -> bool:
    return findings(scanner) == (None, "", "")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", FORMATS)
def test_clean_archive_has_no_findings_for_any_size_of_pieces(form: int, size: int) -> None:
    names = ["etc/passwd", "./usr/bin/sh", "usr/" + "d/" * 40 + "leaf", ".wh.gone", "etc/.wh..wh..opq", "ünïcode"]
    data = archive(*(member(name, random.Random(name).randbytes(700)) for name in names), form=form)
    scanner = scanned(data, size)
    assert findings(scanner) == (None, "", "")


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("size", SIZES)
def test_long_names_and_targets_are_read(form: int, size: int) -> None:
    long = "x" * 300
    data = archive(
        member(long, b"1"),
        member(f"../{long}", b"2"),
        member("link", kind=tarfile.SYMTYPE, target="../" + long),
        form=form,
    )
    scanner = scanned(data, size)
    assert "../xxx" in str(scanner.dangerous)
    assert "link -> ../xxx" in str(scanner.dangerous)
    assert not scanner.duplicates


@pytest.mark.parametrize("form", FORMATS)
def test_duplicate_paths_are_found_in_any_spelling(form: int) -> None:
    data = archive(member("a/b", b"1"), member("./a/b", b"2"), member("c"), member("c"), form=form)
    assert str(scanned(data).duplicates) == "./a/b, c"


def test_directories_may_occur_twice() -> None:
    assert clean(scanned(archive(*[member("a", kind=tarfile.DIRTYPE)] * 2)))


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("/etc/passwd", tarfile.REGTYPE, ""),
        ("../x", tarfile.REGTYPE, ""),
        ("a/../../x", tarfile.REGTYPE, ""),
        ("..", tarfile.REGTYPE, ""),
        ("a", tarfile.SYMTYPE, "../x"),
        ("a/b/c", tarfile.SYMTYPE, "../../../x"),
        ("a/b", tarfile.LNKTYPE, "/etc/passwd"),
        ("a/b", tarfile.LNKTYPE, "../etc/passwd"),
    ],
)
def test_paths_and_links_out_of_the_archive_are_dangerous(name: str, kind: bytes, target: str) -> None:
    scanner = scanned(archive(member(name, kind=kind, target=target)))
    assert str(scanner.dangerous) == (f"{name} -> {target}" if target else name)


@pytest.mark.parametrize(
    ("name", "kind", "target"),
    [
        ("a..b", tarfile.REGTYPE, ""),
        ("a/../b", tarfile.REGTYPE, ""),
        ("bin/sh", tarfile.SYMTYPE, "/usr/bin/dash"),
        ("usr/bin/sh", tarfile.SYMTYPE, "../../bin/dash"),
        ("a/b", tarfile.LNKTYPE, "a/c"),
        ("dev/null", tarfile.CHRTYPE, ""),
        ("run/pipe", tarfile.FIFOTYPE, ""),
    ],
)
def test_harmless_paths_and_links_are_accepted(name: str, kind: bytes, target: str) -> None:
    assert clean(scanned(archive(member(name, kind=kind, target=target))))


def test_only_a_few_names_are_shown() -> None:
    data = archive(*(member(f"/{number}") for number in range(10)))
    assert str(scanned(data).dangerous) == "/0, /1, /2 and 7 more"


# Broken archives


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", [1, 511, 512, 513, 600, 1024, 1030])
def test_archive_that_ends_inside_a_member_is_a_problem(size: int, cut: int) -> None:
    assert scanned(archive(member("a", bytes(600)))[:cut], size).problem == "it ends in the middle of a member"


@pytest.mark.parametrize("data", [b"x" * 5000, b'{"a": 1}', bytes(511) + b"\1", b"\1" * 512])
def test_data_without_a_tar_header_is_a_problem(data: bytes) -> None:
    assert scanned(data).problem


@pytest.mark.parametrize("data", [b"", bytes(512), bytes(1024), bytes(10240)])
def test_empty_archive_is_accepted(data: bytes) -> None:
    assert clean(scanned(data))


def test_archive_without_end_blocks_is_accepted() -> None:
    assert clean(scanned(archive(member("a", bytes(512)))[:1024]))


@pytest.mark.parametrize("size", SIZES)
def test_last_member_may_lack_padding_as_umoci_writes_it(size: int) -> None:
    data = archive(member("a", b"hello"))
    assert clean(scanned(data[: 512 + 5], size))
    assert scanned(data[: 512 + 4], size).problem


def test_data_after_the_end_is_ignored() -> None:
    assert clean(scanned(archive(member("a")) + b"garbage" * 1000))


def field(start: int, text: bytes) -> Callable[[bytes], bytes]:
    """Return a function that changes a field of a header and corrects the checksum."""

    def change(block: bytes) -> bytes:
        changed = bytearray(block)
        changed[start : start + len(text)] = text
        changed[148:156] = b" " * 8
        changed[148:156] = b"%06o\0 " % sum(changed)
        return bytes(changed)

    return change


@pytest.mark.parametrize(
    "size",
    [b"-0000000001\0", b"zzzzzzzzzzz\0", b"\xff" * 12, b"0x000000001\0"],
)
def test_invalid_member_size_is_a_problem(size: bytes) -> None:
    block = field(124, size)(archive(member("a"))[:512])
    scanner = scanned(block + bytes(1024))
    assert scanner.problem


def test_binary_member_size_is_read() -> None:
    block = field(124, b"\x80" + (3).to_bytes(11))(archive(member("a"))[:512])
    assert clean(scanned(block + bytes(512) + archive(member("b"))))


@pytest.mark.parametrize("size", SIZES)
def test_member_of_absurd_size_is_a_problem(size: int) -> None:
    block = field(124, b"\x80" + (2**62).to_bytes(11))(archive(member("a"))[:512])
    assert scanned(block + bytes(3000), size).problem == "it ends in the middle of a member"


@pytest.mark.parametrize(
    "record",
    [b"x", b"9 a=b\n", b"999999 a=b\n", b"0 a=b\n", b"-1 a=b\n", b"2 \n", b"6 size=x\n", b"9" * 50 + b" "],
)
def test_broken_extended_header_is_a_problem(record: bytes) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    data = info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512) + archive(member("a"))
    assert scanned(data).problem == "it has a malformed pax header"


def test_empty_extended_header_is_skipped() -> None:
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    assert clean(scanned(info.tobuf(tarfile.USTAR_FORMAT) + archive(member("a"))))


def test_an_extended_header_sets_the_size_of_the_next_member() -> None:
    record = b"12 size=600\n"
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    first = info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(512 - len(record)) + archive(member("a"))[:512]
    assert clean(scanned(first + b"x" * 1024 + archive(member("b"))))


def test_huge_extended_header_is_skipped() -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 3 << 20
    assert clean(scanned(info.tobuf(tarfile.USTAR_FORMAT) + bytes(3 << 20) + archive(member("a")), 4096))


def test_gnu_sparse_file_is_skipped() -> None:
    """Its map continues in separate blocks, and its size is the stored size."""
    header = bytearray(archive(member("sparse", bytes(600)), form=tarfile.GNU_FORMAT)[:512])
    header[156] = ord("S")
    header[482] = 1
    block = field(0, bytes(header[:100]))(bytes(header))
    data = block + bytes([1] * 504 + [1] + [0] * 7) + bytes([1] * 504 + [0] * 8) + b"x" * 1024 + archive(member("/b"))
    for size in SIZES:
        scanner = scanned(data, size)
        assert (scanner.problem, str(scanner.dangerous)) == (None, "/b")


@QUICK
@given(st.binary(max_size=3000), st.integers(1, 700))
def test_arbitrary_bytes_have_the_same_findings_for_any_size_of_pieces(data: bytes, size: int) -> None:
    assert findings(scanned(data, size)) == findings(scanned(data))


@QUICK
@given(st.data())
def test_damaged_archives_have_the_same_findings_for_any_size_of_pieces(data: st.DataObject) -> None:
    good = bytearray(archive(member("a" * 120, bytes(700)), member("b", kind=tarfile.SYMTYPE, target="c" * 200)))
    for _ in range(data.draw(st.integers(1, 5))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    assert findings(scanned(bytes(good), data.draw(st.integers(1, 3000)))) == findings(scanned(bytes(good)))
