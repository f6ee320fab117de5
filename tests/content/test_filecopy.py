"""Tests of copies from file to file: bytes are hashed and written in order; wrong content is never completed."""

import asyncio
import hashlib
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.concurrency import ThreadPool
from mirror.content import filecopy
from mirror.content.filecopy import CpuSlots, copy_file
from mirror.content.stream import BlobReader, Verifier, single_chunk
from mirror.errors import DigestMismatch, MirrorError, SizeMismatch, StorageError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support.sources import filling
from tests.support.strategies import QUICK

DATA = random.Random(1).randbytes(10_000)
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
SIZE = 1000


@pytest.fixture(params=[0, 2, 8], autouse=True)
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[CpuSlots]:
    """Set the number of idle cores: if it is 0, the same thread hashes. Check that all are free afterwards."""
    cores = CpuSlots(request.param)
    monkeypatch.setattr(filecopy, "_CORES", cores)
    filecopy._SPARE.clear()
    monkeypatch.setattr(filecopy, "_SIZE", SIZE)
    yield cores
    filecopy._SPARE.clear()  # they are as small as the size that the test uses
    assert cores.free == request.param


def copied(data: bytes, node: Descriptor = NODE, start: int = 0, most: int = SIZE) -> tuple[bytes, MirrorError | None]:
    """Copy content; return what was written, and the error, if any."""
    got = bytearray()
    check = Verifier(node)
    check.update([data[:start]])
    body = BlobReader(single_chunk(b""), "a test", start=start)
    try:
        copy_file(body, node, filling(data[start:], most), check, got.extend)
    except MirrorError as error:
        return bytes(got), error
    return bytes(got), None


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 3 * SIZE + 7, len(DATA)])
@pytest.mark.parametrize("most", [333, 1, SIZE])
def test_content_of_any_size_is_copied_with_reads_of_any_size(size: int, most: int) -> None:
    data = DATA[:size]
    assert copied(data, Descriptor("a/b", Digest.of(data), size), most=most) == (data, None)


@pytest.mark.parametrize("start", [1, SIZE, len(DATA) - 1, len(DATA)])
def test_existing_bytes_are_hashed_and_not_written_again(start: int) -> None:
    assert copied(DATA, start=start) == (DATA[start:], None)


@pytest.mark.slow
@given(st.integers(0, len(DATA) - 1), st.integers(1, SIZE))
@QUICK
@pytest.mark.usefixtures("cores")
def test_any_wrong_byte_is_found_before_the_end_is_written(position: int, most: int) -> None:
    wrong = bytearray(DATA)
    wrong[position] ^= 1
    got, error = copied(bytes(wrong), most=most)
    assert isinstance(error, DigestMismatch)
    assert str(error).startswith(f"{NODE.digest} from a test")
    assert len(got) < len(DATA)


@pytest.mark.parametrize("size", [0, 1, SIZE, len(DATA) - 1])
def test_content_that_ends_too_early_is_refused(size: int) -> None:
    got, error = copied(DATA[:size])
    assert isinstance(error, SizeMismatch)
    assert DATA.startswith(got)


@pytest.mark.parametrize("more", [1, SIZE, 5 * SIZE])
def test_content_that_is_too_long_is_not_written_to_its_end(more: int) -> None:
    got, error = copied(DATA + bytes(more))
    assert isinstance(error, SizeMismatch)
    assert len(got) < len(DATA)


def test_huge_size_in_a_descriptor_does_not_allocate_memory() -> None:
    _, error = copied(b"", Descriptor("a/b", Digest.of(b""), 2**62))
    assert isinstance(error, SizeMismatch)


def test_content_is_hashed_with_the_algorithm_of_its_digest() -> None:
    digest = Digest.parse("sha512:" + hashlib.sha512(DATA).hexdigest())
    assert copied(DATA, Descriptor("a/b", digest, len(DATA))) == (DATA, None)


def test_progress_is_reported_after_each_chunk() -> None:
    reported: list[int] = []
    copy_file(
        BlobReader(single_chunk(b""), "a test"),
        NODE,
        filling(DATA, SIZE),
        Verifier(NODE),
        lambda _: None,
        reported.append,
    )
    assert reported == [SIZE] * 10


@pytest.mark.parametrize("at", [1, 512, SIZE - 1, SIZE, 7 * SIZE + 300])
def test_writes_end_at_page_boundaries_of_the_file(at: int) -> None:
    sizes: list[int] = []
    copy_file(
        BlobReader(single_chunk(b""), "a test"),
        NODE,
        filling(DATA, SIZE),
        Verifier(NODE),
        lambda view: sizes.append(len(view)),
        at=at,
    )
    assert sum(sizes) == len(DATA)
    assert [(at + end) % SIZE for end in accumulate(sizes[:-1])] == [0] * (len(sizes) - 1)


def test_slots_are_limited_to_the_idle_cores() -> None:
    two = CpuSlots(2)
    with two.occupied():
        assert two.acquire()
        assert not two.acquire()
        two.release()
        with two.occupied(), two.occupied():  # three copies on two cores
            assert not two.acquire()
        assert two.acquire()
        two.release()
    assert two.free == 2


def test_every_copy_occupies_a_core(cores: CpuSlots) -> None:
    before, seen = cores.free, list[int]()
    copy_file(
        BlobReader(single_chunk(b""), "a test"),
        NODE,
        filling(DATA, SIZE),
        Verifier(NODE),
        lambda _: seen.append(cores.free),
    )
    assert max(seen) == before - 1


def test_buffers_are_reused_for_the_next_blob() -> None:
    assert copied(DATA) == (DATA, None)
    before = {id(buffer.obj) for buffer in filecopy._SPARE}
    assert len(before) in (1, 2)  # the second is used while another thread hashes
    assert copied(DATA) == (DATA, None)
    assert {id(buffer.obj) for buffer in filecopy._SPARE} == before
    copied(DATA[:-1])  # an error's traceback may refer to them
    assert not filecopy._SPARE


def test_number_of_spare_buffers_is_limited() -> None:
    started = threading.Barrier(9)

    def fill_of(data: bytes) -> Callable[[memoryview], int]:
        fill, first = filling(data, SIZE), iter([True])

        def together(buffer: memoryview) -> int:
            if next(first, False):
                started.wait(10)
            return fill(buffer)

        return together

    def work() -> None:
        copy_file(BlobReader(single_chunk(b""), "a test"), NODE, fill_of(DATA), Verifier(NODE), lambda _: None)

    with ThreadPoolExecutor(9, thread_name_prefix="test") as threads:
        assert [done.result() for done in [threads.submit(work) for _ in range(9)]] == [None] * 9
    assert len(filecopy._SPARE) <= filecopy._MOST_SPARE


def test_a_small_blob_takes_a_small_buffer() -> None:
    seen: list[int] = []

    def fill(buffer: memoryview) -> int:
        seen.append(len(buffer))
        return filling(b"abc", SIZE)(buffer) if len(seen) == 1 else 0

    node = Descriptor("a/b", Digest.of(b"abc"), 3)
    copy_file(BlobReader(single_chunk(b""), "a test"), node, fill, Verifier(node), lambda _: None)
    assert seen == [3, 1]
    assert not filecopy._SPARE


@pytest.mark.parametrize("size", [0, 1, SIZE - 1, SIZE, SIZE + 1, len(DATA)])
def test_buffer_content_after_the_bytes_read_is_not_written(size: int) -> None:
    data, written = DATA[:size], bytearray()
    node, fill = Descriptor("a/b", Digest.of(data), size), filling(data, SIZE)

    def scribbling(buffer: memoryview) -> int:
        count = fill(buffer)
        buffer[count:] = b"x" * (len(buffer) - count)
        return count

    copy_file(BlobReader(single_chunk(b""), "a test"), node, scribbling, Verifier(node), written.extend)
    assert written == data


def test_copy_hashes_in_its_own_thread_if_no_thread_can_start(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(filecopy, "_HASHING", ThreadPool("test"))  # it has no threads yet
    monkeypatch.setattr(threading.Thread, "start", start)
    assert copied(DATA) == (DATA, None)


@pytest.mark.parametrize("place", ["fill", "write", "advance"])
def test_error_during_a_copy_is_raised_unchanged(place: str) -> None:
    fill, calls = filling(DATA, SIZE), 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StorageError("The disk is full.")

    def failing(buffer: memoryview) -> int:
        if place == "fill":
            fail()
        return fill(buffer)

    written = bytearray()

    def write(chunk: memoryview) -> None:
        if place == "write":
            fail()
        written.extend(chunk)

    with pytest.raises(StorageError, match=r"^The disk is full\.$"):
        copy_file(
            BlobReader(single_chunk(b""), "a test"),
            NODE,
            failing,
            Verifier(NODE),
            write,
            lambda _: fail() if place == "advance" else None,
        )
    assert DATA.startswith(bytes(written))
    assert len(written) <= 2 * SIZE


def test_concurrent_copies_do_not_affect_each_other() -> None:
    some = [random.Random(number).randbytes(SIZE * number + number) for number in range(12)]
    nodes = [Descriptor("a/b", Digest.of(data), len(data)) for data in some]

    async def main() -> list[tuple[bytes, MirrorError | None]]:
        pairs = zip(some, nodes, strict=True)
        return await asyncio.gather(*(asyncio.to_thread(copied, data, node) for data, node in pairs))

    assert asyncio.run(main()) == [(data, None) for data in some]
