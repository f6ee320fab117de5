"""Tests of reading layouts: invalid layouts are refused, and nothing is written."""

import asyncio
import json
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mirror.concurrency import gives_up, submit, threads
from mirror.content import stream
from mirror.content.hashing import BlobCheck, BlobFault, Reader, hash_blob
from mirror.content.walk import walk
from mirror.errors import BrokenLayout, DigestMismatch, MirrorError, NotFound, StorageError
from mirror.layout import Layout, LayoutWriter, index
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.fs.test_directory import ODD, make
from tests.support import images
from tests.support.memory import descriptor_of

IMAGE = images.multi_arch()
NAME = "quay.io/a/b:v1"
CALLED = {"io.containerd.image.name": NAME, "org.opencontainers.image.ref.name": "v1"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Create a layout with one image, without the code of mirror."""
    folder = tmp_path / "layout"
    (folder / "blobs" / "sha256").mkdir(parents=True)
    (folder / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    entry = {**IMAGE.descriptor(), "annotations": CALLED}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    held = IMAGE.blobs | {digest: data for digest, (data, _) in IMAGE.manifests.items()}
    for digest, data in held.items():
        folder.joinpath("blobs", *digest.split(":")).write_bytes(data)
    return folder


@pytest.fixture
def layout(path: Path) -> Iterator[Layout]:
    with Layout.open(path) as found:
        yield found


ROOT = descriptor_of(IMAGE)
LAYER = next(digest for digest, data in IMAGE.blobs.items() if len(data) == 3000)
NODE = Descriptor(images.OCI_LAYER, Digest.parse(LAYER), 3000)


def snapshot(path: Path) -> list[tuple[str, int, int]]:
    """Return the names, sizes and times of all files."""
    found = [path, *sorted(path.rglob("*"))]
    return [(str(one), one.lstat().st_size, one.lstat().st_mtime_ns) for one in found]


async def content(layout: Layout, node: Descriptor) -> bytes:
    async with layout.open_blob(node) as body:
        return await stream.read(body, node)


# Invalid layouts


@pytest.mark.parametrize("name", ["missing", "file", "dangling"])
def test_path_that_is_not_a_directory_is_not_found(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(NotFound, match=name):
        Layout.open(tmp_path / name)


def test_path_that_is_too_long_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MirrorError, match="xxx"):
        Layout.open(tmp_path / ("x" * 300))


def test_empty_directory_is_a_broken_layout(tmp_path: Path) -> None:
    with pytest.raises(BrokenLayout, match="has no oci-layout"):
        Layout.open(tmp_path)


@pytest.mark.parametrize("name", ["oci-layout", "index.json", "blobs"])
def test_layout_without_one_of_its_parts_is_broken(path: Path, name: str) -> None:
    (path / name).rename(path / "gone")
    with pytest.raises(BrokenLayout, match=f"no (directory )?'?{name}"):
        Layout.open(path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
@pytest.mark.parametrize("kind", ODD)
def test_layout_files_must_be_regular_files(path: Path, name: str, kind: str) -> None:
    (path / name).unlink()
    make(path / name, kind)
    with pytest.raises(BrokenLayout):
        Layout.open(path)


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_symbolic_link_to_a_valid_layout_file_is_not_followed(path: Path, name: str) -> None:
    (path / name).rename(path / "real")
    (path / name).symlink_to("real")
    with pytest.raises(BrokenLayout, match="a symbolic link"):
        Layout.open(path)


@pytest.mark.parametrize("kind", ["file", "link to a directory", "dangling"])
def test_blobs_must_be_a_directory(path: Path, kind: str) -> None:
    (path / "blobs").rename(path / "real")
    (path / "blobs").write_bytes(b"") if kind == "file" else make(path / "blobs", kind)
    with pytest.raises(BrokenLayout):
        Layout.open(path)


@pytest.mark.parametrize("size", [4097, 1_000_000])
def test_a_huge_oci_layout_is_refused(path: Path, size: int) -> None:
    (path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}'.ljust(size))
    with pytest.raises(BrokenLayout, match="more than 4096 bytes"):
        Layout.open(path)


@pytest.mark.slow
def test_a_huge_index_is_refused_without_reading_it(path: Path) -> None:
    os.truncate(path / "index.json", 1 << 40)
    with pytest.raises(BrokenLayout, match="more than"):
        Layout.open(path)


def test_refused_layout_leaves_no_open_files(path: Path) -> None:
    (path / "index.json").write_bytes(b"")
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(BrokenLayout):
        Layout.open(path)
    assert len(os.listdir("/dev/fd")) == before


def test_other_files_are_ignored(path: Path) -> None:
    (path / "manifest.json").write_bytes(b"[]")
    (path / "blobs" / "sha256" / "README").write_bytes(b"")
    (path / ".DS_Store").mkdir()
    with Layout.open(path) as found:
        assert len(found.entries()) == 1


def test_path_of_a_layout_may_be_a_link(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("layout")
    with Layout.open(tmp_path / "link") as found:
        assert [entry.name for entry in found.entries()] == [NAME]


# Finding and reading


def test_an_image_is_resolved_to_its_root(layout: Layout) -> None:
    found = asyncio.run(layout.resolve("quay.io/a/b:v1"))
    assert (found.digest, found.size, found.media_type) == (ROOT.digest, ROOT.size, ROOT.media_type)


def test_find_without_names_returns_all_images(layout: Layout) -> None:
    assert [entry.name for entry in layout.find()] == [NAME]
    assert [entry.name for entry in layout.find([NAME, "v1", ROOT.digest])] == [NAME]


@pytest.mark.parametrize("texts", [[], ["redis"]])
def test_an_empty_layout_has_no_images(path: Path, texts: list[str]) -> None:
    (path / "index.json").write_bytes(b'{"schemaVersion":2,"manifests":[]}')
    with Layout.open(path) as found, pytest.raises(NotFound, match="has no images"):
        found.find(texts)


def test_complete_image_is_walked_and_read(layout: Layout) -> None:
    graph = asyncio.run(walk(layout, ROOT))
    assert {digest: node.data for digest, node in graph.nodes.items()} == {
        digest: data for digest, (data, _) in IMAGE.manifests.items()
    }
    assert {digest: asyncio.run(content(layout, node)) for digest, node in graph.blobs.items()} == IMAGE.blobs


def test_opened_blob_has_its_modification_time(path: Path, layout: Layout) -> None:
    async def modified() -> float | None:
        async with layout.open_blob(NODE) as body:
            return body.modified

    os.utime(path.joinpath("blobs", *LAYER.split(":")), (0, 1_500_000_000))
    assert asyncio.run(modified()) == 1_500_000_000


def test_modified_returns_the_time_of_a_blob_or_none(path: Path, layout: Layout) -> None:
    os.utime(path.joinpath("blobs", *LAYER.split(":")), (1, 1_500_000_000))
    assert asyncio.run(layout.modified(NODE)) == 1_500_000_000
    assert asyncio.run(layout.modified(Descriptor("a/b", Digest.of(b"absent"), 6))) is None


def test_wrong_blob_is_detected_when_it_is_read(path: Path, layout: Layout) -> None:
    blob = path.joinpath("blobs", *LAYER.split(":"))
    blob.write_bytes(bytes(3000))
    with pytest.raises(DigestMismatch, match=LAYER):
        asyncio.run(content(layout, NODE))


@pytest.mark.parametrize("kind", ["missing", *ODD])
def test_missing_blob_or_special_file_is_not_read(path: Path, layout: Layout, kind: str) -> None:
    blob = path.joinpath("blobs", *LAYER.split(":"))
    blob.unlink()
    if kind != "missing":
        make(blob, kind)
    with pytest.raises(BrokenLayout, match=NODE.digest.encoded):
        asyncio.run(content(layout, NODE))


def test_read_error_of_the_disk_is_a_storage_error(path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        async def read(self, _: int) -> bytes:
            raise OSError(5, "broken")

    async def opened(*_: object, **__: object) -> Broken:
        return Broken()

    async def streamed() -> None:
        async with layout.open_blob(NODE) as body:
            async for _ in body.chunks:
                pass

    def broken(*_: object) -> int:
        raise OSError(5, "broken")

    monkeypatch.setattr("aiofiles.open", opened)
    monkeypatch.setattr("os.readv", broken)
    for reading in (streamed(), content(layout, NODE)):
        with pytest.raises(StorageError, match="Input/output error"):
            asyncio.run(reading)


def test_reading_a_part_of_a_blob_leaves_no_open_files(layout: Layout) -> None:
    async def part() -> None:
        async with layout.open_blob(NODE) as body:
            async for _ in body.chunks:
                break

    asyncio.run(part())
    before = len(os.listdir("/dev/fd"))
    asyncio.run(part())
    assert len(os.listdir("/dev/fd")) == before


def test_descriptor_stays_open_while_a_thread_that_hangs_may_use_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    descriptors, begun, over = list[int](), threading.Event(), threading.Event()

    class Hanging:
        async def read(self, _: int) -> bytes:
            begun.set()
            await asyncio.wrap_future(submit(lambda: over.wait(60)))
            return b""

    async def opened(fd: int, *_: object, **__: object) -> Hanging:
        descriptors.append(fd)
        return Hanging()

    async def read() -> None:
        async with layout.open_blob(NODE) as body:
            async for _ in body.chunks:
                pass

    async def main() -> None:
        task = asyncio.create_task(read())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        os.fstat(descriptors[0])
        over.set()
        while gives_up():
            await asyncio.sleep(0.001)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptors[0])

    monkeypatch.setattr(threads, "PATIENCE", 0.01)
    monkeypatch.setattr("aiofiles.open", opened)
    asyncio.run(main())


# Checks of blobs


def test_has_accepts_a_correct_blob(layout: Layout) -> None:
    assert asyncio.run(layout.has(NODE))
    assert layout.damaged == {}


def test_missing_blob_is_absent_but_not_damaged(layout: Layout) -> None:
    absent = Descriptor("a/b", Digest.of(b"absent"), 6)
    assert not asyncio.run(layout.has(absent))
    assert layout.damaged == {}


@pytest.mark.parametrize(
    ("data", "flaw"),
    [
        (b"", BlobFault.TOO_SHORT),
        (bytes(2999), BlobFault.TOO_SHORT),
        (bytes(3001), BlobFault.TOO_LONG),
        (bytes(3000), BlobFault.CORRUPT),
    ],
)
def test_wrong_blob_is_absent_and_damaged(path: Path, layout: Layout, data: bytes, flaw: BlobFault) -> None:
    path.joinpath("blobs", *LAYER.split(":")).write_bytes(data)
    assert not asyncio.run(layout.has(NODE))
    assert {digest: verdict.fault for digest, verdict in layout.damaged.items()} == {LAYER: flaw}


def test_has_detects_wrong_content_of_the_right_size(path: Path, layout: Layout) -> None:
    asyncio.run(layout.has(NODE))
    path.joinpath("blobs", *LAYER.split(":")).write_bytes(bytes(3000))
    assert not asyncio.run(layout.has(NODE))


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the digests of hashed blobs, in order; let results for new files be remembered, too."""
    found: list[str] = []

    def noted(opened: Reader | BlobCheck, digest: Digest, *args: Any, **fields: Any) -> BlobCheck:
        found.append(digest)
        return hash_blob(opened, digest, *args, **fields)

    monkeypatch.setattr("mirror.layout.reader.hash_blob", noted)
    monkeypatch.setattr("mirror.fs.filestate._COARSEST", -1.0)
    return found


def test_repeated_checks_hash_a_blob_once(layout: Layout, hashed: list[str]) -> None:
    assert all(asyncio.run(layout.has(NODE)) for _ in range(5))
    assert hashed == [LAYER]


def test_newly_opened_layout_hashes_again(path: Path, hashed: list[str]) -> None:
    for _ in range(2):
        with Layout.open(path) as found:
            assert asyncio.run(found.has(NODE))
    assert hashed == [LAYER, LAYER]


def test_layout_that_is_read_and_written_hashes_a_blob_once(path: Path, layout: Layout, hashed: list[str]) -> None:
    async def main() -> None:
        async with LayoutWriter.writing(path, near=layout) as writer:
            assert all([await one.has(NODE) for one in (writer, layout, writer)])

    asyncio.run(main())
    assert hashed == [LAYER]


def test_several_blobs_are_checked_at_once(path: Path, layout: Layout, hashed: list[str]) -> None:
    path.joinpath("blobs", *ROOT.digest.split(":")).write_bytes(b"x" * ROOT.size)
    missing = replace(NODE, digest=Digest.of(b"missing"))
    assert asyncio.run(layout.has_all([NODE, ROOT, missing])) == [True, False, False]
    assert asyncio.run(layout.has_all([NODE, NODE])) == [True, True]
    assert hashed == [LAYER, ROOT.digest]
    assert layout.damaged.keys() == {ROOT.digest}


def test_only_intact_content_is_returned(path: Path, layout: Layout) -> None:
    blob = path.joinpath("blobs", *LAYER.split(":"))
    assert asyncio.run(layout.intact(NODE)) == IMAGE.blobs[LAYER]
    blob.write_bytes(b"x" * 3000)
    assert asyncio.run(layout.intact(NODE)) is None
    assert layout.damaged.keys() == {LAYER}
    blob.unlink()
    assert asyncio.run(layout.intact(NODE)) is None


def test_remembered_hash_does_not_apply_to_another_size(layout: Layout, hashed: list[str]) -> None:
    assert asyncio.run(layout.has(NODE))
    assert not asyncio.run(layout.has(replace(NODE, size=2999)))
    assert layout.damaged[NODE.digest].fault is BlobFault.TOO_LONG


def keeping_times(blob: Path, change: Callable[[Path], object]) -> None:
    before = blob.stat()
    change(blob)
    os.utime(blob, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(blob: Path) -> None:
    blob.unlink()
    blob.write_bytes(bytes(3000))


def linked(blob: Path) -> None:
    blob.rename(blob.parent / "real")
    blob.symlink_to("real")


_changes: dict[str, Callable[[Path], object]] = {
    "written": lambda blob: blob.write_bytes(bytes(3000)),
    "written, with its time": lambda blob: keeping_times(blob, lambda blob: blob.write_bytes(bytes(3000))),
    "replaced": replaced,
    "truncated": lambda blob: os.truncate(blob, 10),
    "removed": Path.unlink,
    "replaced by a link": linked,
}


@pytest.mark.usefixtures("hashed")
@pytest.mark.parametrize("change", _changes)
def test_a_blob_that_has_changed_is_hashed_again(path: Path, layout: Layout, change: str) -> None:
    assert asyncio.run(layout.has(NODE))
    time.sleep(0.02)  # the clock of the file system advances
    _changes[change](path.joinpath("blobs", *LAYER.split(":")))
    assert not asyncio.run(layout.has(NODE))


@pytest.mark.usefixtures("hashed")
def test_repaired_blob_is_accepted(path: Path, layout: Layout) -> None:
    blob = path.joinpath("blobs", *LAYER.split(":"))
    blob.write_bytes(bytes(3000))
    assert not asyncio.run(layout.has(NODE))
    blob.write_bytes(IMAGE.blobs[LAYER])
    assert asyncio.run(layout.has(NODE))


def test_index_json_is_parsed_again_only_if_it_has_changed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed, entries = [], index.entries
    monkeypatch.setattr(index, "entries", lambda data: parsed.append(data) or entries(data))  # type: ignore[func-returns-value]
    with Layout.open(path) as layout:
        for _ in range(3):
            assert [entry.name for entry in layout.entries()] == [NAME]
            assert layout.find(["v1"])[0].name == NAME
        assert len(parsed) == 1
        file = path / "index.json"
        keeping_times(file, lambda file: file.write_bytes(file.read_bytes().replace(b"v1", b"v2")))
        assert [entry.name for entry in layout.entries()] == ["quay.io/a/b:v2"]
        assert len(parsed) == 2


# No writes


def test_reading_changes_nothing(path: Path) -> None:
    async def read_all() -> None:
        with Layout.open(path) as layout:
            graph = await walk(layout, ROOT)
            for node in graph.blobs.values():
                await layout.has(node)
                await content(layout, node)
            await layout.has(Descriptor("a/b", Digest.parse("sha512:" + "0" * 128), 1))

    before = snapshot(path)
    asyncio.run(read_all())
    assert snapshot(path) == before
    assert stat.S_ISDIR(path.stat().st_mode)


def test_hostile_name_is_not_used_as_a_path(path: Path) -> None:
    annotations = {"org.opencontainers.image.ref.name": "../../../etc/passwd", "org.opencontainers.image.title": "/x"}
    entry = {**IMAGE.descriptor(), "annotations": annotations}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    with Layout.open(path) as layout:
        assert [found.name for found in layout.entries()] == ["../../../etc/passwd"]
        assert layout.find(["../../../etc/passwd"])[0].root.digest == ROOT.digest
        with pytest.raises(MirrorError):
            asyncio.run(layout.resolve("../../../etc/shadow"))
