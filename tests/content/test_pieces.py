"""Tests of blobs in pieces: they are read in order, and a wrong blob is never handed out to its end."""

import asyncio
import hashlib
import os
import random
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.concurrency import to_thread
from mirror.content import filecopy
from mirror.content.pieces import Pieces
from mirror.content.stream import BlobReader, single_chunk
from mirror.errors import DigestMismatch, MirrorError, SizeMismatch, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support.sources import filling
from tests.support.strategies import QUICK

DATA = random.Random(1).randbytes(10_000)
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
EMPTY = Descriptor("a/b", Digest.of(b""), 0)
SIZE = 1000  # bytes of a buffer
MOST = 300  # bytes of a piece
FORMS = ("thread", "loop", "chunks")  # who reads: a thread, the event loop with a thread's help, the event loop alone

Fill = Callable[[memoryview], int]


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    filecopy._SPARE.clear()
    monkeypatch.setattr(filecopy, "_SIZE", SIZE)
    yield
    filecopy._SPARE.clear()


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def pieces_of(data: bytes, node: Descriptor = NODE, *, form: str = "thread", fill: Fill | None = None) -> Pieces:
    fill = None if form == "chunks" else fill or filling(data, SIZE)
    return Pieces(BlobReader(single_chunk(data), "a test", fill=fill), node, most=MOST, batch=SIZE)


async def read(pieces: Pieces, count: int, form: str) -> bytes:
    """Return the next bytes, and check the sizes of pieces, and their offsets."""
    if form == "thread":
        return await to_thread(lambda: joined(pieces, count))
    got = [piece async for piece in pieces.chunks(count)]
    assert all(len(piece) <= MOST for piece in got)
    return b"".join(got)  # the event loop may keep them for some time


def joined(pieces: Pieces, count: int) -> bytes:
    got = bytearray()
    for piece, _, offset in pieces.read(count):
        assert len(piece) <= MOST
        got += piece
        assert DATA[offset : offset + len(piece)] == piece
    return bytes(got)


def sent(data: bytes, node: Descriptor = NODE, *, form: str, fill: Fill | None = None) -> tuple[bytes, MirrorError]:
    """Read content that is wrong, as for one request; return what was handed out, and the error."""
    got = bytearray()

    def in_thread(pieces: Pieces) -> None:
        for part in pieces.read(node.size):
            got.extend(part.view)

    async def main() -> None:
        async with pieces_of(data, node, form=form, fill=fill) as pieces:
            if form == "thread":
                await to_thread(partial(in_thread, pieces))
            async for piece in pieces.chunks(node.size - len(got)):
                got.extend(piece)
            await pieces.finish()

    with pytest.raises(MirrorError) as caught:
        asyncio.run(main())
    return bytes(got), caught.value


# Right content


@pytest.mark.parametrize("size", [0, 1, MOST, SIZE - 1, SIZE, SIZE + 1, 2 * SIZE, 3 * SIZE + 7, len(DATA)])
def test_content_is_handed_out_as_it_is(form: str, size: int) -> None:
    data = DATA[:size]

    async def main() -> bytes:
        async with pieces_of(data, Descriptor("a/b", Digest.of(data), size), form=form) as pieces:
            got = await read(pieces, size, form)
            await pieces.finish()
            return got

    assert asyncio.run(main()) == data


@QUICK
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.sampled_from(["thread", "loop", "skip", "collect"])), max_size=12),
    st.integers(1, SIZE + 1),
)
@example([(0, "skip"), (2500, "thread"), (1, "loop"), (1, "thread")], SIZE)
@example([(len(DATA), "skip")], 7)
@pytest.mark.usefixtures("small_buffers")
def test_one_reading_is_spread_over_any_requests(parts: list[tuple[int, str]], most: int) -> None:
    """Threads and the event loop may take turns, and the requests may begin and end anywhere."""

    async def main() -> None:
        left, at = [*parts, (len(DATA), "thread")], 0
        async with pieces_of(DATA, fill=filling(DATA, most)) as pieces:
            for wanted, form in left:
                count = min(wanted, len(DATA) - at)
                if form == "skip":
                    await pieces.skip(count)
                elif form == "collect":
                    assert await pieces.collect(count) == DATA[at : at + count]
                else:
                    assert await read(pieces, count, form) == DATA[at : at + count]
                at += count
            await pieces.finish()

    asyncio.run(main())


def test_chunks_stay_valid_for_a_receiver_that_keeps_them() -> None:
    async def main() -> None:
        async with pieces_of(DATA, form="loop") as pieces:
            assert b"".join([piece async for piece in pieces.chunks(len(DATA))]) == DATA

    asyncio.run(main())


def test_content_is_hashed_with_the_algorithm_of_its_digest(form: str) -> None:
    digest = Digest.parse("sha512:" + hashlib.sha512(DATA).hexdigest())

    async def main() -> bytes:
        async with pieces_of(DATA, Descriptor("a/b", digest, len(DATA)), form=form) as pieces:
            return await read(pieces, len(DATA), form)

    assert asyncio.run(main()) == DATA


# Wrong content


@pytest.mark.slow
@QUICK
@given(st.integers(0, len(DATA) - 1), st.sampled_from(FORMS), st.integers(1, SIZE))
@pytest.mark.usefixtures("small_buffers")
def test_any_wrong_byte_is_found_before_the_end_is_handed_out(position: int, form: str, most: int) -> None:
    wrong = bytearray(DATA)
    wrong[position] ^= 1
    got, error = sent(bytes(wrong), form=form, fill=filling(bytes(wrong), most))
    assert isinstance(error, DigestMismatch)
    assert str(error).startswith(f"{NODE.digest} from a test")
    assert len(got) < len(DATA)


@pytest.mark.parametrize("size", [0, 1, SIZE, len(DATA) - 1])
def test_content_that_ends_too_early_is_refused(form: str, size: int) -> None:
    got, error = sent(DATA[:size], form=form)
    assert isinstance(error, SizeMismatch)
    assert error.got == size
    assert DATA.startswith(got)


@pytest.mark.parametrize("more", [1, SIZE, 5 * SIZE])
def test_content_that_is_too_long_is_not_handed_out_to_its_end(form: str, more: int) -> None:
    got, error = sent(DATA + bytes(more), form=form)
    assert isinstance(error, SizeMismatch)
    assert len(got) < len(DATA)


def test_size_is_checked_before_the_digest(form: str) -> None:
    _, error = sent(bytes(len(DATA) + 1), form=form)
    assert isinstance(error, SizeMismatch)


@pytest.mark.parametrize(("data", "kind"), [(b"x", SizeMismatch), (b"", DigestMismatch)])
def test_empty_blob_is_verified_although_nothing_is_read(form: str, data: bytes, kind: type[MirrorError]) -> None:
    _, error = sent(data, Descriptor("a/b", NODE.digest, 0), form=form)
    assert isinstance(error, kind)


def test_huge_size_in_a_descriptor_does_not_allocate_memory(form: str) -> None:
    _, error = sent(b"", Descriptor("a/b", NODE.digest, 2**62), form=form)
    assert isinstance(error, SizeMismatch)


@pytest.mark.parametrize("form", ["thread", "loop"])
def test_error_of_the_source_is_raised_unchanged(form: str) -> None:
    fill, calls = filling(DATA, SIZE), 0

    def failing(buffer: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise TransferError("cut", transient=True)
        return fill(buffer)

    got, error = sent(DATA, form=form, fill=failing)
    assert str(error) == "cut"
    assert error.transient
    assert got == DATA[: 3 * SIZE]


@pytest.mark.parametrize("form", ["thread", "loop"])
@pytest.mark.parametrize("size", [0, 4000, len(DATA) - 1, len(DATA) + 1, 2 * len(DATA)])
def test_file_that_changes_its_size_while_it_is_read_is_refused(tmp_path: Path, form: str, size: int) -> None:
    file = tmp_path / "blob"
    file.write_bytes(DATA)
    with file.open("rb") as opened:
        calls = 0

        def fill(buffer: memoryview) -> int:
            nonlocal calls
            calls += 1
            if calls == 3:
                os.truncate(file, size)
            return os.readv(opened.fileno(), [buffer])

        got, error = sent(b"", form=form, fill=fill)
    assert isinstance(error, SizeMismatch)
    assert len(got) < len(DATA)


@pytest.mark.parametrize("at", [0, 5000, len(DATA) - 1])
def test_file_that_is_written_to_while_it_is_sent_is_not_handed_out_to_its_end(tmp_path: Path, at: int) -> None:
    """Even if the bytes were right when they were hashed: they may be sent from the file, except for the last."""
    file = tmp_path / "blob"
    file.write_bytes(DATA)
    os.utime(file, (1, 1))
    with file.open("r+b", buffering=0) as opened:
        body = BlobReader(single_chunk(b""), "a test", file=opened.fileno(), fill=opened.readinto)
        got = bytearray()

        def write_once(pieces: Pieces) -> None:
            for part in pieces.read(len(DATA)):
                if not got:
                    os.pwrite(opened.fileno(), DATA[at : at + 1], at)
                got.extend(part.view)

        async def main() -> None:
            async with Pieces(body, NODE, most=MOST, batch=SIZE) as pieces:
                write_once(pieces)

        with pytest.raises(TransferError, match="was written to while it was sent") as caught:
            asyncio.run(main())
    assert caught.value.transient
    assert len(got) < len(DATA)


def test_parts_are_in_the_file_except_for_the_last_ones(tmp_path: Path) -> None:
    file = tmp_path / "blob"
    file.write_bytes(DATA)

    async def main() -> None:
        with file.open("rb", buffering=0) as opened:
            body = BlobReader(single_chunk(b""), "a test", file=opened.fileno(), fill=opened.readinto)
            async with Pieces(body, NODE, most=MOST, batch=SIZE) as pieces:
                in_file = [part.file == opened.fileno() for part in pieces.read(len(DATA))]
        assert in_file == [True] * 36 + [False] * 4

    asyncio.run(main())


# The end


def test_interruption_ends_a_thread_that_reads() -> None:
    entered, ended = threading.Event(), threading.Event()

    def fill(_: memoryview) -> int:
        entered.set()
        ended.wait(30)
        raise TransferError("interrupted")

    body = BlobReader(single_chunk(b""), "a test", fill=fill, interrupt=ended.set)

    async def main() -> None:
        async with Pieces(body, NODE, most=MOST, batch=SIZE) as pieces:
            reading = asyncio.ensure_future(to_thread(lambda: joined(pieces, 1), on_cancel=pieces.interrupt))
            await asyncio.to_thread(entered.wait)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    asyncio.run(main())
    assert ended.is_set()


def test_interruption_ends_a_pause_and_all_further_reading() -> None:
    async def main() -> None:
        async with pieces_of(DATA) as pieces:
            pausing = asyncio.ensure_future(to_thread(lambda: pieces.pause(3600)))
            await asyncio.sleep(0.01)
            pieces.interrupt()
            with pytest.raises(asyncio.CancelledError):
                await pausing
            with pytest.raises(asyncio.CancelledError):
                joined(pieces, 1)

    asyncio.run(main())


def test_end_waits_for_a_thread_that_is_still_reading_for_another_task() -> None:
    """A client may cancel the task that sends a request, and not wait for it."""
    entered, ended = threading.Event(), threading.Event()

    def fill(_: memoryview) -> int:
        entered.set()
        is_open.wait(30)
        ended.set()
        return 0

    is_open = threading.Event()
    body = BlobReader(single_chunk(b""), "a test", fill=fill, interrupt=is_open.set)

    async def main() -> None:
        async with Pieces(body, NODE, most=MOST, batch=SIZE) as pieces:
            sending = asyncio.ensure_future(pieces.skip(1))
            await asyncio.to_thread(entered.wait)
        assert ended.is_set()
        with pytest.raises((SizeMismatch, asyncio.CancelledError)):
            await sending

    asyncio.run(main())


# Buffers


def test_buffer_is_not_larger_than_a_batch() -> None:
    asked: list[int] = []
    rest = memoryview(DATA)

    def fill(view: memoryview) -> int:
        nonlocal rest
        asked.append(len(view))
        count = min(len(view), len(rest))
        view[:count], rest = rest[:count], rest[count:]
        return count

    async def main() -> bytes:
        body = BlobReader(single_chunk(b""), "a test", fill=fill)
        async with Pieces(body, NODE, most=MOST, batch=100) as pieces:
            return b"".join(bytes(part.view) for part in pieces.read(len(DATA)))

    assert asyncio.run(main()) == DATA
    assert max(asked) == 100


def test_buffer_is_reused_for_the_next_blob() -> None:
    async def main() -> None:
        async with pieces_of(DATA) as pieces:
            await read(pieces, len(DATA), "thread")

    asyncio.run(main())
    before = {id(buffer.obj) for buffer in filecopy._SPARE}
    assert len(before) == 1
    asyncio.run(main())
    assert {id(buffer.obj) for buffer in filecopy._SPARE} == before
    sent(DATA[:-1], form="thread")  # an error's traceback may refer to it
    assert not filecopy._SPARE
