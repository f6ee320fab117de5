"""Repair a layout: fetch what is damaged or missing from a good copy; nothing else changes.

1. Verify.
2. Lock the layout exclusively. The report is only a hint from here on: another process may have written meanwhile.
3. Walk every affected image, reading its manifests from the layout if they are intact, else from the source. A
   root that mirror has built, and no source has, is built again (`mirror.manage.rebuild`).
4. Copy what is damaged, each blob once for all images. A file is hashed again immediately before it is replaced, and
   only a bad one is kept in quarantine. Nothing is deleted.
5. Verify again, to report the state of the repaired layout.

The entries of `index.json` do not change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.archive.reader import Archive
from mirror.concurrency import map_concurrently
from mirror.content.copy import execute
from mirror.content.finding import Kind
from mirror.content.graph import fail_unless_unsupported
from mirror.content.plan import CopyTask, make_plan
from mirror.content.store import Progress, Source
from mirror.content.walk import walk
from mirror.content.wrappers import FallbackSource, RepairSink
from mirror.errors import InvalidDigest, MirrorError
from mirror.layout import Entry, Layout, LayoutWriter
from mirror.layout.implied import Relations
from mirror.layout.presence import present
from mirror.manage.rebuild import with_built
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions, open_source
from mirror.report.findings import VerifyLevel, VerifyReport
from mirror.report.verify_parts import RepairReport
from mirror.retry import RetryPolicy
from mirror.stores.local import open_local
from mirror.stores.location import Location, Transport
from mirror.transfer.naming import PushTarget
from mirror.verify import VerifyOptions, verify_layout

SourceOf = Callable[[Entry], Source]

_CONCURRENCY = 4  # images that are walked at once

# Findings that the correct bytes fix. Mistakes of the publisher are in every copy.
_REPAIRABLE = frozenset({Kind.MISSING, Kind.TOO_SHORT, Kind.TOO_LONG, Kind.CORRUPT, Kind.NOT_A_FILE, Kind.UNREADABLE})


@dataclass(frozen=True, slots=True)
class RepairOptions:
    """Options for repairing.

    Attributes:
        level: how thoroughly to verify, before and after.
        retry: how often to try each request.
        registries: how to connect to a registry; `jobs` is how many blobs to fetch at once.
    """

    level: VerifyLevel | str = VerifyLevel.CONTENT
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def repair_layout(
    path: Path | str,
    source: str,
    images: Sequence[str] = (),
    options: RepairOptions | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify a layout, fetch what is damaged from `source`, and verify it again.

    Args:
        path: the directory of the layout.
        source: a good copy: the directory of a layout, an archive, or `REGISTRY[/PREFIX]`, where each image is looked
            up by the name that a push would have given it.
        images: which images; by default all, and all other stored blobs.
        options: how; the defaults hash every byte.
        progress: is told about the progress.

    Returns:
        The findings after the repair, and what was repaired. An image that could not be repaired still has findings.

    Raises:
        NotFound: there is no such directory or image.
        UsageError: `source` is not a layout, an archive or a registry, or the level is unknown.
        ContentError: `oci-layout` or `index.json` is broken, which no source can fix.
        StorageError: the disk refused, or another mirror process has locked the layout.
    """
    location, options = Location.of_kind(path, Transport.LAYOUT), options or RepairOptions()
    folder, images = Path(location.where), [*([location.ref] if location.ref else []), *images]
    verifying, retry, jobs = VerifyOptions(level=options.level), options.retry, options.registries.jobs
    tried, stored = set[Digest](), set[Digest]()
    failures: list[str] = []
    async with AsyncExitStack() as stack:
        source_of, good = await _open_source(stack, Location.parse_copy(source), options.registries)
        report = await verify_layout(folder, images, verifying, progress)
        if not _damaged(report):
            return replace(report, repair=RepairReport(source))
        Layout.open(folder).close()  # fails if it is not a layout, before it is written to
        writing = LayoutWriter.writing(folder, jobs=jobs, exclusive=True, keep_bad=True)
        layout = await stack.enter_async_context(writing)
        while damaged := _damaged(report) - tried:  # a manifest that was fetched may reference more that is missing
            tried |= damaged
            affected = {name for finding in report.findings if finding.kind in _REPAIRABLE for name in finding.images}
            entries = [entry for entry in layout.find(()) if entry.name in affected]
            entries += _without_entry(layout, affected - {entry.name for entry in entries})
            orphans = set() if images else _damaged(report, orphans_only=True)
            entries += _without_entry(good, set(map(str, orphans)))
            sink = RepairSink(layout, damaged)
            tasks = await _plan(layout, sink, source_of, entries, retry, failures)
            plan = await make_plan(tasks, jobs=jobs, retry=retry)
            await execute(plan, jobs=jobs, retry=retry, keep_going=True, progress=progress)
            failures += [f"{task.name}: {task.failure}" for task in tasks if task.failure]
            for digest in sorted(orphans - sink.stored):
                await layout.quarantine(digest)
            stored |= sink.stored
            report = await verify_layout(folder, images, verifying, progress)
    healed = tuple(sorted(stored - _damaged(report)))
    moved = tuple(map(str, layout.quarantined_files))
    return replace(report, repair=RepairReport(source, healed, moved, tuple(failures)))


def _damaged(report: VerifyReport, *, orphans_only: bool = False) -> set[Digest]:
    """Return the digests of damaged blobs; of orphans, which most sources lack, only those with wrong content."""
    kinds = _REPAIRABLE - {Kind.UNREADABLE, Kind.MISSING} if orphans_only else _REPAIRABLE
    found = set()
    for finding in report.findings:
        if finding.kind in kinds and not (orphans_only and finding.images):
            with suppress(InvalidDigest):  # a file such as index.json
                found.add(Digest.parse(finding.subject))
    return found


def _without_entry(store: Layout | Archive | None, names: set[str]) -> list[Entry]:
    """Return the images that no entry leads to, referrers and subjects of artifacts: their names are digests."""
    roots = Relations.read(store).roots if store and names else {}
    return [Entry.of(root) for digest, root in sorted(roots.items()) if digest in names]


async def _plan(
    layout: LayoutWriter,
    sink: RepairSink,
    source_of: SourceOf,
    entries: Sequence[Entry],
    retry: RetryPolicy,
    failures: list[str],
) -> list[CopyTask]:
    """Walk images, and return the tasks that repair them. Errors of images that cannot be walked go to `failures`."""

    async def task(entry: Entry) -> CopyTask | None:
        try:
            source = source_of(entry)
            if not await sink.has(entry.root):
                source = await with_built(layout, entry, source, retry)
            readable = FallbackSource(layout, source)
            there = await present(readable, entry, layout.holds, is_archive=False, retry=retry)
            graph = await walk(
                readable,
                entry.root,
                keep=lambda child: there(child) or child.digest in sink.bad,
                retry=retry,
                on_fault=fail_unless_unsupported(entry.root),
            )
        except MirrorError as error:
            failures.append(f"{entry.name}: {error}")
            return None
        return CopyTask(source, sink, graph, entry.name, replace(entry.root, data=None))

    return [found for found in await map_concurrently(entries, task, _CONCURRENCY) if found]


async def _open_source(
    stack: AsyncExitStack, location: Location, options: RegistryOptions
) -> tuple[SourceOf, Layout | Archive | None]:
    """Open the good copy; return the source of each image, and the store if it is a layout or an archive."""
    if location.transport is not Transport.REGISTRY:
        store = (await open_local(location, stack)).store
        return lambda _: store, store
    target, client = PushTarget.parse(location.where), await stack.enter_async_context(Client(options))

    def source_of(entry: Entry) -> Source:
        # Parsed again, so that docker.io/redis becomes docker.io/library/redis.
        return open_source(client, Reference.parse(str(target.place(entry))))

    return source_of, None
