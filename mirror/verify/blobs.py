"""Steps 3 and 4: compare the sizes of all blobs, then hash them, the largest first, in several threads.

Each thread reads into one buffer of its own, so memory does not grow with the size of the layout.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.finding_text import Fact, link_hint
from mirror.content.hashing import READ, BlobCheck, BlobFault, check_size, hash_blob
from mirror.oci.descriptor import Descriptor
from mirror.report.findings import VerifyLevel
from mirror.verify.blob_table import DONE, FOREIGN, TAR
from mirror.verify.metadata import Report
from mirror.verify.structure import Structure

if TYPE_CHECKING:
    from mirror.content.decompress import Allowance
    from mirror.report.verify_parts import Sample
    from mirror.verify.unpack import Layer

_NOT_CHECKED = frozenset({BlobFault.UNREADABLE, BlobFault.UNHASHABLE, BlobFault.CHANGED})
_SIZE_CLASSES = 64  # class n: fewer than 2^n bytes


class BlobVerification:
    """The verification of the blobs of a structure. `count` and `size` are those to be hashed."""

    def __init__(self, structure: Structure, report: Report, checkpoint: Callable[[], None]) -> None:
        self.count = self.size = 0
        self._structure, self._table, self._store = structure, structure.table, structure.store
        self._report, self._checkpoint = report, checkpoint
        self._by_size = [array("I") for _ in range(_SIZE_CLASSES)]
        self._queue: Iterator[int] = iter(())
        self._lock = Lock()
        self._allowance: Allowance | None = None  # of the level `layers`
        self._hashing: dict[int, None] = {}  # numbers of blobs, the oldest first

    def check_sizes(self, level: VerifyLevel, sample: Sample | None, advance: Callable[[int], None]) -> None:
        """Check that each blob is a file of the right size (step 3), and queue those to be hashed.

        `advance` gets the expected size of each blob.
        """
        for number, check in self._structure.documents.faults:
            if check.fault is not BlobFault.MISSING or self._table.is_used(number):
                self._report(self._finding(number, check))
        for number in range(len(self._table)):
            self._checkpoint()
            size = self._table.size(number)
            advance(size or 0)
            if self._table.flags[number] & DONE:
                self._report_orphan(number, size or 0)
                continue
            check = check_size(self._store.open(self._table.digest(number)), size)
            sampled = sample is None or sample.takes(self._table.bucket(number, sample.of))
            if check.ok and level is not VerifyLevel.STRUCTURE and sampled:
                self._by_size[check.size.bit_length()].append(number)
                self.count += 1
                self.size += check.size
            else:
                self._finish(number, check)
        self._queue = chain.from_iterable(reversed(self._by_size))

    def allow_unpacking(self) -> None:
        """Prepare `hash` for the level `layers`."""
        from mirror.content.decompress import Allowance  # loads decompression libraries, which only this level needs

        self._allowance = Allowance(self.size)

    def hash(self, advance: Callable[[int], None]) -> None:
        """Hash queued blobs until none are left (step 4); several threads call it at once."""
        buffer = bytearray(READ)
        while True:
            with self._lock:
                number = next(self._queue, None)
                if number is None:
                    return
                self._hashing[number] = None
            digest, size = self._table.digest(number), self._table.size(number)
            layer = self._layer(number, self._allowance) if self._allowance else None
            check = hash_blob(self._store.open(digest), digest, size, buffer=buffer, advance=advance, through=layer)
            findings = list(layer.findings() if layer else self._opaque(number)) if check.ok else []
            with self._lock:
                del self._hashing[number]
                self._finish(number, check)
                for finding in findings:
                    self._report(self._structure.with_affected(number, finding))

    def hashing(self) -> tuple[Descriptor, str] | None:
        """Return the blob that has been hashed for longest now, and the name of an image that uses it; or None."""
        with self._lock:
            number = next(iter(self._hashing), None)
            if number is None:
                return None
            node = Descriptor("application/octet-stream", self._table.digest(number), self._table.size(number) or 0)
            use = next(self._table.uses(number), None)
            return node, self._structure.roots[use.image].names[0] if use else "no image"

    def _layer(self, number: int, allowance: Allowance) -> Layer | None:
        from mirror.verify.unpack import Layer  # as above

        diff_ids = list(self._table.diff_ids(number))
        if not diff_ids:
            return None
        digest, is_tar = self._table.digest(number), bool(self._table.flags[number] & TAR)
        return Layer(digest, self._table.sizes[number], diff_ids, tar=is_tar, allowance=allowance)

    def _opaque(self, number: int) -> Iterator[Finding]:
        if why := self._structure.documents.opaque.get(number):
            digest, expected = self._table.digest(number), "a layer that can be unpacked"
            yield Finding(Kind.NOT_UNPACKED, Severity.UNVERIFIED, digest, expected, why)

    def _finish(self, number: int, check: BlobCheck) -> None:
        self._table.finish(number, check)
        if check.fault is BlobFault.MISSING and not self._table.is_used(number):
            return  # part of a platform that is absent as a whole
        if check.fault:
            self._report(self._finding(number, check))
        else:
            self._report_orphan(number, check.size)

    def _report_orphan(self, number: int, size: int) -> None:
        if not self._table.is_used(number):
            self._report(Finding(Kind.ORPHAN, Severity.WARNING, self._table.digest(number), "an image", size))

    def _finding(self, number: int, check: BlobCheck) -> Finding:
        """Return the finding for a fault: an error, unless it may be missing or could not be checked."""
        kind, severity = Kind(str(check.fault)), Severity.ERROR
        digest, size = self._table.digest(number), self._table.size(number)
        expected: Fact = check.expected
        found: Fact = check.found
        if check.fault in _NOT_CHECKED:
            severity = Severity.UNVERIFIED
        if check.fault is BlobFault.UNHASHABLE:
            expected, found = None, digest.algorithm
        elif check.fault in (BlobFault.TOO_SHORT, BlobFault.TOO_LONG):
            expected, found = size, check.size
        elif check.fault is BlobFault.MISSING:
            expected, found = size, None
            if self._may_lack(number):
                kind, severity, found = Kind.ABSENT, Severity.WARNING, self._why_absent(number)
        hint = link_hint(check.found)
        finding = Finding(kind, severity, digest, expected, found, size=size, advice=hint)
        return self._structure.with_affected(number, finding)

    def _why_absent(self, number: int) -> str | None:
        """Return what a blob is that may be missing; None if the layout records that it was left out on purpose."""
        if self._table.flags[number] & FOREIGN:
            return "a foreign layer, which is not kept here"
        if media_type := self._structure.documents.unsupported.get(number):
            return f"left behind: manifests of the type {media_type} are not supported"
        return "a manifest that was not saved" if number in self._structure.gone else None

    def _may_lack(self, number: int) -> bool:
        """Return whether a blob may be missing: a foreign layer, or of a platform that was left out or not saved.

        A manifest that no record says was left out, while blobs that no image uses are here, is more likely lost.
        """
        structure = self._structure
        is_optional = all(use.optional for use in self._table.uses(number))
        is_lost = structure.has_orphans and number in structure.gone
        return bool(self._table.flags[number] & FOREIGN) or (is_optional and not is_lost)
