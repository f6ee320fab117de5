"""Repair: what a verification has found bad, fetched again from somewhere that has it right; nothing else moves.

1. verify
2. walk every image that is hurt: its manifests from the layout where they are right, else from the source
3. copy what is bad; what stood in its place goes to quarantine, and is never deleted
4. verify again: the verdict is about what is there now

Names are not touched: what an image is called, and by which annotations, stays as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from pathlib import Path

from mirror.archive.reader import Archive
from mirror.concurrency import map_concurrently
from mirror.content import copy
from mirror.content.copy import CopyTask
from mirror.content.finding import Kind
from mirror.content.graph import walk
from mirror.content.store import Progress, Source
from mirror.content.stream import BlobReader
from mirror.content.wrappers import FallbackSource, RepairSink
from mirror.errors import InvalidDigest, MirrorError, NotFound, UsageError
from mirror.fs.directory import exists, is_directory
from mirror.layout import Entry, Layout, LayoutWriter
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions, pull_source
from mirror.report.findings import VerifyLevel, VerifyReport
from mirror.report.repairs import Repair
from mirror.retry import RetryPolicy
from mirror.stores.location import Transport
from mirror.transfer.naming import PushTarget
from mirror.verify import verify_layout

Origin = Callable[[Entry], Source]

_AT_ONCE = 4  # images walked together

# What is bad about a blob so that other bytes would make it good. What its publisher did wrong, no source can mend.
_CURABLE = frozenset({Kind.MISSING, Kind.TOO_SHORT, Kind.TOO_LONG, Kind.CORRUPT, Kind.NOT_A_FILE, Kind.UNREADABLE})


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
    """Verify a layout, fetch what is bad from `source`, and verify it again.

    Args:
        path: the layout's folder.
        source: where it is right: a layout's folder, an archive, or `REGISTRY[/PREFIX]`, in which every image is looked
            for where a push to it would have put it.
        images: which images; all of them, and what else is stored, where none is named.
        level: how closely to verify, before and after.
        options: how to talk to a registry.
        retry: how stubborn to be.
        progress: who wants to know how it goes.

    Returns:
        What is found afterwards, and what was healed. An image that could not be mended is a finding still.

    Raises:
        NotFound: there is no such folder or image.
        UsageError: the source is none.
        ContentError: `oci-layout` or `index.json` is broken, which no source can mend.
        StorageError: the disk refused.
    """
    folder, options, retry = Path(path), options or RegistryOptions(), retry or RetryPolicy()
    report = await verify_layout(folder, images, level=level, progress=progress)
    tried, removed = set[Digest](), set[Digest]()
    if not _bad(report):
        return replace(report, repair=Repair(source))
    Layout.open(folder).close()  # a layout that does not say what is in it is nothing to write to
    async with AsyncExitStack() as stack:
        origin = await _opened(stack, source, options)
        layout = await stack.enter_async_context(LayoutWriter.writing(folder, jobs=options.jobs, keep_bad=True))
        mend = _Mend(layout, origin, options.jobs, retry, progress)
        while bad := _bad(report) - tried:  # below a manifest that has come, more may turn out to be missing
            tried |= bad
            await mend.images([entry for entry in layout.find(images) if _is_hurt(entry, report)], bad)
            lost = _nobodys(report) if not images else []
            await mend.quarantine(lost)
            removed.update(lost)
            report = await verify_layout(folder, images, level=level, progress=progress)
    healed = tuple(sorted(tried - removed - _bad(report)))
    return replace(report, repair=Repair(source, healed, tuple(map(str, layout.aside)), tuple(mend.failures)))


def _bad(report: VerifyReport) -> set[Digest]:
    return {digest for finding in report.findings if finding.kind in _CURABLE for digest in _digest(finding.subject)}


def _nobodys(report: VerifyReport) -> list[Digest]:
    """Bad blobs that no image needs: nobody says what they should be, but they are not what they are called."""
    kinds = _CURABLE - {Kind.UNREADABLE, Kind.MISSING}
    lost = [finding for finding in report.findings if finding.kind in kinds and not finding.images]
    return [digest for finding in lost for digest in _digest(finding.subject)]


def _digest(subject: str) -> Iterator[Digest]:
    try:
        yield Digest.parse(subject)
    except InvalidDigest:
        return  # a file at the top of the layout


def _is_hurt(entry: Entry, report: VerifyReport) -> bool:
    return any(entry.name in finding.images for finding in report.findings if finding.kind in _CURABLE)


async def _opened(stack: AsyncExitStack, text: str, options: RegistryOptions) -> Origin:
    """Where the right bytes are for each image, as a person names it; it is closed with `stack`.

    Raises:
        UsageError: it is no source.
        MirrorError: it cannot be opened.
    """
    transport, colon, rest = text.partition(":")
    named = bool(colon) and transport in (Transport.LAYOUT, Transport.OCI_ARCHIVE, Transport.DOCKER_ARCHIVE)
    path = Path(os.path.expanduser(rest if named else text))
    if named or text.startswith((".", "/", "~")) or text.endswith(".tar") or exists(path):
        if not exists(path):
            raise NotFound(f"There is no layout and no archive {str(path)!r}.", hint="Name another source with --from.")
        whole = (
            stack.enter_context(Layout.open(path)) if is_directory(path) else stack.enter_context(Archive.open(path))
        )
        return lambda _: whole
    host = text.removeprefix("docker://").partition("/")[0]
    if host == text.partition("/")[0] and host != "localhost" and not set(".:") & set(host):
        raise UsageError(
            f"There is no folder and no file {text!r}, and no registry is called so.",
            hint="Sources look like ./layout, images.tar, registry.internal:5000 or docker://host.",
        )
    where, client = PushTarget.parse(text), await stack.enter_async_context(Client(options))
    return lambda entry: pull_source(client, _normal(where.place(entry)))


def _normal(place: Reference) -> Reference:
    """As a person would have written it: `docker.io/redis` is `docker.io/library/redis`."""
    return Reference.parse(str(place))


class _Still:
    """A source that nobody asks for names."""

    def __init__(self, source: Source) -> None:
        self._source = source

    async def resolve(self, name: str) -> Descriptor:
        return await self._source.resolve(name)

    async def peek(self, name: str) -> Descriptor | None:
        return None

    def open_blob(self, node: Descriptor, start: int = 0) -> AbstractAsyncContextManager[BlobReader]:
        return self._source.open_blob(node, start)


class _Mend:
    """Steps 2 and 3. `failures` are sentences about images that could not be mended."""

    def __init__(
        self,
        layout: LayoutWriter,
        origin: Origin,
        jobs: int,
        retry: RetryPolicy,
        progress: Progress | None,
    ) -> None:
        self.failures: list[str] = []
        self._layout, self._origin = layout, origin
        self._jobs, self._retry, self._progress = jobs, retry, progress

    async def images(self, entries: Sequence[Entry], bad: set[Digest]) -> None:
        """Bring what is bad of some images."""
        walked = await map_concurrently(entries, lambda entry: self._walk(entry, bad), _AT_ONCE)
        copies = [found for found in walked if found]
        plan = await copy.plan(copies, jobs=self._jobs, retry=self._retry)
        await copy.execute(plan, jobs=self._jobs, retry=self._retry, keep_going=True, progress=self._progress)
        self.failures += [f"{done.name}: {done.failure}" for done in copies if done.failure]

    async def _walk(self, entry: Entry, bad: set[Digest]) -> CopyTask | None:
        try:
            source = self._origin(entry)
            near = FallbackSource(self._layout, _Still(source))
            graph = await walk(near, entry.root, keep=lambda child: not entry.lacks(child), retry=self._retry)
        except MirrorError as error:
            self.failures.append(f"{entry.name}: {error}")
            return None
        return CopyTask(source, RepairSink(self._layout, bad), graph, entry.name, replace(entry.root, data=None))

    async def quarantine(self, digests: Sequence[Digest]) -> None:
        for digest in digests:
            await self._layout.quarantine(digest)
