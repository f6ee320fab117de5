"""Tests of the tar headers that mirror writes: tarfile can read them, and they have no needless blocks."""

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.archive import header
from mirror.archive.extents import Extent, Members
from tests.support.archives import END
from tests.support.strategies import THOROUGH

LARGE = 8 * 1024**3  # the smallest size that does not fit into a ustar header


def read(head: bytes) -> tarfile.TarInfo:
    with tarfile.open(fileobj=io.BytesIO(head + END)) as tar:
        found = tar.next()
    assert found
    return found


@pytest.mark.slow
@given(
    st.text("abc/019-", min_size=1, max_size=300).filter(lambda name: name.strip("/") == name), st.integers(0, 2**62)
)
@THOROUGH
def test_tarfile_reads_written_headers(name: str, size: int) -> None:
    found = read(header.build(name, size))
    assert (found.name, found.size) == (name, size)
    assert (found.type, found.mode, found.uid, found.gid, found.uname, found.gname) == (b"0", 0o644, 0, 0, "", "")
    assert found.mtime == 0


@pytest.mark.parametrize(
    ("name", "size", "blocks"),
    [("x" * 100, LARGE - 1, 1), ("x" * 101, 0, 3), ("x", LARGE, 3), ("x" * 200, LARGE, 3), ("x" * 600, 0, 4)],
)
def test_pax_header_is_written_only_if_needed(name: str, size: int, blocks: int) -> None:
    head = header.build(name, size)
    assert len(head) == blocks * header.BLOCK
    assert all(head[at + 257 : at + 265] == b"ustar\x0000" for at in {0, len(head) - header.BLOCK})


@pytest.mark.parametrize("size", [0, LARGE - 1, LARGE, 2**62])
def test_mirror_reads_its_own_headers(size: int) -> None:
    name = "blobs/sha512/" + "ab" * 64
    data = header.build(name, size)
    last = header.build("last", 0) + header.END
    end = len(data) + size + -size % header.BLOCK

    def pread(offset: int, count: int) -> bytes:
        return data[offset : offset + count] if offset < len(data) else last[offset - end : offset - end + count]

    found = Members(pread, end + len(last))
    assert found.fault is None
    assert found.by_name == {name: Extent(len(data), size), "last": Extent(end + header.BLOCK, 0)}


@pytest.mark.parametrize(("size", "zeros"), [(0, 0), (1, 511), (511, 1), (512, 0), (513, 511)])
def test_blocks_are_filled_with_zeros(size: int, zeros: int) -> None:
    assert header.padding(size) == bytes(zeros)
