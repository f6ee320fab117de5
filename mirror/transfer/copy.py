"""Copy: from any place that images can be in to any other: registries, layouts, archives.

1. find the images, and decide what each is called on the other side
2. decide which part of each goes, and open the other side
3. copy (`mirror.transfer.outgoing`); a tag in a registry is read back and compared
"""

from __future__ import annotations

import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.concurrency import map_concurrently
from mirror.content.store import Progress
from mirror.errors import UsageError
from mirror.oci.descriptor import Platform
from mirror.registry import Client, RegistryOptions
from mirror.report.transfers import TransferReport
from mirror.retry import RetryPolicy
from mirror.text import count
from mirror.transfer.attachments import ReferrerCopies
from mirror.transfer.docker_load import stay_out
from mirror.transfer.goal import ImageTarget, ToArchive, ToLayout, goal_at
from mirror.transfer.location import Location, Transport
from mirror.transfer.origin import ImageSource, open_origin
from mirror.transfer.outgoing import AT_ONCE, SelectedSourceImage, transfer, whole


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How to copy.

    `platforms`: which ones, all that there are where none is named. `name`: what to call the one image that is copied.
    `referrers`: whether what refers to them goes along. `hard_links`: whether blobs may be further names of another
    layout's files.
    """

    platforms: tuple[Platform, ...] = ()
    name: str | None = None
    referrers: bool = True
    dry_run: bool = False
    hard_links: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def copy_images(
    source: str, target: str, options: CopyOptions | None = None, progress: Progress | None = None
) -> TransferReport:
    """Copy an image, or all images of a place, to another place, verifying every byte on its way.

    Args:
        source: where they are, as `mirror.transfer.location` says.
        target: where they go.
        options: how; the defaults keep everything that the source has.
        progress: who wants to know how it goes.

    Raises:
        UsageError: no such place, image or platform, or a name that is missing or stands for two images.
        ContentError: something is not what it should be; nothing of it was kept.
        TransferError: a registry could not be reached or refused.
        StorageError: the disk is full or refused.
    """
    options, started = options or CopyOptions(), time.monotonic()
    start, end = Location.parse(source), Location.parse(target)
    async with AsyncExitStack() as stack:
        client = None
        if Transport.REGISTRY in (start.transport, end.transport):
            client = await stack.enter_async_context(Client(options.registries))
        goal = _goal(start, end, options, client)
        near = Path(end.where if end.transport is Transport.LAYOUT else tempfile.gettempdir())
        origin = await open_origin(start, client, options.retry, stack, near)
        copying = _Copying(origin, goal, options)
        await copying.find(str(start))
        sink = await goal.open(stack, dry_run=options.dry_run)
        report = await transfer(
            "copy",
            copying.images,
            sink,
            jobs=goal.jobs,
            company=copying.deliveries,
            layout=goal.writer if isinstance(goal, ToLayout) else None,
            archive=goal.writer if isinstance(goal, ToArchive) else None,
            room=not options.hard_links,
            retry=options.retry,
            progress=progress,
            dry_run=options.dry_run,
        )
        report = await copying.finished(report)
    notes, quotas = (client.warnings, client.quota_usage()) if client else ([], [])
    warnings = (*copying.warnings(str(start)), *notes)
    return replace(report, warnings=warnings, quotas=tuple(quotas), seconds=time.monotonic() - started)


def _goal(start: Location, end: Location, options: CopyOptions, client: Client | None) -> ImageTarget:
    """The other side, checked as far as it can be now.

    Raises:
        UsageError: this cannot be copied so.
    """
    goal = goal_at(end, options.name, options.registries.jobs, client, options.retry)
    goal.check(options.platforms)
    if options.hard_links:
        if start.transport is not Transport.LAYOUT or not isinstance(goal, ToLayout):
            raise UsageError("--hard-links is for copies from layout to layout.")
        goal.hard_links = True
    return goal


class _Copying:
    """The images of one copy, in the order in which they go, and what goes along with each."""

    def __init__(self, origin: ImageSource, goal: ImageTarget, options: CopyOptions) -> None:
        self.images: list[SelectedSourceImage] = []
        self.deliveries: list[ReferrerCopies | None] = []
        self._origin, self._goal, self._options = origin, goal, options
        self._warnings: list[str] = []
        self._covered: set[str] = set()

    async def find(self, where: str) -> None:
        """Steps 1 and 2."""
        named = self._goal.called(await self._origin.images(), where)
        offers = await map_concurrently(named, lambda one: self._origin.offer(*one), AT_ONCE)
        platforms, retry = self._options.platforms, self._options.retry
        choose = self._goal.choose
        self.images = await map_concurrently(
            offers, lambda one: choose(self._goal.placed(one), platforms, retry), AT_ONCE
        )
        self.deliveries = [None] * len(self.images)
        if self._options.referrers and self._goal.takes_company:
            self.deliveries = [await self._delivery(image) for image in self.images]
            await self._add_loose()
        elif self._options.referrers and self._origin.is_local:
            self._warnings += stay_out(self.images, [await self._delivery(image) for image in self.images])

    async def _delivery(self, image: SelectedSourceImage) -> ReferrerCopies:
        company = await self._origin.company(image)
        self._warnings += company.warnings
        self._covered |= {one.entry.name for one in company.attached}
        return self._goal.deliver(image, company)

    async def _add_loose(self) -> None:
        """What refers to no image that is there goes by itself, where nobody says what the images are to be called."""
        loose = self._origin.loose(self._covered)
        if loose and self._goal.renames:
            self._warnings.append(f"{count(len(loose), 'entry')} that refer to other images were not copied.")
            return
        for entry in loose:
            self.images.append(await whole(await self._origin.offer(entry.name, entry), self._options.retry))
            self.deliveries.append(None)

    async def finished(self, report: TransferReport) -> TransferReport:
        """Step 3 for what comes after the copy, and its result."""
        done = []
        for image, delivery, result in zip(self.images, self.deliveries, report.images, strict=True):
            if not self._options.dry_run:
                await self._goal.finish(image, delivery)
            done.append(replace(result, referrers=delivery.result() if delivery else None))
        return replace(report, images=tuple(done))

    def warnings(self, where: str) -> list[str]:
        """What a person should know of what does not go."""
        parts = [text for image in self.images for text in image.warnings(where)]
        return [*self._goal.warnings(self.images), *parts, *self._warnings]
