"""Test doubles that record their calls: a source, a sink and a progress display."""

import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager

from mirror.content import stream
from mirror.content.stream import BlobReader, Fetch
from mirror.errors import MirrorError, NotFound, TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support.images import Blob, Image, Json


def descriptor_of(image: Image) -> Descriptor:
    """Return the descriptor of the root of an image."""
    return Descriptor.from_json(image.descriptor(), "the root")


def node_of(blob: Blob) -> Descriptor:
    return Descriptor.from_json(blob.descriptor(), "the blob")


def contents_of(images: Iterable[Image]) -> dict[str, bytes]:
    """Return every blob and manifest by its digest."""
    found: dict[str, bytes] = {}
    for image in images:
        found |= image.blobs
        found |= {digest: data for digest, (data, _) in image.manifests.items()}
    return found


class MemorySource:
    """Serves images. `opened` records every digest that was read; `errors` are raised first, each once."""

    def __init__(self, *images: Image, errors: Mapping[str, list[MirrorError]] | None = None) -> None:
        self.contents = contents_of(images)
        self.errors = {digest: list(some) for digest, some in (errors or {}).items()}
        self.opened: list[str] = []

    async def resolve(self, name: str) -> Descriptor:
        raise NotFound(f"There is no {name}.")

    async def peek(self, name: str) -> Descriptor | None:
        return None

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        self.opened.append(node.digest)
        if self.errors.get(node.digest):
            raise self.errors[node.digest].pop(0)
        if node.digest not in self.contents:
            raise TransferError(f"There is no {node.digest} here.", status=404)
        yield BlobReader(stream.single_chunk(self.contents[node.digest][start:]), "memory", start=start)


class MemorySink:
    """Stores valid content. `events` records puts and tags in order; `early` those that came before their content."""

    def __init__(self, held: Iterable[str] = (), refuse: Callable[[str], MirrorError | None] | None = None) -> None:
        self.held: dict[str, bytes] = dict.fromkeys(held, b"")
        self.names: dict[str, str] = {}
        self.asked: list[str] = []
        self.events: list[tuple[str, str]] = []
        self.early: list[str] = []
        self._refuse = refuse or (lambda _: None)

    async def has(self, node: Descriptor) -> bool:
        self.asked.append(node.digest)
        return node.digest in self.held

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        self._check(node.digest)
        async with fetch(0) as body:
            data = await stream.read(body, node)
        if node.is_manifest and not {link["digest"] for link in links(data)} <= self.held.keys():
            self.early.append(node.digest)
        self.held[node.digest] = data
        self.events.append(("put", node.digest))

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        self._check(name)
        if root.digest not in self.held:
            self.early.append(name)
        before = self.names.get(name)
        self.names[name] = root.digest
        self.events.append(("tag", name))
        return Digest.parse(before) if before else None

    def puts(self, digest: str) -> int:
        return self.events.count(("put", digest))

    def _check(self, what: str) -> None:
        error = self._refuse(what)
        if error:
            raise error


def links(data: bytes) -> list[Json]:
    """Return the descriptors of all content that a manifest or an index references, of every platform."""
    document: Json = json.loads(data)
    config = [document["config"]] if "config" in document else []
    return [*document.get("manifests", ()), *config, *document.get("layers", ())]


def fetching(body: BlobReader) -> Fetch:
    """Return a fetch function that gives this body for every offset."""

    @asynccontextmanager
    async def fetch(start: int) -> AsyncIterator[BlobReader]:
        yield body

    return fetch


class Counter:
    """Progress that counts bytes."""

    def __init__(self) -> None:
        self.planned: dict[str, tuple[int, int]] = {}
        self.done: dict[str, int] = {}
        self.open: list[str] = []

    def plan(self, phase: str, blobs: int, size: int) -> None:
        self.planned[phase], self.done[phase] = (blobs, size), 0

    def begin(self, node: Descriptor) -> None:
        self.open.append(node.digest)

    def advance(self, node: Descriptor | None, count: int) -> None:
        self.done[[*self.planned][-1]] += count

    def end(self, node: Descriptor) -> None:
        self.open.remove(node.digest)
