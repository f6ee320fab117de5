"""Pull: from registries into a layout.

1. walk every image, and find what refers to it; nothing has moved yet
2. ask the layout for every blob, and the disk for room
3. copy
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.concurrency import map_concurrently
from mirror.content import copy
from mirror.content.copy import CopyTask, Plan
from mirror.content.select import INDEX, PlatformSelection, SelectedImage, select
from mirror.content.store import Progress, Sink, Source
from mirror.content.wrappers import FallbackSource, ReadOnlySink
from mirror.errors import MirrorError, UsageError
from mirror.fs.directory import exists
from mirror.layout import Layout, LayoutWriter, names
from mirror.layout.writer import refuse_foreign
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry import (
    Client,
    ForeignLayers,
    MirroredRepository,
    Referrers,
    RegistryOptions,
    Repository,
    pull_source,
)
from mirror.report.transfers import Amount, Transferred, TransferReport, check_room, pinned
from mirror.retry import RetryPolicy
from mirror.transfer.gather import FoundReferrers, gather

_WALKS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class PullOptions:
    """How to pull: which platforms, how stubbornly, and how to talk to registries (and how many blobs at once).

    `referrers`: whether to pull what refers to the images too; where it is None, with all platforms.
    """

    choice: PlatformSelection = field(default_factory=PlatformSelection)
    referrers: bool | None = None
    keep_going: bool = False
    dry_run: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)

    @property
    def with_referrers(self) -> bool:
        return self.choice.all if self.referrers is None else self.referrers


@dataclass(slots=True)
class _Image:
    """One image on its way through the steps. Images of one repository share what is attached to them.

    `content` is where its blobs come from: the repository, or where foreign layers live. `known` is whether the layout
    has an image of this name.
    """

    reference: Reference
    source: Repository | MirroredRepository
    content: Source
    known: bool
    selection: SelectedImage | None = None
    attachments: FoundReferrers | None = None
    copy: CopyTask | None = None
    failure: MirrorError | None = None

    def to(self, sink: Sink) -> CopyTask:
        """Step 3's view of it. What mirror knows about the image's origin goes into its entry."""
        assert self.selection is not None, "walked before"
        selection = self.selection
        annotations = {names.ORIGIN: self.reference.pinned(selection.published)}
        if selection.root.digest != selection.published:
            annotations[INDEX] = selection.published
        if selection.graph.absent:
            annotations[names.SPARSE] = ",".join(selection.graph.kept)
        if selection.graph.foreign:
            annotations[names.FOREIGN] = ",".join(sorted(selection.graph.foreign))
        root = replace(selection.root, annotations=annotations)
        self.copy = CopyTask(self.content, sink, selection.graph, self.reference.stored, root)
        return self.copy

    def result(self) -> Transferred:
        selection = self.selection
        digest = selection.root.digest if selection else ""
        return Transferred(
            source=str(self.reference),
            pinned=pinned(self.reference.stored, digest),
            digest=digest,
            platforms=selection.platforms if selection else (),
            replaced=self.copy.replaced if self.copy else None,
            failure=self.failure or (self.copy.failure if self.copy else None),
            referrers=self.attachments.about(selection.subjects) if self.attachments and selection else None,
        )


async def pull_image(
    image: str, output: Path | str, options: PullOptions | None = None, progress: Progress | None = None
) -> TransferReport:
    """Pull one image into a layout, verifying every byte; see `pull_images`."""
    return await pull_images([image], output, options, progress)


async def pull_images(
    images: Sequence[str], output: Path | str, options: PullOptions | None = None, progress: Progress | None = None
) -> TransferReport:
    """Pull images into a layout, verifying every byte; a blob that several share is fetched once.

    Args:
        images: names such as `redis:4.0`.
        output: the layout's folder; created where it is not there.
        options: how; the defaults pull this host's platform.
        progress: who wants to know how it goes.

    Returns:
        What was done. With `keep_going`, its images may carry failures.

    Raises:
        UsageError: an image or a platform that does not exist, a folder that is no layout.
        ContentError: something is not what it should be; nothing of it was kept.
        TransferError: a registry could not be reached or refused.
        StorageError: the disk is full or refused.
    """
    options = options or PullOptions()
    path, started = Path(output), time.monotonic()
    references = _references(images)
    refuse_foreign(path)
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(Client(options.registries))
        there = stack.enter_context(Layout.open(path)) if exists(path / "oci-layout") else None
        asked = _sources(client, references.values(), there)
        found = await map_concurrently(asked, lambda image: _walk(image, there, options), _WALKS_AT_ONCE)
        walked = [image for image in found if image.selection]
        report = _Reporter(found, options.dry_run, started, client)
        if not walked:
            return report.nothing()
        if options.with_referrers:
            await _gather(walked, there, options)
        if options.dry_run:
            plan = await _survey(walked, ReadOnlySink(there), options, progress)
            return report.of(plan, there)
        layout = await stack.enter_async_context(LayoutWriter.writing(path, jobs=options.registries.jobs))
        before = {entry.name: entry.root.digest for entry in layout.entries()}
        plan = await _survey(walked, layout, options, progress)
        check_room(layout.path, layout.root.free(), plan.size - sum(map(layout.partial_size, plan.missing)))
        await copy.execute(
            plan, jobs=options.registries.jobs, retry=options.retry, keep_going=options.keep_going, progress=progress
        )
        return report.of(plan, layout, before)


def _references(images: Sequence[str]) -> dict[str, Reference]:
    """The images asked for, by the names that they are going to have; one that is asked for twice is pulled once.

    Raises:
        UsageError: two different images would have one name.
    """
    references: dict[str, Reference] = {}
    for reference in map(Reference.parse, images):
        other = references.setdefault(reference.stored, reference)
        if other != reference:
            raise UsageError(
                f"{other} and {reference} would both be called {reference.stored}.",
                hint="A name stands for one image: pull them into two layouts, or by their digests alone.",
            )
    return references


def _sources(client: Client, references: Iterable[Reference], there: Layout | None) -> list[_Image]:
    """The images to pull; those of one repository share one source."""
    known = {entry.name for entry in there.entries()} if there else set()
    sources: dict[str, tuple[Repository | MirroredRepository, Source]] = {}
    images = []
    for reference in references:
        if reference.name not in sources:
            source = pull_source(client, reference)
            sources[reference.name] = (source, ForeignLayers(source, source.origin.registry))
        images.append(_Image(reference, *sources[reference.name], reference.stored in known))
    return images


async def _walk(image: _Image, there: Layout | None, options: PullOptions) -> _Image:
    """Step 1 for one image; manifests that are there need not be fetched.

    Its failure is kept with it where the others are to go on.
    """
    source = FallbackSource(there, image.source)
    asked = source if image.known else image.source  # a HEAD before the GET is worth its while where it may save it
    try:
        root = await options.retry.run(lambda: asked.resolve(image.reference.target))
        image.selection = await select(source, root, options.choice, str(image.reference), options.retry)
    except MirrorError as error:
        if not options.keep_going:
            raise
        image.failure = error
    return image


async def _gather(images: Sequence[_Image], there: Layout | None, options: PullOptions) -> None:
    """Step 1 for what refers to the images: each repository is asked once for all of its images."""
    by_repository: dict[str, list[_Image]] = {}
    for image in images:
        by_repository.setdefault(image.reference.name, []).append(image)
    finder = Referrers(options.retry)

    async def gather_for(some: Sequence[_Image]) -> None:
        subjects = [digest for image in some if image.selection for digest in image.selection.subjects]
        found = await gather(finder, some[0].reference.name, some[0].source, subjects, there, options.retry)
        for image in some:
            image.attachments = found

    await map_concurrently(by_repository.values(), gather_for, _WALKS_AT_ONCE)


def _attachments(images: Iterable[_Image]) -> list[FoundReferrers]:
    """Those of all images, each once."""
    return list({id(image.attachments): image.attachments for image in images if image.attachments}.values())


async def _survey(images: Sequence[_Image], sink: Sink, options: PullOptions, progress: Progress | None) -> Plan:
    copies = [image.to(sink) for image in images]
    taken = {copy.name for copy in copies}
    copies += [copy for one in _attachments(images) for copy in one.to(sink, taken)]
    return await copy.plan(copies, jobs=options.registries.jobs, retry=options.retry, progress=progress)


@dataclass(slots=True)
class _Reporter:
    """Puts a report together from whatever has been reached."""

    images: Sequence[_Image]
    dry_run: bool
    started: float
    client: Client

    def nothing(self) -> TransferReport:
        return self._report(Amount(), Amount())

    def of(self, plan: Plan, layout: Layout | None, before: Mapping[str, Digest] | None = None) -> TransferReport:
        damaged = set(layout.damaged) if layout else set()
        return self._report(
            Amount.of(plan.missing),
            Amount.of(plan.reused),
            healed=() if self.dry_run else tuple(sorted(damaged | self._lacking(plan, before or {}))),
            aside=tuple(map(str, layout.aside)) if isinstance(layout, LayoutWriter) else (),
            resumed=layout.resumed if isinstance(layout, LayoutWriter) else 0,
        )

    def _lacking(self, plan: Plan, before: Mapping[str, Digest]) -> set[Digest]:
        """What an image that the layout claimed to have did not have."""
        known = [copy for copy in plan.copies if before.get(copy.name) == copy.root.digest and not copy.failure]
        missing = {node.digest for node in plan.missing}
        return {digest for copy in known for digest in copy.graph.blobs if digest in missing}

    def _report(
        self,
        moved: Amount,
        reused: Amount,
        healed: tuple[str, ...] = (),
        aside: tuple[str, ...] = (),
        resumed: int = 0,
    ) -> TransferReport:
        warnings = [text for image in self.images if image.selection for text in image.selection.warnings]
        warnings += [text for one in _attachments(self.images) for text in one.warnings]
        return TransferReport(
            verb="pull",
            images=tuple(image.result() for image in self.images),
            moved=moved,
            reused=reused,
            seconds=time.monotonic() - self.started,
            dry_run=self.dry_run,
            healed=healed,
            aside=aside,
            resumed=resumed,
            quotas=tuple(self.client.quota_usage()),
            warnings=(*warnings, *self.client.warnings),
        )
