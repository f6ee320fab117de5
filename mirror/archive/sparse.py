"""Sparse members: files with holes, as bsdtar and `tar -S` write them. Only their data is in the archive.

    GNU 1.0 in pax headers    bsdtar, GNU tar (--format=posix): the map precedes the data, in decimal lines
    GNU 0.1 in pax headers    GNU tar (--sparse-version=0.1): the map is in a field
    GNU                       GNU tar: the map is in the header, and continues in blocks that follow it

Errors are predicates of a sentence about the archive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from mirror.archive import header
from mirror.archive.header import BLOCK
from mirror.errors import BrokenArchive

Pread = Callable[[int, int], bytes]  # reads so many bytes at an offset, fewer at the end of the archive

MOST_REGIONS = 200_000  # of all members of an archive, at about 150 bytes of memory
_NUMBER = re.compile(rb"[0-9]{1,19}")


class Region(NamedTuple):
    """Data in a sparse member: `size` bytes at `start` of the file, which are at `offset` of the archive."""

    start: int
    size: int
    offset: int


class Sparse(NamedTuple):
    """A sparse member: the size of the file with its holes, its regions in order, and where its data ends."""

    size: int
    regions: tuple[Region, ...]
    end: int


def is_sparse(found: header.Header, fields: Mapping[str, str]) -> bool:
    """Return whether a member is sparse, by its type or by the fields of its extended headers."""
    return found.type == header.SPARSE or any(key.startswith("GNU.sparse.") for key in fields)


def of_pax(fields: Mapping[str, str], start: int, size: int, pread: Pread) -> Sparse:
    """Return a sparse member by its extended headers; its content are `size` bytes at `start`."""
    version = fields.get("GNU.sparse.major"), fields.get("GNU.sparse.minor")
    if version == ("1", "0"):
        numbers, data = _lines(pread(start, min(size, header.EXTENDED_CAP)))
        return _checked(numbers, _number(fields.get("GNU.sparse.realsize", "").encode()), start + data, start + size)
    if version == (None, None) and "GNU.sparse.map" in fields:
        numbers = [_number(text.encode()) for text in fields["GNU.sparse.map"].split(",")]
        return _checked(numbers, _number(fields.get("GNU.sparse.size", "").encode()), start, start + size)
    raise BrokenArchive("has a sparse file in an unknown format")


def of_gnu(block: bytes, start: int, size: int, pread: Pread) -> Sparse:
    """Return a sparse member by its header `block`, which `start` follows; it has `size` bytes of data."""
    real = header.number(block[483:495])
    fields = [block[at : at + 12] for at in range(386, 482, 12)]
    more = header.more_sparse_blocks(block, first=True)
    while more:
        block = pread(start, BLOCK)
        start += BLOCK
        if len(block) < BLOCK or len(fields) > 2 * MOST_REGIONS:
            raise _broken()
        fields += [block[at : at + 12] for at in range(0, 504, 12)]
        more = header.more_sparse_blocks(block, first=False)
    numbers = [header.number(field) for field in fields if any(field)]
    return _checked((_some(number) for number in numbers), _some(real), start, start + size)


def _lines(data: bytes) -> tuple[list[int], int]:
    """Return the numbers of a map in lines, and its length with its padding. The first number counts the pairs."""
    first, newline, _ = data[:20].partition(b"\n")
    count = 2 * _number(first) if newline else 0
    if not newline or count > 2 * MOST_REGIONS:
        raise _broken()
    lines = data.split(b"\n", count + 1)
    if len(lines) != count + 2:
        raise _broken()
    length = sum(len(line) + 1 for line in lines[:-1])
    return [_number(line) for line in lines[1:-1]], length + -length % BLOCK


def _checked(numbers: Iterable[int], size: int, offset: int, end: int) -> Sparse:
    """Return the member with these pairs of starts and sizes; the data is from `offset` to `end` of the archive."""
    regions, at = list[Region](), 0
    for start, count in _pairs(numbers):
        if start < at or start + count > size or len(regions) > MOST_REGIONS:
            raise _broken()
        if count:
            regions.append(Region(start, count, offset))
        at, offset = start + count, offset + count
    if offset != end:
        raise _broken()
    return Sparse(size, tuple(regions), end)


def _pairs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    each = iter(numbers)
    for start in each:
        count = next(each, None)
        if count is None:
            raise _broken()
        yield start, count


def _number(text: bytes) -> int:
    if not _NUMBER.fullmatch(text):
        raise _broken()
    return int(text)


def _some(number: int | None) -> int:
    if number is None:
        raise _broken()
    return number


def _broken() -> BrokenArchive:
    return BrokenArchive("has a sparse file with an invalid map")
