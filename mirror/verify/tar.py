"""The names in a tar archive, scanned in one pass: nothing is extracted, and only headers are parsed.

POSIX ustar and pax (pax(1), "ustar Interchange Format"), with GNU's long names and sparse files. A name is dangerous if
a careless tool would write outside its target directory (CVE-2007-4559, CVE-2025-4517). Whiteouts (`.wh.…`) are names
like any other.
"""

from __future__ import annotations

from collections.abc import Callable

from mirror.archive import header
from mirror.archive.header import BLOCK, Header
from mirror.errors import BrokenArchive

_MAX_NAMES = 500_000  # that are checked for duplicates, in about 50 MB of memory
_SHOWN = 3
_LINKS = frozenset({header.HARD_LINK, header.SYMLINK})


class Names:
    """A count of names, and the first few of them."""

    def __init__(self) -> None:
        self._first: list[str] = []
        self._count = 0

    def add(self, name: str) -> None:
        self._count += 1
        if len(self._first) < _SHOWN:
            self._first.append(name[:200])

    def __bool__(self) -> bool:
        return self._count > 0

    def __str__(self) -> str:
        more = self._count - len(self._first)
        return ", ".join(self._first) + (f" and {more} more" if more else "")


class TarScanner:
    """A scanner: feed it an archive in pieces, then close it.

    `duplicates` are the paths, except of directories, that occur more than once; `dangerous` those that lead outside
    the target directory, or whose link does; `problem` says why the content is not a tar archive.
    """

    def __init__(self) -> None:
        self.duplicates, self.dangerous = Names(), Names()
        self.problem: str | None = None
        self._seen: set[int] = set()
        self._fields: dict[str, str] = {}  # of extended headers, for the next member
        self._skip = self._padding = 0  # bytes to the next header, and how many of them are padding
        self._held = bytearray()  # the beginning of a block whose rest is in the next piece
        self._need = BLOCK
        self._next: Callable[[bytes], None] = self._header
        self._zeros, self._any = 0, False

    def feed(self, piece: bytes) -> None:
        try:
            self._feed(piece)
        except BrokenArchive as error:
            self.problem = f"it {error}"

    def close(self) -> None:
        """End the archive. The last member may lack its padding: umoci leaves it out."""
        if self.problem is None and self._zeros < 2 and (self._held or self._skip > self._padding):
            self.problem = "it ends in the middle of a member"

    def _feed(self, piece: bytes) -> None:
        position = 0
        while position < len(piece) and self.problem is None and self._zeros < 2:
            if self._skip:
                step = min(self._skip, len(piece) - position)
                self._skip -= step
                position += step
                continue
            part = piece[position : position + self._need - len(self._held)]
            position += len(part)
            if self._held or len(part) < self._need:
                self._held += part
                if len(self._held) < self._need:
                    return
                part = bytes(self._held)
                self._held.clear()
            self._next(part)

    def _pass(self, size: int) -> None:
        self._padding = -size % BLOCK
        self._skip = size + self._padding

    def _expect(self, size: int, then: Callable[[bytes], None]) -> None:
        self._need, self._next = size, then

    def _header(self, block: bytes) -> None:
        if block[0] == 0 and not any(block):
            self._zeros += 1
            return
        if not self._any and not header.has_right_checksum(block):
            raise BrokenArchive("does not begin with a tar header")
        self._zeros, self._any = 0, True
        found = header.parse(block, strict=False)
        if found.type in header.EXTENDED:
            if found.type != header.PAX_GLOBAL and 0 < found.size <= header.EXTENDED_CAP:
                whole = found.size + -found.size % BLOCK
                self._expect(whole, lambda data: self._extend(found, data[: found.size]))
            else:
                self._pass(found.size)
            return
        found, self._fields = header.extended(found, self._fields, strict=False), {}
        self._pass(0 if found.type in header.WITHOUT_CONTENT else found.size)
        self._judge(found.name, found.type, found.link if found.type in _LINKS else None)
        if found.type == header.SPARSE and header.more_sparse_blocks(block, first=True):
            data, self._skip = self._skip, 0
            self._expect(BLOCK, lambda block: self._sparse_map(block, data))

    def _sparse_map(self, block: bytes, data: int) -> None:
        """Skip the blocks between the header and the data of an old GNU sparse file."""
        if not header.more_sparse_blocks(block, first=False):
            self._skip = data
            self._expect(BLOCK, self._header)

    def _extend(self, found: Header, data: bytes) -> None:
        self._expect(BLOCK, self._header)
        self._fields |= header.extension(found, data, strict=False)

    def _judge(self, name: str, kind: bytes, target: str | None) -> None:
        path = name.strip("/").removeprefix("./")
        known = hash(path)
        if known in self._seen:
            if kind != header.DIRECTORY:
                self.duplicates.add(name)
        elif len(self._seen) < _MAX_NAMES:
            self._seen.add(known)
        if name.startswith("/") or _escapes(name):
            self.dangerous.add(name)
        elif target is not None and _link_escapes(path, kind, target):
            self.dangerous.add(f"{name} -> {target}")


def _link_escapes(path: str, kind: bytes, target: str) -> bool:
    """Return whether a link leads outside. In a symbolic link, unlike a hard link, / is the root of the image."""
    if kind == header.HARD_LINK:
        return target.startswith("/") or _escapes(target)
    return not target.startswith("/") and _escapes(f"{path}/../{target}")


def _escapes(path: str) -> bool:
    """Return whether a relative path leads above its starting point."""
    if ".." not in path:
        return False
    depth = 0
    for part in path.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False
