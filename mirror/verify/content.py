"""Steps 3 and 4: look at every file below `blobs/`, then hash those that are there, largest first, on all cores.

A thread reads into one buffer of its own, so memory does not grow with the layout's bytes.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.hashing import READ, BlobCheck, BlobFault, check_size, hash_blob
from mirror.report.findings import Sample, VerifyLevel
from mirror.verify.blob_table import DONE, FOREIGN, TAR
from mirror.verify.own import Report
from mirror.verify.structure import Structure

if TYPE_CHECKING:
    from mirror.verify.unpack import Layer

_NOBODY_CAN_SAY = frozenset({BlobFault.UNREADABLE, BlobFault.UNHASHABLE, BlobFault.CHANGED})
_SIZES = 64  # classes of size: class n has fewer than 2^n bytes


class Content:
    """The blobs of a structure, as they are stored. `blobs` and `size` are what is there to be hashed."""

    def __init__(self, structure: Structure, report: Report, proceed: Callable[[], None]) -> None:
        self.blobs = self.size = 0
        self._structure, self._ledger, self._store = structure, structure.ledger, structure.store
        self._report, self._proceed = report, proceed
        self._by_size = [array("I") for _ in range(_SIZES)]
        self._queue: Iterator[int] = iter(())
        self._lock = Lock()

    def look(self, level: VerifyLevel, sample: Sample | None, advance: Callable[[int], None] = lambda _: None) -> None:
        """Step 3: is each blob there, a file, and of the right size? What is going to be hashed is queued.

        `advance` gets the bytes that each should have.
        """
        for number, verdict in self._structure.documents.flawed:
            self._report(self._judge(number, verdict))
        for number in range(len(self._ledger)):
            self._proceed()
            advance(self._ledger.said(number) or 0)
            if self._ledger.marks[number] & DONE:
                self._report_orphan(number)
                continue
            verdict = check_size(self._store.open(self._ledger.digest(number)), self._ledger.said(number))
            sampled = sample is None or sample.takes(self._ledger.bucket(number, sample.of))
            if verdict.ok and level is not VerifyLevel.STRUCTURE and sampled:
                self._by_size[verdict.size.bit_length()].append(number)
                self.blobs += 1
                self.size += verdict.size
            else:
                self._settle(number, verdict)
        self._queue = chain.from_iterable(reversed(self._by_size))

    def hash(self, advance: Callable[[int], None], *, deep: bool) -> None:
        """Step 4, for one thread of several: hash what is queued, until nothing is left."""
        buffer = bytearray(READ)
        while (number := self._next()) is not None:
            digest, size = self._ledger.digest(number), self._ledger.said(number)
            layer = self._layer(number) if deep else None
            verdict = hash_blob(self._store.open(digest), digest, size, buffer=buffer, advance=advance, through=layer)
            found = list(layer.findings()) if layer and verdict.ok else []
            with self._lock:
                self._settle(number, verdict)
                for finding in found:
                    self._report(self._structure.attributed(number, finding))

    def _next(self) -> int | None:
        with self._lock:
            return next(self._queue, None)

    def _layer(self, number: int) -> Layer | None:
        from mirror.verify.unpack import Layer  # and the libraries that unpack, for this level alone

        wanted = list(self._ledger.wanted(number))
        tar = bool(self._ledger.marks[number] & TAR)
        size = self._ledger.sizes[number]
        return Layer(self._ledger.digest(number), size, wanted, tar=tar) if wanted else None

    def _settle(self, number: int, verdict: BlobCheck) -> None:
        self._ledger.settle(number, verdict)
        if verdict.flaw:
            self._report(self._judge(number, verdict))
        else:
            self._report_orphan(number)

    def _report_orphan(self, number: int) -> None:
        if not self._ledger.used(number):
            digest = self._ledger.digest(number)
            self._report(Finding(Kind.ORPHAN, Severity.WARNING, digest, "something that names it", "nothing"))

    def _judge(self, number: int, verdict: BlobCheck) -> Finding:
        """What a flaw means."""
        kind, severity, said = Kind(str(verdict.flaw)), Severity.ERROR, self._ledger.said(number)
        if verdict.flaw in _NOBODY_CAN_SAY:
            severity = Severity.UNVERIFIED
        elif verdict.flaw is BlobFault.MISSING and self._may_lack(number):
            kind, severity = Kind.ABSENT, Severity.WARNING
        expected = f"{said} bytes" if verdict.flaw is BlobFault.MISSING else verdict.expected
        digest = self._ledger.digest(number)
        return self._structure.attributed(number, Finding(kind, severity, digest, expected, verdict.found, size=said))

    def _may_lack(self, number: int) -> bool:
        """What is left out on purpose: a foreign layer, or what only a sparse image names."""
        return bool(self._ledger.marks[number] & FOREIGN) or not self._structure.needed(number)
