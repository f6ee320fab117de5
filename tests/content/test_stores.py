"""One suite for everything that content can be put into: a layout on a disk and a repository of a registry."""

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
from tests.support.profiles import every, examples
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
    """One kind of store, seen from outside: its content is read without any code of mirror's."""

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
    """A repository of its own in a registry that all tests share, looked at over plain HTTP."""

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
        """The content at a path, and the digest that the registry gives it."""
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
    """Make an empty store of each kind; `path` is for one that has a path."""
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


# What is right


@pytest.mark.parametrize("chunks", [(DATA,), thirds(DATA), (b"", DATA, b"")], ids=["one", "three", "empty ones"])
def test_right_bytes_are_stored(store: Store, chunks: tuple[bytes, ...]) -> None:
    put(store, NODE, *chunks)
    assert store.held(NODE) == DATA
    store.assert_clean()


def test_nothing_at_all_is_content_too(store: Store) -> None:
    put(store, NOTHING)
    assert store.held(NOTHING) == b""
    assert has(store, NOTHING)
    assert get(store, NOTHING) == b""


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_content_is_stored_under_the_algorithm_that_names_it(store: Store, algorithm: str) -> None:
    node = Descriptor("a/b", Digest.parse(digest_by(algorithm, DATA)), len(DATA))
    put(store, node, DATA)
    assert store.held(node) == DATA


@pytest.mark.slow
def test_the_same_again_changes_nothing(store: Store) -> None:
    for _ in range(2):
        put(store, NODE, DATA)
    assert store.held(NODE) == DATA
    store.assert_clean()


@pytest.mark.slow
def test_many_may_put_at_once(store: Store) -> None:
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
def test_any_content_comes_back(
    tmp_path_factory: pytest.TempPathFactory, new_store: MakeStore, data: bytes, cuts: list[int]
) -> None:
    node = Descriptor("a/b", Digest.of(data), len(data))
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    store = new_store(tmp_path_factory.mktemp("any"))
    put(store, node, *(data[start:stop] for start, stop in pairwise(edges)))
    assert (store.held(node), get(store, node)) == (data, data)


# What is wrong

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
    "none": ((), SizeMismatch),
}


@pytest.mark.slow
@pytest.mark.parametrize("flaw", every(WRONG))
@pytest.mark.parametrize("there", [False, True], ids=["absent", "present"])
def test_wrong_bytes_are_refused_and_not_stored(store: Store, flaw: str, there: bool) -> None:
    chunks, error = WRONG[flaw]
    if there:
        put(store, NODE, DATA)
    with pytest.raises(error, match="from a test"):
        put(store, NODE, *chunks)
    assert store.held(NODE) == (DATA if there else None)
    store.assert_clean()


def test_one_byte_where_there_should_be_none_is_refused(store: Store) -> None:
    with pytest.raises(SizeMismatch):
        put(store, NOTHING, b"x")
    assert store.held(NOTHING) is None


@pytest.mark.parametrize("chunks", [(), thirds(DATA)[:1], thirds(DATA)[:2]])
def test_a_body_that_breaks_off_is_refused_and_not_stored(store: Store, chunks: tuple[bytes, ...]) -> None:
    with pytest.raises(MirrorError, match="It broke"):
        put(store, NODE, *chunks, failure=MirrorError("It broke."))
    assert store.held(NODE) is None
    store.assert_clean()


def test_an_interrupted_put_stores_nothing(store: Store) -> None:
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


def test_what_cannot_be_hashed_is_not_stored(store: Store) -> None:
    node = Descriptor("a/b", Digest.parse("md5:9a0364b9e99bb480dd25e1f0284c8555"), 7)
    with pytest.raises(InvalidDigest, match=r"digest algorithm .* is not supported"):
        put(store, node, b"content")
    store.assert_clean()


def test_after_wrong_bytes_the_right_ones_are_taken(store: Store) -> None:
    with pytest.raises(ContentError):
        put(store, NODE, FLIPPED[0])
    put(store, NODE, DATA)
    assert store.held(NODE) == DATA


# Asking and reading


def test_what_is_absent_is_absent(store: Store) -> None:
    assert not has(store, NODE)
    with pytest.raises(MirrorError):
        get(store, NODE)


def test_what_is_present_is_present(store: Store) -> None:
    put(store, NODE, DATA)
    assert has(store, NODE)
    assert get(store, NODE) == DATA


@pytest.mark.slow
@pytest.mark.parametrize("size", [0, NODE.size - 1, NODE.size + 1, 2**62])
def test_content_of_another_size_is_not_what_was_asked_for(store: Store, size: int) -> None:
    other = Descriptor(NODE.media_type, NODE.digest, size)
    put(store, NODE, DATA)
    assert not has(store, other)
    with pytest.raises(MirrorError):
        get(store, other)


def test_asking_stores_nothing(store: Store) -> None:
    has(store, NODE)
    assert store.held(NODE) is None


# Manifests and names


def put_image(store: Store) -> Digest | None:
    async def all_of_it(opened: Both) -> Digest | None:
        for digest, data in IMAGE.blobs.items():
            node = Descriptor("application/octet-stream", Digest.parse(digest), len(data))
            await opened.put(node, fetching(BlobReader(pieces([data]), "a test")))
        await opened.put(ROOT, fetching(BlobReader(pieces([IMAGE.data]), "a test")))
        return await opened.tag(store.name, ROOT, IMAGE.data)

    return using(store, all_of_it)


@pytest.mark.slow
def test_a_name_comes_after_content(store: Store) -> None:
    assert put_image(store) is None
    assert (store.named(), store.held(ROOT)) == (IMAGE.root, IMAGE.data)
    assert store.held(node_of(LAYER)) == LAYER.data
    store.assert_clean()


def test_a_manifest_has_no_name_before_it_is_given_one(store: Store) -> None:
    put(store, node_of(LAYER), LAYER.data)
    assert store.named() is None


def test_a_name_leads_to_what_it_was_given(store: Store) -> None:
    put_image(store)
    found = using(store, lambda opened: opened.resolve(store.name))
    assert (found.digest, found.size, found.media_type) == (ROOT.digest, ROOT.size, OCI_MANIFEST)


def test_an_unknown_name_is_not_found(store: Store) -> None:
    put_image(store)
    with pytest.raises(MirrorError) as caught:
        using(store, lambda opened: opened.resolve("v2"))
    assert caught.value.exit_code == 2


@pytest.mark.slow
def test_a_name_may_be_given_again(store: Store) -> None:
    for _ in range(2):
        put_image(store)
    assert store.named() == IMAGE.root


def test_a_name_may_move(store: Store) -> None:
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


def test_a_manifest_is_kept_to_the_byte(store: Store) -> None:
    image = images.manifest(images.EMPTY, [], indent=7, annotations={"ü": "\n"}, newField=[1.5])
    put(store, node_of(images.EMPTY), b"{}")
    put(store, descriptor_of(image), image.data)
    assert store.held(descriptor_of(image)) == get(store, descriptor_of(image)) == image.data
