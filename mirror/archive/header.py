"""Tar headers, read strictly and written plainly; bytes in, values out.

POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; long names and large sizes as GNU tar writes them.
A header that two readers could take for two things is refused, like JSON that they could.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from mirror.errors import BrokenArchive

BLOCK = 512  # bytes; what everything in a tar archive is a multiple of
END = bytes(2 * BLOCK)
EXTENDED_CAP = 1024 * 1024  # bytes of one pax header or one long name, as Go's reader has it

FILE, DIRECTORY, SYMLINK = b"0", b"5", b"2"
_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK = b"x", b"g", b"L", b"K"
EXTENDED = frozenset({_PAX, _PAX_GLOBAL, _GNU_NAME, _GNU_LINK})  # headers that say something about another one
_KINDS = {
    FILE: "a file",
    b"1": "a hard link",
    SYMLINK: "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a FIFO",
    b"S": "a sparse file",
}

_USTAR, _GNU = b"ustar\x0000", b"ustar  \x00"
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_LENGTH = re.compile(rb"([1-9][0-9]{0,7}) ")
_MOST_IN_OCTAL = 0o77777777777  # bytes: 8 GiB less one, what eleven digits can say
_LONGEST = 2**63 - 1  # bytes; a file cannot have more


@dataclass(frozen=True, slots=True)
class Header:
    """One header block. `name` and `link` are as they stand there."""

    name: str
    kind: bytes
    size: int
    link: str


def parse(block: bytes) -> Header:
    """Read one header block that is not all zeros.

    Raises:
        BrokenArchive: it is none, or a field of it is garbage. The message is the end of a sentence.
    """
    if _number(block[148:156], "checksum") != sum(block) - sum(block[148:156]) + 8 * ord(" "):
        _refuse("has a header whose checksum is wrong")
    magic = block[257:265]
    if magic not in (_USTAR, _GNU):
        _refuse("has a header that is none of tar's")
    name = _text(block[:100], "a name")
    prefix = _text(block[345:500], "a name") if magic == _USTAR else ""
    kind = block[156:157]
    return Header(
        name=f"{prefix}/{name}" if prefix else name,
        kind=FILE if kind == b"\0" else kind,
        size=_number(block[124:136], "size"),
        link=_text(block[157:257], "a link"),
    )


def fields(found: Header, data: bytes) -> dict[str, str]:
    """What an extended header says of the member after it: `path`, `linkpath`, `size`.

    Args:
        found: the header itself.
        data: its content.

    Raises:
        BrokenArchive: it is garbage, or ambiguous. The message is the end of a sentence.
    """
    if found.kind in (_GNU_NAME, _GNU_LINK):
        return {"path" if found.kind == _GNU_NAME else "linkpath": _decoded(data.rstrip(b"\0"), "a name")}
    records = _records(data)
    if found.kind == _PAX_GLOBAL and records:
        _refuse("has a global header that says how all members are called, or how large they are")
    return records


def kind_name(kind: bytes) -> str:
    """A word for what a header announces."""
    return _KINDS.get(kind, f"something of the kind {kind!r}")


def extended(header: Header, said: Mapping[str, str]) -> Header:
    """A header with what the extended headers before it have said.

    Raises:
        BrokenArchive: they contradict each other, or ask for what is refused. The message is the end of a sentence.
    """
    if "GNU.sparse" in said:
        _refuse(f"has a sparse file {header.name!r}")
    size = header.size
    if "size" in said:
        if not re.fullmatch(r"[0-9]{1,19}", said["size"], re.ASCII):
            _refuse("has a pax header whose size is garbage")
        size = int(said["size"])
        # Readers that know no pax go by the header alone, and see other members (CVE-2025-62518).
        if size > _LONGEST or (size <= _MOST_IN_OCTAL and size != header.size):
            _refuse(f"has a member {header.name!r} with two sizes")
    return Header(said.get("path", header.name), header.kind, size, said.get("linkpath", header.link))


def build(name: str, size: int) -> bytes:
    """The header of a regular file: nobody's, of no time, so that the same content is the same archive.

    With a pax header before it only where the name or the size does not fit: 100 characters, 8 GiB.
    """
    data = _record("path", name) if len(name) > 100 else b""
    data += _record("size", str(size)) if size > _MOST_IN_OCTAL else b""
    block = _block(name[:100], size if size <= _MOST_IN_OCTAL else 0, FILE)
    return _block(f"PaxHeaders/{name}"[:100], len(data), _PAX) + data + padding(len(data)) + block if data else block


def padding(size: int) -> bytes:
    """The zeros that fill the last block of so many bytes."""
    return bytes(-size % BLOCK)


def _records(data: bytes) -> dict[str, str]:
    """Those records of a pax header that matter here, `LENGTH KEY=VALUE` and a newline each."""
    found: dict[str, str] = {}
    start = 0
    while start < len(data):
        length = _LENGTH.match(data, start)
        end = start + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(data) or data[end - 1] != ord("\n"):
            _refuse("has a pax header that is none")
        key, _, value = data[length.end() : end - 1].partition(b"=")
        name = "GNU.sparse" if key.startswith(b"GNU.sparse.") else _decoded(key, "a pax header")
        if name in ("path", "linkpath", "size") and name in found:
            _refuse(f"has a pax header that says its {name} twice")
        if name in ("path", "linkpath", "size", "GNU.sparse"):
            found[name] = _decoded(value, "a name")
        start = end
    return found


def _block(name: str, size: int, kind: bytes) -> bytes:
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0",  # uid
        b"0000000\0",  # gid
        b"%011o\0" % size,
        b"%011o\0" % 0,  # mtime
        b" " * 8,  # checksum
        kind,
        bytes(100),
        _USTAR,
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: str, value: str) -> bytes:
    """One pax record. Its length counts its own digits too."""
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _number(field: bytes, what: str) -> int:
    if field[0] == 0x80:  # base 256: GNU tar's way with large numbers; 0xff would begin a negative one
        number = int.from_bytes(field[1:], "big")
    else:
        octal = _OCTAL.fullmatch(field)
        number = int(octal[1], 8) if octal else -1
    if not 0 <= number <= _LONGEST:
        _refuse(f"has a header whose {what} is no number")
    return number


def _text(field: bytes, what: str) -> str:
    return _decoded(field.partition(b"\0")[0], what)


def _decoded(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        _refuse(f"has {what} that is no UTF-8: {data[:80]!r}")


def _refuse(why: str) -> NoReturn:
    raise BrokenArchive(why)
