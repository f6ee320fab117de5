"""Unpack layers as they pass: gzip of any number of members, zstd of any number of frames, or neither.

As runtimes do, by the first bytes and not by the media type. Memory does not grow with what comes out. A layer may
unpack to a great deal, but not without end (CVE-2017-14992).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, cast

from mirror.errors import CorruptCompression, DecompressionBomb, UnsupportedCompression
from mirror.text import size as in_words

FREE = 1024**3  # bytes that any layer may unpack to
RATIO = 200  # to what a larger one may expand; zeros do 1000 in gzip and any number in zstd, real content 2 to 20
MOST = 1024**4  # bytes that no layer unpacks to
READ = 64 * 1024  # compressed bytes of one step; like those of _WRITE, they stay in the cache
_WRITE = 256 * 1024  # unpacked bytes of one step
_WINDOW = 27  # the largest window of zstd, as a power of two: 128 MiB, like the command line's own limit

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
}
_LONGEST_MAGIC = max(map(len, _MAGIC))


class _Decompressor(Protocol):
    """One gzip member, or one zstd frame: what `bz2` and `lzma` call a decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Format:
    """How to begin with a member or a frame, and what is raised when it is broken."""

    fresh: Callable[[], _Decompressor]
    error: type[Exception]


def compression(head: bytes) -> str | None:
    """Name the compression of content by its first six bytes: gzip, zstd, xz, bzip2 or lz4; None if there is none."""
    if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:  # a skippable frame
        return "zstd"
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def unpacked(read: Callable[[], bytes], size: int) -> Iterator[bytes]:
    """Yield content piece by piece as it is unpacked; all of it is read, unless it is broken.

    Args:
        read: returns the bytes that come next, at most some megabytes; none at the end.
        size: how many there are in all, which decides what they may unpack to.

    Raises:
        CorruptCompression: they cannot be unpacked to their end.
        UnsupportedCompression: they are compressed with something else, or need too much memory.
        DecompressionBomb: they unpack to far more than the content of any genuine layer.
    """
    left = limit = min(max(FREE, RATIO * size), MOST)
    for piece in _pieces(read):
        left -= len(piece)
        if left < 0:
            raise DecompressionBomb(f"unpacks to more than {in_words(limit)}", limit=limit)
        yield piece


def _pieces(read: Callable[[], bytes]) -> Iterator[bytes]:
    data = read()
    while len(data) < _LONGEST_MAGIC and (more := read()):
        data += more
    format = _format(compression(data))
    if format:
        yield from _expand(data, read, format)
        return
    while data:
        yield data
        data = read()


def _expand(data: bytes, read: Callable[[], bytes], format: _Format) -> Iterator[bytes]:
    member = format.fresh()
    while True:
        try:
            yield member.decompress(data, _WRITE)
        except format.error as error:
            if "too much memory" in str(error):  # what zstd says of a frame with a larger window than we allow
                raise UnsupportedCompression(f"it needs a zstd window of more than {2**_WINDOW >> 20} MiB") from None
            raise CorruptCompression(str(error)[:200]) from None
        data = b""
        if member.eof:
            data = member.unused_data or read()
            if not data:
                return
            member = format.fresh()
        elif member.needs_input:
            data = read()
            if not data:
                raise CorruptCompression("it ends too early")


def _format(name: str | None) -> _Format | None:
    if name is None:
        return None
    if name == "gzip":
        return _gzip()
    if name == "zstd":
        return _zstd()
    raise UnsupportedCompression(f"it is compressed with {name}")


def _gzip() -> _Format:
    from isal import igzip_lib  # twice as fast as zlib

    error = cast(type[Exception], igzip_lib.IsalError)  # its stub takes the class for an instance
    return _Format(lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), error)


def _zstd() -> _Format:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW}
    return _Format(lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError)
