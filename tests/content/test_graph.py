"""Tests of walking the manifests of an image: the content that is found, contradictions, and limits."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.content import limits
from mirror.content.graph import Graph, Walk
from mirror.content.limits import Budget, Limits
from mirror.content.stream import BlobReader
from mirror.content.walk import leaves, walk
from mirror.errors import (
    ContentError,
    DigestMismatch,
    InvalidContent,
    LimitExceeded,
    MirrorError,
    SizeConflict,
    SizeMismatch,
    TransferError,
)
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document, parse
from mirror.retry import RetryPolicy
from tests.support import images
from tests.support.images import RECORD, Blob, Image, encode
from tests.support.memory import MemorySource, descriptor_of
from tests.support.strategies import QUICK, graphs

AMD64 = images.image("linux/amd64", images.layer(1, 100))
ARM64 = images.image("linux/arm64", images.layer(2, 100))
BOTH = images.index([AMD64, ARM64])
BUSY = TransferError("busy", transient=True)


def walked(image: Image, source: MemorySource | None = None, **how: Any) -> Graph:
    return asyncio.run(walk(source or MemorySource(image), descriptor_of(image), **how))


def recursive(image: Image, digest: str) -> tuple[set[str], set[str]]:
    """Return the manifests and blobs below a manifest by recursion."""
    document = json.loads(image.manifests[digest][0])
    manifests, blobs = {digest}, {node["digest"] for node in document.get("layers", [])}
    if "config" in document:
        blobs.add(document["config"]["digest"])
    for child in document.get("manifests", []):
        below = recursive(image, child["digest"])
        manifests, blobs = manifests | below[0], blobs | below[1]
    return manifests, blobs


def root_of(*nodes: object, **fields: object) -> Image:
    """Return an index of these descriptors, whether they are valid or not."""
    data = encode({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": list(nodes), **fields})
    root = images.digest_of(data)
    return Image(root, images.OCI_INDEX, {root: (data, images.OCI_INDEX)}, {})


# Complete images


@pytest.mark.slow
@given(graphs())
@QUICK
def test_walk_finds_the_same_content_as_a_recursion(image: Image) -> None:
    source = MemorySource(image)
    found = walked(image, source)
    assert (set(found.nodes), set(found.blobs)) == recursive(image, image.root)
    assert sorted(source.opened) == sorted(found.nodes)
    assert found.size == sum(len(image.blobs[digest]) for digest in found.blobs)


@pytest.mark.slow
@given(graphs())
@QUICK
def test_ranks_order_children_before_their_parents(image: Image) -> None:
    seen: set[str] = set()
    ranks = walked(image).ranks()
    for rank in ranks:
        for node in rank:
            assert {link.digest for link in node.document.manifests} <= seen
        seen |= {node.descriptor.digest for node in rank}
    assert [node.descriptor.digest for node in ranks[-1]] == [image.root]


def test_bytes_of_manifests_are_kept_unchanged() -> None:
    image = images.index([AMD64], indent=7, newField="ü")
    found = walked(image)
    assert {digest: node.data for digest, node in found.nodes.items()} == {
        digest: data for digest, (data, _) in image.manifests.items()
    }


def test_largest_first_sorts_blobs_by_size() -> None:
    found = walked(images.multi_arch(sizes=[100, 3000, 700]))
    sizes = [blob.size for blob in found.largest_first()]
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == len(found.blobs)


def test_a_single_manifest_is_a_graph() -> None:
    found = walked(AMD64)
    assert ([*found.nodes], set(found.blobs)) == ([AMD64.root], set(AMD64.blobs))


def test_an_empty_index_is_a_graph() -> None:
    assert [*walked(images.index([])).nodes] == [images.index([]).root]


def test_root_with_an_unknown_media_type_is_a_blob() -> None:
    root = Descriptor("something/else", Digest.of(b"data"), 4, data=b"data")
    found = asyncio.run(walk(MemorySource(), root))
    assert ([*found.nodes], [*found.blobs]) == ([], [root.digest])


class ChunkedSource(MemorySource):
    """Serves chunks of 1000 bytes; `taken` counts them by digest."""

    def __init__(self, *images: Image) -> None:
        super().__init__(*images)
        self.taken: Counter[str] = Counter()

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        async def chunks() -> AsyncIterator[bytes]:
            data = self.contents[node.digest]
            for begin in range(0, len(data), 1000):
                self.taken[node.digest] += 1
                yield data[begin : begin + 1000]

        yield BlobReader(chunks(), "memory")


def strange(data: bytes) -> Image:
    """Return content of an unknown type, to be listed as if it were a manifest."""
    digest = images.digest_of(data)
    return Image(digest, "something/else", {digest: (data, "something/else")}, {})


def test_children_of_unknown_types_are_read_once_and_only_if_they_may_be_manifests() -> None:
    tar, huge, config = strange(bytes(9000)), strange(b"{" + bytes(MANIFEST_CAP)), strange(b"{}" + b" " * 9000)
    root = images.index([tar, images.index([tar, config]), images.index([huge, config])])
    source = ChunkedSource(root)
    found = asyncio.run(walk(source, descriptor_of(root)))
    assert found.blobs.keys() == {tar.root, huge.root, config.root}
    assert [source.taken[one.root] for one in (tar, huge, config)] == [1, 0, 10]


def test_children_of_unknown_types_are_read_within_the_limits_of_a_walk() -> None:
    most = limits.MOST_BYTES // MANIFEST_CAP
    children = [strange(b'{"%d"' % number) for number in range(most + 1)]
    declared = [{**child.descriptor(), "size": MANIFEST_CAP} for child in children]
    image, source = root_of(*declared), MemorySource(*children)
    source.contents |= {image.root: image.data}
    with pytest.raises(LimitExceeded):
        walked(image, source)
    assert len(source.opened) <= most + 1 + 8


def test_child_of_an_unknown_type_may_be_a_layer_as_well() -> None:
    layer = strange(AMD64.data)
    image = images.manifest(images.EMPTY, [Blob.of(AMD64.data, images.OCI_LAYER)])
    faults = list[MirrorError]()
    for children in ([layer, image], [images.index([layer]), image], [image, images.index([images.index([layer])])]):
        found = walked(images.index(children), on_fault=lambda _, error: faults.append(error))
        assert layer.root in found.blobs
        assert [*found.unsupported] == [layer.root]
    assert len(faults) == 3


def test_content_with_unknown_media_types_is_a_blob() -> None:
    image = images.artifact("application/vnd.example", Blob.of(b"data", "never/heard-of"))
    assert {blob.media_type for blob in walked(image).blobs.values()} == {"never/heard-of", images.EMPTY.media_type}


def test_blob_may_have_two_media_types() -> None:
    image = images.manifest(images.EMPTY, [Blob.of(images.EMPTY.data, "text/plain")])
    assert [*walked(image).blobs] == [images.EMPTY.digest]


def test_subject_is_not_fetched() -> None:
    subject = {"mediaType": images.OCI_MANIFEST, "digest": images.digest_of(b"gone"), "size": 4}
    image = images.artifact("application/vnd.example", images.layer(1, 100), subject=subject)
    source = MemorySource(image)
    walked(image, source)
    assert source.opened == [image.root]


def test_an_embedded_manifest_is_not_fetched() -> None:
    child = Blob.of(AMD64.data, images.OCI_MANIFEST).descriptor(embed=True)
    image = root_of(child)
    source = MemorySource(image)
    assert AMD64.root in walked(image, source).nodes
    assert source.opened == [image.root]


def test_foreign_layers_are_blobs_only_on_request() -> None:
    foreign = Blob.of(b"licensed", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip")
    image = images.image("windows/amd64", images.layer(1, 100), foreign)
    assert [*walked(image).foreign] == [foreign.digest]
    assert foreign.digest not in walked(image).blobs
    assert foreign.digest in walked(image, foreign=True).blobs


# Selected manifests


def test_manifests_that_keep_rejects_are_absent_and_not_fetched() -> None:
    source = MemorySource(BOTH)
    found = walked(BOTH, source, keep=lambda child: child.digest == AMD64.root)
    assert ([*found.nodes], [*found.absent], found.kept) == ([BOTH.root, AMD64.root], [ARM64.root], [AMD64.root])
    assert ARM64.root not in source.opened


def test_leaves_fetches_only_indexes() -> None:
    image = images.index([images.index([ARM64]), AMD64])
    source = MemorySource(image)
    found = asyncio.run(leaves(source, descriptor_of(image)))
    assert source.opened == [image.root, images.index([ARM64]).root]
    assert set(found.absent) == {AMD64.root, ARM64.root}


# Contradictions and errors

WRONG_SIZE = {**AMD64.descriptor(), "size": len(AMD64.data) + 1}
OTHER_TYPE = {**AMD64.descriptor(), "mediaType": images.DOCKER_MANIFEST}
AS_A_BLOB = {**AMD64.descriptor(), "mediaType": "application/octet-stream"}
AS_AN_INDEX = {**AMD64.descriptor(), "mediaType": images.OCI_INDEX}


@pytest.mark.parametrize("other", [WRONG_SIZE, OTHER_TYPE, AS_A_BLOB, AS_AN_INDEX])
@pytest.mark.parametrize("first", [True, False])
def test_digest_with_two_sizes_or_types_is_an_error(other: dict[str, Any], first: bool) -> None:
    nodes = [other, AMD64.descriptor()] if first else [AMD64.descriptor(), other]
    image = root_of(*nodes)
    source = MemorySource(image, AMD64)
    with pytest.raises(ContentError, match=f"disagree about the (size|type) of {AMD64.root}"):
        walked(image, source)
    assert source.opened == [image.root]


def test_layer_with_different_sizes_in_two_manifests_is_an_error() -> None:
    layer = images.layer(1, 100)
    liar = images.manifest(images.EMPTY, [Blob(b"", layer.media_type, layer.digest, 99)])
    image = images.index([AMD64, liar])
    with pytest.raises(InvalidContent, match="disagree about the size"):
        walked(image)


def test_digest_that_is_a_layer_and_a_manifest_is_an_error() -> None:
    layered = images.manifest(images.EMPTY, [Blob.of(AMD64.data, images.OCI_LAYER)])
    with pytest.raises(InvalidContent, match="disagree about the type"):
        walked(images.index([AMD64, layered]))


@pytest.mark.parametrize("media_type", [images.DOCKER_MANIFEST, images.OCI_INDEX, images.DOCKER_LIST])
def test_manifest_of_another_type_than_in_its_descriptor_is_an_error(media_type: str) -> None:
    image = root_of({**AMD64.descriptor(), "mediaType": media_type})
    with pytest.raises(InvalidContent):
        walked(image, MemorySource(image, AMD64))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (AMD64.data[:-1], SizeMismatch),
        (AMD64.data + b" ", SizeMismatch),
        (b"", SizeMismatch),
        (b"x" * len(AMD64.data), DigestMismatch),
        (AMD64.data.replace(b"a", b"b"), DigestMismatch),
    ],
)
def test_manifest_with_wrong_bytes_ends_the_walk(data: bytes, error: type[MirrorError]) -> None:
    source = MemorySource(BOTH)
    source.contents[AMD64.root] = data
    with pytest.raises(error, match=AMD64.root):
        walked(BOTH, source)


def test_a_missing_manifest_ends_the_walk() -> None:
    source = MemorySource(BOTH)
    del source.contents[ARM64.root]
    with pytest.raises(TransferError, match=ARM64.root):
        walked(BOTH, source)


def test_manifest_is_fetched_again_after_transient_errors() -> None:
    source = MemorySource(BOTH, errors={ARM64.root: [BUSY, BUSY]})
    assert len(walked(BOTH, source, retry=RetryPolicy(retries=2, delay=0)).nodes) == 3
    assert source.opened.count(ARM64.root) == 3


# Limits of depth, number and size


def nested(levels: int) -> Image:
    image = AMD64
    for _ in range(levels - 1):
        image = images.index([image])
    return image


def test_walk_is_limited_to_32_levels() -> None:
    assert len(walked(nested(32)).nodes) == 32
    with pytest.raises(InvalidContent, match="levels deep"):
        walked(nested(33))


@pytest.mark.slow
def test_index_with_1000_levels_causes_at_most_33_requests() -> None:
    image = nested(1000)
    source = MemorySource(image)
    with pytest.raises(InvalidContent, match="levels deep"):
        walked(image, source)
    assert len(source.opened) <= 33


def children(count: int, size: int = 10) -> Iterable[dict[str, object]]:
    for number in range(count):
        yield {"mediaType": images.OCI_MANIFEST, "digest": f"sha256:{number:064x}", "size": size}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        (children(limits.MOST_MANIFESTS), "more than 10000 manifests"),
        (children(17, MANIFEST_CAP), "more than 67108864 bytes"),
        (children(1, 2**62), "more than 67108864 bytes"),
        (children(2, 2**62), "more than 67108864 bytes"),
    ],
)
def test_children_that_exceed_the_limits_are_refused_before_the_fetch(
    nodes: Iterable[dict[str, object]], says: str
) -> None:
    image = root_of(*nodes)
    source = MemorySource(image)
    with pytest.raises(InvalidContent, match=says):
        walked(image, source)
    assert source.opened == [image.root]


def test_manifest_larger_than_4_mib_is_refused_before_the_fetch() -> None:
    image = root_of(*children(1, MANIFEST_CAP + 1))
    source = MemorySource(image)
    with pytest.raises(InvalidContent, match="at most 4194304"):
        walked(image, source)
    assert source.opened == [image.root]


def test_a_blob_may_have_any_size() -> None:
    image = images.manifest(images.EMPTY, [Blob(b"", images.OCI_LAYER, images.digest_of(b"large"), 2**62)])
    assert walked(image).size == 2**62 + 2


@pytest.mark.slow
def test_mesh_of_indexes_is_walked_with_one_request_per_manifest() -> None:
    """The 20 levels have two indexes each, with both manifests of the level below: a million paths."""
    pair = [AMD64, ARM64]
    for level in range(20):
        pair = [images.index(pair, annotations={"at": f"{level}{side}"}) for side in "ab"]
    image = images.index(pair)
    source = MemorySource(image)
    walked(image, source)
    assert len(source.opened) == len(set(source.opened)) == 43


# Walks that continue after faults


def reachable(image: Image, digest: str, bad: set[str]) -> set[str]:
    """Return the manifests that a walk reaches if it cannot read the bad manifests."""
    below = [] if digest in bad else json.loads(image.manifests[digest][0]).get("manifests", [])
    return {digest}.union(*(reachable(image, child["digest"], bad) for child in below))


@pytest.mark.slow
@given(graphs(), st.data())
@QUICK
def test_walk_with_on_fault_reads_the_rest_and_reports_each_fault_once(image: Image, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.sampled_from(sorted(image.manifests))))
    source = MemorySource(image)
    source.contents |= {digest: b"?" * len(source.contents[digest]) for digest in bad}
    faults: list[str] = []
    found = walked(image, source, on_fault=lambda node, error: faults.append(node.digest))
    there = reachable(image, image.root, bad)
    assert set(found.nodes) == there - bad
    assert sorted(faults) == sorted(there & bad)
    assert sorted(source.opened) == sorted(there)


def test_walk_with_on_fault_continues_after_a_size_conflict() -> None:
    layer = images.layer(1, 100)
    liar = images.manifest(images.EMPTY, [Blob(b"", layer.media_type, layer.digest, 99)])
    image = images.index([AMD64, liar, ARM64])
    faults: list[MirrorError] = []
    found = walked(image, on_fault=lambda node, error: faults.append(error))
    assert [error.sizes for error in faults if isinstance(error, SizeConflict)] == [(layer.size, 99)]
    assert len(faults) == 1
    assert set(found.nodes) == set(image.manifests)


# Budgets


@given(graphs(), st.builds(Limits, st.integers(0, 12), st.integers(0, 4000), st.integers(1, 5)))
@QUICK
def test_walk_reads_no_more_than_the_limits_allow(image: Image, limits: Limits) -> None:
    read: list[Descriptor] = []
    faults: list[MirrorError] = []

    def document(node: Descriptor) -> Document:
        read.append(node)
        return parse(image.manifests[node.digest][0], node.media_type, node.digest)

    Walk(Budget("it", limits), on_fault=lambda node, error: faults.append(error)).follow(descriptor_of(image), document)
    assert len(read) == len({node.digest for node in read}) <= limits.manifests
    assert sum(node.size for node in read) <= limits.size
    every = walked(image)
    assert bool(faults) == (len(read) < len(every.nodes))
    assert len(faults) <= 2  # one for the number or the bytes, one for the depth
    assert all(isinstance(error, LimitExceeded) for error in faults)
    if faults:
        with pytest.raises(LimitExceeded):
            Walk(Budget("it", limits)).follow(descriptor_of(image), document)


def test_refused_size_does_not_reduce_the_budget() -> None:
    budget = Budget("it", Limits(manifests=2, size=100))
    budget.take(60)
    for _ in range(3):
        with pytest.raises(LimitExceeded, match="it: more than 100 bytes of manifests"):
            budget.take(41)
    budget.take(40)
    with pytest.raises(LimitExceeded, match="it: more than 2 manifests"):
        budget.take(0)


# The published redis image


def real() -> tuple[MemorySource, Descriptor]:
    data = {name: (RECORD / name).read_bytes() for name in ("manifest-list.json", "manifest-linux-amd64.json")}
    data["manifest-linux-arm-v7.json"] = (RECORD / "manifest-linux-arm-v7.json").read_bytes()
    source = MemorySource()
    source.contents = {images.digest_of(one): one for one in data.values()}
    listed = data["manifest-list.json"]
    return source, Descriptor(images.DOCKER_LIST, Digest.of(listed), len(listed))


def test_the_real_redis_has_2_configs_and_12_layers_of_74540576_bytes() -> None:
    source, root = real()
    found = asyncio.run(walk(source, root))
    types = [blob.media_type for blob in found.blobs.values()]
    assert (types.count(images.DOCKER_CONFIG), types.count(images.DOCKER_LAYER)) == (2, 12)
    assert found.size == 74_540_576
    assert root.digest == "sha256:dbc6a7ed5f218f9d08d94f8c0731b36c69c4a69d2bd649c9359f7650d1b66154"


def test_the_real_redis_has_two_ranks() -> None:
    source, root = real()
    ranks = asyncio.run(walk(source, root)).ranks()
    assert [len(rank) for rank in ranks] == [2, 1]


# Siblings


class Together(MemorySource):
    """A source that serves the children after both have been requested."""

    def __init__(self) -> None:
        super().__init__(BOTH)
        self.both = asyncio.Barrier(2)

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        if node.digest != BOTH.root:
            await self.both.wait()
        async with super().open_blob(node, start) as body:
            yield body


@pytest.mark.timeout(30)
def test_siblings_are_fetched_concurrently() -> None:
    assert len(walked(BOTH, Together()).nodes) == 3
