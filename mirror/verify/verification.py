"""One verification, from its beginning to its end, or to the moment when nobody wants to know more."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import closing
from enum import StrEnum
from functools import partial
from pathlib import Path
from threading import Event
from typing import TypeVar

from mirror.archive.verifiable import VerifiableArchive
from mirror.concurrency import available_cpus, map_concurrently, shielded, to_thread
from mirror.content.finding import Finding, Kind, Severity
from mirror.content.store import NoProgress, Progress, VerifiableStore
from mirror.errors import BrokenArchive, ContentError, UsageError
from mirror.fs.directory import exists, is_directory
from mirror.layout import Entry, index
from mirror.layout.verifiable import VerifiableLayout
from mirror.records import Record
from mirror.report.anchors import Anchored
from mirror.report.findings import Sample, VerifyLevel, VerifyReport
from mirror.verify import consistency, own
from mirror.verify.content import Content
from mirror.verify.expectations import Expectations, compare_all, reading
from mirror.verify.structure import Structure

T = TypeVar("T", bound=StrEnum)

_TICK = 0.1  # seconds between two looks at how far the threads are


class _Stopped(Exception):
    """Somebody has lost interest."""


class Verification:
    """A verification of a layout, or of an archive: iterate over it, once, for the findings as they come.

        verification = Verification("./layout", level="layers")
        async for finding in verification:
            print(finding.kind, finding.subject)
        print(verification.report.verdict)

    `report` may be asked for at any time; until the end of the iteration it says that it is not complete.
    """

    def __init__(
        self,
        path: Path | str,
        images: Sequence[str] = (),
        *,
        level: VerifyLevel | str = VerifyLevel.CONTENT,
        sample: Sample | str | None = None,
        fail_on: Severity | str = Severity.ERROR,
        expect: Mapping[str, str] | None = None,
        records: Sequence[Record] = (),
        progress: Progress | None = None,
        threads: int | None = None,
    ) -> None:
        """Say what is to be verified; nothing is read yet.

        Args:
            path: the layout's folder, or the file of an archive, in whichever form; it is only read.
            images: which images; where none is named, all of them, and everything else below `blobs/` too.
            level: how closely to look: `structure`, `content` or `layers`.
            sample: hash only this part of the blobs, `n/t`; the structure is verified whole.
            fail_on: the least severity that makes the verdict `not ok`: `error` or `warning`.
            expect: digests that images have to have, by their names.
            records: digest records that images have to agree with; see `parse_records`.
            progress: who wants to know how it goes.
            threads: how many files are read at once; one for each core where it is None.

        Raises:
            UsageError: a level, a sample or a severity that there is not.
            InvalidDigest: something in `expect` is no digest.
        """
        self._path, self._images = Path(path), images
        self._level, self._fail_on = _one_of(VerifyLevel, level), _one_of(Severity, fail_on)
        self._sample = Sample.parse(sample) if isinstance(sample, str) else sample
        if self._sample and self._level is VerifyLevel.STRUCTURE:
            raise UsageError("A sample is a part of the content, and the level 'structure' reads none of it.")
        self._progress, self._threads = progress or NoProgress(), threads or available_cpus()
        self._anchors = Expectations.of(expect, records)
        self._anchored: Sequence[Anchored] = ()
        self._findings: list[Finding] = []
        self._fresh: deque[Finding] = deque()
        self._entries: Sequence[Entry] = ()
        self._structure: Structure | None = None
        self._stop = Event()
        self._advanced, self._told = [0] * self._threads, 0
        self._started = time.monotonic()
        self._seconds: float | None = None

    async def __aiter__(self) -> AsyncGenerator[Finding, None]:
        """The findings, as they come.

        Raises:
            NotFound: there is no such folder or file, or no such image in it.
            BrokenArchive: the file is something else than an archive; a broken archive is a finding.
            StorageError: the folder or the file itself cannot be read.
        """
        self._started = time.monotonic()
        try:
            opened = await to_thread(partial(_open, self._path), unwanted=VerifiableStore.close)
        except BrokenArchive as error:
            if error.hint:  # it is something else, and there is a way to go on with it
                raise
            found = Finding(Kind.BROKEN_ARCHIVE, Severity.ERROR, str(self._path), "an archive of images", str(error))
            self._findings.append(found)
            yield found
            self._seconds = time.monotonic() - self._started
            return
        with closing(opened) as store:
            work = asyncio.ensure_future(self._run(store))
            try:
                while not work.done():
                    await asyncio.wait([work], timeout=_TICK)
                    self._tell()
                    while self._fresh:
                        self._findings.append(self._fresh.popleft())
                        yield self._findings[-1]
                work.result()
            finally:
                self._stop.set()  # a thread cannot be cancelled: it looks here after every read
                await shielded(work)  # and until it has, the store is its own
        self._seconds = time.monotonic() - self._started

    @property
    def report(self) -> VerifyReport:
        """What is known so far."""
        structure = self._structure
        return VerifyReport(
            path=str(self._path),
            images=tuple(structure.images()) if structure else (),
            findings=tuple(sorted([*self._findings, *self._fresh], key=_rank)),
            files=structure.ledger.files if structure else 0,
            size=structure.ledger.size if structure else 0,
            seconds=self._seconds or time.monotonic() - self._started,
            level=self._level,
            sample=self._sample,
            complete=self._seconds is not None,
            fail_on=self._fail_on,
            anchored=tuple(self._anchored),
        )

    async def _run(self, store: VerifiableStore) -> None:
        """The steps, in threads; see `mirror.verify`."""
        try:
            chosen = await to_thread(partial(self._open, store))
            self._plan("surveying", len(chosen), sum(entry.root.size for entry in chosen))
            structure = await to_thread(partial(self._survey, store, chosen))
            self._plan("checking", len(structure.ledger), structure.ledger.announced())
            content = await to_thread(partial(self._look, structure, chosen))
            self._plan("verifying", content.blobs, content.size)
            await map_concurrently(
                range(min(self._threads, content.blobs)), partial(self._hash, content), self._threads
            )
        except _Stopped:
            return

    def _open(self, store: VerifiableStore) -> list[Entry]:
        """Step 1, and which images are meant."""
        own.check_layout_file(store, self._fresh.append)
        entries = self._entries = own.read_entries(store, self._fresh.append)
        own.check_names(entries, self._fresh.append)
        finder = index.EntryFinder(entries, store.name)
        return [finder.find(text) for text in self._images] or entries

    def _survey(self, store: VerifiableStore, chosen: Sequence[Entry]) -> Structure:
        """Step 2."""
        report, deep = self._fresh.append, self._level is VerifyLevel.LAYERS
        structure = self._structure = Structure(store, deep=deep, report=report, proceed=self._proceed)
        structure.walk(chosen, partial(self._advance, 0))
        self._fresh.extend(self._compare_lists(structure))
        if not self._images:
            structure.find_orphans()
            self._fresh.extend(store.leftovers())
        self._fresh.extend(structure.about_all())
        return structure

    def _compare_lists(self, structure: Structure) -> Iterable[Finding]:
        """Where docker loads other images from an archive than those that were verified, that is a finding."""
        store = structure.store
        try:
            listed = store.docker_manifest()
        except ContentError as error:
            return [consistency.finding(Severity.UNVERIFIED, str(error))]
        if not listed:
            return ()
        if self._images:  # all images are compared, whichever are verified
            structure = Structure(store, deep=False, report=lambda _: None, proceed=self._proceed)
            structure.walk(self._entries)
        return consistency.disagreements(listed, structure)

    def _look(self, structure: Structure, chosen: Sequence[Entry]) -> Content:
        """Step 3, and the anchors."""
        content = Content(structure, self._fresh.append, self._proceed)
        content.look(self._level, self._sample, partial(self._advance, 0))
        compared = compare_all(reading(structure.store), chosen, self._anchors, structure.store.name)
        self._fresh.extend(compared.findings)
        self._anchored = compared.anchored
        return content

    async def _hash(self, content: Content, slot: int) -> None:
        """Step 4, in one thread of several."""
        await to_thread(partial(content.hash, partial(self._advance, slot), deep=self._level is VerifyLevel.LAYERS))

    def _advance(self, slot: int, count: int) -> None:
        """Called by threads, each with a slot of its own."""
        self._proceed()
        self._advanced[slot] += count

    def _plan(self, phase: str, blobs: int, size: int) -> None:
        """No thread is running now."""
        self._tell()
        self._advanced, self._told = [0] * self._threads, 0
        self._progress.plan(phase, blobs, size)

    def _tell(self) -> None:
        """How far the threads are."""
        now = sum(self._advanced)
        if now != self._told:
            self._progress.advance(None, now - self._told)
        self._told = now

    def _proceed(self) -> None:
        if self._stop.is_set():
            raise _Stopped


def _open(path: Path) -> VerifiableStore:
    return VerifiableArchive(path) if exists(path) and not is_directory(path) else VerifiableLayout(path)


def _rank(finding: Finding) -> tuple[int, str, str]:
    """The worst first, and the same order in every run."""
    return list(Severity).index(finding.severity), finding.subject, finding.kind


def _one_of(kind: type[T], text: str) -> T:
    try:
        return kind(text)
    except ValueError:
        raise UsageError(f"{text!r} is none of {', '.join(kind)}.") from None
