"""The one copy of content, between any two stores.

    plan       find the blobs that the sinks lack
    execute    copy blobs, each read once; when an image has all of its blobs: its manifests, indexes and name

Several images can be copied at once, and each may have its own source and sink: a pull has many sources and one sink,
a push one source and many sinks. A blob that several images share is copied once to each sink, by one worker for all
of them, so that a registry can mount in the second repository what the first has just received.
"""

from __future__ import annotations

from asyncio import Lock
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from mirror.concurrency import map_concurrently
from mirror.content import stream
from mirror.content.blob_transfer import BlobTransfer
from mirror.content.graph import Graph
from mirror.content.store import NoProgress, Progress, Sink, Source, image_progress
from mirror.errors import BlobsUnknown, MirrorError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.retry import RetryPolicy

_MANIFESTS_AT_ONCE = 8

BlobKey = tuple[int, Digest, int]  # a sink's id, and a blob with its size: an image with a wrong size fails alone


@dataclass(eq=False, slots=True)
class CopyTask:
    """One image to copy: what, from where, to where, under which name.

    Its manifests are put after those of at least one of the tasks in `after`, which refer to nothing in it; if all of
    them fail, it fails too. `before_name` is called once its manifests are there and earlier tasks have names. After
    the copy, `replaced` is what the name pointed to before, and `failure` the reason if the image did not arrive. The
    failure of an `optional` task never stops the others. `label` and `host` are for the progress: the name of the
    image, and the registry, if there is one.
    """

    source: Source
    sink: Sink
    graph: Graph
    name: str
    root: Descriptor
    optional: bool = False
    after: list[CopyTask] = field(default_factory=list)
    before_name: Callable[[], Awaitable[None]] | None = None
    replaced: Digest | None = None
    failure: MirrorError | None = None
    label: str = ""
    host: str = ""


Confirm = Callable[[CopyTask], Awaitable[None]]  # is called for a task that has just been named


@dataclass(slots=True)
class BlobMove:
    """One blob and the tasks that need it, those with the same sink side by side.

    `arrived` is True once at least one sink has received it.
    """

    node: Descriptor
    tasks: list[CopyTask] = field(default_factory=list)
    arrived: bool = False


@dataclass(slots=True)
class Plan:
    """The blobs to copy, in order, and those that are there already.

    After `execute`, `moves` holds only those that arrived.
    """

    tasks: Sequence[CopyTask]
    moves: list[BlobMove]
    reused: list[Descriptor]

    @property
    def missing(self) -> list[Descriptor]:
        return [move.node for move in self.moves]

    @property
    def size(self) -> int:
        """Bytes to copy. A blob for two sinks counts once, since the second registry may mount it."""
        return sum(move.node.size for move in self.moves)

    @property
    def keys(self) -> set[BlobKey]:
        """The blobs to copy, with each of their sinks."""
        return {_key(task, move.node) for move in self.moves for task in move.tasks}

    def lacking(self) -> Counter[int]:
        """Count the blobs that each task still lacks, by the task's id."""
        return Counter(id(task) for move in self.moves for task in move.tasks)


async def plan(
    tasks: Sequence[CopyTask],
    *,
    jobs: int,
    retry: RetryPolicy,
    keep_going: bool = False,
    known: set[BlobKey] | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Ask every sink for every blob. Blobs are planned image by image, each image's largest blob first.

    Args:
        tasks: the images.
        jobs: how many blobs to check at once; a layout hashes each.
        retry: how often to ask again after a transient failure.
        keep_going: if a sink cannot be asked, note the error as its tasks' `failure` and go on; blobs that only those
            tasks need are not planned.
        known: blobs that earlier plans found in their sinks; those that this plan finds are added.
        progress: notified of each blob.
    """
    progress = progress or NoProgress()
    known = set() if known is None else known
    unknown: dict[BlobKey, BlobMove] = {}
    for task in tasks:
        for node in task.graph.largest_first():
            if (key := _key(task, node)) not in known:
                unknown.setdefault(key, BlobMove(node)).tasks.append(task)
    progress.plan("checking", len(unknown), sum(move.node.size for move in unknown.values()))

    async def is_there(move: BlobMove) -> bool:
        progress.begin(move.node)
        try:
            found = await retry.run(partial(move.tasks[0].sink.has, move.node))
        except MirrorError as error:
            if not keep_going:
                raise
            found = False
            for task in move.tasks:
                task.failure = task.failure or error
        progress.advance(move.node, move.node.size)
        progress.end(move.node)
        return found

    answers = await map_concurrently(unknown.values(), is_there, jobs)
    moves: dict[tuple[Digest, int], BlobMove] = {}
    reused: dict[Digest, Descriptor] = {}
    for (key, asked), found in zip(unknown.items(), answers, strict=True):
        node = asked.node
        if found:
            known.add(key)
            reused[node.digest] = node
        else:
            moves.setdefault((node.digest, node.size), BlobMove(node)).tasks.extend(asked.tasks)
    wanted = [move for move in moves.values() if not all(task.failure for task in move.tasks)]
    return Plan(tasks, wanted, list(reused.values()))


def in_order(plan: Plan) -> Iterator[Descriptor]:
    """Yield everything that `execute` puts if it puts one thing at a time; what it puts twice is yielded twice."""
    lacking = plan.lacking()
    for task in plan.tasks:
        if not lacking[id(task)]:
            yield from task.graph.manifests()
    for move in plan.moves:
        yield move.node
        for task in move.tasks:
            lacking[id(task)] -= 1
            if not lacking[id(task)]:
                yield from task.graph.manifests()


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
    executor = _Executor(plan, retry, keep_going, known, progress or NoProgress(), confirm)
    for task in plan.tasks:
        await executor.finish_if_complete(task)
    await map_concurrently(plan.moves, executor.move, jobs)
    plan.moves = [move for move in plan.moves if move.arrived]


def _key(task: CopyTask, node: Descriptor) -> BlobKey:
    return id(task.sink), node.digest, node.size


class _Executor:
    """Copies blobs, and counts how many each image still lacks."""

    def __init__(
        self,
        plan: Plan,
        retry: RetryPolicy,
        keep_going: bool,
        known: set[BlobKey],
        progress: Progress,
        confirm: Confirm | None,
    ) -> None:
        self._retry, self._keep_going, self._known, self._progress = retry, keep_going, known, progress
        self._confirm = confirm
        self._lacking, self._unnamed = plan.lacking(), deque(plan.tasks)
        self._started, self._complete = set[int](), set[int]()  # ids of tasks
        self._later: dict[int, list[CopyTask]] = {}  # by the id of a task, those that come after it
        for task in plan.tasks:
            for other in task.after:
                self._later.setdefault(id(other), []).append(task)
        self._naming, self._repeating = Lock(), Lock()
        self._repeated: set[tuple[int, Digest]] = set()
        progress.plan("copying", len(plan.moves), plan.size)

    async def move(self, move: BlobMove) -> None:
        """Copy one blob to every sink that lacks it, then finish the images that lacked nothing else."""
        alive = [task for task in move.tasks if not task.failure]
        self._progress.begin(move.node)
        if alive:
            image_progress(self._progress).locate(move.node, alive[0].label, alive[0].host)
        for sink in {id(task.sink): task.sink for task in alive}.values():
            move.arrived |= await self._to_sink(move.node, sink, [task for task in alive if task.sink is sink])
        self._progress.end(move.node)
        for task in move.tasks:
            self._lacking[id(task)] -= 1
            await self.finish_if_complete(task)

    async def _to_sink(self, node: Descriptor, sink: Sink, tasks: Sequence[CopyTask]) -> bool:
        """Try the tasks' sources in turn until one delivers the blob; return False if none does."""
        errors = []
        for source in {id(task.source): task.source for task in tasks}.values():
            try:
                await self._transfer(node, source, sink)
            except MirrorError as error:
                errors.append(error)
            else:
                self._known.add((id(sink), node.digest, node.size))
                return True
        self._fail(tasks, errors[0])
        return False

    async def _transfer(self, node: Descriptor, source: Source, sink: Sink) -> None:
        transfer = BlobTransfer(node, source, sink, self._progress)
        await self._retry.run(transfer.attempt, lambda: transfer.furthest)

    def _fail(self, tasks: Iterable[CopyTask], error: MirrorError) -> None:
        for task in tasks:
            if not (self._keep_going or task.optional):
                raise error
            task.failure = task.failure or error

    async def finish_if_complete(self, task: CopyTask) -> None:
        """Once all blobs of an image are there, put its manifests, then its indexes, then its name."""
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
        if self._is_settled(task):
            for later in self._later.pop(id(task), ()):
                await self.finish_if_complete(later)
        if not self._naming.locked():  # another call is, and goes on with those that are complete by then
            await self._name_in_order()

    def _is_due(self, task: CopyTask) -> bool:
        waits = self._lacking[id(task)] or not all(map(self._is_settled, task.after))
        return not (waits or task.failure or id(task) in self._started)

    def _is_settled(self, task: CopyTask) -> bool:
        return task.failure is not None or id(task) in self._complete

    async def _put_manifest(self, task: CopyTask, node: Node) -> None:
        put = partial(task.sink.put, node.descriptor, stream.from_memory(node.data, task.name))
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
        """Name images in the order of the tasks, not of their completion: the same call gives the same result."""
        named = []
        async with self._naming:
            while self._unnamed and self._is_settled(self._unnamed[0]):
                task = self._unnamed.popleft()
                if task.failure:
                    continue
                root = task.graph.nodes.get(task.root.digest)
                tag = partial(task.sink.tag, task.name, task.root, root.data if root else b"")
                try:
                    if task.before_name:
                        await task.before_name()
                    task.replaced = await self._retry.run(tag)
                    named.append(task)
                except MirrorError as error:
                    self._fail([task], error)
        if self._confirm:
            for task in named:
                try:
                    await self._confirm(task)
                except MirrorError as error:
                    self._fail([task], error)
