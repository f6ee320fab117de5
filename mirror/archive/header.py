"""Parse and build tar headers. Pure: bytes in, values out.

POSIX.1-2017, pax, "ustar Interchange Format" and "pax Header Block"; long names and large sizes as GNU tar writes them.

Image archives are read strictly: whatever two programs could interpret differently is refused. Layers come from many
tools, and are read leniently, as container runtimes do. Errors are predicates of a sentence about the archive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mirror.errors import BrokenArchive

BLOCK = 512  # bytes; a header is one block, and content is padded to whole blocks
END = bytes(2 * BLOCK)
EXTENDED_CAP = 1024 * 1024  # bytes of a pax header or a long name, as in Go's archive/tar

FILE, HARD_LINK, SYMLINK, DIRECTORY, SPARSE = b"0", b"1", b"2", b"5", b"S"
WITHOUT_CONTENT = frozenset({HARD_LINK, SYMLINK, b"3", b"4", DIRECTORY, b"6"})  # even if their headers give a size
PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK = b"x", b"g", b"L", b"K"
EXTENDED = frozenset({PAX, PAX_GLOBAL, GNU_NAME, GNU_LINK})  # their content describes the next member

_TYPES = {
    FILE: "a file",
    HARD_LINK: "a hard link",
    SYMLINK: "a symbolic link",
    b"3": "a device",
    b"4": "a device",
    b"6": "a FIFO",
    SPARSE: "a sparse file",
}
_USTAR, _GNU = b"ustar\x0000", b"ustar  \x00"
_OCTAL = re.compile(rb" *([0-7]+)[ \0]*")
_LENIENT_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_LENGTH = re.compile(rb"([1-9][0-9]{0,7}) ")
_OCTAL_CAP = 0o77777777777  # bytes: 8 GiB minus one, the largest size in eleven octal digits
_SIZE_CAP = 2**63 - 1  # bytes: the largest possible file


@dataclass(frozen=True, slots=True)
class Header:
    """One header. `type` is the type flag, `size` the bytes of content that follow it."""

    name: str
    type: bytes
    size: int
    link: str


def parse(block: bytes, *, strict: bool = True) -> Header:
    """Parse a header block that is not all zeros. Its size must be valid, even if not strict."""
    if strict:
        if not has_right_checksum(block):
            raise BrokenArchive("has a header with a wrong checksum")
        if block[257:265] not in (_USTAR, _GNU):
            raise BrokenArchive("has a header that is neither ustar nor GNU")
    name = _text(block[:100], strict)
    prefix = _text(block[345:500], strict) if block[257:263] == b"ustar\0" else ""
    size = _number(block[124:136], strict)
    if size is None:
        raise BrokenArchive("has a header with an invalid size")
    return Header(
        name=f"{prefix}/{name}" if prefix else name,
        type=FILE if block[156] == 0 else block[156:157],
        size=size,
        link=_text(block[157:257], strict),
    )


def has_right_checksum(block: bytes) -> bool:
    """Return True if the checksum is right; it is computed with spaces in its own field."""
    return _number(block[148:156], strict=True) == sum(block) - sum(block[148:156]) + 8 * ord(" ")


def extension(header: Header, data: bytes, *, strict: bool = True) -> dict[str, str]:
    """Return the fields that an extended header with content `data` sets for the next member.

    These are `path`, `linkpath`, `size` and `GNU.sparse…`. If strict, contradictions and invalid UTF-8 are refused.
    """
    if header.type in (GNU_NAME, GNU_LINK):
        text = data.rstrip(b"\0") if strict else data.partition(b"\0")[0]
        return {"path" if header.type == GNU_NAME else "linkpath": _decode(text, strict)}
    found: dict[str, str] = {}
    for raw, value in _records(data):
        key = raw.decode("ascii", "replace")
        if key in ("path", "linkpath", "size") or key.startswith("GNU.sparse."):
            if strict and key in found:
                raise BrokenArchive(f"has a pax header with two values of {key}")
            found[key] = _decode(value, strict)
    if strict and found and header.type == PAX_GLOBAL:
        raise BrokenArchive("has a global pax header with names or sizes")
    return found


def extended(header: Header, fields: Mapping[str, str], *, strict: bool = True) -> Header:
    """Return a header with the fields that the extended headers before it set."""
    size = header.size
    if "size" in fields:
        if not re.fullmatch(r"[0-9]{1,20}", fields["size"], re.ASCII):
            raise BrokenArchive("has a pax header with an invalid size")
        size = int(fields["size"])
        # Programs that ignore pax headers use the size in the header, and find other members (CVE-2025-62518).
        if strict and (size > _SIZE_CAP or (size <= _OCTAL_CAP and size != header.size)):
            raise BrokenArchive(f"has a member {header.name!r} with two sizes")
    name = fields.get("GNU.sparse.name") or fields.get("path", header.name)
    return Header(name, header.type, size, fields.get("linkpath", header.link))


def more_sparse_blocks(block: bytes, *, first: bool) -> bool:
    """Return True if the map of a GNU sparse file continues in another block, after its header or after a map block."""
    return block[482 if first else 504] != 0


def number(field: bytes) -> int | None:
    """Return the number in a field of a header; None if it is not valid."""
    return _number(field, strict=True)


def type_name(flag: bytes) -> str:
    return _TYPES.get(flag, f"a member of type {flag!r}")


def build(name: str, size: int) -> bytes:
    """Return the header of a regular file, without owner and time, so that archives are reproducible.

    A pax header precedes it if the name has more than 100 characters, or the file 8 GiB or more.
    """
    data = _record("path", name) if len(name) > 100 else b""
    data += _record("size", str(size)) if size > _OCTAL_CAP else b""
    block = _block(name[:100], size if size <= _OCTAL_CAP else 0, FILE)
    return _block(f"PaxHeaders/{name}"[:100], len(data), PAX) + data + padding(len(data)) + block if data else block


def padding(size: int) -> bytes:
    """Return the zeros that follow content of `size` bytes."""
    return bytes(-size % BLOCK)


def _records(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield the keys and values of a pax header. A record is `LENGTH KEY=VALUE` and a newline, LENGTH bytes in all."""
    start = 0
    while start < len(data):
        length = _LENGTH.match(data, start)
        end = start + int(length[1]) if length else 0
        if length is None or not length.end() < end <= len(data) or data[end - 1] != ord("\n"):
            raise BrokenArchive("has a malformed pax header")
        key, _, value = data[length.end() : end - 1].partition(b"=")
        yield key, value
        start = end


def _block(name: str, size: int, flag: bytes) -> bytes:
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000644\0",  # mode
        b"0000000\0",  # uid
        b"0000000\0",  # gid
        b"%011o\0" % size,
        b"%011o\0" % 0,  # mtime
        b" " * 8,  # checksum
        flag,
        bytes(100),
        _USTAR,
    )
    block = b"".join(fields).ljust(BLOCK, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _record(key: str, value: str) -> bytes:
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:  # the length includes its own digits
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def _number(field: bytes, strict: bool) -> int | None:
    """Return a number in octal digits, or in binary after a byte of 0x80, as GNU tar writes large ones."""
    if field[0] == 0x80 or (field[0] & 0xC0 == 0x80 and not strict):
        number = int.from_bytes(field, "big") & ~(0x80 << 8 * (len(field) - 1))
    else:
        octal = (_OCTAL if strict else _LENIENT_OCTAL).fullmatch(field)
        if octal is None:
            return None
        number = int(octal[1] or b"0", 8)
    return number if number <= _SIZE_CAP else None


def _text(field: bytes, strict: bool) -> str:
    return _decode(field.partition(b"\0")[0], strict)


def _decode(text: bytes, strict: bool) -> str:
    try:
        return text.decode("utf-8", "strict" if strict else "surrogateescape")
    except UnicodeDecodeError:
        raise BrokenArchive(f"has a name that is not UTF-8: {text[:80]!r}") from None
