"""The members of a tar archive: where their bytes are, and all the ways in which a header can be hostile.

Whatever two readers could understand differently, and whatever an archive of images has no honest use for, is refused:
links, devices, sparse files, a name that comes twice or climbs out, a size that is none (docs/adr/0014).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from mirror.archive import header
from mirror.archive.header import BLOCK, Header
from mirror.errors import BrokenArchive

MOST = 2_000_000  # headers; a member costs about 300 bytes of memory, and a layout of a million blobs is normal
_WINDOW = 16 * 1024  # bytes read at once in search of headers
_ZEROS = bytes(BLOCK)

# Docker before 25, and skopeo and podman to this day, keep a layer that two images share once, and link to it from the
# folder of the other. These links alone are followed, and only to a file of the same archive.
_LINK = re.compile(r"[0-9a-f]{64}/layer\.tar", re.ASCII)
_TARGET = re.compile(r"\.\./([0-9a-f]{64}(?:/layer)?\.tar)", re.ASCII)


class Extent(NamedTuple):
    """Where the bytes of a member are."""

    offset: int
    size: int


class Members:
    """What one pass over the headers finds: the files `by_name`, and in `fault` why it did not come to the end.

    `fault` is the rest of a sentence about the archive. Directories are passed over.
    """

    def __init__(self, pread: Callable[[int, int], bytes], size: int, most: int = MOST) -> None:
        """Read the headers of an archive of `size` bytes; `pread` gives bytes at an offset, fewer at the end."""
        self.by_name: dict[str, Extent] = {}
        self.fault: str | None = None
        self._pread, self._size, self._most = pread, size, most
        self._window, self._window_at, self._at = b"", 0, 0
        self._links: dict[str, str] = {}
        self._fields: dict[str, str] = {}  # what extended headers say about the member that follows
        try:
            self._walk()
            self._follow_links()
        except BrokenArchive as error:
            self.fault = f"{error}, at byte {self._at}" if self._at else f"is no tar archive: it {error}"

    def _walk(self) -> None:
        count = 0
        while (block := self._block(self._at)) != _ZEROS:
            count += 1
            if count > self._most:
                raise BrokenArchive(f"has more than {self._most} headers")
            self._at = self._take(header.parse(block))
        if self._fields or self._block(self._at + BLOCK, last=True) != _ZEROS:
            raise BrokenArchive("ends in the middle")

    def _take(self, found: Header) -> int:
        """Note one member, or what is said about the next; gives the offset of the header after it."""
        start = self._at + BLOCK
        if found.kind in header.EXTENDED:
            fields = header.fields(found, self._data(start, found))
            if fields.keys() & self._fields.keys():
                raise BrokenArchive("has two headers that say the same of one member")
            self._fields |= fields
        else:
            found, self._fields = header.extended(found, self._fields), {}
            if start + found.size > self._size:
                raise BrokenArchive(f"is cut in the middle of {found.name!r}")
            self._add(found, start)
        end = start + found.size
        return end + -end % BLOCK

    def _add(self, found: Header, start: int) -> None:
        if found.kind == header.DIRECTORY:
            if found.name.rstrip("/") not in ("", "."):
                _plain(found.name.rstrip("/"))
            if found.size:
                raise BrokenArchive(f"has a directory {found.name!r} with content")
            return
        name = _plain(found.name)
        if name in self.by_name or name in self._links:
            raise BrokenArchive(f"has two members {name!r}")
        if found.kind == header.FILE:
            self.by_name[name] = Extent(start, found.size)
        elif found.kind == header.SYMLINK and _LINK.fullmatch(name) and not found.size:
            self._links[name] = found.link
        else:
            raise BrokenArchive(f"has {header.kind_name(found.kind)} {name!r}, which no archive of images needs")

    def _follow_links(self) -> None:
        """A link leads to a file, never to another link: so there are no loops."""
        found = {name: _TARGET.fullmatch(link) for name, link in self._links.items()}
        targets = {name: self.by_name.get(target[1]) for name, target in found.items() if target}
        for name, link in self._links.items():
            member = targets.get(name)
            if member is None:
                raise BrokenArchive(f"has a link {name!r} to {link!r}, which is no layer of it")
            self.by_name[name] = member

    def _data(self, start: int, found: Header) -> bytes:
        """What an extended header holds."""
        if found.size > header.EXTENDED_CAP:
            raise BrokenArchive(f"has an extended header of {found.size} bytes, and {header.EXTENDED_CAP} are the most")
        data = self._pread(start, found.size)
        if len(data) < found.size:
            raise BrokenArchive("is cut in the middle of a header")
        return data

    def _block(self, at: int, *, last: bool = False) -> bytes:
        """The block at an offset, out of a window that several small members share.

        The end of an archive is two blocks of zeros; where the file ends after one, it is taken for two.
        """
        place = at - self._window_at
        if not 0 <= place <= len(self._window) - BLOCK:
            self._window, self._window_at, place = self._pread(at, _WINDOW), at, 0
        block = self._window[place : place + BLOCK]
        if len(block) < BLOCK and not (last and not block):
            raise BrokenArchive("is cut: its end is missing")
        return block or _ZEROS


def _plain(name: str) -> str:
    """A name without the `./` that `tar -C layout .` begins it with.

    Raises:
        BrokenArchive: it is no relative path that goes straight down.
    """
    if not name.isprintable():
        raise BrokenArchive(f"has a member whose name has control characters: {name[:200]!r}")
    plain = name.removeprefix("./")
    parts = plain.split("/")
    if plain.startswith("/") or ".." in parts or "." in parts or "" in parts:
        raise BrokenArchive(f"has a member {name[:200]!r}, whose name leads elsewhere")
    return plain
