"""A verification of a layout or archive, whose findings can be read as they come."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from mirror.concurrency import available_cpus, end_tasks, map_concurrently, to_thread
from mirror.content.finding import Finding, Kind, Severity, StoreKind, reason
from mirror.content.store import NoProgress, Progress, VerifiableStore, image_progress
from mirror.errors import BrokenArchive, ContentError, UsageError
from mirror.fs.directory import exists, is_directory
from mirror.layout import Entry, index
from mirror.layout.verifiable import VerifiableLayout
from mirror.oci.descriptor import Descriptor
from mirror.report.findings import VerifyLevel, VerifyReport
from mirror.stores.location import LOCAL, Location
from mirror.verify import metadata
from mirror.verify.blobs import BlobVerification
from mirror.verify.options import Expectations, VerifyOptions, one_of
from mirror.verify.structure import Structure

if TYPE_CHECKING:
    from mirror.report.verify_parts import Agreement, Sample

_TICK = 0.1  # seconds between two updates of the progress


class _Stopped(Exception):
    """The caller no longer reads findings."""


def _sample_of(sample: Sample | str | None) -> Sample | None:
    if not isinstance(sample, str):
        return sample
    from mirror.report.verify_parts import Sample  # most verifications hash every blob

    return Sample.parse(sample)


def _archive(path: Path) -> VerifiableStore:
    from mirror.archive.verifiable import VerifiableArchive  # not needed for layouts

    return VerifiableArchive(path)


class Verification:
    """A verification of a layout or an archive. Iterate over it, once, to get the findings as they come.

        verification = Verification("./layout", options=VerifyOptions(level="layers"))
        async for finding in verification:
            print(finding.kind, finding.subject)
        print(verification.report.verdict)

    `report` is available at any time; it is complete when the iteration has ended.
    """

    def __init__(
        self,
        path: Path | str,
        images: Sequence[str] = (),
        options: VerifyOptions | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Prepare a verification; nothing is read yet.

        Args:
            path: the directory of a layout, the file of an archive in any format, or a location such as
                `oci:./layout:v1`; it is only read.
            images: the images to verify, with their referrers; by default all, and everything else below `blobs/`.
            options: what to check, and how; the defaults hash every byte.
            progress: gets the progress.

        Raises:
            UsageError: an unknown level, sample or severity, or a location in a registry.
            InvalidDigest: a text in `expect` is not a digest.
        """
        options = options or VerifyOptions()
        self._location = Location.of_kind(path, *LOCAL)
        named = [self._location.ref] if self._location.ref and self._location.position is None else []
        self._path, self._images = Path(self._location.where), [*named, *images]
        self._whole = not images and not self._location.ref
        self._level, self._fail_on = one_of(VerifyLevel, options.level), one_of(Severity, options.fail_on)
        self._sample = _sample_of(options.sample)
        if self._sample and self._level is VerifyLevel.STRUCTURE:
            raise UsageError("A sample is a part of the content, which level 'structure' does not read.")
        self._blobs: BlobVerification | None = None
        self._shown: tuple[Descriptor, str] | None = None  # the blob that the progress shows, and its image
        self._progress, self._threads = progress or NoProgress(), options.threads or available_cpus()
        self._expectations = Expectations.of(options.expect, options.records)
        self._agreements: Sequence[Agreement] = ()
        self._findings: list[Finding] = []
        self._fresh: deque[Finding] = deque()
        self._place = StoreKind.LAYOUT
        self._entries: Sequence[Entry] = ()
        self._structure: Structure | None = None
        self._stop = Event()
        self._advanced, self._told = [0] * self._threads, 0
        self._started = time.monotonic()
        self._seconds: float | None = None

    async def __aiter__(self) -> AsyncGenerator[Finding, None]:
        """Yield the findings as they come. The errors are those of `verify_layout`."""
        self._started = time.monotonic()
        location = self._location
        guess = exists(self._path) and not is_directory(self._path)
        is_file = guess if location.guessed else location.transport.is_archive
        self._place = StoreKind.ARCHIVE if is_file else StoreKind.LAYOUT
        open_store = _archive if is_file else VerifiableLayout
        try:
            opened = await to_thread(partial(open_store, self._path), discard=VerifiableStore.close)
        except BrokenArchive as error:
            if error.unsupported:  # not a fault of its content
                raise
            path = str(self._path)
            found = Finding(Kind.BROKEN_ARCHIVE, Severity.ERROR, path, "an archive of images", reason(error, path))
            yield self._note(found)
            self._seconds = time.monotonic() - self._started
            return
        with closing(opened) as store:
            work = asyncio.create_task(self._run(store))
            try:
                while not work.done():
                    await asyncio.wait([work], timeout=_TICK)
                    self._tell()
                    while self._fresh:
                        yield self._note(self._fresh.popleft())
                work.result()
            finally:
                self._stop.set()  # threads cannot be cancelled: they check this after every read,
                await end_tasks([work])  # and use the store until then
        self._seconds = time.monotonic() - self._started

    @property
    def report(self) -> VerifyReport:
        """The report, with the findings so far."""
        structure = self._structure
        findings = [*self._findings, *(replace(finding, place=self._place) for finding in self._fresh)]
        severities = list(Severity)  # the worst first; the rest of the key makes every run list them in the same order
        return VerifyReport(
            path=str(self._path),
            images=tuple(structure.images()) if structure else (),
            findings=tuple(sorted(findings, key=lambda one: (severities.index(one.severity), one.subject, one.kind))),
            files=structure.table.files if structure else 0,
            size=structure.table.hashed if structure else 0,
            seconds=self._seconds or time.monotonic() - self._started,
            level=self._level,
            sample=self._sample,
            complete=self._seconds is not None,
            fail_on=self._fail_on,
            anchored=tuple(self._agreements),
        )

    def _note(self, finding: Finding) -> Finding:
        self._findings.append(finding if finding.place is self._place else replace(finding, place=self._place))
        return self._findings[-1]

    async def _run(self, store: VerifiableStore) -> None:
        """Run the steps in threads; see `mirror.verify`."""
        try:
            selected = await to_thread(partial(self._read_metadata, store))
            self._plan("walking", len(selected), sum(entry.root.size for entry in selected))
            structure = await to_thread(partial(self._walk, store, selected))
            self._plan("checking", len(structure.table), structure.table.total_size())
            blobs = self._blobs = await to_thread(partial(self._check_sizes, structure, selected))
            self._plan("verifying", blobs.count, blobs.size)
            slots = range(min(self._threads, blobs.count))
            if self._level is VerifyLevel.LAYERS:
                blobs.allow_unpacking()
            work = [partial(blobs.hash, partial(self._advance, slot)) for slot in slots]
            await map_concurrently(work, to_thread, self._threads)
        except _Stopped:
            return

    def _read_metadata(self, store: VerifiableStore) -> list[Entry]:
        """Run step 1, and return the selected images."""
        metadata.check_layout_file(store, self._fresh.append)
        entries = self._entries = metadata.read_entries(store, self._fresh.append)
        metadata.check_names(entries, self._fresh.append)
        if self._location.position is not None:
            from mirror.stores.local import entry_at  # it loads both kinds of stores

            return [entry_at(entries, self._location.position, store.name)]
        finder = index.EntryFinder(entries, store.name)
        return [finder.find(text) for text in self._images] or entries

    def _walk(self, store: VerifiableStore, selected: Sequence[Entry]) -> Structure:
        """Run step 2."""
        report, deep = self._fresh.append, self._level is VerifyLevel.LAYERS
        structure = self._structure = Structure(store, deep=deep, report=report, checkpoint=self._checkpoint)
        structure.walk(selected, partial(self._advance, 0))
        self._fresh.extend(self._compare_lists(structure))
        if self._whole:
            structure.find_orphans()
            structure.adopt()
            self._fresh.extend(store.leftovers())
        else:
            from mirror.verify.referrers import ReferrersOf  # not needed for a whole layout

            structure.adopt_referrers(ReferrersOf(store, self._entries, selected, self._checkpoint))
        self._fresh.extend(structure.pending_findings())
        return structure

    def _compare_lists(self, structure: Structure) -> Iterable[Finding]:
        """Return findings for images that docker would load from an archive, but that are not verified."""
        store = structure.store
        try:
            listed = store.docker_manifest()
        except ContentError as error:
            from mirror.verify import consistency  # not needed for layouts

            return [consistency.not_comparable(Severity.UNVERIFIED, reason(error))]
        if not listed:
            return ()
        from mirror.verify import consistency  # as above

        if not self._whole:  # all images are compared, whichever are selected
            structure = Structure(store, deep=False, report=lambda _: None, checkpoint=self._checkpoint)
            structure.walk(self._entries)
        return consistency.disagreements(listed, structure)

    def _check_sizes(self, structure: Structure, selected: Sequence[Entry]) -> BlobVerification:
        """Run step 3, and compare the images with expected digests and records."""
        blobs = BlobVerification(structure, self._fresh.append, self._checkpoint)
        blobs.check_sizes(self._level, self._sample, partial(self._advance, 0))
        if self._expectations:
            self._compare_images(structure.store, selected)
        return blobs

    def _compare_images(self, store: VerifiableStore, selected: Sequence[Entry]) -> None:
        from mirror.verify.expectations import compare_images, reading  # most verifications have no expectations

        stored = None if self._whole else self._entries
        compared = compare_images(reading(store), selected, self._expectations, store.name, stored)
        self._fresh.extend(compared.findings)
        self._agreements = compared.agreements

    def _advance(self, slot: int, count: int) -> None:
        """Count progress. Each thread has a slot of its own."""
        self._checkpoint()
        self._advanced[slot] += count

    def _plan(self, phase: str, blobs: int, size: int) -> None:
        """Begin a phase; no threads are running."""
        self._tell()
        self._advanced, self._told = [0] * self._threads, 0
        self._progress.plan(phase, blobs, size)

    def _tell(self) -> None:
        now = sum(self._advanced)
        if now != self._told:
            self._progress.advance(None, now - self._told)
        self._told = now
        hashing = self._blobs.hashing() if self._blobs else None
        if hashing and self._shown != hashing:
            image_progress(self._progress).locate(*hashing, "")
        self._shown = hashing

    def _checkpoint(self) -> None:
        if self._stop.is_set():
            raise _Stopped
