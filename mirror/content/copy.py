"""The one way in which content moves, between any two stores.

    survey   which blobs does the other side lack?
    move     blobs, each fetched once; as soon as an image has all of its blobs: its manifests, its indexes, its name

Several images can be copied at once, and each may have a source and a sink of its own: a pull has many sources and
one sink, a push one source and many sinks. A blob that several images share is moved once to each sink, by one worker
for all of them, so that a registry can mount for the second repository what the first has just received.
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
_TELL = 0.1  # seconds after which a thread tells how far it has come: the event loop has better things to do


@dataclass(eq=False, slots=True)
class CopyTask:
    """One image on its way: what, from where, to where, under which name.

    `replaced` is what the name stood for before, `failure` why the image did not arrive; both are known afterwards.
    `optional`: where it fails, the others go on, whatever was said of them.
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
    """One blob and the images that need it, those with the same sink side by side; `arrived`: at one sink, at least."""

    node: Descriptor
    copies: list[CopyTask] = field(default_factory=list)
    arrived: bool = False


@dataclass(slots=True)
class Plan:
    """What a survey has found: the blobs to move, in order, and those that are there already.

    When it has been carried out, only the moves that were made are left in it.
    """

    copies: Sequence[CopyTask]
    moves: list[BlobMove]
    reused: list[Descriptor]

    @property
    def missing(self) -> list[Descriptor]:
        return [execute.node for execute in self.moves]

    @property
    def size(self) -> int:
        """Bytes to move; a blob that goes to two sinks counts once, since it is read or mounted there."""
        return sum(execute.node.size for execute in self.moves)

    def lacking(self) -> dict[int, int]:
        """How many blobs each copy still lacks, by its id."""
        found = {id(copy): 0 for copy in self.copies}
        for execute in self.moves:
            for copy in execute.copies:
                found[id(copy)] += 1
        return found


async def plan(
    copies: Sequence[CopyTask],
    *,
    jobs: int,
    retry: RetryPolicy,
    keep_going: bool = False,
    progress: Progress | None = None,
) -> Plan:
    """Ask every sink for every blob. Blobs are planned image by image, in each the largest first.

    With `keep_going`, the images of a sink that could not be asked keep the error in `failure`; nothing that they
    alone need is planned.

    Raises:
        MirrorError: a sink could not be asked, unless `keep_going`.
    """
    progress = progress or NoProgress()
    asked: dict[tuple[int, Digest, int], BlobMove] = {}  # with the size: an image that lies about it fails alone
    for copy in copies:
        for node in copy.graph.largest_first():
            asked.setdefault((id(copy.sink), node.digest, node.size), BlobMove(node)).copies.append(copy)
    progress.plan("checking", len(asked), sum(question.node.size for question in asked.values()))

    async def there(question: BlobMove) -> bool:
        progress.begin(question.node)
        try:
            found = await retry.run(partial(question.copies[0].sink.has, question.node))
        except MirrorError as error:
            if not keep_going:
                raise
            found = False
            for copy in question.copies:
                copy.failure = copy.failure or error
        progress.advance(question.node, question.node.size)
        progress.end(question.node)
        return found

    answers = await map_concurrently(asked.values(), there, jobs)
    moves: dict[tuple[Digest, int], BlobMove] = {}
    reused: dict[Digest, Descriptor] = {}
    for question, found in zip(asked.values(), answers, strict=True):
        if found:
            reused[question.node.digest] = question.node
        else:
            known = moves.setdefault((question.node.digest, question.node.size), BlobMove(question.node))
            known.copies.extend(question.copies)
    wanted = [execute for execute in moves.values() if not all(copy.failure for copy in execute.copies)]
    return Plan(copies, wanted, list(reused.values()))


def in_order(plan: Plan) -> Iterator[Descriptor]:
    """All that `execute` puts, as it comes when one is put at a time; what comes again, comes again here."""
    lacking = plan.lacking()
    for copy in plan.copies:
        if not lacking[id(copy)]:
            yield from copy.graph.manifests()
    for wanted in plan.moves:
        yield wanted.node
        for copy in wanted.copies:
            lacking[id(copy)] -= 1
            if not lacking[id(copy)]:
                yield from copy.graph.manifests()


async def execute(
    plan: Plan, *, jobs: int, retry: RetryPolicy, keep_going: bool = False, progress: Progress | None = None
) -> None:
    """Carry out a plan. Nothing is named before all that it names is there.

    With `keep_going`, an image that fails keeps its error in `failure` and the others go on.

    Raises:
        MirrorError: the first failure of a copy that is not optional, unless `keep_going`.
    """
    mover = _Executor(plan, retry, keep_going, progress or NoProgress())
    for copy in plan.copies:
        await mover.finish_if_whole(copy)
    await map_concurrently(plan.moves, mover.move, jobs)
    plan.moves = [wanted for wanted in plan.moves if wanted.arrived]


class _Executor:
    """Carries blobs, and counts for each image how many it still lacks."""

    def __init__(self, plan: Plan, retry: RetryPolicy, keep_going: bool, progress: Progress) -> None:
        self._retry, self._keep_going, self._progress = retry, keep_going, progress
        self._lacking = plan.lacking()
        progress.plan("copying", len(plan.moves), plan.size)
        self._unnamed = list(reversed(plan.copies))
        self._whole: set[int] = set()
        self._naming, self._repeating = Lock(), Lock()
        self._repeated: set[tuple[int, Digest]] = set()

    async def move(self, wanted: BlobMove) -> None:
        """Bring one blob to every sink that lacks it, then finish the images that waited for it alone."""
        alive = [copy for copy in wanted.copies if not copy.failure]
        self._progress.begin(wanted.node)
        for sink in {id(copy.sink): copy.sink for copy in alive}.values():
            wanted.arrived |= await self._to_sink(wanted.node, sink, [copy for copy in alive if copy.sink is sink])
        self._progress.end(wanted.node)
        for copy in wanted.copies:
            self._lacking[id(copy)] -= 1
            await self.finish_if_whole(copy)

    async def _to_sink(self, node: Descriptor, sink: Sink, copies: Sequence[CopyTask]) -> bool:
        """Try the source of each image that needs the blob, until one has it; whether one had."""
        errors = []
        for source in {id(copy.source): copy.source for copy in copies}.values():
            try:
                passage = _BlobTransfer(node, source, sink, self._progress)
                await self._retry.run(passage.attempt, passage.reached)
            except MirrorError as error:
                errors.append(error)
            else:
                return True
        self._fail(copies, errors[0])
        return False

    def _fail(self, copies: Iterable[CopyTask], error: MirrorError) -> None:
        for copy in copies:
            if not (self._keep_going or copy.optional):
                raise error
            copy.failure = copy.failure or error

    async def finish_if_whole(self, copy: CopyTask) -> None:
        """Put the manifests, then the indexes, then the name of an image whose blobs are all there."""
        if not self._lacking[id(copy)] and not copy.failure:
            try:
                await self._put_manifests(copy)
                self._whole.add(id(copy))
            except MirrorError as error:
                self._fail([copy], error)
        await self._name_in_order()

    async def _put_manifests(self, copy: CopyTask) -> None:
        async def put(node: Node) -> None:
            data = stream.from_memory(node.data, copy.name)
            try:
                await self._retry.run(lambda: copy.sink.put(node.descriptor, data))
            except BlobsUnknown:
                await self._put_again(copy, [link for link in node.document.links if link.digest in copy.graph.blobs])
                await self._retry.run(lambda: copy.sink.put(node.descriptor, data))

        for rank in copy.graph.ranks():
            await map_concurrently(rank, put, _MANIFESTS_AT_ONCE)

    async def _put_again(self, copy: CopyTask, blobs: Sequence[Descriptor]) -> None:
        """Blobs that the sink said it had, and has not: they are put without asking, once for all that need them."""
        async with self._repeating:
            for node in blobs:
                if (id(copy.sink), node.digest) in self._repeated:
                    continue
                self._repeated.add((id(copy.sink), node.digest))
                self._progress.advance(node, -node.size)
                passage = _BlobTransfer(node, copy.source, copy.sink, self._progress)
                await self._retry.run(passage.attempt, passage.reached)

    async def _name_in_order(self) -> None:
        """Names appear in the order of the call, whichever image was whole first: the same call, the same result."""
        async with self._naming:
            while self._unnamed and (self._unnamed[-1].failure or id(self._unnamed[-1]) in self._whole):
                copy = self._unnamed.pop()
                if copy.failure:
                    continue
                try:
                    await self._name(copy)
                except MirrorError as error:
                    self._fail([copy], error)

    async def _name(self, copy: CopyTask) -> None:
        node = copy.graph.nodes.get(copy.root.digest)
        data = node.data if node else b""
        copy.replaced = await self._retry.run(lambda: copy.sink.tag(copy.name, copy.root, data))


class _BlobTransfer:
    """One blob on its way from one source to one sink, attempt after attempt."""

    def __init__(self, node: Descriptor, source: Source, sink: Sink, progress: Progress) -> None:
        self._node, self._source, self._sink, self._progress = node, source, sink, progress
        self._counted = self._furthest = 0

    async def attempt(self) -> None:
        try:
            await self._sink.put(self._node, self._fetch)
        except BaseException:
            self._count(0)
            raise
        self._count(self._node.size)  # what a registry mounted never came past here

    def reached(self) -> int:
        """How many bytes of the blob any attempt has come to."""
        return self._furthest

    @asynccontextmanager
    async def _fetch(self, start: int) -> AsyncIterator[BlobReader]:
        async with _opened(self._source, self._node, start) as body:
            self._count(body.start)
            yield replace(body, chunks=self._counting(body), fill=body.fill and self._counting_too(body.fill))

    async def _counting(self, body: BlobReader) -> AsyncIterator[bytes]:
        async for chunk in body.chunks:
            self._count(self._counted + len(chunk))
            yield chunk

    def _counting_too(self, fill: ReadInto) -> ReadInto:
        """For a thread to call, which wakes the event loop now and then."""
        loop, untold, told = get_running_loop(), 0, monotonic()

        def counting(buffer: memoryview) -> int:
            nonlocal untold, told
            count = fill(buffer)
            untold += count
            if not count or monotonic() - told >= _TELL:
                loop.call_soon_threadsafe(self._count_more, untold)
                untold, told = 0, monotonic()
            return count

        return counting

    def _count_more(self, count: int) -> None:
        self._count(self._counted + count)

    def _count(self, done: int) -> None:
        self._progress.advance(self._node, done - self._counted)
        self._counted, self._furthest = done, max(self._furthest, done)


@asynccontextmanager
async def _opened(source: Source, node: Descriptor, start: int) -> AsyncIterator[BlobReader]:
    """The content of `node`: from its own descriptor where it is embedded there, else from `source`."""
    embedded = None if node.data is None else stream.from_memory(node.data, "its own descriptor")
    async with embedded(start) if embedded else source.open_blob(node, start) as body:
        yield body
