"""What is in a layer: unpacked on its way, in one pass over the file, and compared with what its config says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mirror.content.decompress import READ, unpacked
from mirror.content.finding import Finding, Kind, Severity
from mirror.content.hashing import HashingReader
from mirror.errors import CorruptCompression, DecompressionBomb, InvalidContent, InvalidDigest, UnsupportedCompression
from mirror.oci.digest import Digest, Hasher
from mirror.text import size as in_words
from mirror.verify.tar import TarWatch


class Layer:
    """A layer on its way: give it to `hash_blob` as `through`, and ask for its findings when the blob is right."""

    def __init__(self, digest: Digest, size: int, wanted: Sequence[Digest], *, tar: bool) -> None:
        self._digest, self._size, self._wanted = digest, size, wanted
        self._hashers = {diff_id.algorithm: _hasher(diff_id) for diff_id in wanted}
        self._watch = TarWatch() if tar else None
        self._error: InvalidContent | None = None

    def __call__(self, passing: HashingReader) -> None:
        """Unpack what passes. What is wrong with it is kept for later: a blob that is corrupt has one finding."""
        view = memoryview(bytearray(READ))
        hashers = list(filter(None, self._hashers.values()))
        try:
            for piece in unpacked(lambda: bytes(view[: passing.readinto(view)]), self._size):
                for hasher in hashers:
                    hasher.update(piece)
                if self._watch:
                    self._watch.feed(piece)
        except (CorruptCompression, UnsupportedCompression, DecompressionBomb) as error:
            self._error = error

    def findings(self) -> Iterator[Finding]:
        if self._error:
            yield self._failed(self._error)
            return
        wrong = [finding for diff_id in self._wanted for finding in self._compare(diff_id)]
        yield from wrong or self._about_names()

    def _failed(self, error: InvalidContent) -> Finding:
        if isinstance(error, DecompressionBomb):
            expected = f"at most {in_words(error.limit)} unpacked"
            return Finding(Kind.BOMB, Severity.ERROR, self._digest, expected, "more")
        if isinstance(error, UnsupportedCompression):
            expected = "gzip, zstd or none"
            return Finding(Kind.UNKNOWN_COMPRESSION, Severity.UNVERIFIED, self._digest, expected, str(error))
        return Finding(Kind.BROKEN_LAYER, Severity.ERROR, self._digest, "a layer that can be unpacked", str(error))

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


def _hasher(diff_id: Digest) -> Hasher | None:
    try:
        return diff_id.hasher()
    except InvalidDigest:
        return None
