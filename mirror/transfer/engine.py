"""One engine for pull, push, copy, export and import: images of any store are copied to any target.

    1. name      name every image at the target, and refuse names that collide
    2. walk      find everything below each image, its referrers, and what its name stands for at the target
    3. plan      ask the target for every blob, and check the free space on its disk
    4. copy      blobs, manifests, indexes, names; the names of referrers before that of their image
    5. finish    read tags back
    6. repeat    for images that another process has written meanwhile, so that its parts of them are kept; some times

Steps 2 to 5 take a batch of images at a time. The next batch is walked while this one is copied, so a long list starts
to transfer at once and takes bounded memory. An error ends the call; images that are complete by then are named.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from mirror.concurrency import map_concurrently, overlapped
from mirror.content.copy import execute
from mirror.content.plan import BlobKey, CopyTask, make_plan
from mirror.content.select import PlatformSelection
from mirror.content.store import Progress
from mirror.errors import MirrorError, StorageError, UnsupportedManifest, UsageError
from mirror.oci.digest import Digest
from mirror.report.transfers import TransferReport
from mirror.retry import ONCE, RetryPolicy
from mirror.stores.images import ImageStore
from mirror.transfer.arrivals import Arrivals
from mirror.transfer.image import ImageTransfer
from mirror.transfer.outcome import Outcome
from mirror.transfer.referrers import ReferrerCopies
from mirror.transfer.target import ImageTarget

_FIRST_BATCH, _BATCH = 8, 32  # images; the first batch is small, so that the first blob does not wait for many walks
_WALKS_AT_ONCE = 8
_MAX_ATTEMPTS = 20  # for an image that other processes keep writing, so that as many can write it at the same time

_ReferrerKey = tuple[int, str, str]  # a sink's id, a name in it, and the digest unless the name is unique


@dataclass(frozen=True, slots=True)
class TransferOptions:
    """Options for a transfer, as in `PullOptions` and `CopyOptions`.

    With `find_referrers`, the referrers of local images are found even if they are not copied, so that they do not
    count as images.
    """

    selection: PlatformSelection = field(default_factory=lambda: PlatformSelection(all=True))
    referrers: bool = True
    find_referrers: bool = False
    keep_going: bool = False
    dry_run: bool = False
    jobs: int = 1
    retry: RetryPolicy = ONCE


class Engine:
    """One transfer from a store to a target.

    `referring` are the names of the entries that refer to one of the images; `outcome` is what has been done so far.
    """

    def __init__(
        self,
        verb: str,
        store: ImageStore,
        target: ImageTarget,
        options: TransferOptions,
        progress: Progress | None = None,
    ) -> None:
        self.referring: set[str] = set()
        self._store, self._target, self._options, self._progress = store, target, options, progress
        self._opened = False
        self._known: set[BlobKey] = set()  # blobs that the target is known to have
        self._names: set[str] = set()  # of images; a referrer with such a name is copied as an image
        self._named: dict[_ReferrerKey, Digest] = {}
        self._arrivals = Arrivals(progress)
        self._images: dict[int, ImageTransfer] = {}  # by the id of the task that names each
        self.outcome = Outcome(verb, store.name)

    async def run(self, stack: AsyncExitStack, images: Sequence[ImageTransfer]) -> None:
        """Transfer images. `stack` closes the target, which makes what was copied durable."""
        self._names.update(image.name for image in images)
        self.outcome.expect(images)
        self._arrivals.expect(images)
        todo = images
        for _ in range(_MAX_ATTEMPTS):
            await overlapped(_batches(todo), self._walk, lambda batch: self._copy(stack, batch))
            todo = await self._target.conflicts(todo)
            if not todo:
                return
            self._named.clear()
            for image in todo:
                image.forget()
        await self._give_up(todo)

    async def _give_up(self, images: Sequence[ImageTransfer]) -> None:
        """Fail for images whose names were given to something else in every attempt."""

        async def fail(image: ImageTransfer) -> None:
            raise StorageError(
                f"{image.name} has not been named: in each of {_MAX_ATTEMPTS} attempts, another process changed what "
                "the target has of it.",
                hint="Run the command again when no other process writes this image.",
            )

        await self._each(fail, images)
        self._end(images)

    async def _walk(self, batch: Sequence[ImageTransfer]) -> Sequence[ImageTransfer]:
        """Carry out step 2. With `keep_going`, the error of an image is kept in it."""

        async def walk(image: ImageTransfer) -> None:
            image.entry = await self._store.resolve(image.image)
            selection, retry = self._options.selection, self._options.retry
            image.selected = await self._target.select(self._store, image, selection, retry)

        await self._each(walk, batch)
        walked = [image for image in batch if image.selected]
        wanted = self._options.referrers and (self._target.takes_referrers or self._store.is_local)
        if wanted or self._options.find_referrers:
            await self._find_referrers(walked)

        async def look_up(image: ImageTransfer) -> None:
            await self._target.look_up(self._store, image, self._options.retry, referrers=self._options.referrers)

        await self._each(look_up, walked)
        return batch

    async def _each(self, step: Callable[[ImageTransfer], Awaitable[None]], images: Sequence[ImageTransfer]) -> None:
        async def attempt(image: ImageTransfer) -> None:
            try:
                await step(image)
            except MirrorError as error:
                # An unsupported manifest is left behind and reported; other errors end the transfer.
                if not (self._options.keep_going or isinstance(error, UnsupportedManifest)):
                    raise
                image.error = error

        await map_concurrently(images, attempt, _WALKS_AT_ONCE)

    async def _find_referrers(self, images: Sequence[ImageTransfer]) -> None:
        found = await self._store.referrers([(image.copied, image.chosen) for image in images])
        shared = {id(one): one for one in found}
        self.outcome.referrer_warnings += [text for one in shared.values() for text in one.warnings]
        for image, referrers in zip(images, found, strict=True):
            self.referring |= {one.entry.name for one in referrers.referrers}
            image.referrers = ReferrerCopies.of(image.copied, image.graph, referrers)
            for other in image.duplicates:
                assert other.entry is not None, "only images with entries have duplicates"
                entry = other.entry._replace(root=image.chosen.root)
                more = (await self._store.referrers([(entry, image.chosen)]))[0]
                self.referring |= {one.entry.name for one in more.referrers}
                image.referrers.add(ReferrerCopies.of(entry, image.graph, more))

    async def _copy(self, stack: AsyncExitStack, batch: Sequence[ImageTransfer]) -> None:
        """Carry out steps 3 to 5."""
        options, target, known, progress = self._options, self._target, self._known, self._progress
        retry, keep_going = options.retry, options.keep_going
        walked = [image for image in batch if image.selected and not image.error]
        if walked:
            if not self._opened:
                await target.open(stack, dry_run=options.dry_run)
                self._opened = True
            tasks = self._tasks(walked)
            jobs = options.jobs
            plan = await make_plan(tasks, jobs=jobs, retry=retry, keep_going=keep_going, known=known, progress=progress)
            jobs = target.prepare(plan, jobs, optional=len(tasks) > len(walked))
            if options.dry_run:
                known |= plan.keys
            else:
                await execute(
                    plan,
                    jobs=jobs,
                    retry=retry,
                    keep_going=keep_going,
                    known=known,
                    progress=progress,
                    confirm=self._confirm,
                )
                await target.finish(walked)
            self.outcome.count(plan, target)
        self._end(batch)

    def _end(self, images: Sequence[ImageTransfer]) -> None:
        for image in images:
            self._arrivals.end(image)
        self.outcome.add(images, self._target)

    async def _confirm(self, task: CopyTask) -> None:
        """Have an image confirmed that has just been named; referrers are confirmed with their image."""
        image = self._images.pop(id(task), None)
        if image:
            self._arrivals.end(image)
            await self._target.confirm(image, partial(self._arrivals.settle, image, image.line))

    def _tasks(self, images: Sequence[ImageTransfer]) -> list[CopyTask]:
        """Return the tasks of a batch: referrers first, so that an image is signed before its tag moves."""
        shared: dict[_ReferrerKey, CopyTask] = {}  # images may have referrers in common
        tasks = [image.to(self._store.source(image.image), self._target.sink(image)) for image in images]
        self._images = {id(task): image for task, image in zip(tasks, images, strict=True)}
        for image in images:
            if image.referrers and not (self._options.referrers and self._target.takes_referrers):
                self.outcome.left_out |= {digest for one in image.referrers.referrers for digest in one.members}
                image.referrers = None
            if image.referrers:
                self._add_referrers(image, image.referrers, shared)
        for image, task in zip(images, tasks, strict=True):
            task.before_name = partial(self._target.before_name, image)
        return [*shared.values(), *tasks]

    def _add_referrers(
        self, image: ImageTransfer, copies: ReferrerCopies, shared: dict[_ReferrerKey, CopyTask]
    ) -> None:
        source, sink = self._store.source(image.image), self._target.sink(image)
        subjects: dict[Digest, CopyTask] = {}  # those that are referrers themselves
        for referrer in copies.referrers:
            graph, name, root = self._target.place_referrer(image, referrer.entry, referrer.graph)
            if name in self._names:
                continue
            key = (id(sink), name, "" if self._target.is_unique(name, root) else root.digest)
            task = shared.setdefault(key, CopyTask(source, sink, graph, name, root, optional=True))
            task.label, task.host = image.image.label, image.host
            copies.tasks[referrer.entry.name, referrer.entry.root.digest] = task
            if self._target.subjects_first and (subject := subjects.get(referrer.subject, image.task)):
                task.after.append(subject)
            subjects |= dict.fromkeys(referrer.members, task)
            if (other := self._named.setdefault(key, root.digest)) != root.digest:
                where = f"{image.place.name}:{name}" if image.place else name
                raise UsageError(
                    f"Two different referrers would both become {where}: {other} and {root.digest}.",
                    hint=f"Remove one of them: mirror rm {self._store.name} {root.digest}. To keep both, transfer "
                    "their images one at a time, each to its own repository.",
                )

    def report(self) -> TransferReport:
        """Return what was done. Call it after the target has been closed."""
        return self.outcome.report(self._target, dry_run=self._options.dry_run)


def _batches(images: Sequence[ImageTransfer]) -> Iterator[list[ImageTransfer]]:
    todo = iter(images)
    size = _FIRST_BATCH
    while batch := list(islice(todo, size)):
        yield batch
        size = _BATCH
