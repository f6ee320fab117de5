"""Repair a layout: fetch what is damaged or missing from a good copy; nothing else changes.

1. Verify.
2. Walk every affected image, reading its manifests from the layout if they are intact, else from the source.
3. Copy what is damaged. What was there before is moved to quarantine, and never deleted.
4. Verify again: the verdict is about what is there now.

The entries of `index.json` stay as they are: names, annotations and all.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from pathlib import Path

from mirror.archive.reader import Archive
from mirror.concurrency import map_concurrently
from mirror.content import copy
from mirror.content.copy import CopyTask
from mirror.content.finding import Finding, Kind
from mirror.content.store import Progress, Source
from mirror.content.stream import BlobReader
from mirror.content.walk import walk
from mirror.content.wrappers import FallbackSource, RepairSink
from mirror.errors import InvalidDigest, MirrorError, NotFound, UsageError
from mirror.fs.directory import exists, is_directory
from mirror.layout import Entry, Layout, LayoutWriter
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions, open_source
from mirror.report.findings import RepairReport, VerifyLevel, VerifyReport
from mirror.retry import RetryPolicy
from mirror.stores.location import Transport
from mirror.transfer.naming import PushTarget
from mirror.verify import verify_layout

SourceOf = Callable[[Entry], Source]

_CONCURRENCY = 4  # images that are walked

# Findings that the right bytes would fix. Mistakes of the publisher are in every copy.
_REPAIRABLE = frozenset({Kind.MISSING, Kind.TOO_SHORT, Kind.TOO_LONG, Kind.CORRUPT, Kind.NOT_A_FILE, Kind.UNREADABLE})


async def repair_layout(
    path: Path | str,
    source: str,
    images: Sequence[str] = (),
    *,
    level: VerifyLevel | str = VerifyLevel.CONTENT,
    options: RegistryOptions | None = None,
    retry: RetryPolicy | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify a layout, fetch what is damaged from `source`, and verify it again.

    Args:
        path: the directory of the layout.
        source: where a good copy is: the directory of a layout, an archive, or `REGISTRY[/PREFIX]`, in which every
            image is looked up under the name that a push to it would have used.
        images: which images; by default all, and everything else that is stored.
        level: how thoroughly to verify, before and after.
        options: how to connect to a registry.
        retry: how often to try each request.
        progress: is told about the progress.

    Returns:
        What is found afterwards, and what was repaired. An image that could not be repaired still has findings.

    Raises:
        NotFound: there is no such directory or image.
        UsageError: `source` is not a layout, an archive or a registry.
        ContentError: `oci-layout` or `index.json` is broken, which no source can fix.
        StorageError: the disk refused.
    """
    folder, options, retry = Path(path), options or RegistryOptions(), retry or RetryPolicy()
    report = await verify_layout(folder, images, level=level, progress=progress)
    if not _damaged(report):
        return replace(report, repair=RepairReport(source))
    Layout.open(folder).close()  # fails if it is not a layout, before it is written to
    tried, removed = set[Digest](), set[Digest]()
    failures: list[str] = []
    async with AsyncExitStack() as stack:
        source_of = await _open_source(stack, source, options)
        layout = await stack.enter_async_context(LayoutWriter.writing(folder, jobs=options.jobs, keep_bad=True))
        while damaged := _damaged(report) - tried:  # a manifest that was fetched may reference more that is missing
            tried |= damaged
            tasks = await _plan(layout, source_of, _affected(layout.find(images), report), damaged, retry, failures)
            plan = await copy.plan(tasks, jobs=options.jobs, retry=retry)
            await copy.execute(plan, jobs=options.jobs, retry=retry, keep_going=True, progress=progress)
            failures += [f"{task.name}: {task.failure}" for task in tasks if task.failure]
            for digest in _damaged_orphans(report) if not images else ():
                await layout.quarantine(digest)
                removed.add(digest)
            report = await verify_layout(folder, images, level=level, progress=progress)
    healed = tuple(sorted(tried - removed - _damaged(report)))
    return replace(report, repair=RepairReport(source, healed, tuple(map(str, layout.aside)), tuple(failures)))


def _damaged(report: VerifyReport) -> set[Digest]:
    findings = [finding for finding in report.findings if finding.kind in _REPAIRABLE]
    return set(_digests(findings))


def _damaged_orphans(report: VerifyReport) -> list[Digest]:
    """Return damaged blobs that no image needs: no source has them, and their content does not match their names."""
    kinds = _REPAIRABLE - {Kind.UNREADABLE, Kind.MISSING}
    return list(_digests(finding for finding in report.findings if finding.kind in kinds and not finding.images))


def _digests(findings: Collection[Finding] | Iterator[Finding]) -> Iterator[Digest]:
    for finding in findings:
        try:
            yield Digest.parse(finding.subject)
        except InvalidDigest:
            continue  # a file at the top of the layout


def _affected(entries: Sequence[Entry], report: VerifyReport) -> list[Entry]:
    names = {name for finding in report.findings if finding.kind in _REPAIRABLE for name in finding.images}
    return [entry for entry in entries if entry.name in names]


async def _plan(
    layout: LayoutWriter,
    source_of: SourceOf,
    entries: Sequence[Entry],
    damaged: Collection[Digest],
    retry: RetryPolicy,
    failures: list[str],
) -> list[CopyTask]:
    """Walk the affected images, and return what to copy. Images that cannot be walked are added to `failures`."""

    async def task(entry: Entry) -> CopyTask | None:
        try:
            source = source_of(entry)
            readable = FallbackSource(layout, _BlobSource(source))
            graph = await walk(readable, entry.root, keep=lambda child: not entry.lacks(child), retry=retry)
        except MirrorError as error:
            failures.append(f"{entry.name}: {error}")
            return None
        return CopyTask(source, RepairSink(layout, damaged), graph, entry.name, replace(entry.root, data=None))

    return [found for found in await map_concurrently(entries, task, _CONCURRENCY) if found]


class _BlobSource:
    """A source that is read by digest only."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def resolve(self, name: str) -> Descriptor:
        return await self._source.resolve(name)

    async def peek(self, name: str) -> Descriptor | None:
        return None

    def open_blob(self, node: Descriptor, start: int = 0) -> AbstractAsyncContextManager[BlobReader]:
        return self._source.open_blob(node, start)


async def _open_source(stack: AsyncExitStack, text: str, options: RegistryOptions) -> SourceOf:
    """Open what --from names, until `stack` closes, and return the source for each image.

    Raises:
        UsageError: it is not a layout, an archive or a registry.
        MirrorError: it cannot be opened.
    """
    transport, colon, rest = text.partition(":")
    explicit = bool(colon) and transport in (Transport.LAYOUT, Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE)
    path = Path(os.path.expanduser(rest if explicit else text))
    if explicit or text.startswith((".", "/", "~")) or text.endswith(".tar") or exists(path):
        if not exists(path):
            raise NotFound(f"There is no layout or archive {str(path)!r}.", hint="Name another source with --from.")
        store = (
            stack.enter_context(Layout.open(path)) if is_directory(path) else stack.enter_context(Archive.open(path))
        )
        return lambda _: store
    host = text.removeprefix("docker://").partition("/")[0]
    if host == text.partition("/")[0] and host != "localhost" and not set(".:") & set(host):
        raise UsageError(
            f"There is no directory or file {text!r}, and it is not a registry host.",
            hint="Use a source such as ./layout, images.tar, registry.internal:5000 or docker://host.",
        )
    target, client = PushTarget.parse(text), await stack.enter_async_context(Client(options))

    def source_of(entry: Entry) -> Source:
        # Parsed again, so that docker.io/redis becomes docker.io/library/redis.
        return open_source(client, Reference.parse(str(target.place(entry))))

    return source_of
