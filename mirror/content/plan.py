"""The plan of a copy of images: the blobs that the sinks lack, in order. `mirror.content.copy` carries it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby

from mirror.concurrency import map_concurrently
from mirror.content.graph import Graph
from mirror.content.store import NoProgress, Progress, Sink, Source, checks_batches
from mirror.errors import MirrorError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.retry import RetryPolicy

_MOST_ASKED, _LARGEST_BATCH = 64, 1024 * 1024  # blobs, and bytes, that a sink is asked for at once
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
        return {key_of(task, move.node) for move in self.moves for task in move.tasks}

    def lacking(self) -> Counter[int]:
        """Count the blobs that each task still lacks, by the task's id."""
        return Counter(id(task) for move in self.moves for task in move.tasks)


async def make_plan(
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
        keep_going: if a sink cannot be asked, note the error as its tasks' `failure` and go on, as if all tasks were
            optional; blobs that only those tasks need are not planned.
        known: blobs that earlier plans found in their sinks; those that this plan finds are added.
        progress: notified of each blob.
    """
    progress = progress or NoProgress()
    known = set() if known is None else known
    unknown: dict[BlobKey, BlobMove] = {}
    for task in tasks:
        for node in task.graph.largest_first():
            if (key := key_of(task, node)) not in known:
                unknown.setdefault(key, BlobMove(node)).tasks.append(task)
    progress.plan("checking", len(unknown), sum(move.node.size for move in unknown.values()))

    async def are_there(moves: Sequence[BlobMove]) -> Sequence[bool]:
        for move in moves:
            progress.begin(move.node)
        try:
            found = await retry.run(partial(_ask, moves[0].tasks[0].sink, [move.node for move in moves]))
        except MirrorError as error:
            found = [False] * len(moves)
            for task in (task for move in moves for task in move.tasks):
                if not (keep_going or task.optional):
                    raise
                task.failure = task.failure or error
        for move in moves:
            progress.advance(move.node, move.node.size)
            progress.end(move.node)
        return found

    batches = await map_concurrently(list(_batches(unknown.values())), are_there, jobs)
    answers = chain.from_iterable(batches)
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


def _batches(moves: Iterable[BlobMove]) -> Iterator[list[BlobMove]]:
    """Group small blobs of one sink that are asked for at once, in order; all other blobs are alone."""
    for _, group in groupby(moves, lambda move: id(move.tasks[0].sink)):
        batch: list[BlobMove] = []
        size = 0
        for move in group:
            most = _MOST_ASKED if batch and checks_batches(batch[0].tasks[0].sink) else 1
            if batch and (len(batch) >= most or size + move.node.size > _LARGEST_BATCH):
                yield batch
                batch, size = [], 0
            batch.append(move)
            size += move.node.size
        yield batch


async def _ask(sink: Sink, nodes: Sequence[Descriptor]) -> list[bool]:
    return await sink.has_all(nodes) if checks_batches(sink) else [await sink.has(nodes[0])]


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


def key_of(task: CopyTask, node: Descriptor) -> BlobKey:
    """Return the key of a blob at the sink of a task."""
    return id(task.sink), node.digest, node.size
