"""The one way in which content is copied, between any two stores.

    plan       which blobs does the other side lack?
    execute    copy blobs, each read once; when an image has all of its blobs: its manifests, indexes and name

Several images can be copied at once, and each may have its own source and sink: a pull has many sources and one sink,
a push one source and many sinks. A blob that several images share is copied once to each sink, by one worker for all
of them, so that a registry can mount for the second repository what the first has just received.
"""

from __future__ import annotations

from asyncio import Lock, get_running_loop
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic

from mirror.concurrency import map_concurrently
from mirror.content import stream
from mirror.content.graph import Graph
from mirror.content.store import NoProgress, Progress, Sink, Source
from mirror.content.stream import BlobReader, ReadInto
from mirror.errors import BlobsUnknown, MirrorError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.retry import RetryPolicy

_MANIFESTS_AT_ONCE = 8
_TELL = 0.1  # seconds between two reports of a thread's progress, so that the event loop can do other things

BlobKey = tuple[int, Digest, int]  # a sink's id, and a blob with its size: an image that lies about it fails alone


@dataclass(eq=False, slots=True)
class CopyTask:
    """One image to copy: what, from where, to where, under which name.

    After the copy, `replaced` is what the name stood for before, and `failure` why the image did not arrive. If an
    `optional` task fails, the others go on in any case.
    """

    source: Source
    sink: Sink
    graph: Graph
    name: str
    root: Descriptor
    optional: bool = False
    replaced: Digest | None = None
    failure: MirrorError | None = None


@dataclass(slots=True)
class BlobMove:
    """One blob and the tasks that need it, those with the same sink side by side.

    `arrived` is whether at least one sink has it now.
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

    def lacking(self) -> dict[int, int]:
        """Return how many blobs each task still lacks, by its id."""
        found = {id(task): 0 for task in self.tasks}
        for move in self.moves:
            for task in move.tasks:
                found[id(task)] += 1
        return found


async def plan(
    tasks: Sequence[CopyTask],
    *,
    jobs: int,
    retry: RetryPolicy,
    keep_going: bool = False,
    known: set[BlobKey] | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Ask every sink for every blob. Blobs are planned image by image, in each the largest first.

    Args:
        tasks: the images.
        jobs: how many blobs to ask for at once; to ask a layout is to hash.
        retry: how often to ask again after a transient failure.
        keep_going: keep the error of a sink that could not be asked in its tasks' `failure` and go on; blobs that only
            they need are not planned.
        known: blobs that are known to be in their sinks, from earlier plans; this adds those that are found there.
        progress: is told.

    Raises:
        MirrorError: a sink could not be asked, unless `keep_going`.
    """
    progress = progress or NoProgress()
    known = set() if known is None else known
    asked: dict[BlobKey, BlobMove] = {}
    for task in tasks:
        for node in task.graph.largest_first():
            if (key := _key(task, node)) not in known:
                asked.setdefault(key, BlobMove(node)).tasks.append(task)
    progress.plan("checking", len(asked), sum(question.node.size for question in asked.values()))

    async def is_there(question: BlobMove) -> bool:
        progress.begin(question.node)
        try:
            found = await retry.run(partial(question.tasks[0].sink.has, question.node))
        except MirrorError as error:
            if not keep_going:
                raise
            found = False
            for task in question.tasks:
                task.failure = task.failure or error
        progress.advance(question.node, question.node.size)
        progress.end(question.node)
        return found

    answers = await map_concurrently(asked.values(), is_there, jobs)
    moves: dict[tuple[Digest, int], BlobMove] = {}
    reused: dict[Digest, Descriptor] = {}
    for (key, question), found in zip(asked.items(), answers, strict=True):
        if found:
            known.add(key)
            reused[question.node.digest] = question.node
        else:
            move = moves.setdefault((question.node.digest, question.node.size), BlobMove(question.node))
            move.tasks.extend(question.tasks)
    wanted = [move for move in moves.values() if not all(task.failure for task in move.tasks)]
    return Plan(tasks, wanted, list(reused.values()))


def in_order(plan: Plan) -> Iterator[Descriptor]:
    """Yield everything that `execute` puts, in the order of one put at a time; repeated puts are repeated here."""
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
) -> None:
    """Carry out a plan. Nothing is named before everything that it references is there.

    Args:
        plan: what to copy.
        jobs: how many blobs to copy at once.
        retry: how often to try again after a transient failure.
        keep_going: keep the error of an image that fails in its task's `failure` and go on.
        known: receives the blobs that arrive.
        progress: is told.

    Raises:
        MirrorError: the first failure of a task that is not optional, unless `keep_going`.
    """
    executor = _Executor(plan, retry, keep_going, set() if known is None else known, progress or NoProgress())
    for task in plan.tasks:
        await executor.finish_if_whole(task)
    await map_concurrently(plan.moves, executor.move, jobs)
    plan.moves = [move for move in plan.moves if move.arrived]


def _key(task: CopyTask, node: Descriptor) -> BlobKey:
    return id(task.sink), node.digest, node.size


class _Executor:
    """Copies blobs, and counts how many each image still lacks."""

    def __init__(
        self, plan: Plan, retry: RetryPolicy, keep_going: bool, known: set[BlobKey], progress: Progress
    ) -> None:
        self._retry, self._keep_going, self._known, self._progress = retry, keep_going, known, progress
        self._lacking = plan.lacking()
        progress.plan("copying", len(plan.moves), plan.size)
        self._unnamed = list(reversed(plan.tasks))
        self._whole: set[int] = set()
        self._naming, self._repeating = Lock(), Lock()
        self._repeated: set[tuple[int, Digest]] = set()

    async def move(self, move: BlobMove) -> None:
        """Copy one blob to every sink that lacks it, then finish the images that lacked nothing else."""
        alive = [task for task in move.tasks if not task.failure]
        self._progress.begin(move.node)
        for sink in {id(task.sink): task.sink for task in alive}.values():
            move.arrived |= await self._to_sink(move.node, sink, [task for task in alive if task.sink is sink])
        self._progress.end(move.node)
        for task in move.tasks:
            self._lacking[id(task)] -= 1
            await self.finish_if_whole(task)

    async def _to_sink(self, node: Descriptor, sink: Sink, tasks: Sequence[CopyTask]) -> bool:
        """Try the source of each task until one has the blob, and return whether one had."""
        errors = []
        for source in {id(task.source): task.source for task in tasks}.values():
            try:
                transfer = _BlobTransfer(node, source, sink, self._progress)
                await self._retry.run(transfer.attempt, transfer.reached)
            except MirrorError as error:
                errors.append(error)
            else:
                self._known.add((id(sink), node.digest, node.size))
                return True
        self._fail(tasks, errors[0])
        return False

    def _fail(self, tasks: Iterable[CopyTask], error: MirrorError) -> None:
        for task in tasks:
            if not (self._keep_going or task.optional):
                raise error
            task.failure = task.failure or error

    async def finish_if_whole(self, task: CopyTask) -> None:
        """Put the manifests, then the indexes, then the name of an image whose blobs are all there."""
        if not self._lacking[id(task)] and not task.failure:
            try:
                await self._put_manifests(task)
                self._whole.add(id(task))
            except MirrorError as error:
                self._fail([task], error)
        await self._name_in_order()

    async def _put_manifests(self, task: CopyTask) -> None:
        async def put(node: Node) -> None:
            data = stream.from_memory(node.data, task.name)
            try:
                await self._retry.run(lambda: task.sink.put(node.descriptor, data))
            except BlobsUnknown:
                await self._put_again(task, [link for link in node.document.links if link.digest in task.graph.blobs])
                await self._retry.run(lambda: task.sink.put(node.descriptor, data))

        for rank in task.graph.ranks():
            await map_concurrently(rank, put, _MANIFESTS_AT_ONCE)

    async def _put_again(self, task: CopyTask, blobs: Sequence[Descriptor]) -> None:
        """Put blobs without asking that the sink said it had and does not have, once for all tasks that need them."""
        async with self._repeating:
            for node in blobs:
                if (id(task.sink), node.digest) in self._repeated:
                    continue
                self._repeated.add((id(task.sink), node.digest))
                self._progress.advance(node, -node.size)
                transfer = _BlobTransfer(node, task.source, task.sink, self._progress)
                await self._retry.run(transfer.attempt, transfer.reached)

    async def _name_in_order(self) -> None:
        """Name images in the order of the tasks, whichever was whole first: the same call gives the same result."""
        async with self._naming:
            while self._unnamed and (self._unnamed[-1].failure or id(self._unnamed[-1]) in self._whole):
                task = self._unnamed.pop()
                if task.failure:
                    continue
                try:
                    await self._name(task)
                except MirrorError as error:
                    self._fail([task], error)

    async def _name(self, task: CopyTask) -> None:
        node = task.graph.nodes.get(task.root.digest)
        data = node.data if node else b""
        task.replaced = await self._retry.run(lambda: task.sink.tag(task.name, task.root, data))


class _BlobTransfer:
    """One blob from one source to one sink, attempt after attempt."""

    def __init__(self, node: Descriptor, source: Source, sink: Sink, progress: Progress) -> None:
        self._node, self._source, self._sink, self._progress = node, source, sink, progress
        self._counted = self._furthest = 0

    async def attempt(self) -> None:
        try:
            await self._sink.put(self._node, self._fetch)
        except BaseException:
            self._count(0)
            raise
        self._count(self._node.size)  # what a registry mounted was never read here

    def reached(self) -> int:
        """Return the bytes that the furthest attempt has read."""
        return self._furthest

    @asynccontextmanager
    async def _fetch(self, start: int) -> AsyncIterator[BlobReader]:
        async with _open(self._source, self._node, start) as body:
            self._count(body.start)
            yield replace(body, chunks=self._counted_chunks(body), fill=body.fill and self._counted_fill(body.fill))

    async def _counted_chunks(self, body: BlobReader) -> AsyncIterator[bytes]:
        async for chunk in body.chunks:
            self._count(self._counted + len(chunk))
            yield chunk

    def _counted_fill(self, fill: ReadInto) -> ReadInto:
        """Count in a thread, which wakes the event loop only now and then."""
        loop, untold, told = get_running_loop(), 0, monotonic()

        def counted(buffer: memoryview) -> int:
            nonlocal untold, told
            count = fill(buffer)
            untold += count
            if not count or monotonic() - told >= _TELL:
                loop.call_soon_threadsafe(self._count_more, untold)
                untold, told = 0, monotonic()
            return count

        return counted

    def _count_more(self, count: int) -> None:
        self._count(self._counted + count)

    def _count(self, done: int) -> None:
        self._progress.advance(self._node, done - self._counted)
        self._counted, self._furthest = done, max(self._furthest, done)


@asynccontextmanager
async def _open(source: Source, node: Descriptor, start: int) -> AsyncIterator[BlobReader]:
    """Open the content of `node`: from its own descriptor if it is embedded there, else from `source`."""
    embedded = None if node.data is None else stream.from_memory(node.data, "its own descriptor")
    async with embedded(start) if embedded else source.open_blob(node, start) as body:
        yield body
