"""The names in a tar archive, read as it streams by: nothing is extracted, and only headers are parsed.

POSIX ustar and pax (pax(1), "ustar Interchange Format"), with GNU's long names and sparse files. A name is dangerous if
a careless tool would write outside of the directory that it unpacks into (CVE-2007-4559, CVE-2025-4517). Whiteouts
(`.wh.…`) are names like others.
"""

from __future__ import annotations

from collections.abc import Callable

_BLOCK = 512
_MOST_NAMES = 500_000  # names that are compared with each other, in some 50 MB of memory
_LONGEST = 1024 * 1024  # bytes of one extended header
_SHOWN = 3

_DATALESS = frozenset(b"123456")  # links, devices, directories and FIFOs, whatever their size field says
_LINKS, _HARD_LINK, _DIRECTORY = frozenset(b"12"), ord("1"), ord("5")
_GLOBAL, _PAX, _LONG_NAME, _LONG_LINK, _SPARSE = map(ord, "gxLKS")


class _NotATar(Exception):
    """The bytes are not a tar archive, at least from here on."""


class Names:
    """Names, of which the first few are kept and the others counted."""

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
    """Feed it an archive in pieces, then close it.

    `duplicates` are the paths that occur more than once, except directories; `dangerous` those that lead outside of the
    directory, or whose link does; `problem` says why it is not a tar archive.
    """

    def __init__(self) -> None:
        self.duplicates, self.dangerous = Names(), Names()
        self.problem: str | None = None
        self._seen: set[int] = set()
        self._extended: dict[str, str] = {}  # what extended headers say about the next member
        self._skip = self._padding = 0  # bytes to the next header, and how many of them follow the data of the member
        self._held = bytearray()  # the beginning of a block that continues in the next piece
        self._need = _BLOCK
        self._next: Callable[[bytes], None] = self._header
        self._zeros, self._any = 0, False

    def feed(self, piece: bytes) -> None:
        try:
            self._feed(piece)
        except _NotATar as error:
            self.problem = str(error)

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
        """Skip the data of a member."""
        self._padding = -size % _BLOCK
        self._skip = size + self._padding

    def _expect(self, size: int, then: Callable[[bytes], None]) -> None:
        self._need, self._next = size, then

    def _header(self, block: bytes) -> None:
        if block[0] == 0 and not any(block):
            self._zeros += 1
            return
        if not self._any and not _checks(block):
            raise _NotATar("it does not begin with a tar header")
        self._zeros, self._any = 0, True
        kind, size = block[156], _number(block[124:136])
        if kind in (_PAX, _LONG_NAME, _LONG_LINK) and 0 < size <= _LONGEST:
            self._expect(size + -size % _BLOCK, lambda data: self._extend(kind, data[:size]))
            return
        self._pass(0 if kind in _DATALESS else size)
        if kind not in (_GLOBAL, _PAX, _LONG_NAME, _LONG_LINK):
            self._member(block, kind)
        if kind == _SPARSE and block[482]:
            data, self._skip = self._skip, 0
            self._expect(_BLOCK, lambda block: self._sparse_map(block, data))

    def _sparse_map(self, block: bytes, data: int) -> None:
        """Skip the further blocks that GNU's old sparse files have between their header and their data."""
        if not block[504]:
            self._skip = data
            self._expect(_BLOCK, self._header)

    def _extend(self, kind: int, data: bytes) -> None:
        self._expect(_BLOCK, self._header)
        if kind == _LONG_NAME:
            self._extended["path"] = _text(data)
        elif kind == _LONG_LINK:
            self._extended["linkpath"] = _text(data)
        else:
            self._extended.update(_records(data))

    def _member(self, block: bytes, kind: int) -> None:
        extended, self._extended = self._extended, {}
        if "size" in extended and kind not in _DATALESS:
            self._pass(_decimal(extended["size"]))
        name = extended.get("GNU.sparse.name") or extended.get("path") or _name(block)
        target = extended.get("linkpath") or _text(block[157:257]) if kind in _LINKS else None
        self._judge(name, kind, target)

    def _judge(self, name: str, kind: int, target: str | None) -> None:
        path = name.strip("/").removeprefix("./")
        known = hash(path)
        if known in self._seen:
            if kind != _DIRECTORY:
                self.duplicates.add(name)
        elif len(self._seen) < _MOST_NAMES:
            self._seen.add(known)
        if name.startswith("/") or _escapes(name):
            self.dangerous.add(name)
        elif target is not None and _link_escapes(path, kind, target):
            self.dangerous.add(f"{name} -> {target}")


def _link_escapes(path: str, kind: int, target: str) -> bool:
    """Return whether a link leads outside. For a symbolic link, unlike a hard link, / is the root of the image."""
    if kind == _HARD_LINK:
        return target.startswith("/") or _escapes(target)
    return not target.startswith("/") and _escapes(f"{path}/../{target}")


def _escapes(path: str) -> bool:
    """Return whether a relative path leads above its beginning."""
    if ".." not in path:
        return False
    depth = 0
    for part in path.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def _checks(block: bytes) -> bool:
    """Return whether the checksum of a header is right; it is computed as if its own field were spaces."""
    try:
        return _number(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * ord(" ")
    except _NotATar:
        return False


def _number(field: bytes) -> int:
    """Parse an octal number, or a binary one with the highest bit set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, signed=True) if field[0] & 0x40 else int.from_bytes(field) & ~(0x80 << 88)
    else:
        try:
            value = int(field.strip(b" \0") or b"0", 8)
        except ValueError:
            raise _NotATar("a header has no valid size") from None
    if value < 0:
        raise _NotATar("a header has a negative size")
    return value


def _decimal(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise _NotATar("an extended header has no valid size")
    return int(text)


def _name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _records(data: bytes) -> dict[str, str]:
    """Parse the records `LENGTH KEY=VALUE\\n` of a pax header."""
    found = {}
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or not len(length) < int(length[:20]) <= len(data):
            raise _NotATar("an extended header is broken")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[int(length) :]
    return found
