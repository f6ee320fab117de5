"""Streaming decompression of layers: gzip with any number of members, zstd with any number of frames, or neither.

The format is recognized by the first bytes, not by the media type, as in container runtimes. Memory use does not depend
on the unpacked size, and that size is limited (CVE-2017-14992).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Protocol, cast

from mirror.errors import CorruptCompression, DecompressionBomb, UnsupportedCompression
from mirror.text import size as in_words

FREE = 1024**3  # unpacked bytes that every layer may have
RATIO = 200  # the most that a larger layer may expand; real content: 2 to 20, zeros: 1000 in gzip, unlimited in zstd
MOST = 1024**4  # unpacked bytes that no layer may exceed
READ = 64 * 1024  # compressed bytes per step; these and the unpacked ones stay in the cache
_WRITE = 256 * 1024  # unpacked bytes per step
_WINDOW = 27  # the largest zstd window as a power of two: 128 MiB, the default limit of the zstd command

_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"BZh": "bzip2",
    b"\x04\x22\x4d\x18": "lz4",
}
_LONGEST_MAGIC = max(map(len, _MAGIC))


class _Decompressor(Protocol):
    """A decompressor for one gzip member or one zstd frame, with the interface of those in `bz2` and `lzma`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


_Format = tuple[Callable[[], _Decompressor], type[Exception]]  # starts a member or a frame; the error if it is broken


def compression(head: bytes) -> str | None:
    """Name the compression of content by its first six bytes: gzip, zstd, xz, bzip2 or lz4; None if there is none."""
    if head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:  # a skippable frame
        return "zstd"
    return next((name for magic, name in _MAGIC.items() if head.startswith(magic)), None)


def most_unpacked(size: int) -> int:
    """Return how many bytes `size` stored bytes may become."""
    return min(max(FREE, RATIO * size), MOST)


class Allowance:
    """The bytes that all layers of a store of `size` bytes may unpack to together. Threads share it.

    Without it, many layers that each stay below their own limit would take hours.
    """

    def __init__(self, size: int) -> None:
        self._limit = self._left = most_unpacked(size)
        self._lock = Lock()

    def take(self, count: int) -> None:
        """Count unpacked bytes; raise DecompressionBomb if there are too many."""
        with self._lock:
            self._left -= count
        if self._left < 0:
            raise DecompressionBomb(f"and the layers before it unpack to more than {in_words(self._limit)}", limit=None)


def unpacked(read: Callable[[], bytes], size: int, allowance: Allowance) -> Iterator[bytes]:
    """Yield unpacked content piece by piece. The input is read to its end, unless it is broken.

    `read` returns the next bytes, at most a few megabytes; `b""` at the end. The `size` of the input in bytes
    determines how many it may unpack to, and so does the `allowance` of its store: raise DecompressionBomb if there are
    more. Other errors are CorruptCompression and UnsupportedCompression.
    """
    left = limit = most_unpacked(size)
    for piece in _pieces(read):
        left -= len(piece)
        if left < 0:
            raise DecompressionBomb(f"unpacks to more than {in_words(limit)}", limit=limit)
        allowance.take(len(piece))
        yield piece


def _pieces(read: Callable[[], bytes]) -> Iterator[bytes]:
    data = read()
    while len(data) < _LONGEST_MAGIC and (more := read()):
        data += more
    if name := compression(data):
        yield from _expand(data, read, *_format(name))
        return
    while data:
        yield data
        data = read()


def _expand(
    data: bytes, read: Callable[[], bytes], start: Callable[[], _Decompressor], broken: type[Exception]
) -> Iterator[bytes]:
    member = start()
    while True:
        try:
            yield member.decompress(data, _WRITE)
        except broken as error:
            if "too much memory" in str(error):  # zstd's message about a window that is larger than we allow
                raise UnsupportedCompression(f"it needs a zstd window of more than {2**_WINDOW >> 20} MiB") from None
            raise CorruptCompression(str(error)[:200]) from None
        data = b""
        if member.eof:
            data = member.unused_data or read()
            if not data:
                return
            member = start()
        elif member.needs_input:
            data = read()
            if not data:
                raise CorruptCompression("it ends too early")


def _format(name: str) -> _Format:
    if name == "gzip":
        from isal import igzip_lib  # twice as fast as zlib

        error = cast(type[Exception], igzip_lib.IsalError)  # its stub declares an instance
        return lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), error
    if name != "zstd":
        raise UnsupportedCompression(f"it is compressed with {name}")
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW}
    return lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError
