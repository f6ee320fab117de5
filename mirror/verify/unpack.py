"""What is in a layer: unpacked on its way, in one pass over the file, and compared with what its config says.

gzip with any number of members, zstd with any number of frames, skippable ones too, or no compression at all: as
runtimes do, by the first bytes and not by the media type. What comes out is hashed and forgotten: memory does not grow
with it. A layer may unpack to a great deal, but not without end (CVE-2017-14992).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.hashing import HashingReader
from mirror.errors import InvalidDigest
from mirror.oci.digest import Digest, Hasher
from mirror.text import size as in_words
from mirror.verify.tar import TarWatch

FREE = 1024**3  # bytes that any layer may unpack to
RATIO = 200  # to what a larger one may expand; zeros do 1000 in gzip and any number in zstd, real content 2 to 20
MOST = 1024**4  # bytes that no layer unpacks to
_READ, _WRITE = 64 * 1024, 256 * 1024  # bytes of one step, compressed and unpacked: both stay in the cache
_WINDOW = 27  # the largest window of zstd, as a power of two: 128 MiB, like the command line's own limit

_GZIP, _ZSTD, _SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"
_OTHERS = {b"BZh": "bzip2", b"\xfd7zXZ\0": "xz"}


class _Unpacker(Protocol):
    """One gzip member, or one zstd frame: what `bz2` and `lzma` call a decompressor."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Form:
    """A kind of compression: how to begin with a member or a frame, and what is raised when it is broken."""

    fresh: Callable[[], _Unpacker]
    error: type[Exception]


class _Bad(Exception):
    """The layer cannot be unpacked to its end."""

    def __init__(self, kind: Kind, severity: Severity, expected: str, found: str) -> None:
        super().__init__(kind, severity, expected, found)


class Layer:
    """A layer on its way: give it to `hash_blob` as `through`, and ask for its findings when the blob is right."""

    def __init__(self, digest: Digest, size: int, wanted: Sequence[Digest], *, tar: bool) -> None:
        self._digest, self._wanted = digest, wanted
        self._limit = min(max(FREE, RATIO * size), MOST)
        self._unpacked = 0
        self._hashers = {diff_id.algorithm: _hasher(diff_id) for diff_id in wanted}
        self._watch = TarWatch() if tar else None
        self._bad: _Bad | None = None

    def __call__(self, passing: HashingReader) -> None:
        """Unpack what passes. What is wrong with it is kept for later: a blob that is corrupt has one finding."""
        try:
            self._unpack(passing)
        except _Bad as bad:
            self._bad = bad

    def findings(self) -> Iterator[Finding]:
        if self._bad:
            kind, severity, expected, found = self._bad.args
            yield Finding(kind, severity, self._digest, expected, found)
            return
        wrong = [finding for diff_id in self._wanted for finding in self._compare(diff_id)]
        yield from wrong or self._about_names()

    def _compare(self, diff_id: Digest) -> Iterator[Finding]:
        hasher = self._hashers[diff_id.algorithm]
        if hasher is None:
            found = f"no way to compute {diff_id.algorithm}"
            yield Finding(Kind.UNHASHABLE, Severity.UNVERIFIED, self._digest, f"unpacked, {diff_id}", found)
        elif not diff_id.matches(hasher):
            found = f"{diff_id.algorithm}:{hasher.hexdigest()}"
            yield Finding(Kind.WRONG_DIFF_ID, Severity.ERROR, self._digest, f"unpacked, {diff_id}", found)

    def _about_names(self) -> Iterator[Finding]:
        watch = self._watch
        if watch is None:
            return
        watch.close()
        for kind, expected, found in (
            (Kind.NOT_A_TAR, "a tar archive", watch.problem),
            (Kind.DUPLICATE_PATH, "each path once", watch.twice),
            (Kind.DANGEROUS_PATH, "paths inside the image", watch.dangerous),
        ):
            if found:
                yield Finding(kind, Severity.WARNING, self._digest, expected, str(found))

    def _unpack(self, passing: HashingReader) -> None:
        view = memoryview(bytearray(_READ))

        def read() -> bytes:
            return bytes(view[: passing.readinto(view)])

        first = read()
        while len(first) < 6 and (more := read()):
            first += more
        form = _form(first)
        if form:
            self._expand(first, read, form)
            return
        while first:
            self._take(first)
            first = read()

    def _expand(self, data: bytes, read: Callable[[], bytes], form: _Form) -> None:
        member = form.fresh()
        while True:
            try:
                unpacked = member.decompress(data, _WRITE)
            except form.error as error:
                raise _broken(str(error)) from None
            self._take(unpacked)
            data = b""
            if member.eof:
                data = member.unused_data or read()
                if not data:
                    return
                member = form.fresh()
            elif member.needs_input:
                data = read()
                if not data:
                    raise _broken("it ends too early")

    def _take(self, data: bytes) -> None:
        self._unpacked += len(data)
        if self._unpacked > self._limit:
            raise _Bad(Kind.BOMB, Severity.ERROR, f"at most {in_words(self._limit)} unpacked", "more")
        for hasher in self._hashers.values():
            if hasher:
                hasher.update(data)
        if self._watch:
            self._watch.feed(data)


def _broken(found: str) -> _Bad:
    if "too much memory" in found:  # what zstd says of a frame with a larger window than we allow
        return _Bad(Kind.UNKNOWN_COMPRESSION, Severity.UNVERIFIED, f"a window of at most 2^{_WINDOW} bytes", "more")
    return _Bad(Kind.BROKEN_LAYER, Severity.ERROR, "a layer that can be unpacked", found[:200])


def _form(first: bytes) -> _Form | None:
    """How a layer is compressed, by its first bytes; None where it is not."""
    if first.startswith(_GZIP):
        return _gzip()
    if first.startswith(_ZSTD) or (first[1:4] == _SKIPPABLE and first[0] & 0xF0 == 0x50):
        return _zstd()
    for magic, name in _OTHERS.items():
        if first.startswith(magic):
            raise _Bad(Kind.UNKNOWN_COMPRESSION, Severity.UNVERIFIED, "gzip, zstd or none", name)
    return None


def _gzip() -> _Form:
    from isal import igzip_lib  # twice as fast as zlib

    error = cast(type[Exception], igzip_lib.IsalError)  # its stub takes the class for an instance
    return _Form(lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), error)


def _zstd() -> _Form:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW}
    return _Form(lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError)


def _hasher(diff_id: Digest) -> Hasher | None:
    try:
        return diff_id.hasher()
    except InvalidDigest:
        return None
