"""Push: from a layout into a registry, digests preserved.

1. walk every image, and find what refers to it
2. decide where each goes, and refuse what would collide; nothing has moved yet
3. ask the registry for every blob, and copy: blobs, manifests, indexes, tags; of what refers to the images first
4. read every tag back and compare; list under tags what the registry does not list itself; for a receipt, every byte
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mirror.concurrency import map_concurrently
from mirror.content import copy
from mirror.content.copy import CopyTask, Plan
from mirror.content.store import Progress, Sink
from mirror.content.wrappers import ReadOnlySink
from mirror.errors import DigestMismatch, MirrorError
from mirror.fs.atomic import replacing
from mirror.layout import Layout
from mirror.layout.referrers import LayoutReferrers, is_attachable, is_list
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions, Repository, push_target
from mirror.report.transfers import Amount, TransferReport
from mirror.retry import RetryPolicy
from mirror.transfer.attachments import ReferrerCopies
from mirror.transfer.deliver import list_referrers, read_tags_back
from mirror.transfer.naming import NameMapping, PushTarget
from mirror.transfer.shipment import PushedImage, not_there
from mirror.verify.readback import read_back
from mirror.verify.receipt_document import Receipt, Tool
from mirror.version import VERSION

_AT_ONCE = 4  # images walked, and tags read back, together


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push: under which names, how stubbornly, and how to talk to the registry (and how many blobs at once).

    `referrers`: whether what refers to the images goes with them. With `keep_going`, an image that fails does not hold
    up the others. `receipt` is the file that says afterwards what was pushed where, all of it read back.
    """

    renaming: NameMapping = field(default_factory=NameMapping)
    referrers: bool = True
    dry_run: bool = False
    keep_going: bool = False
    receipt: Path | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def push_layout(
    layout: Path | str,
    target: str,
    images: Sequence[str] = (),
    options: PushOptions | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Push images of a layout to a registry, verifying every byte on its way and every tag at the end.

    Args:
        layout: the layout's folder; it is only read.
        target: `REGISTRY[/PREFIX]`.
        images: which ones, all of them where none is named.
        options: how.
        progress: who wants to know how it goes.

    Returns:
        What was done. With `keep_going`, its images may carry failures.

    Raises:
        UsageError: no such image, no such layout, or two images that would land on one name.
        ContentError: the layout or what the registry gave back is not what it should be.
        TransferError: the registry could not be reached or refused.
        StorageError: the receipt could not be written.
    """
    options = options or PushOptions()
    began, started = datetime.now(UTC), time.monotonic()
    where = PushTarget.parse(target, options.renaming)
    async with AsyncExitStack() as stack:
        source = stack.enter_context(Layout.open(Path(layout)))
        receipt = stack.enter_context(replacing(options.receipt)) if options.receipt else None
        client = await stack.enter_async_context(Client(options.registries))
        push = _Push(source, options, progress)
        await push.choose(images)
        for repository in push.place(where, client):
            stack.push_async_callback(repository.close)
        plan = await push.run()
        if receipt and not options.dry_run:
            pushed = tuple(image.receipt() for image in push.images if not is_list(image.entry))
            receipt.write(Receipt(Tool(VERSION), began, datetime.now(UTC), str(layout), pushed).to_bytes())
    return TransferReport(
        verb="push",
        images=tuple(image.result() for image in push.images),
        moved=Amount.of(plan.missing),
        reused=Amount.of(plan.reused),
        seconds=time.monotonic() - started,
        dry_run=options.dry_run,
        warnings=(*push.idle, *(warning for image in push.images for warning in image.warnings())),
    )


class _Push:
    """The steps of one push, each for all images that have not failed before."""

    def __init__(self, source: Layout, options: PushOptions, progress: Progress | None) -> None:
        self.images: list[PushedImage] = []
        self.idle: list[str] = []  # renaming that fits no image
        self._source, self._options, self._progress = source, options, progress

    async def choose(self, names: Sequence[str]) -> None:
        """Step 1: what a person means: images, each with what is attached to it; what is attached to nothing, alone."""
        entries, known = self._source.find(names), LayoutReferrers(self._source, self._source.entries())
        self.images = [PushedImage(entry) for entry in entries if not is_attachable(entry)]
        covered: set[str] = set()

        async def walk(image: PushedImage) -> None:
            graph = await image.walk(self._source)
            attached = await known.of(image.entry, graph)
            covered.update(one.entry.name for one in attached)
            image.delivery = ReferrerCopies.of(image.entry, graph, attached) if self._options.referrers else None

        async def walk_loose(image: PushedImage) -> None:
            await image.walk(self._source)

        await self._each(walk, self.images)
        by_name = bool(names) and not self._options.referrers  # what is named is meant
        loose = [entry for entry in entries if is_attachable(entry) and (by_name or entry.name not in covered)]
        alone = [PushedImage(entry) for entry in loose]
        await self._each(walk_loose, alone)
        self.images += alone

    def place(self, where: PushTarget, client: Client) -> list[Repository]:
        """Step 2: each place once; images that go to one repository share one sink.

        Returns:
            The repositories, which the caller closes.

        Raises:
            UsageError: two different images would land on one name.
        """
        entries = [image.entry for image in self.images]
        where.places(entries)
        self.idle = where.renaming.idle([entry.reference for entry in entries if entry.reference])
        repositories: dict[str, tuple[Repository, Sink]] = {}
        placed: dict[Reference, PushedImage] = {}
        for image in self.images:
            image.place = where.place(image.entry)
            first = placed.setdefault(image.place, image)
            if first is not image:
                if first.delivery and image.delivery:
                    first.delivery.add(image.delivery)
                continue
            if image.place.name not in repositories:
                repository = push_target(client, image.place)
                repositories[image.place.name] = (
                    repository,
                    ReadOnlySink(repository) if self._options.dry_run else repository,
                )
            image.repository, image.sink = repositories[image.place.name]
        self.images = list(placed.values())
        return [repository for repository, _ in repositories.values()]

    async def run(self) -> Plan:
        """Steps 3 and 4."""
        options, progress = self._options, self._progress
        jobs, retry, keep_going = options.registries.jobs, options.retry, options.keep_going
        copies = self._copies()
        plan = await copy.plan(copies, jobs=jobs, retry=retry, keep_going=keep_going, progress=progress)
        if options.dry_run:
            return plan
        await copy.execute(plan, jobs=jobs, retry=retry, keep_going=keep_going, progress=progress)
        await self._each(self._read_back_name, self.images)
        await self._list_what_is_attached()
        if options.receipt:
            await self._read_back_all()
        return plan

    def _copies(self) -> list[CopyTask]:
        """What is attached goes first, so that a tag that moves is signed already."""
        attached: dict[tuple[int, str], CopyTask] = {}
        for image in self.images:
            if image.delivery:
                image.delivery.to(self._source, image.sink, attached)
        return [*attached.values(), *(found for image in self.images if (found := image.to(self._source)))]

    async def _each(self, step: Callable[[PushedImage], Awaitable[None]], images: Sequence[PushedImage]) -> None:
        """Take a step with every image; one that fails keeps its error where the others are to go on."""

        async def attempt(image: PushedImage) -> None:
            try:
                await step(image)
            except MirrorError as error:
                if not self._options.keep_going:
                    raise
                image.error = error

        await map_concurrently([image for image in images if not image.failure], attempt, _AT_ONCE)

    async def _read_back_name(self, image: PushedImage) -> None:
        """Step 4 for one image; a list of referrers has become part of the registry's own.

        Raises:
            DigestMismatch: the registry serves something else than what it was given.
        """
        if is_list(image.entry):
            return
        want = image.entry.root.digest
        got = await self._options.retry.run(lambda: image.repository.resolve(image.place.target))
        if got.digest != want:
            raise DigestMismatch(f"{image.place}, read back after the push,", want=want, got=got.digest)

    async def _list_what_is_attached(self) -> None:
        """Step 4 for what is attached, a repository at a time; a failure is kept with the images that it is about."""
        by_repository: dict[int, list[PushedImage]] = {}
        for image in self.images:
            if not image.failure:
                by_repository.setdefault(id(image.repository), []).append(image)
        for some in by_repository.values():
            await self._each(self._list_alone, [image for image in some if is_list(image.entry)])
            deliveries = [image.delivery for image in some if image.delivery]
            attached = [one for delivery in deliveries for one in delivery.arrived()]
            graphs = [image.graph for image in some if image.delivery and image.graph]
            repository, retry = some[0].repository, self._options.retry
            listed = await list_referrers(repository, [*graphs, *(one.graph for one in attached)], retry)
            await read_tags_back(repository, attached, retry)
            for delivery in deliveries:
                delivery.failures |= listed.failures
                delivery.lists |= listed.lists

    async def _list_alone(self, image: PushedImage) -> None:
        """Raises: MirrorError: what is attached to nothing could not be listed."""
        graphs = [image.graph] if image.graph else []
        for error in (await list_referrers(image.repository, graphs, self._options.retry)).failures.values():
            raise error

    async def _read_back_all(self) -> None:
        """Step 4 for a receipt: no byte counts as pushed that has not been seen there."""
        done = [image for image in self.images if not image.failure and not is_list(image.entry)]
        found = await read_back(
            [image.expected() for image in done],
            jobs=self._options.registries.jobs,
            retry=self._options.retry,
            progress=self._progress,
        )

        async def judge(image: PushedImage) -> None:
            hurt = [finding for finding in found.findings if image.place.stored in finding.images]
            if hurt:
                raise not_there(image, hurt)

        await self._each(judge, done)
