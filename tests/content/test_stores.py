"""Tests that run with each kind of store: a layout on a disk, and a repository of a registry."""

import asyncio
import http.client
import itertools
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeVar

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from mirror.content import stream
from mirror.content.store import Sink, Source
from mirror.content.stream import BlobReader
from mirror.errors import ContentError, DigestMismatch, InvalidDigest, MirrorError, SizeMismatch
from mirror.layout import Layout, LayoutWriter
from mirror.oci.descriptor import OCI_INDEX, OCI_MANIFEST, Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, RegistryOptions, Repository
from tests.peers.programs import docker_registry
from tests.support import images
from tests.support.command import leftovers, wrong_blobs
from tests.support.memory import descriptor_of, fetching, node_of
from tests.support.profiles import examples
from tests.support.registry import EmbeddedRegistry, serving
from tests.support.strategies import digest_by

T = TypeVar("T")
_numbers = itertools.count()
DATA = random.Random(2).randbytes(300_000)
NODE = Descriptor("application/octet-stream", Digest.of(DATA), len(DATA))
NOTHING = Descriptor("application/octet-stream", Digest.of(b""), 0)
LAYER = images.layer(1, 200)
IMAGE = images.image("linux/amd64", LAYER)
ROOT = descriptor_of(IMAGE)


class Both(Sink, Source, Protocol):
    """A store that can be written to and read, such as a layout or a repository."""


class Store(Protocol):
    """A store of one kind, and methods that inspect it."""

    name: str

    def opened(self) -> AbstractAsyncContextManager[Both]: ...
    def held(self, node: Descriptor) -> bytes | None: ...
    def named(self) -> str | None: ...
    def assert_clean(self) -> None: ...


class LayoutStore:
    def __init__(self, path: Path) -> None:
        self.name = "quay.io/a/b:v1"
        self._path = path

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Both]:
        async with LayoutWriter.writing(self._path, jobs=64) as layout:
            yield layout

    def held(self, node: Descriptor) -> bytes | None:
        path = self._path / "blobs" / node.digest.algorithm / node.digest.encoded
        return path.read_bytes() if path.exists() else None

    def named(self) -> str | None:
        with Layout.open(self._path) as layout:
            return next((entry.root.digest for entry in layout.entries() if entry.name == self.name), None)

    def assert_clean(self) -> None:
        assert (leftovers(self._path), wrong_blobs(self._path)) == ([], [])


class RegistryStore:
    """A new repository in a registry that all tests share; it is inspected over plain HTTP."""

    def __init__(self, host: str, contents: Callable[[str], dict[str, bytes]]) -> None:
        self.name = "v1"
        self._host, self._repo = host, f"store/number-{next(_numbers)}"
        self._contents = contents

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Both]:
        async with Client(RegistryOptions(jobs=64)) as client:
            yield Repository(client.registry(self._host), self._repo, jobs=64, push=True)

    def held(self, node: Descriptor) -> bytes | None:
        found = self._get(f"{'manifests' if node.is_manifest else 'blobs'}/{node.digest}")
        return found[0] if found else None

    def named(self) -> str | None:
        found = self._get(f"manifests/{self.name}")
        return found[1] if found else None

    def assert_clean(self) -> None:
        for digest, data in self._contents(self._repo).items():
            assert digest_by(digest.partition(":")[0], data) == digest

    def _get(self, path: str) -> tuple[bytes, str] | None:
        """Return the content at a path, and its digest as in the header of the response."""
        accept = {"Accept": f"{OCI_MANIFEST}, {OCI_INDEX}"}
        with closing(http.client.HTTPConnection(self._host)) as connection:
            connection.request("GET", f"/v2/{self._repo}/{path}", headers=accept)
            response = connection.getresponse()
            data = response.read()
        assert response.status in (200, 404), data
        return (data, response.headers["Docker-Content-Digest"]) if response.status == 200 else None


KINDS = ["layout", "registry", pytest.param("docker-registry", marks=pytest.mark.peer)]
MakeStore = Callable[[Path], Store]


@pytest.fixture(params=KINDS, scope="module")
def new_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeStore]:
    """Return a function that makes an empty store of one kind; only a layout needs the path."""
    if request.param == "layout":
        yield LayoutStore
        return
    embedded = request.param == "registry"
    with serving(EmbeddedRegistry()) if embedded else docker_registry(tmp_path_factory.mktemp("peer")) as running:
        yield lambda path: RegistryStore(running.host, running.contents)


@pytest.fixture
def store(new_store: MakeStore, tmp_path: Path) -> Store:
    return new_store(tmp_path / "layout")


def using(store: Store, action: Callable[[Both], Awaitable[T]]) -> T:
    async def main() -> T:
        async with store.opened() as opened:
            return await action(opened)

    return asyncio.run(main())


async def pieces(chunks: Sequence[bytes], failure: Exception | None = None) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    if failure:
        raise failure


def put(store: Store, node: Descriptor, *chunks: bytes, failure: Exception | None = None) -> None:
    using(store, lambda opened: opened.put(node, fetching(BlobReader(pieces(chunks, failure), "a test"))))


def get(store: Store, node: Descriptor) -> bytes:
    async def read(opened: Both) -> bytes:
        async with opened.open_blob(node) as body:
            return await stream.read(body, node)

    return using(store, read)


def has(store: Store, node: Descriptor) -> bool:
    return using(store, lambda opened: opened.has(node))


def thirds(data: bytes) -> tuple[bytes, ...]:
    step = len(data) // 3
    return data[:step], data[step : 2 * step], data[2 * step :]


# Correct content


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [(DATA,), thirds(DATA), (b"", DATA, b"")], ids=["one", "three", "empty ones"])
def test_correct_content_is_stored(store: Store, chunks: tuple[bytes, ...]) -> None:
    put(store, NODE, *chunks)
    assert store.held(NODE) == DATA
    store.assert_clean()


def test_empty_content_is_stored(store: Store) -> None:
    put(store, NOTHING)
    assert store.held(NOTHING) == b""
    assert has(store, NOTHING)
    assert get(store, NOTHING) == b""


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_content_is_stored_under_the_algorithm_of_its_digest(store: Store, algorithm: str) -> None:
    node = Descriptor("a/b", Digest.parse(digest_by(algorithm, DATA)), len(DATA))
    put(store, node, DATA)
    assert store.held(node) == DATA


@pytest.mark.slow
def test_second_put_of_the_same_content_changes_nothing(store: Store) -> None:
    for _ in range(2):
        put(store, NODE, DATA)
    assert store.held(NODE) == DATA
    store.assert_clean()


@pytest.mark.slow
def test_concurrent_puts_are_stored(store: Store) -> None:
    some = [random.Random(number).randbytes(5000) for number in range(20)]
    nodes = [Descriptor("a/b", Digest.of(data), len(data)) for data in some]

    async def all_of_them(opened: Both) -> None:
        pairs = [*zip(nodes, some, strict=True), *[(NODE, DATA)] * 3]
        await asyncio.gather(
            *(opened.put(node, fetching(BlobReader(pieces([data]), "a test"))) for node, data in pairs)
        )

    using(store, all_of_them)
    assert [store.held(node) for node in nodes] == some
    store.assert_clean()


@pytest.mark.slow
@given(st.binary(max_size=2000), st.lists(st.integers(0, 2000), max_size=4))
@examples(10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_content_is_stored_and_read_back(
    tmp_path_factory: pytest.TempPathFactory, new_store: MakeStore, data: bytes, cuts: list[int]
) -> None:
    node = Descriptor("a/b", Digest.of(data), len(data))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    store = new_store(tmp_path_factory.mktemp("any"))
    put(store, node, *(data[start:stop] for start, stop in pairwise(edges)))
    assert (store.held(node), get(store, node)) == (data, data)


# Wrong content

FLIPPED = [bytes([DATA[0] ^ 1]) + DATA[1:], DATA[:-1] + bytes([DATA[-1] ^ 1])]
WRONG: dict[str, tuple[tuple[bytes, ...], type[ContentError]]] = {
    "first bit": ((FLIPPED[0],), DigestMismatch),
    "last bit": ((FLIPPED[1],), DigestMismatch),
    "last bit in parts": (thirds(FLIPPED[1]), DigestMismatch),
    "swapped": (tuple(reversed(thirds(DATA))), DigestMismatch),
    "one too few": ((DATA[:-1],), SizeMismatch),
    "one too few in parts": (thirds(DATA[:-1]), SizeMismatch),
    "one too many": ((DATA + b"\0",), SizeMismatch),
    "one too many at the end": ((DATA, b"\0"), SizeMismatch),
    "twice": ((DATA, DATA), SizeMismatch),
    "no chunks": ((), SizeMismatch),
}


@pytest.mark.slow
@pytest.mark.parametrize("flaw", WRONG)
@pytest.mark.parametrize("there", [False, True], ids=["absent", "present"])
def test_wrong_bytes_are_refused_and_not_stored(store: Store, flaw: str, there: bool) -> None:
    chunks, error = WRONG[flaw]
    if there:
        put(store, NODE, DATA)
    with pytest.raises(error, match="from a test"):
        put(store, NODE, *chunks)
    assert store.held(NODE) == (DATA if there else None)
    store.assert_clean()


def test_one_byte_for_an_empty_blob_is_refused(store: Store) -> None:
    with pytest.raises(SizeMismatch):
        put(store, NOTHING, b"x")
    assert store.held(NOTHING) is None


@pytest.mark.parametrize("chunks", [(), thirds(DATA)[:1], thirds(DATA)[:2]])
def test_interrupted_body_is_refused_and_not_stored(store: Store, chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(MirrorError, match="It broke"):
        put(store, NODE, *chunks, failure=MirrorError("It broke."))
    assert store.held(NODE) is None
    store.assert_clean()


def test_cancelled_put_stores_nothing(store: Store) -> None:
    async def interrupted(opened: Both) -> None:
        begun = asyncio.Event()

        async def stalls() -> AsyncIterator[bytes]:
            yield DATA[:1000]
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(opened.put(NODE, fetching(BlobReader(stalls(), "a test"))))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    using(store, interrupted)
    assert store.held(NODE) is None
    store.assert_clean()


def test_unsupported_digest_algorithm_is_refused(store: Store) -> None:
    node = Descriptor("a/b", Digest.parse("md5:9a0364b9e99bb480dd25e1f0284c8555"), 7)
    with pytest.raises(InvalidDigest, match=r"digest algorithm .* is not supported"):
        put(store, node, b"content")
    store.assert_clean()


@pytest.mark.slow
def test_correct_content_is_stored_after_wrong_content(store: Store) -> None:
    with pytest.raises(ContentError):
        put(store, NODE, FLIPPED[0])
    put(store, NODE, DATA)
    assert store.held(NODE) == DATA


# Checks and reads


def test_absent_blob_is_not_found(store: Store) -> None:
    assert not has(store, NODE)
    with pytest.raises(MirrorError):
        get(store, NODE)


@pytest.mark.slow
def test_stored_blob_is_found_and_read(store: Store) -> None:
    put(store, NODE, DATA)
    assert has(store, NODE)
    assert get(store, NODE) == DATA


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, NODE.size - 1, NODE.size + 1, 2**62])
def test_stored_blob_is_not_found_with_another_size(store: Store, size: int) -> None:
    other = Descriptor(NODE.media_type, NODE.digest, size)
    put(store, NODE, DATA)
    assert not has(store, other)
    with pytest.raises(MirrorError):
        get(store, other)


def test_has_stores_nothing(store: Store) -> None:
    has(store, NODE)
    assert store.held(NODE) is None


# Manifests and tags


def put_image(store: Store) -> Digest | None:
    async def all_of_it(opened: Both) -> Digest | None:
        for digest, data in IMAGE.blobs.items():
            node = Descriptor("application/octet-stream", Digest.parse(digest), len(data))
            await opened.put(node, fetching(BlobReader(pieces([data]), "a test")))
        await opened.put(ROOT, fetching(BlobReader(pieces([IMAGE.data]), "a test")))
        return await opened.tag(store.name, ROOT, IMAGE.data)

    return using(store, all_of_it)


@pytest.mark.slow
def test_image_is_stored_and_tagged(store: Store) -> None:
    assert put_image(store) is None
    assert (store.named(), store.held(ROOT)) == (IMAGE.root, IMAGE.data)
    assert store.held(node_of(LAYER)) == LAYER.data
    store.assert_clean()


def test_put_of_a_blob_sets_no_tag(store: Store) -> None:
    put(store, node_of(LAYER), LAYER.data)
    assert store.named() is None


def test_tag_resolves_to_its_manifest(store: Store) -> None:
    put_image(store)
    found = using(store, lambda opened: opened.resolve(store.name))
    assert (found.digest, found.size, found.media_type) == (ROOT.digest, ROOT.size, OCI_MANIFEST)


@pytest.mark.slow
def test_unknown_tag_is_not_found(store: Store) -> None:
    put_image(store)
    with pytest.raises(MirrorError) as caught:
        using(store, lambda opened: opened.resolve("v2"))
    assert caught.value.exit_code == 2


@pytest.mark.slow
def test_tag_can_be_set_again(store: Store) -> None:
    for _ in range(2):
        put_image(store)
    assert store.named() == IMAGE.root


@pytest.mark.slow
def test_tag_can_be_moved(store: Store) -> None:
    index = images.index([IMAGE])
    root = descriptor_of(index)

    async def move(opened: Both) -> None:
        await opened.put(root, fetching(BlobReader(pieces([index.data]), "a test")))
        await opened.tag(store.name, root, index.data)

    put_image(store)
    using(store, move)
    assert (store.named(), root.media_type) == (index.root, OCI_INDEX)


@pytest.mark.parametrize("data", [IMAGE.data[:-1], IMAGE.data + b" ", IMAGE.data.replace(b"a", b"b"), b""])
def test_a_wrong_manifest_is_refused_and_not_stored(store: Store, data: bytes) -> None:
    with pytest.raises(ContentError):
        put(store, ROOT, data)
    assert store.held(ROOT) is None


@pytest.mark.slow
def test_manifest_is_stored_byte_for_byte(store: Store) -> None:
    image = images.manifest(images.EMPTY, [], indent=7, annotations={"ü": "\n"}, newField=[1.5])
    put(store, node_of(images.EMPTY), b"{}")
    put(store, descriptor_of(image), image.data)
    assert store.held(descriptor_of(image)) == get(store, descriptor_of(image)) == image.data
