"""Tests of copies between stores: each blob is copied once, and only complete images are tagged."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.content import blob_transfer, copy, stream
from mirror.content.filecopy import copy_file
from mirror.content.place import IN_FLIGHT
from mirror.content.plan import CopyTask, Plan, in_order, make_plan
from mirror.content.store import Source
from mirror.content.stream import BlobReader, Fetch
from mirror.content.walk import walk
from mirror.content.wrappers import FallbackSource, ReadOnlySink
from mirror.errors import ContentError, DigestMismatch, MirrorError, StorageError, TransferError, UsageError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.retry import RetryPolicy
from tests.support import images
from tests.support.images import Blob, Image
from tests.support.memory import Counter, MemorySink, MemorySource, descriptor_of, links, node_of
from tests.support.strategies import QUICK, graphs

SHARED = images.layer(9, 500)
FIRST = images.index([images.image("linux/amd64", images.layer(1, 300), SHARED)])
SECOND = images.index([images.image("linux/amd64", images.layer(2, 400), SHARED)])
THIRD = images.image("linux/amd64", images.layer(3, 200))
BUSY = TransferError("busy", status=503, transient=True)
GONE = TransferError("gone", status=404)


def blob_of(image: Image, size: int) -> str:
    return next(digest for digest, data in image.blobs.items() if len(data) == size)


class Call:
    """Several images that are copied with one plan."""

    def __init__(self, sink: MemorySink | None = None, jobs: int = 4, times: int = 0, keep_going: bool = False) -> None:
        self.sink = sink or MemorySink()
        self.copies: list[CopyTask] = []
        self.plan: Plan
        self._jobs, self._retry, self._keep_going = jobs, RetryPolicy(times, 0.0), keep_going

    async def add(self, image: Image, name: str, source: Source | None = None, sink: MemorySink | None = None) -> None:
        graph = await walk(MemorySource(image), descriptor_of(image))
        source = source or MemorySource(image)
        self.copies.append(CopyTask(source, sink or self.sink, graph, name, descriptor_of(image)))

    async def run(self, progress: Counter | None = None) -> None:
        self.plan = await make_plan(self.copies, jobs=self._jobs, retry=self._retry, progress=progress)
        await copy.execute(
            self.plan, jobs=self._jobs, retry=self._retry, keep_going=self._keep_going, progress=progress
        )


def copied(*pairs: tuple[Image, str], progress: Counter | None = None, **how: Any) -> Call:
    """Copy images, each from a source of its own."""

    async def main() -> Call:
        call = Call(**how)
        for image, name in pairs:
            await call.add(image, name)
        await call.run(progress)
        return call

    return asyncio.run(main())


def from_sources(image: Image, *sources: MemorySource, **how: Any) -> Call:
    """Copy one image under several names, each from another source."""

    async def main() -> Call:
        call = Call(**how)
        for number, source in enumerate(sources):
            await call.add(image, f"name{number}", source)
        try:
            await call.run()
        except MirrorError as error:
            call.copies[0].failure = error
        return call

    return asyncio.run(main())


def assert_complete(sink: MemorySink) -> None:
    """Check that manifests arrived after the content they reference, and that each tag has a complete image."""
    assert sink.early == []
    todo = list(sink.names.values())
    while todo:
        data = sink.held[todo.pop()]
        for link in links(data):
            assert link["digest"] in sink.held
            todo += [link["digest"]] if link["mediaType"] in (images.OCI_INDEX, images.OCI_MANIFEST) else []


# Order


@pytest.mark.parametrize("jobs", [1, 4, 64])
def test_blobs_come_first_then_manifests_then_indexes_then_the_name(jobs: int) -> None:
    image = images.multi_arch()
    sink = copied((image, "name"), jobs=jobs).sink
    kinds = ["blob" if digest in image.blobs else digest for _, digest in sink.events]
    assert set(kinds[:-4]) == {"blob"}
    assert set(kinds[-4:-2]) == set(image.manifests) - {image.root}
    assert kinds[-2:] == [image.root, "name"]
    assert_complete(sink)


@pytest.mark.slow
@given(st.lists(graphs(), min_size=1, max_size=4), st.integers(1, 5))
@QUICK
def test_random_images_arrive_complete_and_in_order(some: list[Image], jobs: int) -> None:
    call = copied(*((image, f"name{number}") for number, image in enumerate(some)), jobs=jobs)
    assert_complete(call.sink)
    assert [what for kind, what in call.sink.events if kind == "tag"] == [f"name{n}" for n in range(len(some))]
    for image in some:
        assert {digest: call.sink.held[digest] for digest in image.blobs} == image.blobs
        assert all(call.sink.puts(digest) == 1 for digest in image.blobs)


@pytest.mark.slow
@given(st.lists(graphs(), min_size=1, max_size=4), st.data())
@QUICK
def test_in_order_predicts_the_order_of_writes_with_one_job(some: list[Image], data: st.DataObject) -> None:
    some += data.draw(st.lists(st.sampled_from(some), max_size=2))
    held = data.draw(st.sets(st.sampled_from(["", *(digest for image in some for digest in image.blobs)])))
    call = copied(*((image, f"name{n}") for n, image in enumerate(some)), sink=MemorySink(held=held), jobs=1)
    assert [node.digest for node in in_order(call.plan)] == [what for kind, what in call.sink.events if kind == "put"]


@pytest.mark.slow
@given(st.lists(graphs(), min_size=1, max_size=4), st.data())
@QUICK
def test_failed_images_are_not_tagged_and_the_others_arrive(some: list[Image], data: st.DataObject) -> None:
    known = sorted({digest for image in some for digest in (*image.blobs, *image.manifests)})
    bad = data.draw(st.sets(st.sampled_from(known), max_size=2))
    sink = MemorySink(refuse=lambda what: StorageError("It broke.") if what in bad else None)
    call = copied(*((image, f"name{n}") for n, image in enumerate(some)), sink=sink, keep_going=True)
    affected = [f"name{n}" for n, image in enumerate(some) if bad & {*image.blobs, *image.manifests}]
    assert_complete(sink)
    assert [copy.name for copy in call.copies if copy.failure] == affected
    assert set(sink.names) == {copy.name for copy in call.copies} - set(affected)


@pytest.mark.slow
def test_tasks_that_come_one_after_the_other_may_be_any_number() -> None:
    async def main() -> MemorySink:
        call = Call(jobs=1)
        await call.add(THIRD, "0")
        first = call.copies[0]
        call.copies += [replace(first, name=str(number), optional=True, after=[]) for number in range(1, 1200)]
        for before, later in pairwise(call.copies):
            later.after.append(before)
        await call.run()
        return call.sink

    sink = asyncio.run(main())
    assert len(sink.names) == 1200
    assert_complete(sink)


class PausedSource(MemorySource):
    """A source that serves blobs after `go_on` is set."""

    def __init__(self, image: Image) -> None:
        super().__init__(image)
        self.started, self.go_on = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        self.started.set()
        await self.go_on.wait()
        async with super().open_blob(node, start) as body:
            yield body


class WatchedSink(MemorySink):
    """A sink that sets `arrived` after the content with this digest arrived."""

    def __init__(self, awaited: str) -> None:
        super().__init__()
        self.arrived = asyncio.Event()
        self._awaited = awaited

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        await super().put(node, fetch)
        if node.digest == self._awaited:
            self.arrived.set()


@pytest.mark.timeout(30)
def test_tags_are_set_in_the_order_of_the_call() -> None:
    async def main() -> MemorySink:
        slow, sink = PausedSource(FIRST), WatchedSink(THIRD.root)
        call = Call(sink)
        await call.add(FIRST, "slow", slow)
        await call.add(THIRD, "quick")
        running = asyncio.create_task(call.run())
        await sink.arrived.wait()
        assert sink.names == {}
        slow.go_on.set()
        await running
        return sink

    assert [what for kind, what in asyncio.run(main()).events if kind == "tag"] == ["slow", "quick"]


@pytest.mark.timeout(30)
def test_cancelled_copy_sets_no_tag() -> None:
    async def main() -> MemorySink:
        slow = PausedSource(FIRST)
        call = Call()
        await call.add(FIRST, "name", slow)
        running = asyncio.create_task(call.run())
        await slow.started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return call.sink

    assert asyncio.run(main()).names == {}


# Each blob once


def test_a_blob_of_several_images_is_fetched_once() -> None:
    async def main() -> tuple[MemorySource, MemorySink]:
        source, call = MemorySource(FIRST, SECOND), Call()
        await call.add(FIRST, "one", source)
        await call.add(SECOND, "other", source)
        await call.run()
        return source, call.sink

    source, sink = asyncio.run(main())
    assert sorted(source.opened) == sorted({*FIRST.blobs, *SECOND.blobs})
    assert sink.puts(SHARED.digest) == 1
    assert_complete(sink)


def test_blob_is_copied_to_every_sink_that_lacks_it() -> None:
    async def main() -> tuple[Call, MemorySink]:
        call, other = Call(), MemorySink()
        await call.add(FIRST, "one")
        await call.add(SECOND, "other", sink=other)
        await call.run()
        return call, other

    call, other = asyncio.run(main())
    assert call.sink.puts(SHARED.digest) == other.puts(SHARED.digest) == 1
    assert_complete(call.sink)
    assert_complete(other)
    assert call.plan.size == sum(len(data) for data in (FIRST.blobs | SECOND.blobs).values())


def test_blobs_that_the_sink_has_are_not_fetched() -> None:
    call = copied((FIRST, "name"), sink=MemorySink(held=FIRST.blobs))
    assert [what for _, what in call.sink.events] == [*FIRST.manifests, "name"]
    assert {node.digest for node in call.plan.reused} == set(FIRST.blobs)
    assert (call.plan.missing, call.plan.size) == ([], 0)


def test_sink_is_checked_once_for_each_blob_but_not_for_manifests() -> None:
    sink = copied((FIRST, "one"), (SECOND, "other")).sink
    assert sorted(sink.asked) == sorted({*FIRST.blobs, *SECOND.blobs})


def test_manifests_that_the_sink_has_are_written_again() -> None:
    everything = {*FIRST.blobs, *FIRST.manifests}
    sink = copied((FIRST, "name"), sink=MemorySink(held=everything)).sink
    assert {what for kind, what in sink.events if kind == "put"} == set(FIRST.manifests)


def test_content_embedded_in_a_descriptor_is_not_fetched() -> None:
    image = images.artifact("application/vnd.example", images.layer(1, 100))

    async def main() -> tuple[MemorySource, MemorySink]:
        source, call = MemorySource(image), Call()
        await call.add(image, "name", source)
        await call.run()
        return source, call.sink

    source, sink = asyncio.run(main())
    assert images.EMPTY.digest not in source.opened
    assert sink.held[images.EMPTY.digest] == b"{}"


def test_plan_orders_blobs_by_image_with_the_largest_first() -> None:
    call = copied((SECOND, "one"), (FIRST, "other"))
    sizes = [node.size for node in call.plan.missing]
    assert sizes[:3] == sorted(sizes[:3], reverse=True)
    assert {node.digest for node in call.plan.missing[:3]} == set(SECOND.blobs)
    assert sizes[3] == 300


def test_moved_tag_reports_the_digest_that_it_replaced() -> None:
    sink = MemorySink()
    sink.names["name"] = FIRST.root
    call = copied((SECOND, "name"), sink=sink)
    assert (call.copies[0].replaced, sink.names) == (FIRST.root, {"name": SECOND.root})


def test_image_with_a_wrong_size_of_a_shared_blob_is_not_tagged() -> None:
    liar = images.manifest(images.EMPTY, [Blob(b"", SHARED.media_type, SHARED.digest, SHARED.size + 1)])

    async def main() -> Call:
        call = Call(keep_going=True)
        source = MemorySource(liar, FIRST)
        await call.add(FIRST, "right", source)
        await call.add(liar, "liar", source)
        await call.run()
        return call

    call = asyncio.run(main())
    assert call.sink.names == {"right": FIRST.root}
    assert isinstance(call.copies[1].failure, ContentError)


# Several sources


def lacking(image: Image, *digests: str) -> MemorySource:
    source = MemorySource(image)
    for digest in digests:
        del source.contents[digest]
    return source


def test_sources_are_tried_in_turn() -> None:
    digest = blob_of(FIRST, 300)
    first, second = lacking(FIRST, digest), MemorySource(FIRST)
    call = from_sources(FIRST, first, second)
    assert set(call.sink.names) == {"name0", "name1"}
    assert (first.opened.count(digest), second.opened) == (1, [digest])


def test_next_source_is_tried_after_wrong_bytes() -> None:
    digest = blob_of(FIRST, 300)
    first, second = MemorySource(FIRST), MemorySource(FIRST)
    first.contents[digest] = bytes(300)
    call = from_sources(FIRST, first, second)
    assert call.sink.held[digest] == FIRST.blobs[digest]
    assert_complete(call.sink)


def test_failure_of_all_sources_is_the_error_of_the_first() -> None:
    digest = blob_of(FIRST, 300)
    first, second = MemorySource(FIRST), lacking(FIRST, digest)
    first.contents[digest] = bytes(300)
    call = from_sources(FIRST, first, second)
    assert isinstance(call.copies[0].failure, DigestMismatch)
    assert call.sink.names == {}


def test_source_is_retried_before_the_next_source_is_tried() -> None:
    digest = blob_of(FIRST, 300)
    first, second = MemorySource(FIRST, errors={digest: [BUSY] * 3}), MemorySource(FIRST)
    from_sources(FIRST, first, second, times=2)
    assert (first.opened.count(digest), second.opened.count(digest)) == (3, 1)


# Failures


def failing(image: Image, digest: str, *errors: MirrorError) -> MemorySource:
    return MemorySource(image, errors={digest: list(errors)})


def test_transient_failure_is_retried() -> None:
    digest = blob_of(FIRST, 300)
    call = from_sources(FIRST, failing(FIRST, digest, BUSY, BUSY), times=2)
    assert call.sink.names == {"name0": FIRST.root}
    assert_complete(call.sink)


@pytest.mark.parametrize("digest", [SHARED.digest, *FIRST.manifests, "name"])
def test_busy_sink_is_retried(digest: str) -> None:
    left = [BUSY, BUSY]
    sink = MemorySink(refuse=lambda what: left.pop() if what == digest and left else None)
    assert copied((FIRST, "name"), sink=sink, times=2).sink.names == {"name": FIRST.root}


@pytest.mark.parametrize("digest", [SHARED.digest, *FIRST.manifests, "one"])
def test_the_first_failure_ends_the_call(digest: str) -> None:
    error = StorageError("The disk is full.")
    sink = MemorySink(refuse=lambda what: error if what == digest else None)
    with pytest.raises(StorageError) as caught:
        copied((FIRST, "one"), (SECOND, "other"), sink=sink, jobs=1)
    assert caught.value is error
    assert "one" not in sink.names
    assert_complete(sink)


@pytest.mark.parametrize("digest", [blob_of(FIRST, 300), *FIRST.manifests, "one"])
@pytest.mark.parametrize("jobs", [1, 4])
def test_keep_going_copies_the_other_images(digest: str, jobs: int) -> None:
    error = StorageError("It broke.")
    sink = MemorySink(refuse=lambda what: error if what == digest else None)
    call = copied((FIRST, "one"), (SECOND, "other"), (THIRD, "third"), sink=sink, jobs=jobs, keep_going=True)
    assert [copy.failure for copy in call.copies] == [error, None, None]
    assert sink.names == {"other": SECOND.root, "third": THIRD.root}
    assert_complete(sink)


def with_optional(refused: str) -> Call:
    """Copy two images and an optional one, which shares a blob with the first, to a sink that refuses a digest."""

    async def main() -> Call:
        call = Call(MemorySink(refuse=lambda what: BUSY if what == refused else None))
        for image, name in ((FIRST, "one"), (SECOND, "optional"), (THIRD, "third")):
            await call.add(image, name)
        call.copies[1].optional = True
        await call.run()
        return call

    return asyncio.run(main())


def test_failed_optional_image_does_not_affect_the_others() -> None:
    call = with_optional(blob_of(SECOND, 400))
    assert [bool(copy.failure) for copy in call.copies] == [False, True, False]
    assert [*call.sink.names] == ["one", "third"]


def test_failed_blob_of_optional_and_required_images_ends_the_call() -> None:
    with pytest.raises(TransferError):
        with_optional(SHARED.digest)


def test_failed_shared_blob_fails_every_image_that_needs_it() -> None:
    sink = MemorySink(refuse=lambda what: GONE if what == SHARED.digest else None)
    call = copied((FIRST, "one"), (THIRD, "third"), (SECOND, "other"), sink=sink, keep_going=True)
    assert [copy.failure for copy in call.copies] == [GONE, None, GONE]
    assert sink.names == {"third": THIRD.root}


def test_no_more_blobs_of_a_failed_image_are_copied() -> None:
    digest = blob_of(FIRST, 500)  # the largest, so the first
    sink = MemorySink(refuse=lambda what: GONE if what == digest else None)
    copied((FIRST, "one"), sink=sink, jobs=1, keep_going=True)
    assert sink.events == []


def test_blobs_that_were_not_copied_are_removed_from_the_plan() -> None:
    call = with_optional(blob_of(SECOND, 400))
    assert {node.digest for node in call.plan.missing} == call.sink.held.keys() - {
        digest for image in (FIRST, THIRD) for digest in image.manifests
    }


@pytest.mark.parametrize("keep_going", [True, False])
def test_blob_that_arrives_in_one_of_two_sinks_stays_in_the_plan(keep_going: bool) -> None:
    async def main() -> Call:
        call = Call(keep_going=keep_going)
        await call.add(FIRST, "one")
        await call.add(FIRST, "other", sink=MemorySink(refuse=lambda what: GONE))
        call.copies[1].optional = not keep_going
        await call.run()
        return call

    assert {node.digest for node in asyncio.run(main()).plan.missing} == set(FIRST.blobs)


def test_failed_check_of_the_sink_ends_the_call() -> None:
    class FailingSink(MemorySink):
        async def has(self, node: Descriptor) -> bool:
            raise GONE

    with pytest.raises(TransferError):
        copied((FIRST, "name"), sink=FailingSink())


# Progress


@pytest.mark.parametrize("errors", [[], [BUSY, BUSY]])
def test_progress_adds_up_with_and_without_retries(errors: list[MirrorError]) -> None:
    class InterruptedSource(MemorySource):
        """A source that fails after ten bytes, once for each error that is left."""

        @asynccontextmanager
        async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
            async with super().open_blob(node, start) as body:
                yield BlobReader(self._cut(body), "memory")

        async def _cut(self, body: BlobReader) -> AsyncIterator[bytes]:
            async for chunk in body.chunks:
                yield chunk[:10]
                if left:
                    raise left.pop()
                yield chunk[10:]

    async def main() -> Counter:
        call, counter = Call(times=2), Counter()
        await call.add(FIRST, "name", InterruptedSource(FIRST))
        await call.run(counter)
        return counter

    left = list(errors)
    counter = asyncio.run(main())
    size = sum(map(len, FIRST.blobs.values()))
    assert counter.planned == {"checking": (3, size), "copying": (3, size)}
    assert counter.done == {"checking": size, "copying": size}
    assert counter.open == []


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 1000.0])
def test_progress_adds_up_if_threads_read(monkeypatch: pytest.MonkeyPatch, pause: float) -> None:
    monkeypatch.setattr(blob_transfer, "_REPORT_INTERVAL", pause)

    class Files(MemorySource):
        @asynccontextmanager
        async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
            async with super().open_blob(node, start) as body:
                yield replace(body, fill=io.BytesIO(self.contents[node.digest][start:]).readinto)

    class Copying(MemorySink):
        async def put(self, node: Descriptor, fetch: Fetch) -> None:
            if node.is_manifest:
                return await super().put(node, fetch)
            async with fetch(0) as body:
                assert body.fill
                got = bytearray()
                await asyncio.to_thread(copy_file, body, node, body.fill, stream.Verifier(node), got.extend)
            await asyncio.sleep(0)
            return reported.append(counter.done["copying"])

    class Noting(Counter):
        def advance(self, node: Descriptor | None, count: int) -> None:
            super().advance(node, count)
            steps.append(count)

    reported: list[int] = []
    steps: list[int] = []
    counter = Noting()
    image = images.image("linux/amd64", images.layer(1, 9_000_000))

    async def main() -> None:
        call = Call(sink=Copying(), jobs=1)
        await call.add(image, "name", Files(image))
        await call.run(counter)

    asyncio.run(main())
    size = sum(map(len, image.blobs.values()))
    assert counter.done["copying"] == size
    assert reported[0] >= 9_000_000
    assert sum(0 < step < 9_000_000 for step in steps) >= (9 if pause == 0 else 0)  # reported before the end


def test_progress_has_nothing_to_copy_if_the_sink_has_all_blobs() -> None:
    counter = Counter()
    copied((FIRST, "name"), sink=MemorySink(held=FIRST.blobs), progress=counter)
    assert counter.planned["copying"] == (0, 0)


# Many images at once


class BatchSink(MemorySink):
    """A sink that is asked for several blobs at once. `batches` records the sizes asked for in each call."""

    def __init__(self, held: Sequence[str] = ()) -> None:
        super().__init__(held)
        self.batches: list[list[int]] = []

    async def has_all(self, nodes: Sequence[Descriptor]) -> list[bool]:
        self.batches.append([node.size for node in nodes])
        return [await self.has(node) for node in nodes]


def test_small_blobs_are_asked_for_together_and_large_ones_alone() -> None:
    large = [images.layer(number, 1024 * 1024) for number in (1, 2)]
    small = [images.layer(number, 1000 - number) for number in range(100)]
    image = images.image("linux/amd64", *large, *small)
    sink = BatchSink([large[0].digest, small[0].digest])
    call = copied((image, "name"), sink=sink)
    assert [len(batch) for batch in sink.batches] == [1, 1, 64, 37]
    assert {node.digest for node in call.plan.reused} == {large[0].digest, small[0].digest}
    assert_complete_of(call, image)


def assert_complete_of(call: Call, image: Image) -> None:
    wanted = image.blobs.keys() - {node.digest for node in call.plan.reused}
    assert {node.digest for node in call.plan.missing} == wanted
    assert sorted(call.sink.asked) == sorted(image.blobs)


class MeetingSink(MemorySink):
    """A sink in which no manifest and no name arrives until `number` of them are under way."""

    def __init__(self, number: int, held: Sequence[str]) -> None:
        super().__init__(held)
        self.meeting = asyncio.Barrier(number)

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        await asyncio.wait_for(self.meeting.wait(), 10)
        await super().put(node, fetch)

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        await asyncio.wait_for(self.meeting.wait(), 10)
        return await super().tag(name, root, data)


def test_manifests_and_names_of_complete_images_are_put_at_the_same_time() -> None:
    pairs = [(images.image("linux/amd64", images.layer(number, 300)), f"name{number}") for number in range(4)]
    sink = MeetingSink(4, [digest for image, _ in pairs for digest in image.blobs])
    copied(*pairs, sink=sink)
    assert sink.names == {name: image.root for image, name in pairs}


def test_images_that_complete_at_the_same_time_are_named_in_order() -> None:
    layers = [images.layer(number, 300) for number in range(3)]
    pairs = [(images.image("linux/amd64", layer), f"name{number}") for number, layer in enumerate(layers)]

    class JoiningSink(MemorySink):
        """The images become complete in the order 1, 0, 2; the last two in the same moment."""

        arrived = (asyncio.Event(), asyncio.Event())

        async def put(self, node: Descriptor, fetch: Fetch) -> None:
            if node.digest == layers[0].digest:
                await self.arrived[1].wait()
            if node.digest == layers[2].digest:
                await self.arrived[0].wait()
            await super().put(node, fetch)
            if node.digest == layers[0].digest:
                self.arrived[0].set()
            if node.digest == pairs[1][0].root:
                self.arrived[1].set()

    configs = {digest for image, _ in pairs for digest in image.blobs} - {layer.digest for layer in layers}
    sink = copied(*pairs, sink=JoiningSink(sorted(configs))).sink
    assert [what for kind, what in sink.events if kind == "tag"] == ["name0", "name1", "name2"]


def test_the_last_task_of_a_name_prevails() -> None:
    held = [*FIRST.blobs, *SECOND.blobs, *THIRD.blobs]
    sink = copied((FIRST, "name"), (SECOND, "name"), (THIRD, "name"), sink=MemorySink(held)).sink
    assert sink.names == {"name": THIRD.root}


def test_names_of_optional_tasks_come_before_those_of_images() -> None:
    started: list[str] = []

    class SlowSink(MemorySink):
        async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
            started.append(name)
            await asyncio.sleep(0.01)
            assert not (name == "image" and "referrer" not in self.names)
            return await super().tag(name, root, data)

    async def main() -> None:
        call = Call(SlowSink([*FIRST.blobs, *THIRD.blobs]))
        await call.add(THIRD, "referrer")
        await call.add(FIRST, "image")
        call.copies[0].optional = True
        await call.run()

    asyncio.run(main())
    assert started == ["referrer", "image"]


# Wrappers of stores


def test_read_only_sink_checks_but_never_writes() -> None:
    sink = MemorySink(held=[SHARED.digest])
    dry = ReadOnlySink(sink)
    assert asyncio.run(dry.has(node_of(SHARED)))
    assert not asyncio.run(ReadOnlySink(None).has(node_of(SHARED)))
    writes: Sequence[Callable[[], Any]] = [
        lambda: dry.put(node_of(SHARED), stream.from_verified(b"", "nowhere")),
        lambda: dry.tag("name", descriptor_of(FIRST), b""),
    ]
    for write in writes:
        with pytest.raises(UsageError):
            asyncio.run(write())
    assert sink.events == []


class Near(MemorySource):
    """A source that checks the digest of its content."""

    path = Path("near")

    async def intact(self, node: Descriptor) -> bytes | None:
        data = self.contents.get(node.digest)
        return data if data is not None and Digest.of(data) == node.digest else None


@pytest.mark.parametrize("broken", [False, True])
def test_fallback_source_prefers_correct_content_of_the_near_source(broken: bool) -> None:
    near, far = Near(FIRST), MemorySource(FIRST)
    if broken:
        near.contents[FIRST.root] = b"x" * len(near.contents[FIRST.root])
    found = asyncio.run(walk(FallbackSource(near, far), descriptor_of(FIRST)))
    assert json.loads(found.nodes[Digest(FIRST.root)].data) == json.loads(FIRST.data)
    assert far.opened == ([FIRST.root] if broken else [])


def test_fallback_source_without_a_near_source_reads_the_far_source() -> None:
    far = MemorySource(FIRST)
    asyncio.run(walk(FallbackSource(None, far), descriptor_of(FIRST)))
    assert set(far.opened) == set(FIRST.manifests)


# Commits


class SlowDisk(MemorySink):
    """A sink that commits for as long as the test says, and notes how many blobs it receives and commits at once."""

    def __init__(self) -> None:
        super().__init__()
        self.free = asyncio.Event()
        self.receiving = self.committing = self.received = self.most_receiving = self.most_committing = 0

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        if not node.is_manifest:
            await super().put(node, partial(self._fetched, fetch))
            self.committing += 1
            self.most_committing = max(self.most_committing, self.committing)
            await self.free.wait()
            self.committing -= 1
        else:
            await super().put(node, fetch)

    @asynccontextmanager
    async def _fetched(self, fetch: Fetch, start: int) -> AsyncIterator[BlobReader]:
        async with fetch(start) as body:
            self.receiving += 1
            self.most_receiving = max(self.most_receiving, self.receiving)
            await asyncio.sleep(0)
            yield body
            self.receiving -= 1
            self.received += 1


@pytest.mark.parametrize("jobs", [2, 5])
def test_other_blobs_are_received_while_a_blob_is_committed(jobs: int) -> None:
    image = images.image("linux/amd64", *(images.layer(number, 200) for number in range(30)))

    async def main() -> SlowDisk:
        sink = SlowDisk()
        call = Call(sink=sink, jobs=jobs)
        await call.add(image, "name")
        task = asyncio.create_task(call.run())
        while sink.received < IN_FLIGHT * jobs:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert (sink.received, sink.committing, sink.receiving) == (IN_FLIGHT * jobs, 2 * jobs, 0)
        assert sink.names == {}
        sink.free.set()
        await task
        return sink

    sink = asyncio.run(main())
    assert (sink.most_receiving, sink.most_committing) == (jobs, 2 * jobs)
    assert sink.early == []
    assert sink.names == {"name": image.root}


def test_with_one_job_a_blob_is_committed_before_another_is_received() -> None:
    image = images.image("linux/amd64", *(images.layer(number, 200) for number in range(3)))

    async def main() -> None:
        sink = SlowDisk()
        call = Call(sink=sink, jobs=1)
        await call.add(image, "name")
        task = asyncio.create_task(call.run())
        while not sink.committing:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        assert (sink.received, sink.receiving) == (1, 0)
        sink.free.set()
        await task

    asyncio.run(main())


def test_failed_commit_fails_the_image() -> None:
    class Full(MemorySink):
        async def put(self, node: Descriptor, fetch: Fetch) -> None:
            await super().put(node, fetch)
            if node.digest == SHARED.digest:
                await asyncio.sleep(0)
                raise StorageError("The disk is full.")

    sink = Full()
    with pytest.raises(StorageError, match="full"):
        copied((FIRST, "one"), sink=sink)
    assert sink.names == {}
