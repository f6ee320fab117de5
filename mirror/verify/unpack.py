"""The content of a layer: unpacked while the blob is hashed, in one pass, and compared with the diff_ids of configs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mirror.content.decompress import READ, Allowance, unpacked
from mirror.content.finding import Finding, Kind, Severity, reason
from mirror.content.hashing import HashingReader
from mirror.errors import CorruptCompression, DecompressionBomb, InvalidContent, UnsupportedCompression
from mirror.oci.digest import Digest
from mirror.verify.tar import TarScanner


class Layer:
    """A layer to unpack: pass it to `hash_blob` as `through`, then get its findings if the blob is intact."""

    def __init__(
        self, digest: Digest, size: int, diff_ids: Sequence[Digest], *, tar: bool, allowance: Allowance
    ) -> None:
        self._digest, self._size, self._diff_ids, self._allowance = digest, size, diff_ids, allowance
        self._hashers = {diff_id.algorithm: diff_id.hasher() if diff_id.hashable else None for diff_id in diff_ids}
        self._scanner = TarScanner() if tar else None
        self._error: InvalidContent | None = None

    def __call__(self, passing: HashingReader) -> None:
        """Unpack the blob. Errors are kept for `findings`: a corrupt blob gets no other finding than that."""
        view = memoryview(bytearray(READ))
        hashers = list(filter(None, self._hashers.values()))
        try:
            for piece in unpacked(lambda: bytes(view[: passing.readinto(view)]), self._size, self._allowance):
                for hasher in hashers:
                    hasher.update(piece)
                if self._scanner:
                    self._scanner.feed(piece)
        except (CorruptCompression, UnsupportedCompression, DecompressionBomb) as error:
            self._error = error

    def findings(self) -> Iterator[Finding]:
        """Yield what is wrong with the content; the names in it are checked only if it matches the diff_ids."""
        error = self._error
        if isinstance(error, DecompressionBomb):
            yield Finding(Kind.BOMB, Severity.ERROR, self._digest, error.limit, "more")
        elif isinstance(error, UnsupportedCompression):
            expected = "gzip, zstd or no compression"
            yield Finding(Kind.UNKNOWN_COMPRESSION, Severity.UNVERIFIED, self._digest, expected, reason(error))
        elif error:
            expected = "a layer that can be unpacked"
            yield Finding(Kind.BROKEN_LAYER, Severity.ERROR, self._digest, expected, reason(error))
        if error:
            return
        wrong = [finding for diff_id in self._diff_ids for finding in self._compare(diff_id)]
        yield from wrong or self._check_names()

    def _compare(self, diff_id: Digest) -> Iterator[Finding]:
        hasher = self._hashers[diff_id.algorithm]
        if hasher is None:
            yield Finding(Kind.UNHASHABLE, Severity.UNVERIFIED, self._digest, diff_id, diff_id.algorithm)
        elif not diff_id.matches(hasher):
            found = f"{diff_id.algorithm}:{hasher.hexdigest()}"
            yield Finding(Kind.WRONG_DIFF_ID, Severity.ERROR, self._digest, diff_id, found)

    def _check_names(self) -> Iterator[Finding]:
        scanner = self._scanner
        if scanner is None:
            return
        scanner.close()
        for kind, expected, found in (
            (Kind.NOT_A_TAR, "a tar archive", scanner.problem),
            (Kind.DUPLICATE_PATH, "each path once", scanner.duplicates),
            (Kind.DANGEROUS_PATH, "paths inside of the image", scanner.dangerous),
        ):
            if found:
                yield Finding(kind, Severity.WARNING, self._digest, expected, str(found))
