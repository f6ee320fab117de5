"""The names in a tar archive that passes by: nothing is extracted, and only headers are looked at.

POSIX ustar and pax (pax(1), "ustar Interchange Format"), with GNU's long names and sparse files. A name is dangerous
where a careless tool would write outside of the folder that it unpacks into (CVE-2007-4559, CVE-2025-4517). Whiteouts
(`.wh.…`) are names like others.
"""

from __future__ import annotations

from collections.abc import Callable

_BLOCK = 512
_MOST_NAMES = 500_000  # that are compared with each other, in some 50 MB of memory
_LONGEST = 1024 * 1024  # bytes of one extended header
_SHOWN = 3

_DATALESS = frozenset(b"123456")  # links, devices, directories and FIFOs, whatever their size field says
_LINKS, _HARD_LINK, _DIRECTORY = frozenset(b"12"), ord("1"), ord("5")
_GLOBAL, _PAX, _LONG_NAME, _LONG_LINK, _SPARSE = map(ord, "gxLKS")


class _NoTar(Exception):
    """The bytes are no archive, or none any more."""


class Names:
    """Some names, of which the first few are shown."""

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


class TarWatch:
    """Feed it an archive in pieces, and close it.

    `twice` are the paths that occur more than once, directories aside; `dangerous` those that leave the archive's
    folder, or whose link does; `problem` says why it is no archive.
    """

    def __init__(self) -> None:
        self.twice, self.dangerous = Names(), Names()
        self.problem: str | None = None
        self._seen: set[int] = set()
        self._extended: dict[str, str] = {}  # what extended headers say of the next member
        self._skip = self._padding = 0  # bytes to the next header, and those of them behind the member's data
        self._held = bytearray()  # the beginning of a block whose end is in the next piece
        self._need = _BLOCK
        self._next: Callable[[bytes], None] = self._header
        self._zeros, self._any = 0, False

    def feed(self, piece: bytes) -> None:
        try:
            self._feed(piece)
        except _NoTar as error:
            self.problem = str(error)

    def close(self) -> None:
        """Nothing comes any more. The last member may lack its padding: umoci leaves it out."""
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
        """The data of a member comes next."""
        self._padding = -size % _BLOCK
        self._skip = size + self._padding

    def _expect(self, size: int, then: Callable[[bytes], None]) -> None:
        self._need, self._next = size, then

    def _header(self, block: bytes) -> None:
        if block[0] == 0 and not any(block):
            self._zeros += 1
            return
        if not self._any and not _checks(block):
            raise _NoTar("it does not begin with a tar header")
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
        """GNU's old sparse files have more blocks between their header and their data."""
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
                self.twice.add(name)
        elif len(self._seen) < _MOST_NAMES:
            self._seen.add(known)
        if name.startswith("/") or _escapes(name):
            self.dangerous.add(name)
        elif target is not None and _link_escapes(path, kind, target):
            self.dangerous.add(f"{name} -> {target}")


def _link_escapes(path: str, kind: int, target: str) -> bool:
    """A hard link names a path of the archive. A symbolic link is read inside the container, where / is the root."""
    if kind == _HARD_LINK:
        return target.startswith("/") or _escapes(target)
    return not target.startswith("/") and _escapes(f"{path}/../{target}")


def _escapes(path: str) -> bool:
    """Whether a relative path leads above where it begins."""
    if ".." not in path:
        return False
    depth = 0
    for part in path.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def _checks(block: bytes) -> bool:
    """Whether the checksum of a header is right; it is computed as if its own field were spaces."""
    try:
        return _number(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * ord(" ")
    except _NoTar:
        return False


def _number(field: bytes) -> int:
    """An octal number, or a binary one with the highest bit set."""
    if field[0] & 0x80:
        value = int.from_bytes(field, signed=True) if field[0] & 0x40 else int.from_bytes(field) & ~(0x80 << 88)
    else:
        try:
            value = int(field.strip(b" \0") or b"0", 8)
        except ValueError:
            raise _NoTar("a header has no valid size") from None
    if value < 0:
        raise _NoTar("a header has a negative size")
    return value


def _decimal(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise _NoTar("an extended header has no valid size")
    return int(text)


def _name(block: bytes) -> str:
    name = _text(block[:100])
    prefix = _text(block[345:500]) if block[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _records(data: bytes) -> dict[str, str]:
    """The records `LENGTH KEY=VALUE\\n` of a pax header."""
    found = {}
    while data:
        length, space, _ = data.partition(b" ")
        if not space or not length.isdigit() or not len(length) < int(length[:20]) <= len(data):
            raise _NoTar("an extended header is broken")
        key, _, value = data[len(length) + 1 : int(length) - 1].partition(b"=")
        found[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        data = data[int(length) :]
    return found
