"""An archive as a sink: an OCI image layout in a tar archive, written from front to back, each byte once.

    1. `oci-layout`
    2. blobs as they come, each hashed while it is written; then manifests, then indexes
    3. `index.json`; for docker also `manifest.json`; the end of the archive

So what is named is always there before what names it, and whoever reads a stream that is cut never holds a name for
something incomplete. The same content in the same order is the same archive, to the byte.
"""

from __future__ import annotations

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Protocol

from mirror import manifest
from mirror.archive import header, listing
from mirror.archive.listing import Image
from mirror.concurrency import in_thread
from mirror.descriptor import Descriptor
from mirror.digest import Digest
from mirror.errors import StorageError, UsageError
from mirror.layout import index
from mirror.layout.blobs import place
from mirror.layout.folder import Folder, kind_name, translated
from mirror.layout.temporary import Temporary, write_all
from mirror.reference import Reference
from mirror.stream import Batch, Body, Check, Fetch, batch_size, batches, overlap


class _Output(Protocol):
    """Somewhere that bytes are written to, one after the other."""

    def write(self, chunks: Sequence[bytes]) -> None: ...


class _Pipe:
    """An open pipe or file, which is not ours to close."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, chunks: Sequence[bytes]) -> None:
        with translated("stdout"):
            write_all(self._fd, chunks)


class ArchiveWriter:
    """An archive that is being written: made by `ArchiveWriter.to_file` or `to_pipe`, and whole when they end."""

    def __init__(self, output: _Output, *, for_docker: bool) -> None:
        self._output = output
        self._images: dict[Image, list[str]] | None = {} if for_docker else None  # with the names that docker gets
        self._index = index.EMPTY
        self._there: set[Digest] = set()
        self._turn = asyncio.Lock()  # an archive has one end to write to
        self._torn = False

    @classmethod
    @asynccontextmanager
    async def to_file(cls, path: Path, *, for_docker: bool = False) -> AsyncIterator[ArchiveWriter]:
        """Write a file, which has its name when it is whole and on the disk, and not before.

        Raises:
            UsageError: something that is no file has this name.
            StorageError: the disk refused.
        """
        path = Path(os.path.realpath(path))  # a link is somebody's wish where the file should be
        with Folder.open(path.parent) as folder:
            kind = folder.kind(path.name)
            if kind not in (None, stat.S_IFREG):
                raise UsageError(f"{path} is {kind_name(kind or 0)}.", hint="Name a file, or - to write to stdout.")
            temporary = Temporary.create(folder, prefix=f".{path.name[:200]}.")
            try:
                archive = cls(temporary, for_docker=for_docker)
                await archive._begin()
                yield archive
                await archive._finish()
            except BaseException:
                temporary.discard()
                raise
            await in_thread(partial(temporary.commit, folder, path.name))

    @classmethod
    @asynccontextmanager
    async def to_pipe(cls, fd: int, *, for_docker: bool = False) -> AsyncIterator[ArchiveWriter]:
        """Write to an open pipe. Where something fails, the archive ends in the middle of a member.

        Raises:
            StorageError: nobody reads any more, or the disk refused.
        """
        archive = cls(_Pipe(fd), for_docker=for_docker)
        await archive._begin()
        yield archive
        await archive._finish()

    async def has(self, node: Descriptor) -> bool:
        """`Holder`: whether it has been written."""
        return node.digest in self._there

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """`Sink`: append verified bytes; a second time, nothing.

        Raises:
            ContentError: the bytes are not what the descriptor says. The archive cannot be finished any more.
            StorageError: the disk refused.
        """
        async with self._turn:
            if node.digest in self._there:
                return
            self._check_whole()
            self._torn = True
            async with fetch(0) as body:
                await self._append(node, body)
            self._torn = False
            self._there.add(node.digest)

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """`Sink`: make `name` stand for `root` in the `index.json` to come."""
        self._index, before = index.with_entry(self._index, name, root)
        if self._images is not None:
            image = listing.paths_of(manifest.parse(data, root.media_type, root.digest))
            self._images.setdefault(image, []).extend([name] if Reference.parse(name).tag else [])
        return before.root.digest if before else None

    async def _append(self, node: Descriptor, body: Body) -> None:
        """One member. The last batch waits until all bytes are known to be right: see `to_pipe`."""
        check = Check(node)
        waiting: Batch = [header.build(place(node.digest), node.size)]

        def write(batch: Batch) -> None:
            nonlocal waiting
            self._output.write(waiting)
            waiting = batch

        await overlap(batches(body, node, batch_size(jobs=1)), check.update, write)  # one blob, and two cores
        check.finish(body.called(node))
        await in_thread(lambda: self._output.write([*waiting, header.padding(node.size)]))

    async def _begin(self) -> None:
        await self._file("oci-layout", index.OCI_LAYOUT)

    async def _finish(self) -> None:
        self._check_whole()
        await self._file("index.json", self._index)
        if self._images is not None:
            items = [listing.item(image, names) for image, names in self._images.items()]
            await self._file(listing.FILE, json.dumps(items).encode())
        await in_thread(lambda: self._output.write([header.END]))

    async def _file(self, name: str, data: bytes) -> None:
        await in_thread(lambda: self._output.write([header.build(name, len(data)), data, header.padding(len(data))]))

    def _check_whole(self) -> None:
        if self._torn:
            raise StorageError("The archive ends in the middle of a blob that could not be written.")
