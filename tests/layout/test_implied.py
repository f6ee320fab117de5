"""Tests of finding referrers among the blobs of a store: how much is read, and what hostile content does."""

from collections.abc import Iterable, Iterator

import pytest

from mirror.content.hashing import MISSING, BlobCheck, Reader
from mirror.layout import Entry
from mirror.layout.implied import Relations
from mirror.layout.names import REF_NAME
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support import images
from tests.support.images import Blob, Image, signature
from tests.support.memory import contents_of

IMAGE = images.image("linux/amd64", images.layer(1, 100))
SIGNATURE = signature(IMAGE)


class Memory:
    """A store that counts the bytes that are read, by digest."""

    def __init__(self, contents: dict[str, bytes]) -> None:
        self.contents = contents
        self.read: dict[str, int] = {}

    def stored(self) -> Iterator[tuple[str, str]]:
        for digest in self.contents:
            algorithm, _, encoded = digest.partition(":")
            yield algorithm, encoded

    def look(self, digest: Digest) -> Reader | BlobCheck:
        return Content(self, digest) if digest in self.contents else MISSING


class Content:
    """An open blob of such a store."""

    def __init__(self, store: Memory, digest: str) -> None:
        self.size = len(store.contents[digest])
        self._store, self._digest, self._done = store, digest, 0

    def readinto(self, buffer: memoryview, /) -> int:
        part = self._store.contents[self._digest][self._done : self._done + min(len(buffer), 1000)]
        buffer[: len(part)] = part
        self._done += len(part)
        self._store.read[self._digest] = self._store.read.get(self._digest, 0) + len(part)
        return len(part)

    def changed(self) -> bool:
        return False

    def close(self) -> None: ...


def store_of(*some: Image, more: Iterable[bytes] = ()) -> Memory:
    return Memory({**contents_of(some), **{images.digest_of(data): data for data in more}})


def found(store: Memory) -> dict[str, list[str]]:
    return {
        subject: [one.descriptor.digest for one in some] for subject, some in Relations.read(store).referrers.items()
    }


def entry(image: Image, name: str) -> Entry:
    return Entry.of(
        Descriptor(image.root_media_type, Digest(image.root), len(image.data), annotations={REF_NAME: name})
    )


def test_only_the_beginning_of_a_layer_is_read_and_nothing_of_a_large_blob() -> None:
    layer, large = b"\x1f\x8b" + bytes(1_000_000), b'{"subject"' + bytes(5_000_000)
    store = store_of(IMAGE, SIGNATURE, more=[layer, large])
    assert found(store) == {IMAGE.root: [SIGNATURE.root]}
    assert store.read[images.digest_of(layer)] <= 64 * 1024
    assert images.digest_of(large) not in store.read
    assert store.read[SIGNATURE.root] == len(SIGNATURE.data)


def test_update_reads_only_blobs_that_are_new() -> None:
    store = store_of(IMAGE)
    relations = Relations.read(store)
    before = dict(store.read)
    store.contents |= contents_of([SIGNATURE])
    relations.update()
    assert [one.descriptor.digest for one in relations.referrers[Digest(IMAGE.root)]] == [SIGNATURE.root]
    assert {digest: store.read[digest] for digest in before} == before


@pytest.mark.parametrize(
    "data",
    [
        b'{"subject"',
        b'{"subject":' * 1000,
        b'{"subject":{},"manifests":[]}',
        b'{"schemaVersion":2,"mediaType":"application/vnd.a.manifest.v1+json","subject":null}',
        b'{"schemaVersion":1,"subject":{"mediaType":"a","digest":"sha256:1","size":1}}',
    ],
    ids=range(5),
)
def test_blob_that_only_looks_like_a_referrer_is_ignored(data: bytes) -> None:
    assert found(store_of(IMAGE, more=[data])) == {}


@pytest.mark.parametrize("data", [signature(IMAGE, 1).data, SIGNATURE.data.replace(b"}}", b"|}"), SIGNATURE.data[:-9]])
def test_damaged_manifest_is_a_referrer_as_long_as_it_shows_its_subject(data: bytes) -> None:
    store = store_of(IMAGE, SIGNATURE)
    store.contents[SIGNATURE.root] = data
    assert found(store) == {IMAGE.root: [SIGNATURE.root]}


def test_damaged_index_has_no_children() -> None:
    store = store_of(IMAGE)
    store.contents[IMAGE.root] += b" "
    assert Relations.read(store).parents == {}


def test_layout_of_mirror_implies_nothing() -> None:
    listed = images.index([SIGNATURE])
    store = store_of(IMAGE, listed)
    tag = IMAGE.root.replace(":", "-")
    entries = [entry(IMAGE, "quay.io/a/b:v1"), entry(listed, f"quay.io/a/b:{tag}")]
    assert Relations.read(store).complete(entries) == entries


def test_each_repository_with_the_subject_gets_a_list() -> None:
    entries = [entry(IMAGE, f"quay.io/a/{name}:v1") for name in "bcd"]
    complete = Relations.read(store_of(IMAGE, SIGNATURE)).complete(entries)
    tag = IMAGE.root.replace(":", "-")
    assert [one.name for one in complete[3:]] == [f"quay.io/a/{name}:{tag}" for name in "bcd"]


@pytest.mark.slow
def test_chain_of_thousands_of_referrers_is_followed() -> None:
    chain = [IMAGE]
    for number in range(2000):
        chain.append(signature(chain[-1], number))
    complete = Relations.read(store_of(*chain)).complete([entry(IMAGE, "v1")])
    assert len(complete) == 2001


def test_order_of_the_blobs_does_not_matter() -> None:
    some = [IMAGE, *(signature(IMAGE, number, b"%d" % number) for number in range(5))]
    entries = [entry(IMAGE, "v1")]
    one, other = (Relations.read(store_of(*order)).complete(entries) for order in (some, some[::-1]))
    assert one == other


def test_blob_of_an_unknown_algorithm_is_skipped() -> None:
    store = store_of(IMAGE)
    store.contents["blake3:" + "a" * 64] = Blob.of(b'{"subject"', "a/b").data
    assert found(store) == {}
