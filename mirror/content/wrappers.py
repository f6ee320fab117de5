"""Stores that wrap other stores, and change where they read or what may be done with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mirror.content.store import BlobChecker, Sink, Source, peeks
from mirror.content.stream import BlobReader, Fetch, from_verified
from mirror.errors import UsageError
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest


class _Near(Protocol):
    """A store that can verify what it has."""

    @property
    def path(self) -> Path: ...

    async def intact(self, node: Descriptor) -> bytes | None:
        """Return small content if it is here and correct."""
        ...


class FallbackSource:
    """A source of manifests and configs that reads those that a near store has, intact, from there.

    All others, and larger content, are read from a far store.
    """

    def __init__(self, near: _Near | None, far: Source) -> None:
        self._near, self._far = near, far

    async def resolve(self, name: str) -> Descriptor:
        """Resolve a name on the far side, which need not send a manifest that is near."""
        seen = await self._far.peek(name) if self._near and peeks(self._far) else None
        data = await self._read_near(seen) if seen else None
        return await self._far.resolve(name) if seen is None or data is None else replace(seen, data=data)

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        data = await self._read_near(node)
        near = from_verified(data, str(self._near.path))(start) if self._near and data is not None else None
        async with near or self._far.open_blob(node, start) as body:
            yield body

    async def _read_near(self, node: Descriptor) -> bytes | None:
        return await self._near.intact(node) if self._near and node.size <= MANIFEST_CAP else None


class MemorySource:
    """A source with some of its content in memory."""

    def __init__(self, contents: Mapping[Digest, bytes], far: Source) -> None:
        self._contents, self._far = contents, far

    async def resolve(self, name: str) -> Descriptor:
        return await self._far.resolve(name)

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        data = self._contents.get(node.digest)
        async with self._far.open_blob(node, start) if data is None else from_verified(data, "memory")(start) as body:
            yield body


class ReadOnlySink:
    """A sink that refuses to be written to. `sink` answers `has`; None: it has nothing yet."""

    def __init__(self, sink: BlobChecker | None) -> None:
        self._sink = sink

    async def has(self, node: Descriptor) -> bool:
        return self._sink is not None and await self._sink.has(node)

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        raise UsageError("A dry run writes nothing.")

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        raise UsageError("A dry run writes nothing.")


class RepairSink:
    """A sink that accepts only content that is still damaged, and keeps all names as they are.

    `bad` are the digests that were reported as damaged; since then, others may have repaired them. `stored` are those
    that this sink has received.
    """

    def __init__(self, sink: Sink, bad: Container[Digest]) -> None:
        self._sink, self.bad = sink, bad
        self.stored: set[Digest] = set()

    async def has(self, node: Descriptor) -> bool:
        return node.digest not in self.bad or await self._sink.has(node)

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        if not await self.has(node):
            await self._sink.put(node, fetch)
            self.stored.add(node.digest)

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        return None
