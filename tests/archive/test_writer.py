"""Tests of writing archives: the order of members, their bytes, and the files that a failure leaves."""

import asyncio
import io
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from mirror.archive.extents import Members
from mirror.archive.writer import ArchiveWriter
from mirror.content.store import Sink
from mirror.content.stream import BlobReader, Fetch, from_verified, single_chunk
from mirror.errors import (
    ContentError,
    DigestMismatch,
    InvalidContent,
    MirrorError,
    SizeMismatch,
    StorageError,
    TransferError,
    UsageError,
)
from mirror.fs.atomic import AtomicFile
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.fs.test_directory import make
from tests.support import images
from tests.support.archives import IMAGE_NAME, OCI_LAYOUT, REF_NAME, unpacked
from tests.support.memory import descriptor_of
from tests.support.profiles import examples
from tests.support.sources import Blocked, in_one_piece
from tests.support.strategies import digest_by

DATA = random.Random(3).randbytes(9_000_000)  # more than two batches
NODE = Descriptor("x/y", Digest.of(DATA), len(DATA))
IMAGE = images.image("linux/amd64", images.layer(1, 3000))
NAME = "quay.io/a/b:v1"


def write(path: Path, *steps: Callable[[ArchiveWriter], Awaitable[object]], for_docker: bool = False) -> bytes:
    async def main() -> None:
        async with ArchiveWriter.to_file(path, for_docker=for_docker) as archive:
            for step in steps:
                await step(archive)

    asyncio.run(main())
    return path.read_bytes()


def put(data: bytes, node: Descriptor | None = None) -> Callable[[ArchiveWriter], Awaitable[object]]:
    node = node or Descriptor("x/y", Digest.of(data), len(data))
    return lambda archive: archive.put(node, in_one_piece(data))


def put_image(sink: Sink) -> Awaitable[object]:
    async def main() -> None:
        for digest, data in IMAGE.blobs.items():
            await sink.put(Descriptor("x/y", Digest(digest), len(data)), in_one_piece(data))
        await sink.put(descriptor_of(IMAGE), in_one_piece(IMAGE.data))
        await sink.tag(NAME, descriptor_of(IMAGE), IMAGE.data)

    return main()


# Content


def test_blobs_precede_the_manifest_and_index_json(tmp_path: Path) -> None:
    files = unpacked(write(tmp_path / "x", put_image))
    first, *blobs, root, last = files
    assert (first, last) == ("oci-layout", "index.json")
    assert files[root] == IMAGE.data
    assert {f"sha256:{name[13:]}": files[name] for name in blobs} == IMAGE.blobs
    assert files["oci-layout"] == OCI_LAYOUT
    (entry,) = json.loads(files["index.json"])["manifests"]
    assert entry == {**entry, "digest": IMAGE.root, "annotations": {IMAGE_NAME: NAME, REF_NAME: "v1"}}


def test_same_content_makes_identical_archives(tmp_path: Path) -> None:
    assert write(tmp_path / "x", put_image) == write(tmp_path / "y", put_image)


def test_an_archive_for_docker_lists_config_layers_and_name(tmp_path: Path) -> None:
    files = unpacked(write(tmp_path / "x", put_image, for_docker=True))
    (listed,) = json.loads(files["manifest.json"])
    document = json.loads(IMAGE.data)
    assert listed["RepoTags"] == [NAME]
    assert images.digest_of(files[listed["Config"]]) == document["config"]["digest"]
    assert [images.digest_of(files[layer]) for layer in listed["Layers"]] == [document["layers"][0]["digest"]]


def test_an_image_with_two_names_is_listed_once_for_docker(tmp_path: Path) -> None:
    again = "quay.io/a/b:v2"
    data = write(
        tmp_path / "x", put_image, lambda archive: archive.tag(again, descriptor_of(IMAGE), IMAGE.data), for_docker=True
    )
    (listed,) = json.loads(unpacked(data)["manifest.json"])
    assert listed["RepoTags"] == [NAME, again]


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 4 * 1024 * 1024, len(DATA)])
def test_content_of_any_size_is_stored_unchanged(tmp_path: Path, size: int) -> None:
    files = unpacked(write(tmp_path / "x", put(DATA[:size]), put(b"after it")))
    assert [data for name, data in files.items() if name.startswith("blobs/")] == [DATA[:size], b"after it"]


def test_blob_that_is_put_several_times_is_stored_once(tmp_path: Path) -> None:
    async def at_once(archive: ArchiveWriter) -> None:
        assert not await archive.has(NODE)
        await asyncio.gather(*(archive.put(NODE, in_one_piece(DATA)) for _ in range(3)))
        assert await archive.has(NODE)

    assert write(tmp_path / "x", at_once).count(DATA[:5000]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("arranged", [False, True])
def test_another_size_for_a_stored_digest_is_refused(tmp_path: Path, arranged: bool) -> None:
    other = Descriptor("x/y", NODE.digest, NODE.size + 1)

    async def put_with_another_size(archive: ArchiveWriter) -> None:
        if arranged:
            archive.arrange([NODE], 4)
        await archive.put(NODE, in_one_piece(DATA))
        assert not await archive.has(other)
        with pytest.raises(InvalidContent, match=f"should have {other.size}"):
            await archive.put(other, in_one_piece(DATA))

    assert write(tmp_path / "x", put_with_another_size) == write(tmp_path / "y", put(DATA))


def test_blob_with_a_digest_too_long_for_a_ustar_header_is_stored(tmp_path: Path) -> None:
    digest = Digest(digest_by("sha512", b"data"))
    files = unpacked(write(tmp_path / "x", put(b"data", Descriptor("x/y", digest, 4))))
    assert files[f"blobs/sha512/{digest.encoded}"] == b"data"


def test_members_are_regular_files_without_owner_or_time(tmp_path: Path) -> None:
    import tarfile

    write(tmp_path / "x", put_image)
    with tarfile.open(tmp_path / "x") as tar:
        assert {(info.type, info.mode, info.mtime, info.uid, info.uname) for info in tar} == {(b"0", 0o644, 0, 0, "")}
        assert tar.format == tarfile.USTAR_FORMAT or not tar.pax_headers


# Archives whose members are arranged before their content arrives


def filled(data: bytes, may_begin: asyncio.Event | None = None) -> Fetch:
    """Return content that threads can read, as from a file, after `may_begin` is set."""

    @asynccontextmanager
    async def fetch(start: int) -> AsyncIterator[BlobReader]:
        if may_begin:
            await may_begin.wait()
        yield BlobReader(single_chunk(data[start:]), "a test", start=start, fill=io.BytesIO(data[start:]).readinto)

    return fetch


SOME = [random.Random(number).randbytes(number * 100_000) for number in range(8)]
NODES = [Descriptor("x/y", Digest.of(data), len(data)) for data in SOME]


@pytest.mark.slow
@pytest.mark.parametrize("fetch", [filled, in_one_piece], ids=["files", "streams"])
@given(order=st.permutations(range(len(SOME))))
@examples(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arranged_archive_does_not_depend_on_the_order_of_puts(
    tmp_path: Path, fetch: Callable[..., Fetch], order: list[int]
) -> None:
    async def arranged(archive: ArchiveWriter) -> None:
        assert archive.arrange([*NODES, NODES[3]], 4) == 4
        for number in order:
            await archive.put(NODES[number], fetch(SOME[number]))

    assert write(tmp_path / "x", arranged) == write(tmp_path / "y", *map(put, SOME))


def test_arranged_blobs_are_written_concurrently(tmp_path: Path) -> None:
    """The first blobs wait for the last, so writing one after the other would never end."""

    async def arranged(archive: ArchiveWriter) -> None:
        archive.arrange(NODES, len(NODES))
        last = asyncio.Event()

        async def put_last() -> None:
            await archive.put(NODES[-1], filled(SOME[-1]))
            last.set()

        waiting = [archive.put(node, filled(data, last)) for node, data in zip(NODES[:-1], SOME[:-1], strict=True)]
        twice = archive.put(NODES[1], filled(SOME[1], last))
        await asyncio.wait_for(asyncio.gather(*waiting, twice, put_last()), 30)

    assert write(tmp_path / "x", arranged) == write(tmp_path / "y", *map(put, SOME))


def test_writes_end_at_page_boundaries_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header has 512 bytes, so content after it does not start at a page boundary."""
    ends: list[int] = []
    write_at = AtomicFile.write_at

    def noted(self: AtomicFile, chunks: Sequence[bytes | memoryview], offset: int) -> None:
        ends.append(offset + sum(map(len, chunks)))
        write_at(self, chunks, offset)

    monkeypatch.setattr(AtomicFile, "write_at", noted)

    async def arranged(archive: ArchiveWriter) -> None:
        archive.arrange([NODES[1], NODE], 4)
        ends.clear()
        await archive.put(NODE, filled(DATA))

    write(tmp_path / "x", arranged, put(SOME[1]))
    inside = ends[: len(DATA) // 2**20]
    assert len(inside) == 8
    assert [end % 2**20 for end in inside] == [0] * 8


def test_missing_arranged_blob_is_an_error(tmp_path: Path) -> None:
    async def arranged(archive: ArchiveWriter) -> None:
        archive.arrange(NODES, 4)
        for node, data in zip(NODES[1:], SOME[1:], strict=True):
            await archive.put(node, filled(data))

    with pytest.raises(StorageError, match=f"The archive lacks {NODES[0].digest}"):
        write(tmp_path / "x", arranged)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_interrupted_arranged_blob_is_resumed(tmp_path: Path) -> None:
    source = InterruptedSource(5_000_000)

    async def arranged(archive: ArchiveWriter) -> None:
        archive.arrange([NODE, NODES[1]], 4)
        with pytest.raises(TransferError):
            await archive.put(NODE, source)
        await archive.put(NODES[1], filled(SOME[1]))
        await archive.put(NODE, source)

    assert write(tmp_path / "x", arranged) == write(tmp_path / "y", put(DATA), put(SOME[1]))
    assert source.asked == [0, 5_000_000]


def test_arrange_has_no_effect_on_a_pipe() -> None:
    async def arranged(archive: ArchiveWriter) -> None:
        assert archive.arrange(NODES, 4) == 1
        await archive.put(NODES[1], filled(SOME[1]))

    assert piped(arranged) == piped(put(SOME[1]))


# Failures

FLIPPED = [bytes([DATA[0] ^ 1]) + DATA[1:], DATA[:-1] + bytes([DATA[-1] ^ 1])]


@pytest.mark.parametrize(
    "data", [*FLIPPED, DATA[:-1], DATA + b"x", b""], ids=["first", "last", "short", "long", "none"]
)
@pytest.mark.parametrize("there", [False, True], ids=["new", "over another"])
@pytest.mark.parametrize("fetch", [filled, in_one_piece])
def test_wrong_content_leaves_no_new_archive(
    tmp_path: Path, data: bytes, there: bool, fetch: Callable[..., Fetch]
) -> None:
    path = tmp_path / "x.tar"
    if there:
        path.write_bytes(b"before")
    with pytest.raises(ContentError, match="from a test"):
        write(path, put(b"right"), lambda archive: archive.put(NODE, fetch(data)))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == ({"x.tar": b"before"} if there else {})


@pytest.mark.slow
@pytest.mark.parametrize("next_one", [put(DATA), put(b"other")], ids=["again", "another"])
def test_blob_with_a_wrong_digest_is_overwritten_in_a_file(
    tmp_path: Path, next_one: Callable[[ArchiveWriter], Awaitable[object]]
) -> None:
    async def put_wrong_content(archive: ArchiveWriter) -> None:
        with pytest.raises(DigestMismatch):
            await archive.put(NODE, InterruptedSource(len(DATA), data=FLIPPED[1]))

    assert write(tmp_path / "x", put(b"first"), put_wrong_content, next_one) == write(
        tmp_path / "y", put(b"first"), next_one
    )


@pytest.mark.parametrize("from_file", [False, True])
def test_cancelled_archive_leaves_no_file(tmp_path: Path, from_file: bool) -> None:
    @asynccontextmanager
    async def stalls(start: int) -> AsyncIterator[BlobReader]:
        async def chunks() -> AsyncIterator[bytes]:
            yield DATA[:5_000_000]
            begun.set()
            await asyncio.Event().wait()

        def zeros_for_ever(buffer: memoryview) -> int:
            loop.call_soon_threadsafe(begun.set)
            return min(len(buffer), 3)

        yield BlobReader(chunks(), "a test", fill=zeros_for_ever if from_file else None)

    begun = asyncio.Event()
    loop: asyncio.AbstractEventLoop

    async def main() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()

        async def writing() -> None:
            async with ArchiveWriter.to_file(tmp_path / "x") as archive:
                await archive.put(NODE, stalls)

        task = asyncio.create_task(writing())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["fifo", "directory"])
def test_only_a_regular_file_is_replaced(tmp_path: Path, kind: str) -> None:
    make(tmp_path / "x", kind)
    with pytest.raises(UsageError, match=r"x is a (FIFO|directory)\."):
        write(tmp_path / "x")


def test_archive_is_written_to_the_target_of_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "x").symlink_to("real/y")
    write(tmp_path / "x", put(b"data"))
    assert (tmp_path / "x").is_symlink()
    assert (tmp_path / "real/y").is_file()


def test_missing_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match="No such file or directory"):
        write(tmp_path / "no/x")


# A pipe


def piped(*steps: Callable[[ArchiveWriter], Awaitable[object]]) -> tuple[bytes, BaseException | None]:
    """Write an archive to a pipe; return the bytes that arrive, and the error of the writer, if any."""
    read_end, write_end = os.pipe()
    error: list[BaseException] = []

    async def main() -> bytes:
        with os.fdopen(read_end, "rb") as reader:
            reading = asyncio.create_task(asyncio.to_thread(reader.read))
            try:
                async with ArchiveWriter.to_pipe(write_end) as archive:
                    for step in steps:
                        await step(archive)
            except MirrorError as caught:
                error.append(caught)
            finally:
                os.close(write_end)
            return await reading

    return asyncio.run(main()), next(iter(error), None)


@pytest.mark.slow
def test_a_pipe_gets_the_same_bytes_as_a_file(tmp_path: Path) -> None:
    assert piped(put(DATA)) == (write(tmp_path / "x", put(DATA)), None)


@pytest.mark.slow
@pytest.mark.parametrize("data", FLIPPED)
@pytest.mark.parametrize("fetch", [filled, in_one_piece])
def test_a_pipe_never_gets_the_end_of_a_wrong_blob(data: bytes, fetch: Callable[..., Fetch]) -> None:
    got, error = piped(lambda archive: archive.put(NODE, fetch(data)))
    assert isinstance(error, DigestMismatch)
    assert len(got) < len(DATA)
    found = Members(lambda offset, size: got[offset : offset + size], len(got))
    assert "is truncated in the middle of" in (found.fault or "")
    assert list(found.by_name) == ["oci-layout"]


def test_pipe_refuses_content_after_an_incomplete_blob() -> None:
    async def put_again(archive: ArchiveWriter) -> None:
        with pytest.raises(DigestMismatch):
            await archive.put(NODE, in_one_piece(FLIPPED[1]))
        with pytest.raises(StorageError, match="in the middle of a blob"):
            await archive.put(NODE, in_one_piece(DATA))

    _, error = piped(put_again)
    assert isinstance(error, StorageError)


def test_small_wrong_blob_is_not_written_to_a_pipe() -> None:
    wrong = Descriptor("x/y", Digest.of(b"right"), 5)
    read_end, write_end = os.pipe()

    async def main() -> None:
        async with ArchiveWriter.to_pipe(write_end) as archive:
            await archive.put(wrong, in_one_piece(b"wrong"))

    with pytest.raises(DigestMismatch):
        asyncio.run(main())
    os.close(write_end)
    with os.fdopen(read_end, "rb") as reader:
        assert b"wrong" not in reader.read()


def test_broken_pipe_is_an_error() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)

    async def main() -> None:
        async with ArchiveWriter.to_pipe(write_end):
            pass

    with pytest.raises(StorageError, match=r"stdout: Broken pipe\."):
        asyncio.run(main())
    os.close(write_end)


# Interrupted content


class InterruptedSource:
    """A source that fails once after this number of bytes; with `ranges=False`, it always starts at 0.

    With `fills`, a thread can read it.
    """

    def __init__(self, after: int, *, ranges: bool = True, data: bytes = DATA, fills: bool = False) -> None:
        self.asked: list[int] = []
        self._after: int | None = after
        self._ranges, self._data, self._fills = ranges, data, fills

    def use_up(self) -> None:
        """Do not fail any more."""
        self._after = None

    @asynccontextmanager
    async def __call__(self, start: int) -> AsyncIterator[BlobReader]:
        self.asked.append(start)
        start = start if self._ranges else 0
        yield BlobReader(self._chunks(start), "a test", start=start, fill=self._fill(start) if self._fills else None)

    def _fill(self, start: int) -> Callable[[memoryview], int]:
        end = len(self._data) if self._after is None else self._after
        rest = memoryview(self._data)[start:end]

        def fill(view: memoryview) -> int:
            nonlocal rest
            if not rest and end < len(self._data):
                self._after = None
                raise TransferError("It was cut.", transient=True)
            count = min(len(view), len(rest), 100_003)
            view[:count], rest = rest[:count], rest[count:]
            return count

        return fill

    async def _chunks(self, start: int) -> AsyncIterator[bytes]:
        end, self._after = len(self._data) if self._after is None else self._after, None
        for position in range(start, end, 1_000_003):
            yield self._data[position : min(position + 1_000_003, end)]
        if end < len(self._data):
            raise TransferError("It was cut.", transient=True)


def attempts(source: Fetch) -> Callable[[ArchiveWriter], Awaitable[object]]:
    async def main(archive: ArchiveWriter) -> None:
        with pytest.raises(TransferError):
            await archive.put(NODE, source)
        await archive.put(NODE, source)

    return main


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 1, 4_000_000, 8_999_999])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("fills", [True, False])
def test_interrupted_blob_is_requested_again_from_its_offset(
    tmp_path: Path, after: int, ranges: bool, fills: bool
) -> None:
    source = InterruptedSource(after, ranges=ranges, fills=fills)
    clean = write(tmp_path / "clean.tar", put(DATA))
    assert write(tmp_path / "cut.tar", attempts(source)) == clean
    assert source.asked == [0, after]
    assert piped(attempts(InterruptedSource(after, ranges=ranges, fills=fills))) == (clean, None)


class WrongBeginning:
    """A source that fails once in the middle, after wrong bytes; then it is right."""

    def __init__(self, fills: bool) -> None:
        self.asked: list[int] = []
        wrong, right = InterruptedSource(4_000_000, data=FLIPPED[0], fills=fills), InterruptedSource(0, fills=fills)
        right.use_up()
        self._sources = [wrong, right, right]

    @asynccontextmanager
    async def __call__(self, start: int) -> AsyncIterator[BlobReader]:
        self.asked.append(start)
        async with self._sources.pop(0)(start) as body:
            yield body


@pytest.mark.slow
@pytest.mark.parametrize("fills", [True, False])
def test_wrong_beginning_of_an_interrupted_blob_is_fetched_again(tmp_path: Path, fills: bool) -> None:
    source = WrongBeginning(fills)
    assert write(tmp_path / "x.tar", attempts(source)) == write(tmp_path / "clean.tar", put(DATA))
    assert source.asked == [0, 4_000_000, 0]
    got, error = piped(attempts(WrongBeginning(fills)))
    assert isinstance(error, DigestMismatch)
    assert len(got) < len(DATA)


@pytest.mark.parametrize("size", [1000, 2_000_000])
@pytest.mark.parametrize("fetch", [filled, in_one_piece, lambda data: from_verified(data, "a test")])
def test_failed_put_has_no_effect_on_the_next_one(tmp_path: Path, size: int, fetch: Callable[[bytes], Fetch]) -> None:
    data = random.Random(1).randbytes(size)
    node = Descriptor("x/y", Digest.of(data), size)

    async def put_three(archive: ArchiveWriter) -> None:
        with pytest.raises(SizeMismatch):
            await archive.put(node, fetch(data + b"excess"))
        for wrong in (data[:-1] + bytes([data[-1] ^ 1]), bytes([data[0] ^ 1]) + data[1:]):
            with pytest.raises(DigestMismatch):
                await archive.put(node, filled(wrong))
        await archive.put(node, filled(data))

    assert write(tmp_path / "x.tar", put_three) == write(tmp_path / "clean.tar", put(data))


def test_cancelled_put_interrupts_the_source(tmp_path: Path) -> None:
    source = Blocked()

    @asynccontextmanager
    async def fetch(start: int) -> AsyncIterator[BlobReader]:
        yield source.body

    async def main() -> None:
        async with ArchiveWriter.to_file(tmp_path / "x.tar", for_docker=False) as archive:
            await source.cancel(archive.put(NODE, fetch))

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert source.interrupted.is_set()


def test_wrong_content_after_an_interruption_leaves_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch):
        write(tmp_path / "x.tar", attempts(InterruptedSource(5_000_000, data=DATA[:-1] + b"?")))
    assert list(tmp_path.iterdir()) == []


def cut_then_another(after: int) -> Callable[[ArchiveWriter], Awaitable[object]]:
    async def steps(archive: ArchiveWriter) -> None:
        with pytest.raises(TransferError):
            await archive.put(NODE, InterruptedSource(after))
        await put(b"other")(archive)

    return steps


@pytest.mark.parametrize("after", [0, 8_999_999])
def test_interrupted_blob_is_overwritten_by_the_next_blob_in_a_file(tmp_path: Path, after: int) -> None:
    assert write(tmp_path / "x.tar", cut_then_another(after)) == write(tmp_path / "y.tar", put(b"other"))


def test_pipe_refuses_another_blob_after_an_interrupted_blob() -> None:
    _, error = piped(cut_then_another(5_000_000))
    assert isinstance(error, StorageError)
    assert "middle of a blob" in str(error)


def test_pipe_accepts_another_blob_after_a_failure_before_the_first_byte(tmp_path: Path) -> None:
    assert piped(cut_then_another(0)) == (write(tmp_path / "y.tar", put(b"other")), None)
