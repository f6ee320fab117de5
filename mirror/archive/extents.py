"""The extents of a tar archive's members: where their bytes are, found in one pass over the headers.

It refuses whatever two programs could interpret differently, and whatever an image archive does not need: links,
devices, duplicate names, and names that lead outside (docs/adr/0014).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from mirror.archive import header, sparse
from mirror.archive.header import BLOCK, Header
from mirror.archive.sparse import Region
from mirror.content.decompress import most_unpacked
from mirror.errors import BrokenArchive

MOST = 2_000_000  # headers; a layout may have a million blobs, and a member takes about 300 bytes of memory
NOT_A_TAR = "is not a tar archive"  # the `fault` if not even the first header is valid
_WINDOW = 16 * 1024  # bytes per read: enough for several small members
_ZEROS = bytes(BLOCK)

# Docker before version 25, skopeo and podman store a layer that two images share once, and link to it from the second
# image's directory. Only such links are followed, and only to files of the same archive.
_LINK = re.compile(r"[0-9a-f]{64}/layer\.tar", re.ASCII)
_TARGET = re.compile(r"\.\./([0-9a-f]{64}(?:/layer)?\.tar)", re.ASCII)


class Extent(NamedTuple):
    """The offset and size of a member's content, in bytes; `regions` are the parts between holes, if it is sparse."""

    offset: int
    size: int
    regions: tuple[Region, ...] | None = None


class Members:
    """The files of an archive, without directories, `by_name`.

    `fault` says why the headers could not be read to the end, as the predicate of a sentence about the archive.
    """

    def __init__(self, pread: Callable[[int, int], bytes], size: int, most: int = MOST) -> None:
        """Read up to `most` headers of a file of `size` bytes. `pread` reads bytes at an offset, fewer at its end."""
        self.by_name: dict[str, Extent] = {}
        self.fault: str | None = None
        self._pread, self._size, self._most = pread, size, most
        self._window, self._window_at, self._at = b"", 0, 0
        self._links: dict[str, str] = {}
        self._regions = self._expanded = 0  # of sparse members
        self._fields: dict[str, str] = {}  # of extended headers, for the next member
        try:
            self._read_headers()
            self._follow_links()
        except BrokenArchive as error:
            self.fault = f"{error}, at byte {self._at}" if self._at else NOT_A_TAR

    def _read_headers(self) -> None:
        count = 0
        while (block := self._block(self._at)) != _ZEROS:
            count += 1
            if count > self._most:
                raise BrokenArchive(f"has more than {self._most} headers")
            self._at = self._take(header.parse(block), block)
        if self._fields or self._block(self._at + BLOCK, last=True) != _ZEROS:
            raise BrokenArchive("ends unexpectedly")

    def _take(self, found: Header, block: bytes) -> int:
        """Process one header, a member's or an extended one; return the offset of the next."""
        start = self._at + BLOCK
        if found.type in header.EXTENDED:
            fields = header.extension(found, self._extended_data(start, found.size))
            if fields.keys() & self._fields.keys():
                raise BrokenArchive("has two extended headers with the same field for one member")
            self._fields |= fields
        else:
            fields, self._fields = self._fields, {}
            found = header.extended(found, fields)
            if start + found.size > self._size:
                raise BrokenArchive(f"is truncated in the middle of {found.name!r}")
            if sparse.is_sparse(found, fields):
                return self._add_sparse(found, fields, block, start)
            self._add(found, Extent(start, found.size))
        return start + found.size + len(header.padding(found.size))

    def _extended_data(self, start: int, size: int) -> bytes:
        if size > header.EXTENDED_CAP:
            raise BrokenArchive(f"has an extended header of {size} bytes; {header.EXTENDED_CAP} are the limit")
        data = self._pread(start, size)
        if len(data) < size:
            raise BrokenArchive("is truncated in the middle of a header")
        return data

    def _add_sparse(self, found: Header, fields: Mapping[str, str], block: bytes, start: int) -> int:
        """Add a file with holes; return the offset of the next header."""
        if found.type == header.SPARSE:
            member = sparse.of_gnu(block, start, found.size, self._pread)
        else:
            member = sparse.of_pax(fields, start, found.size, self._pread)
        if member.end > self._size:
            raise BrokenArchive(f"is truncated in the middle of {found.name!r}")
        self._regions += len(member.regions)
        self._expanded += member.size
        if self._regions > sparse.MOST_REGIONS or self._expanded > most_unpacked(self._size):
            raise BrokenArchive(f"has a sparse file {found.name!r} that is larger than any genuine one")
        plain = Header(found.name, header.FILE if found.type == header.SPARSE else found.type, member.size, found.link)
        self._add(plain, Extent(start, member.size, member.regions))
        return member.end + len(header.padding(member.end - start))

    def _add(self, found: Header, extent: Extent) -> None:
        if found.type == header.DIRECTORY:
            if found.name.rstrip("/") not in ("", "."):
                _plain(found.name.rstrip("/"))
            if found.size:
                raise BrokenArchive(f"has a directory {found.name!r} with content")
            return
        name = _plain(found.name)
        if name in self.by_name or name in self._links:
            raise BrokenArchive(f"has two members {name!r}")
        if found.type == header.FILE:
            self.by_name[name] = extent
        elif found.type == header.SYMLINK and _LINK.fullmatch(name) and not found.size:
            self._links[name] = found.link
        else:
            raise BrokenArchive(f"has {header.type_name(found.type)} {name!r}, which archives of images do not need")

    def _follow_links(self) -> None:
        """Resolve links. Their targets are files, not other links, so there are no loops."""
        found = {name: _TARGET.fullmatch(link) for name, link in self._links.items()}
        targets = {name: self.by_name.get(target[1]) for name, target in found.items() if target}
        for name, link in self._links.items():
            extent = targets.get(name)
            if extent is None:
                raise BrokenArchive(f"has a link {name!r} to {link!r}, which is not one of its layers")
            self.by_name[name] = extent

    def _block(self, at: int, *, last: bool = False) -> bytes:
        """Return the block at an offset; zeros for the `last` block if the file ends before it.

        An archive ends with two blocks of zeros, but some tools write only one.
        """
        position = at - self._window_at
        if not 0 <= position <= len(self._window) - BLOCK:
            self._window, self._window_at, position = self._pread(at, _WINDOW), at, 0
        block = self._window[position : position + BLOCK]
        if len(block) < BLOCK and not (last and not block):
            raise BrokenArchive("is truncated: its end is missing")
        return block or _ZEROS


def _plain(name: str) -> str:
    """Return a safe name without the leading `./` that `tar -C layout .` writes."""
    if not name.isprintable():
        raise BrokenArchive(f"has a member whose name contains control characters: {name[:200]!r}")
    plain = name.removeprefix("./")
    parts = plain.split("/")
    if plain.startswith("/") or ".." in parts or "." in parts or "" in parts:
        raise BrokenArchive(f"has a member with an unsafe name: {name[:200]!r}")
    return plain
