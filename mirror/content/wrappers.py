"""Stores laid over other stores: they change what one may do with a store, or where it reads, without its knowing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Container, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from mirror.content.store import BlobChecker, Sink, Source
from mirror.content.stream import BlobReader, Fetch, from_memory
from mirror.errors import UsageError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest


class _Near(Source, BlobChecker, Protocol):
    """Somewhere that can be read, and asked whether what it has is right."""


class _Far(Source, Protocol):
    """Somewhere that tells what a name stands for without sending it."""

    async def peek(self, name: str) -> Descriptor | None: ...


class FallbackSource:
    """A source that reads what is near, if it is there and right, and everything else from far away."""

    def __init__(self, near: _Near | None, far: _Far) -> None:
        self._near, self._far = near, far

    async def resolve(self, name: str) -> Descriptor:
        """What a name stands for, only the far side knows; but it need not send what is near."""
        seen = await self._far.peek(name) if self._near else None
        if seen and self._near and await self._near.has(seen):
            return seen
        return await self._far.resolve(name)

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        near = self._near if self._near and await self._near.has(node) else None
        async with (near or self._far).open_blob(node, start) as body:
            yield body


class MemorySource:
    """A source some of whose content is in memory already."""

    def __init__(self, contents: Mapping[Digest, bytes], far: Source) -> None:
        self._contents, self._far = contents, far

    async def resolve(self, name: str) -> Descriptor:
        """What a name stands for, only the far side knows."""
        return await self._far.resolve(name)

    @asynccontextmanager
    async def open_blob(self, node: Descriptor, start: int = 0) -> AsyncIterator[BlobReader]:
        data = self._contents.get(node.digest)
        async with self._far.open_blob(node, start) if data is None else from_memory(data, "memory")(start) as body:
            yield body


class ReadOnlySink:
    """A sink that can be asked and refuses to be written to. `sink` is None where there is nothing to ask yet."""

    def __init__(self, sink: BlobChecker | None) -> None:
        self._sink = sink

    async def has(self, node: Descriptor) -> bool:
        return self._sink is not None and await self._sink.has(node)

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        raise UsageError("A dry run writes nothing.")

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        raise UsageError("A dry run writes nothing.")


class RepairSink:
    """A sink that takes what is known to be bad, and nothing else; what things are called stays as it is."""

    def __init__(self, sink: Sink, bad: Container[Digest]) -> None:
        self._sink, self._bad = sink, bad

    async def has(self, node: Descriptor) -> bool:
        return node.digest not in self._bad

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        if node.digest in self._bad:
            await self._sink.put(node, fetch)

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        return None
