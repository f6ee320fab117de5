"""Push: from a layout into a registry, digests preserved.

1. decide where each image goes, and refuse what would collide; nothing has moved yet
2. walk every image, and ask the registry for every blob
3. copy: blobs, manifests, indexes, tags
4. read every tag back and compare; for a receipt, every byte
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from mirror import copy
from mirror.concurrency import each
from mirror.content import Progress, Sink
from mirror.copy import Copy, Plan
from mirror.destination import Destination, Renaming
from mirror.errors import ContentError, MirrorError, TransferError, WrongDigest
from mirror.finding import Finding, Severity
from mirror.graph import Graph, walk
from mirror.layout import Entry, Layout
from mirror.layout.temporary import replacing
from mirror.overlay import DryRun
from mirror.readback import Expected, read_back
from mirror.reference import Reference
from mirror.registry import Client, Options, Repository
from mirror.report import receipts
from mirror.report.receipts import Pushed, Receipt
from mirror.report.text import count
from mirror.report.transfers import Amount, Transferred, TransferReport
from mirror.retry import Retry
from mirror.selection import names
from mirror.version import VERSION

_AT_ONCE = 4  # images walked, and tags read back, together


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push: under which names, how stubbornly, and how to talk to the registry (and how many blobs at once).

    With `keep_going`, an image that fails does not hold up the others. `receipt` is the file that says afterwards what
    was pushed where, all of it read back.
    """

    renaming: Renaming = field(default_factory=Renaming)
    dry_run: bool = False
    keep_going: bool = False
    receipt: Path | None = None
    retry: Retry = field(default_factory=Retry)
    registries: Options = field(default_factory=Options)


@dataclass(eq=False, slots=True)
class _Image:
    """One image on its way: what it is in the layout, where it goes, and the repository there."""

    entry: Entry
    place: Reference
    repository: Repository
    sink: Sink
    graph: Graph | None = None
    copy: Copy | None = None
    error: MirrorError | None = None

    @property
    def failure(self) -> MirrorError | None:
        return self.error or (self.copy.failure if self.copy else None)

    def result(self) -> Transferred:
        digest = self.entry.root.digest
        platforms = names(self.graph) if self.graph else ()
        return Transferred(self.entry.name, self.place.pinned(digest), digest, platforms, failure=self.failure)

    def receipt(self) -> Pushed:
        failure = str(self.failure) if self.failure else None
        digest, graph = self.entry.root.digest, None if failure else self.graph
        content = tuple(receipts.pieces(graph)) if graph else ()
        return Pushed(self.entry.name, self.place, digest, names(graph) if graph else (), content, failure)

    def expected(self) -> Expected:
        pushed = self.receipt()
        content = tuple(piece.node for piece in pushed.content)
        return Expected(self.place.stored, self.repository, self.place.target, pushed.digest, content)


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
    where = Destination.parse(target, options.renaming)
    async with AsyncExitStack() as stack:
        source = stack.enter_context(Layout.open(Path(layout)))
        places = where.places(source.find(images))
        receipt = stack.enter_context(replacing(options.receipt)) if options.receipt else None
        client = await stack.enter_async_context(Client(options.registries))
        push = _Push(source, _images(client, places, options), options, progress)
        for repository in {id(image.repository): image.repository for image in push.images}.values():
            stack.push_async_callback(repository.close)
        plan = await push.run()
        if receipt and not options.dry_run:
            pushed = tuple(image.receipt() for image in push.images)
            receipt.write(Receipt(VERSION, began, datetime.now(UTC), str(layout), pushed).to_bytes())
    return TransferReport(
        verb="push",
        images=tuple(image.result() for image in push.images),
        moved=Amount.of(plan.missing),
        reused=Amount.of(plan.reused),
        seconds=time.monotonic() - started,
        dry_run=options.dry_run,
    )


def _images(client: Client, places: dict[Reference, Entry], options: PushOptions) -> list[_Image]:
    """The images to push; those that go to one repository share one sink."""
    sinks: dict[str, tuple[Repository, Sink]] = {}
    images = []
    for place, entry in places.items():
        if place.name not in sinks:
            registry = client.registry(place.registry)
            repository = Repository(registry, place.repository, jobs=options.registries.jobs, push=True)
            sinks[place.name] = repository, DryRun(repository) if options.dry_run else repository
        images.append(_Image(entry, place, *sinks[place.name]))
    return images


class _Push:
    """The steps of one push, each for all images that have not failed before."""

    def __init__(
        self, source: Layout, images: Sequence[_Image], options: PushOptions, progress: Progress | None
    ) -> None:
        self.images = images
        self._source, self._options, self._progress = source, options, progress

    async def run(self) -> Plan:
        options = self._options
        jobs, retry, keep_going = options.registries.jobs, options.retry, options.keep_going
        await self._each(self._walk)
        copies = [image.copy for image in self.images if image.copy]
        plan = await copy.survey(copies, jobs=jobs, retry=retry, keep_going=keep_going, progress=self._progress)
        if options.dry_run:
            return plan
        await copy.move(plan, jobs=jobs, retry=retry, keep_going=keep_going, progress=self._progress)
        await self._each(self._read_back_name)
        if options.receipt:
            await self._read_back_all()
        return plan

    async def _each(self, step: Callable[[_Image], Awaitable[None]]) -> None:
        """Take a step with every image; one that fails keeps its error where the others are to go on."""

        async def attempt(image: _Image) -> None:
            try:
                await step(image)
            except MirrorError as error:
                if not self._options.keep_going:
                    raise
                image.error = error

        await each([image for image in self.images if not image.failure], attempt, _AT_ONCE)

    async def _walk(self, image: _Image) -> None:
        """Step 2 for one image. Where it is sparse, the children that are absent on purpose are not looked for."""
        root = image.entry.root
        image.graph = await walk(self._source, root, keep=lambda child: not image.entry.lacks(child))
        image.copy = Copy(self._source, image.sink, image.graph, image.place.target, root)

    async def _read_back_name(self, image: _Image) -> None:
        """Step 4 for one image.

        Raises:
            WrongDigest: the registry serves something else than what it was given.
        """
        want = image.entry.root.digest
        got = await self._options.retry.run(lambda: image.repository.resolve(image.place.target))
        if got.digest != want:
            raise WrongDigest(f"{image.place}, read back after the push,", want=want, got=got.digest)

    async def _read_back_all(self) -> None:
        """Step 4 for a receipt: no byte counts as pushed that has not been seen there."""
        jobs, done = self._options.registries.jobs, [image for image in self.images if not image.failure]
        findings = await read_back(
            [image.expected() for image in done], jobs=jobs, retry=self._options.retry, progress=self._progress
        )

        async def judge(image: _Image) -> None:
            hurt = [finding for finding in findings if image.place.stored in finding.images]
            if hurt:
                raise _not_there(image, hurt)

        await self._each(judge)


def _not_there(image: _Image, findings: Sequence[Finding]) -> MirrorError:
    """The error for an image that the registry does not give back as it was pushed."""
    first = findings[0]
    more = f", and {count(len(findings) - 1, 'more finding')}" if findings[1:] else ""
    text = (
        f"{image.place}, read back after the push: {first.subject} is {first.kind}: "
        f"expected {first.expected}, found {first.found}{more}."
    )
    wrong = any(finding.severity is Severity.ERROR for finding in findings)
    return ContentError(text) if wrong else TransferError(text)
