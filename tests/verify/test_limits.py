"""Tests that copies, verification and the server apply the same limits to images."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given

from mirror import VerifyOptions, verify_layout
from mirror.content.finding import Kind
from mirror.content.hashing import MISSING, BlobCheck, Reader
from mirror.content.limits import DEEPEST, MOST_BYTES, MOST_MANIFESTS
from mirror.content.walk import walk
from mirror.errors import LimitExceeded, MirrorError
from mirror.layout import Entry, index
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.serve.content import read_content
from mirror.verify.blob_table import BlobTable
from mirror.verify.structure import Structure
from tests.support import images, layouts
from tests.support.images import Image, Json
from tests.support.memory import MemorySource, contents_of, descriptor_of
from tests.support.strategies import QUICK, graphs

AMD64 = images.image("linux/amd64", images.layer(1, 100))


def index_over(nodes: list[Json], *below: Image) -> Image:
    data = images.encode({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": nodes})
    root = images.digest_of(data)
    there = {digest: one for image in below for digest, one in image.manifests.items()}
    blobs = {digest: one for image in below for digest, one in image.blobs.items()}
    return Image(root, images.OCI_INDEX, {root: (data, images.OCI_INDEX), **there}, blobs)


def absent(count: int, size: int) -> list[Json]:
    """Return descriptors of missing manifests: they count towards the limits before they are read."""
    return [
        {"mediaType": images.OCI_MANIFEST, "digest": f"sha256:{number:064x}", "size": size} for number in range(count)
    ]


def nested(levels: int) -> Image:
    image = AMD64
    for _ in range(levels - 1):
        image = images.index([image])
    return image


def of_bytes(size: int) -> Image:
    """Make an index over manifests of the largest size; all together have `size` bytes."""
    nodes = absent(size // MANIFEST_CAP, MANIFEST_CAP)
    rest = size - len(index_over(nodes).data) - (len(nodes) - 1) * MANIFEST_CAP
    return index_over([*nodes[:-1], {**nodes[-1], "size": rest}])


# Images at each limit, or above it by `more`.
SHAPES: dict[str, Callable[[int], Image]] = {
    "manifests": lambda more: index_over(absent(MOST_MANIFESTS - 1 + more, 10)),
    "bytes": lambda more: of_bytes(MOST_BYTES + more),
    "levels": lambda more: nested(DEEPEST + more),
}


def copied(image: Image, layout: Path) -> bool:
    """Return whether a copy exceeds a limit; missing manifests are other faults."""
    faults: list[MirrorError] = []
    root = descriptor_of(image)
    asyncio.run(walk(MemorySource(image), root, on_fault=lambda _, error: faults.append(error)))
    return any(isinstance(error, LimitExceeded) for error in faults)


def verified(image: Image, layout: Path) -> bool:
    report = asyncio.run(verify_layout(layout, options=VerifyOptions(level="structure")))
    return any(finding.kind is Kind.TOO_MANY for finding in report.findings)


def served(image: Image, layout: Path) -> bool:
    contents = contents_of([image])
    entries: list[Entry] = index.entries((layout / "index.json").read_bytes())
    content = read_content("a/b", entries, lambda node: contents.get(node.digest), contents.__contains__)
    return content.excess is not None


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("refuses", [copied, verified, served])
def test_image_at_a_limit_is_accepted_and_above_it_is_refused(
    tmp_path: Path, refuses: Callable[[Image, Path], bool], shape: str
) -> None:
    for more in (0, 1):
        image = SHAPES[shape](more)
        layout = layouts.write(tmp_path / str(more), image, name="docker.io/a/b:1")
        assert refuses(image, layout) == bool(more)


# `Structure`, which walks over numbers, and `walk`, which walks over descriptors, agree


class MemoryStore:
    """An in-memory store with the methods that `Structure` uses."""

    name = "held"
    is_archive = False

    def __init__(self, contents: dict[str, bytes]) -> None:
        self._contents = contents

    def open(self, digest: Digest) -> Reader | BlobCheck:
        return Bytes(self._contents[digest]) if digest in self._contents else MISSING


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._rest = data

    def readinto(self, buffer: memoryview, /) -> int:
        piece, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(piece)] = piece
        return len(piece)

    def changed(self) -> bool:
        return False

    def close(self) -> None: ...


@pytest.mark.slow
@given(graphs())
@QUICK
def test_structure_and_graph_have_the_same_blobs(image: Image) -> None:
    root = descriptor_of(image)
    graph = asyncio.run(walk(MemorySource(image), root))
    structure = Structure(
        MemoryStore(contents_of([image])),  # type: ignore[arg-type]
        deep=False,
        report=lambda finding: pytest.fail(str(finding)),
        checkpoint=lambda: None,
    )
    structure.walk([Entry.of(root)])
    [found] = structure.images()
    assert (found.blobs, found.size) == (len(graph.blobs), graph.size)
    assert len(structure.table) == len(graph.nodes) + len(graph.blobs)
    assert json.dumps(sorted(map(str, structure.pending_findings()))) == "[]"


def test_first_media_type_of_a_repeated_digest_is_followed() -> None:
    node: Json = {"mediaType": images.OCI_MANIFEST, "digest": AMD64.root, "size": len(AMD64.data)}
    image = index_over([node, {**node, "mediaType": images.OCI_INDEX}], AMD64)
    faults: list[Descriptor] = []
    graph = asyncio.run(walk(MemorySource(image), descriptor_of(image), on_fault=lambda node, _: faults.append(node)))
    assert (len(faults), set(graph.blobs)) == (1, set(AMD64.blobs))


@pytest.mark.slow
def test_chain_of_referrers_takes_linear_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    is_used = BlobTable.is_used

    def counted(table: BlobTable, number: int) -> bool:
        looked.append(number)
        return is_used(table, number)

    monkeypatch.setattr(BlobTable, "is_used", counted)
    end = images.image("linux/amd64", images.layer(1, 100))
    layout = layouts.write(tmp_path / "layout", end, name="a.b/c:1")
    for number in range(40):
        end = images.signature(end, number)
        for digest, data in {**end.blobs, end.root: end.data}.items():
            layouts.add(layout, digest, data)
    assert asyncio.run(verify_layout(layout)).findings == ()
    assert len(looked) < 20 * 40
