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
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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


class _Member:
    """A blob that is being written: `size` bytes of it have come and are hashed, those that are `waiting` not written.

    It is `sound` while that is known to be so, and whoever goes on with it knows where; `begun` from its first byte on.
    """

    def __init__(self, node: Descriptor) -> None:
        self.node, self.size, self.sound, self.begun = node, 0, True, False
        self.waiting: Batch = [header.build(place(node.digest), node.size)]
        self._check = Check(node)

    def update(self, batch: Batch) -> None:
        self._check.update(batch)
        self.size += sum(map(len, batch))

    def write(self, output: _Output, batch: Batch) -> None:
        """Write what was waiting; `batch` waits from now on."""
        self.sound, self.begun = False, True
        output.write(self.waiting)
        self.waiting, self.sound = batch, True

    def finish(self, body: Body) -> None:
        """Give the verdict on all bytes; after it, there is no going on.

        Raises:
            WrongDigest: they are wrong.
        """
        self.sound, self.begun = False, True
        self._check.finish(body.called(self.node))


async def _after(count: int, found: AsyncIterator[Batch]) -> AsyncIterator[Batch]:
    """Batches without their first `count` bytes."""
    async for batch in found:
        rest: Batch = []
        for chunk in batch:
            rest += [chunk[count:]] if count < len(chunk) else []
            count = max(count - len(chunk), 0)
        if rest:
            yield rest


class ArchiveWriter:
    """An archive that is being written: made by `ArchiveWriter.to_file` or `to_pipe`, and whole when they end."""

    def __init__(self, output: _Output, *, for_docker: bool) -> None:
        self._output = output
        self._images: dict[Image, list[str]] | None = {} if for_docker else None  # with the names that docker gets
        self._index = index.EMPTY
        self._there: set[Digest] = set()
        self._turn = asyncio.Lock()  # an archive has one end to write to
        self._member: _Member | None = None  # the one that is being written

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
        """`Sink`: append verified bytes; a second time, nothing. Where they were cut, the next attempt goes on.

        Raises:
            ContentError: the bytes are not what the descriptor says. The archive cannot be finished any more.
            StorageError: the disk refused.
        """
        async with self._turn:
            if node.digest in self._there:
                return
            member = self._member = self._continued(node)
            async with fetch(member.size) as body:
                await self._append(member, body)
            self._member = None
            self._there.add(node.digest)

    def _continued(self, node: Descriptor) -> _Member:
        """The member that this content is in: the one that was cut, or a new one."""
        if self._member and self._member.sound and self._member.node == node:
            return self._member
        self._check_whole()
        return _Member(node)

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """`Sink`: make `name` stand for `root` in the `index.json` to come."""
        self._index, before = index.with_entry(self._index, name, root)
        if self._images is not None:
            image = listing.paths_of(manifest.parse(data, root.media_type, root.digest))
            self._images.setdefault(image, []).extend([name] if Reference.parse(name).tag else [])
        return before.root.digest if before else None

    async def _append(self, member: _Member, body: Body) -> None:
        """One member, or the rest of it. The last batch waits until all bytes are known to be right: see `to_pipe`."""
        node, done = member.node, member.size - body.start  # where the source cannot begin in the middle
        found = batches(body, node, batch_size(jobs=1))
        await overlap(_after(done, found), member.update, partial(member.write, self._output))  # one blob, two cores
        member.finish(body)
        await in_thread(lambda: self._output.write([*member.waiting, header.padding(node.size)]))

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
        if self._member and self._member.begun:
            raise StorageError("The archive ends in the middle of a blob that could not be written.")


def writing(archive: Path | str, *, for_docker: bool) -> AbstractAsyncContextManager[ArchiveWriter]:
    """An archive to write to; the text `-` is stdout. See `ArchiveWriter.to_file` and `to_pipe`."""
    if archive == "-":
        return ArchiveWriter.to_pipe(sys.stdout.fileno(), for_docker=for_docker)
    return ArchiveWriter.to_file(Path(archive), for_docker=for_docker)
