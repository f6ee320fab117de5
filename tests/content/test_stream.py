"""Tests of streams: wrong content is never passed on completely, and no thread is left running."""

import asyncio
import hashlib
import random
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.content import stream
from mirror.content.stream import Batch, BlobReader
from mirror.errors import DigestMismatch, InvalidDigest, MirrorError, SizeMismatch
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support.sources import Blocked
from tests.support.strategies import QUICK, digest_by

DATA = random.Random(1).randbytes(2048)
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
FLIPPED = bytes([DATA[0] ^ 1]) + DATA[1:]


async def chunked(chunks: Iterable[bytes], failure: Exception | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if failure:
        raise failure


def body(*chunks: bytes, failure: Exception | None = None) -> BlobReader:
    return BlobReader(chunked(chunks, failure), "a test")


def filling(*chunks: bytes) -> BlobReader:
    """Return content that a thread reads into its own buffer."""
    rest = [chunk for chunk in chunks if chunk]

    def fill(buffer: memoryview) -> int:
        if not rest:
            return 0
        count = min(len(buffer), len(rest[0]))
        buffer[:count], rest[0] = rest[0][:count], rest[0][count:]
        if not rest[0]:
            del rest[0]
        return count

    return BlobReader(chunked([b"not these"]), "a test", fill=fill)


def halves(data: bytes) -> tuple[bytes, bytes]:
    return data[: len(data) // 2], data[len(data) // 2 :]


async def collect(source: AsyncIterable[bytes]) -> bytes:
    return b"".join([chunk async for chunk in source])


async def collect_into(source: AsyncIterator[bytes], got: list[bytes]) -> None:
    async for chunk in source:
        got.append(chunk)


def run_verified(node: Descriptor, *chunks: bytes, size: int = 512) -> tuple[bytes, MirrorError | None]:
    """Return the content that was passed on, and the error, if any."""
    got: list[bytes] = []
    try:
        asyncio.run(collect_into(stream.verified(body(*chunks), node, size), got))
    except MirrorError as error:
        return b"".join(got), error
    return b"".join(got), None


# Sizes and digests

WRONG: list[tuple[tuple[bytes, ...], type[MirrorError]]] = [
    ((), SizeMismatch),
    ((b"",), SizeMismatch),
    ((DATA[:-1],), SizeMismatch),
    (halves(DATA[:-1]), SizeMismatch),
    ((DATA + b"\0",), SizeMismatch),
    ((DATA, b"\0"), SizeMismatch),
    ((*halves(DATA), b"\0"), SizeMismatch),
    ((FLIPPED,), DigestMismatch),
    (halves(FLIPPED), DigestMismatch),
    ((DATA[:-1] + b"\0",), DigestMismatch),
    (tuple(reversed(halves(DATA))), DigestMismatch),
]


@pytest.mark.parametrize("source", [body, filling])
@pytest.mark.parametrize(("chunks", "error"), WRONG)
def test_read_refuses_wrong_content(
    chunks: tuple[bytes, ...], error: type[MirrorError], source: Callable[..., BlobReader]
) -> None:
    with pytest.raises(error, match="from a test"):
        asyncio.run(stream.read(source(*chunks), NODE))


@pytest.mark.parametrize(("chunks", "error"), WRONG)
def test_verified_never_passes_on_all_of_wrong_content(chunks: tuple[bytes, ...], error: type[MirrorError]) -> None:
    got, raised = run_verified(NODE, *chunks)
    assert isinstance(raised, error)
    assert len(got) < NODE.size


@pytest.mark.slow
@given(st.binary(max_size=3000), st.lists(st.integers(0, 3000), max_size=8), st.integers(1, 4000))
@QUICK
def test_correct_content_passes_in_chunks_of_any_size(data: bytes, cuts: list[int], size: int) -> None:
    node = Descriptor("a/b", Digest.of(data), len(data))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    chunks = [data[start:stop] for start, stop in pairwise(edges)]
    assert run_verified(node, *chunks, size=size) == (data, None)
    assert asyncio.run(stream.read(body(*chunks), node)) == data
    assert asyncio.run(stream.read(filling(*chunks), node)) == data


def test_empty_content_is_accepted() -> None:
    node = Descriptor("a/b", Digest.of(b""), 0)
    assert run_verified(node) == (b"", None)
    assert asyncio.run(stream.read(body(b"", b""), node)) == b""


def test_one_byte_for_empty_content_is_refused() -> None:
    node = Descriptor("a/b", Digest.of(b""), 0)
    got, error = run_verified(node, b"x")
    assert got == b""
    assert isinstance(error, SizeMismatch)


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_content_is_hashed_with_the_algorithm_of_its_digest(algorithm: str) -> None:
    node = Descriptor("a/b", Digest.parse(digest_by(algorithm, DATA)), len(DATA))
    assert asyncio.run(stream.read(body(DATA), node)) == DATA
    with pytest.raises(DigestMismatch, match=f"found {algorithm}:"):
        asyncio.run(stream.read(body(FLIPPED), node))


def test_content_of_an_unknown_algorithm_is_refused() -> None:
    node = Descriptor("a/b", Digest.parse("md5:9a0364b9e99bb480dd25e1f0284c8555"), 7)
    with pytest.raises(InvalidDigest):
        asyncio.run(stream.read(body(b"content"), node))
    assert isinstance(run_verified(node, b"content")[1], InvalidDigest)


def test_reading_stops_at_the_first_byte_too_many() -> None:
    seen: list[int] = []

    async def endless() -> AsyncIterator[bytes]:
        while True:
            seen.append(1)
            yield bytes(512)

    with pytest.raises(SizeMismatch, match="has more") as caught:
        asyncio.run(stream.read(BlobReader(endless(), "a test"), NODE))
    assert caught.value.got is None
    assert len(seen) == len(DATA) // 512 + 1


def test_filling_stops_at_the_first_byte_too_many() -> None:
    asked = 0

    def endless(buffer: memoryview) -> int:
        nonlocal asked
        asked += 1
        assert asked < 100
        return len(buffer)

    with pytest.raises(SizeMismatch, match="has more") as caught:
        asyncio.run(stream.read(BlobReader(chunked([]), "a test", fill=endless), NODE))
    assert caught.value.got is None


@pytest.mark.parametrize("source", [body, filling])
def test_huge_size_in_a_descriptor_does_not_allocate_memory(source: Callable[..., BlobReader]) -> None:
    node = Descriptor("a/b", NODE.digest, 2**62)
    with pytest.raises(SizeMismatch) as caught:
        asyncio.run(stream.read(source(DATA), node))
    assert (caught.value.want, caught.value.got) == (2**62, len(DATA))


def test_digest_mismatch_has_both_digests() -> None:
    with pytest.raises(DigestMismatch) as caught:
        asyncio.run(stream.read(body(FLIPPED), NODE))
    assert (caught.value.want, caught.value.got) == (NODE.digest, Digest.of(FLIPPED))


# Batches


def gathered(size: int, *chunks: bytes) -> list[Batch]:
    async def gather() -> list[Batch]:
        return [batch async for batch in stream.batches(body(*chunks), NODE, size)]

    return asyncio.run(gather())


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1024, 10_000])
def test_batches_have_about_the_requested_size(size: int) -> None:
    found = gathered(size, *(DATA[start : start + 512] for start in range(0, len(DATA), 512)))
    assert b"".join(chunk for batch in found for chunk in batch) == DATA
    assert all(size <= sum(map(len, batch)) < size + 512 for batch in found[:-1])


def test_chunks_are_not_copied() -> None:
    first, second = halves(DATA)
    assert [id(chunk) for batch in gathered(10_000, first, second) for chunk in batch] == [id(first), id(second)]


@pytest.mark.parametrize("jobs", [1, 4, 64, 1000])
def test_batches_of_concurrent_blobs_fit_into_the_memory_budget(jobs: int) -> None:
    assert stream.batch_size(jobs) * 2 * min(jobs, 64) <= stream.MEMORY
    assert stream.batch_size(jobs) >= 128 * 1024


# Passing on


def test_last_batch_is_withheld_until_the_digest_is_verified() -> None:
    got, error = run_verified(NODE, *halves(DATA[:-1] + b"\0"), size=1024)
    assert isinstance(error, DigestMismatch)
    assert got == DATA[:1024]


def test_error_of_the_source_is_raised_unchanged() -> None:
    got: list[bytes] = []
    source = stream.verified(body(*halves(DATA), failure=MirrorError("It broke.")), NODE, 1024)
    with pytest.raises(MirrorError, match="It broke"):
        asyncio.run(collect_into(source, got))
    assert sum(map(len, got)) < len(DATA)


def test_embedded_content_is_streamed_like_any_other() -> None:
    assert asyncio.run(collect(stream.verified(BlobReader(stream.single_chunk(DATA), "a test"), NODE, 512))) == DATA


# Threads: running work ends before the caller continues


class Slow:
    """Work that signals its start, waits for `may_end`, and then computes for a while."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.started, self.may_end = threading.Event(), threading.Event()
        self.done: list[bytes] = []
        self._failure = failure

    def __call__(self, batch: Batch) -> None:
        self.started.set()
        self.may_end.wait(10)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 50_000)
        if self._failure:
            raise self._failure
        self.done += batch

    async def is_running(self) -> None:
        await asyncio.to_thread(self.started.wait, 10)


async def read_then(step: AsyncIterator[None], count: int = 1) -> AsyncIterator[Batch]:
    for number in range(count):
        yield [bytes([number])]
    async for _ in step:
        pass


async def wait_for_ever() -> AsyncIterator[None]:
    await asyncio.Event().wait()
    yield


async def nothing_more() -> AsyncIterator[None]:
    return
    yield


async def fail_once_running(work: Slow) -> AsyncIterator[None]:
    await work.is_running()
    work.may_end.set()
    raise MirrorError("It broke.")
    yield


@pytest.mark.slow
def test_pipeline_processes_every_batch_in_order() -> None:
    work = Slow()
    work.may_end.set()
    asyncio.run(stream.pipeline(read_then(nothing_more(), 5), work))
    assert work.done == [b"\0", b"\1", b"\2", b"\3", b"\4"]


def test_pipeline_runs_all_works_on_a_batch_concurrently() -> None:
    together, done = threading.Barrier(2, timeout=10), [list[bytes](), list[bytes]()]

    def work(number: int, batch: Batch) -> None:
        together.wait()  # times out with an error if one work runs after the other
        done[number] += batch

    asyncio.run(stream.pipeline(read_then(nothing_more(), 3), partial(work, 0), partial(work, 1)))
    assert done == [[b"\0", b"\1", b"\2"]] * 2


@pytest.mark.slow
def test_pipeline_waits_for_the_other_work_if_one_fails() -> None:
    slow, broken = Slow(), Slow(MirrorError("The disk is full."))
    broken.may_end.set()
    threading.Timer(0.2, slow.may_end.set).start()
    with pytest.raises(MirrorError, match="The disk is full"):
        asyncio.run(stream.pipeline(read_then(nothing_more()), broken, slow))
    assert slow.done == [b"\0"]


def test_pipeline_reads_the_next_batch_during_the_work() -> None:
    async def reads_on() -> AsyncIterator[None]:
        await work.is_running()
        work.may_end.set()  # the work waits until the reader has reached this line
        return
        yield

    work = Slow()
    asyncio.run(stream.pipeline(read_then(reads_on()), work))
    assert work.done == [b"\0"]


def test_pipeline_waits_for_the_work_if_the_reader_fails() -> None:
    work = Slow()
    with pytest.raises(MirrorError, match="It broke"):
        asyncio.run(stream.pipeline(read_then(fail_once_running(work)), work))
    assert work.done == [b"\0"]


@pytest.mark.parametrize("failing_at", [1, 2])
def test_pipeline_raises_the_error_of_the_work(failing_at: int) -> None:
    work = Slow(MirrorError("The disk is full."))
    work.may_end.set()
    with pytest.raises(MirrorError, match="The disk is full"):
        asyncio.run(stream.pipeline(read_then(nothing_more(), failing_at), work))


async def cancelled_when_running(task: "asyncio.Task[None]", work: Slow) -> None:
    await work.is_running()
    task.cancel()
    threading.Timer(0.05, work.may_end.set).start()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.timeout(30)
@pytest.mark.parametrize("then", [wait_for_ever, nothing_more])
def test_cancelled_pipeline_waits_for_the_work(then: type[AsyncIterator[None]]) -> None:
    """It is cancelled while it reads, and while it waits for the last thread."""
    work = Slow()

    async def main() -> list[bytes]:
        task = asyncio.create_task(stream.pipeline(read_then(then()), work))
        await cancelled_when_running(task, work)
        return list(work.done)

    assert asyncio.run(main()) == [b"\0"]


@pytest.mark.slow
@pytest.mark.timeout(30)
def test_cancelled_verified_waits_for_the_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Slow()
    monkeypatch.setattr(stream.Verifier, "update", lambda _, batch: work(batch))

    async def main() -> int:
        task = asyncio.create_task(collect_into(stream.verified(body(DATA), NODE, 512), []))
        await cancelled_when_running(task, work)
        return sum(map(len, work.done))

    assert asyncio.run(main()) == len(DATA)


@pytest.mark.slow
@pytest.mark.timeout(30)
def test_closed_verified_waits_for_the_hashing(monkeypatch: pytest.MonkeyPatch) -> None:
    work = Slow()
    monkeypatch.setattr(stream.Verifier, "update", lambda _, batch: work(batch))
    work.may_end.set()

    async def main() -> int:
        source = stream.verified(body(*halves(DATA)), NODE, 1024)
        await anext(source)  # the second batch is hashed while the first is passed on
        await source.aclose()  # type: ignore[attr-defined]
        return sum(map(len, work.done))

    assert asyncio.run(main()) == len(DATA)


def test_cancelled_read_interrupts_the_thread() -> None:
    async def main() -> None:
        await source.cancel(stream.read(source.body, NODE))

    source = Blocked()
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert source.interrupted.is_set()


def test_verified_content_is_hashed_only_if_it_is_a_part() -> None:
    """Wrong content shows whether it is hashed."""
    wrong = DATA[:-1] + bytes([DATA[-1] ^ 1])

    async def fetched(start: int) -> None:
        async with stream.from_verified(wrong, "a test")(start) as source:
            check = stream.Verifier(NODE)
            check.update([DATA[:start]])
            check.trust(source)
            check.update([await collect(source.chunks)])
            check.finish("it")

    asyncio.run(fetched(0))
    with pytest.raises(DigestMismatch):
        asyncio.run(fetched(1))
