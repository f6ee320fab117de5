"""Names in an archive that passes by: those that occur twice, and those that lead out of it."""

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


def watched(data: bytes, size: int = 1 << 20) -> TarScanner:
    watch = TarScanner()
    for start in range(0, len(data), size):
        watch.feed(data[start : start + size])
    watch.close()
    return watch


def clean(watch: TarScanner) -> bool:
    return watch.problem is None and not watch.duplicates and not watch.dangerous


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("form", FORMATS)
def test_a_clean_archive_is_clean_in_whatever_pieces_it_comes(form: int, size: int) -> None:
    names = ["etc/passwd", "./usr/bin/sh", "usr/" + "d/" * 40 + "leaf", ".wh.gone", "etc/.wh..wh..opq", "ünïcode"]
    data = archive(*(member(name, random.Random(name).randbytes(700)) for name in names), form=form)
    watch = watched(data, size)
    assert clean(watch), (watch.problem, str(watch.duplicates), str(watch.dangerous))


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
    watch = watched(data, size)
    assert "../xxx" in str(watch.dangerous)
    assert "link -> ../xxx" in str(watch.dangerous)
    assert not watch.duplicates


@pytest.mark.parametrize("form", FORMATS)
def test_paths_that_occur_twice_are_found_however_they_are_spelled(form: int) -> None:
    data = archive(member("a/b", b"1"), member("./a/b", b"2"), member("c"), member("c"), form=form)
    assert str(watched(data).duplicates) == "./a/b, c"


def test_folders_may_occur_twice() -> None:
    assert clean(watched(archive(*[member("a", kind=tarfile.DIRTYPE)] * 2)))


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
def test_what_leads_out_of_the_archive_is_dangerous(name: str, kind: bytes, target: str) -> None:
    watch = watched(archive(member(name, kind=kind, target=target)))
    assert str(watch.dangerous) == (f"{name} -> {target}" if target else name)


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
def test_what_stays_inside_is_fine(name: str, kind: bytes, target: str) -> None:
    assert clean(watched(archive(member(name, kind=kind, target=target))))


def test_only_a_few_names_are_shown() -> None:
    data = archive(*(member(f"/{number}") for number in range(10)))
    assert str(watched(data).dangerous) == "/0, /1, /2 and 7 more"


# Archives that are none


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", [1, 511, 512, 513, 600, 1024, 1030])
def test_an_archive_that_ends_inside_a_member_is_none(size: int, cut: int) -> None:
    assert watched(archive(member("a", bytes(600)))[:cut], size).problem == "it ends in the middle of a member"


@pytest.mark.parametrize("data", [b"x" * 5000, b'{"a": 1}', bytes(511) + b"\1", b"\1" * 512])
def test_what_does_not_begin_like_an_archive_is_none(data: bytes) -> None:
    assert watched(data).problem


@pytest.mark.parametrize("data", [b"", bytes(512), bytes(1024), bytes(10240)])
def test_an_archive_with_nothing_in_it_is_fine(data: bytes) -> None:
    assert clean(watched(data))


def test_an_archive_without_its_end_is_fine() -> None:
    assert clean(watched(archive(member("a", bytes(512)))[:1024]))


@pytest.mark.parametrize("size", SIZES)
def test_a_last_member_without_its_padding_is_fine_as_umoci_writes_it(size: int) -> None:
    data = archive(member("a", b"hello"))
    assert clean(watched(data[: 512 + 5], size))
    assert watched(data[: 512 + 4], size).problem


def test_what_comes_after_the_end_does_not_count() -> None:
    assert clean(watched(archive(member("a")) + b"garbage" * 1000))


def field(start: int, text: bytes) -> Callable[[bytes], bytes]:
    """A change in a header, with the checksum put right."""

    def change(block: bytes) -> bytes:
        changed = bytearray(block)
        changed[start : start + len(text)] = text
        changed[148:156] = b" " * 8
        changed[148:156] = b"%06o\0 " % sum(changed)
        return bytes(changed)

    return change


@pytest.mark.parametrize(
    "size",
    [b"-0000000001\0", b"zzzzzzzzzzz\0", b"\xff" * 12, b"0000_000001\0", b"0x000000001\0"],
)
def test_a_size_that_is_none_ends_the_archive(size: bytes) -> None:
    block = field(124, size)(archive(member("a"))[:512])
    watch = watched(block + bytes(1024))
    assert watch.problem or size == b"0000_000001\0"


def test_a_size_of_many_bytes_is_read() -> None:
    block = field(124, b"\x80" + (3).to_bytes(11))(archive(member("a"))[:512])
    assert clean(watched(block + bytes(512) + archive(member("b"))))


@pytest.mark.parametrize("size", SIZES)
def test_a_member_of_absurd_size_takes_neither_time_nor_memory(size: int) -> None:
    block = field(124, b"\x80" + (2**62).to_bytes(11))(archive(member("a"))[:512])
    assert watched(block + bytes(3000), size).problem == "it ends in the middle of a member"


@pytest.mark.parametrize(
    "record",
    [b"", b"x", b"9 a=b\n", b"999999 a=b\n", b"0 a=b\n", b"-1 a=b\n", b"2 \n", b"6 size=x\n", b"9" * 50 + b" "],
)
def test_extended_headers_that_are_broken_do_no_harm(record: bytes) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    data = info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(-len(record) % 512) + archive(member("a"))
    watched(data)


def test_an_extended_header_sets_the_size_of_the_next_member() -> None:
    record = b"12 size=600\n"
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    first = info.tobuf(tarfile.USTAR_FORMAT) + record + bytes(512 - len(record)) + archive(member("a"))[:512]
    assert clean(watched(first + b"x" * 1024 + archive(member("b"))))


def test_an_extended_header_that_is_huge_is_passed_over() -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 3 << 20
    assert clean(watched(info.tobuf(tarfile.USTAR_FORMAT) + bytes(3 << 20) + archive(member("a")), 4096))


def test_a_sparse_file_of_gnu_is_passed_over() -> None:
    """Its map goes on in a block of its own, and its size is what is stored."""
    header = bytearray(archive(member("sparse", bytes(600)), form=tarfile.GNU_FORMAT)[:512])
    header[156] = ord("S")
    header[482] = 1
    block = field(0, bytes(header[:100]))(bytes(header))
    data = block + bytes([1] * 504 + [1] + [0] * 7) + bytes([1] * 504 + [0] * 8) + b"x" * 1024 + archive(member("/b"))
    for size in SIZES:
        watch = watched(data, size)
        assert (watch.problem, str(watch.dangerous)) == (None, "/b")


@QUICK
@given(st.binary(max_size=3000), st.integers(1, 700))
def test_no_bytes_break_it(data: bytes, size: int) -> None:
    watched(data, size)


@QUICK
@given(st.data())
def test_no_damage_breaks_it(data: st.DataObject) -> None:
    good = bytearray(archive(member("a" * 120, bytes(700)), member("b", kind=tarfile.SYMTYPE, target="c" * 200)))
    for _ in range(data.draw(st.integers(1, 5))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    watched(bytes(good), data.draw(st.integers(1, 3000)))
