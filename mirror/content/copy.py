"""The one copy of content, between any two stores.

    make_plan  find the blobs that the sinks lack (`mirror.content.plan`)
    execute    copy blobs, each read once; when an image has all of its blobs: its manifests, indexes and name

Several images can be copied at once, and each may have its own source and sink: a pull has many sources and one sink,
a push one source and many sinks. A blob that several images share is copied once to each sink, by one worker for all
of them, so that a registry can mount in the second repository what the first has just received.
"""

from __future__ import annotations

from asyncio import Lock
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial

from mirror.concurrency import map_concurrently
from mirror.content import stream
from mirror.content.blob_transfer import BlobTransfer
from mirror.content.place import IN_FLIGHT, Place, Places
from mirror.content.plan import BlobKey, BlobMove, CopyTask, Plan
from mirror.content.store import NoProgress, Progress, Sink, Source, image_progress
from mirror.errors import BlobsUnknown, MirrorError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.retry import RetryPolicy

_IMAGES_AT_ONCE = 8  # that need no more blobs
_MANIFESTS_AT_ONCE = 8  # of one image

Confirm = Callable[[CopyTask], Awaitable[None]]  # is called for a task that has just been named


async def execute(
    plan: Plan,
    *,
    jobs: int,
    retry: RetryPolicy,
    keep_going: bool = False,
    known: set[BlobKey] | None = None,
    progress: Progress | None = None,
    confirm: Confirm | None = None,
) -> None:
    """Carry out a plan, `jobs` blobs at once. Nothing is named before everything that it references is there.

    The blobs that arrive are added to `known`. `confirm` is awaited for each task that has been named. The first error
    of a task that is not optional is raised; with `keep_going`, it only becomes the task's `failure`.
    """
    known = set() if known is None else known
    executor = _Executor(plan, jobs, retry, keep_going, known, progress or NoProgress(), confirm)
    await map_concurrently(plan.tasks, executor.finish_if_complete, executor.at_once)
    await map_concurrently(plan.moves, executor.move, IN_FLIGHT * jobs)
    plan.moves = [move for move in plan.moves if move.arrived]


class _Executor:
    """Copies blobs, and counts how many each image still lacks. `at_once` is how many images it names at a time."""

    def __init__(
        self,
        plan: Plan,
        jobs: int,
        retry: RetryPolicy,
        keep_going: bool,
        known: set[BlobKey],
        progress: Progress,
        confirm: Confirm | None,
    ) -> None:
        self._retry, self._keep_going, self._known, self._progress = retry, keep_going, known, progress
        self.at_once, self._confirm = _IMAGES_AT_ONCE if jobs > 1 else 1, confirm
        self._image_progress = image_progress(progress)
        self._lacking, self._unnamed = plan.lacking(), deque(plan.tasks)
        self._started, self._complete = set[int](), set[int]()  # ids of tasks
        self._later: dict[int, list[CopyTask]] = {}  # by the id of a task, those that come after it
        for task in plan.tasks:
            for other in task.after:
                self._later.setdefault(id(other), []).append(task)
        self._places = Places(jobs)
        self._naming: dict[tuple[int, str], CopyTask] = {}  # by sink and name, those that are being named
        self._in_order, self._repeating = Lock(), Lock()
        self._repeated: set[tuple[int, Digest]] = set()
        progress.plan("copying", len(plan.moves), plan.size)

    async def move(self, move: BlobMove) -> None:
        """Copy one blob to every sink that lacks it, then finish the images that lacked nothing else."""
        async with self._places.free() as place:
            await self._copy(move, place)
            for task in move.tasks:
                self._lacking[id(task)] -= 1
                await self.finish_if_complete(task)

    async def _copy(self, move: BlobMove, place: Place) -> None:
        alive = [task for task in move.tasks if not task.failure]
        self._progress.begin(move.node)
        if alive:
            self._image_progress.locate(move.node, alive[0].label, alive[0].host)
        for sink in {id(task.sink): task.sink for task in alive}.values():
            move.arrived |= await self._to_sink(move.node, sink, [task for task in alive if task.sink is sink], place)
        self._progress.end(move.node)

    async def _to_sink(self, node: Descriptor, sink: Sink, tasks: Sequence[CopyTask], place: Place) -> bool:
        """Try the tasks' sources in turn until one delivers the blob; return False if none does."""
        errors = []
        for source in {id(task.source): task.source for task in tasks}.values():
            try:
                await self._transfer(node, source, sink, place)
            except MirrorError as error:
                errors.append(error)
            else:
                self._known.add((id(sink), node.digest, node.size))
                return True
        self._fail(tasks, errors[0])
        return False

    async def _transfer(self, node: Descriptor, source: Source, sink: Sink, place: Place | None = None) -> None:
        transfer = BlobTransfer(node, source, sink, self._progress, place)
        await self._retry.run(transfer.attempt, lambda: transfer.furthest)

    def _fail(self, tasks: Iterable[CopyTask], error: MirrorError) -> None:
        for task in tasks:
            if not (self._keep_going or task.optional):
                raise error
            task.failure = task.failure or error

    async def finish_if_complete(self, task: CopyTask) -> None:
        """Once all blobs of an image are there, put its manifests, then its indexes, then its name.

        The same for the tasks that come after it, which may be a long chain.
        """
        todo = [task]
        for one in todo:  # grows below
            await self._put_manifests_if_due(one)
            if self._is_settled(one):
                todo += self._later.pop(id(one), ())
        await self._name_in_order()

    async def _put_manifests_if_due(self, task: CopyTask) -> None:
        if task.after and all(other.failure for other in task.after):
            task.failure = task.failure or task.after[0].failure
        if self._is_due(task):
            self._started.add(id(task))
            try:
                for rank in task.graph.ranks():
                    await map_concurrently(rank, partial(self._put_manifest, task), _MANIFESTS_AT_ONCE)
                self._complete.add(id(task))
            except MirrorError as error:
                self._fail([task], error)

    def _is_due(self, task: CopyTask) -> bool:
        waits = self._lacking[id(task)] or not all(map(self._is_settled, task.after))
        return not (waits or task.failure or id(task) in self._started)

    def _is_settled(self, task: CopyTask) -> bool:
        return task.failure is not None or id(task) in self._complete

    async def _put_manifest(self, task: CopyTask, node: Node) -> None:
        put = partial(task.sink.put, node.descriptor, stream.from_verified(node.data, task.name))
        try:
            await self._retry.run(put)
        except BlobsUnknown:  # the sink claimed to have them: put them without asking, once for all tasks
            async with self._repeating:
                for link in node.document.links:
                    key = (id(task.sink), link.digest)
                    if link.digest in task.graph.blobs and key not in self._repeated:
                        self._repeated.add(key)
                        self._progress.advance(link, -link.size)
                        await self._transfer(link, task.source, task.sink)
            await self._retry.run(put)

    async def _name_in_order(self) -> None:
        """Name images in the order of the tasks, not of their completion: the same call gives the same result.

        Several are named at the same time, but they begin in order; referrers come before images, and the last task
        of a name prevails.
        """
        if self._in_order.locked():  # another call is naming, and goes on with those that are settled by then
            return
        async with self._in_order:
            while self._unnamed and self._is_settled(self._unnamed[0]):
                await map_concurrently(self._due(), self._name, self.at_once)

    def _due(self) -> Iterator[CopyTask]:
        while self._unnamed and self._may_name(task := self._unnamed[0]):
            self._naming[id(task.sink), task.name] = task
            yield self._unnamed.popleft()

    def _may_name(self, task: CopyTask) -> bool:
        if not self._is_settled(task) or (id(task.sink), task.name) in self._naming:
            return False
        return all(other.optional == task.optional for other in self._naming.values())

    async def _name(self, task: CopyTask) -> None:
        root = task.graph.nodes.get(task.root.digest)
        tag = partial(task.sink.tag, task.name, task.root, root.data if root else b"")
        try:
            if task.failure:
                return
            if task.before_name:
                await task.before_name()
            task.replaced = await self._retry.run(tag)
            if self._confirm:
                await self._confirm(task)
        except MirrorError as error:
            self._fail([task], error)
        finally:
            del self._naming[id(task.sink), task.name]
