"""An archive as a sink: an OCI image layout in a tar archive, written from front to back, each byte once.

    1. `oci-layout`
    2. blobs as they come, each hashed while it is written; then manifests, then indexes
    3. `index.json`; for docker also `manifest.json`; the end of the archive

So what is named is always there before what names it, and whoever reads a stream that is cut never holds a name for
something incomplete. The same content in the same order is the same archive, to the byte.

In a file, content can have its place before it comes (`ArchiveWriter.arrange`): then several blobs come at once.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from asyncio import Lock
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path

from mirror.archive import docker_manifest, header
from mirror.archive.docker_manifest import Image
from mirror.archive.member_writer import MemberWriter, Output, Pipe, after, length
from mirror.concurrency import to_thread, to_thread_cancellable
from mirror.content.stream import BlobReader, Fetch, batch_size, batches, pipeline
from mirror.errors import InvalidContent, StorageError, UsageError
from mirror.fs.atomic import AtomicFile
from mirror.fs.directory import Directory, kind_name
from mirror.layout import index
from mirror.layout.index_editor import IndexEditor
from mirror.oci import manifest
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference

_TOOLS = {".gz": "gzip", ".tgz": "gzip", ".zst": "zstd", ".xz": "xz", ".bz2": "bzip2"}


class ArchiveWriter:
    """An archive that is being written: made by `ArchiveWriter.to_file` or `to_pipe`, and whole when they end."""

    def __init__(self, output: Output, *, seekable: bool, for_docker: bool) -> None:
        self._output, self._seekable = output, seekable
        self._images: dict[Image, list[str]] | None = {} if for_docker else None  # with the names that docker gets
        self._index = IndexEditor(index.EMPTY)
        self._there: dict[Digest, int] = {}  # with their sizes
        self._batch = batch_size(jobs=1)
        self._end = 0  # where the next one goes that has no place
        self._places: dict[tuple[Digest, int], int] = {}  # of content, in its size
        self._members: dict[int, MemberWriter] = {}  # those that are being written, or were cut, by their places
        self._turns: dict[int | None, Lock] = defaultdict(Lock)  # one for each place, and one for the end

    @classmethod
    @asynccontextmanager
    async def to_file(cls, path: Path, *, for_docker: bool = False) -> AsyncIterator[ArchiveWriter]:
        """Write a file, which has its name when it is whole and on the disk, and not before.

        Raises:
            UsageError: something that is no file has this name.
            StorageError: the disk refused.
        """
        path = Path(os.path.realpath(path))  # a link is somebody's wish where the file should be
        with Directory.open(path.parent) as folder:
            kind = folder.kind(path.name)
            if kind not in (None, stat.S_IFREG):
                raise UsageError(f"{path} is {kind_name(kind or 0)}.", hint="Name a file, or - to write to stdout.")
            temporary = AtomicFile.create(folder, beside=path.name)
            try:
                archive = cls(temporary, seekable=True, for_docker=for_docker)
                await archive._begin()
                yield archive
                await archive._finish()
            except BaseException:
                temporary.discard()
                raise
            await to_thread(partial(temporary.commit, folder, path.name))

    @classmethod
    @asynccontextmanager
    async def to_pipe(cls, fd: int, *, for_docker: bool = False) -> AsyncIterator[ArchiveWriter]:
        """Write to an open pipe. Where something fails, the archive ends in the middle of a member.

        Raises:
            StorageError: nobody reads any more, or the disk refused.
        """
        archive = cls(Pipe(fd), seekable=False, for_docker=for_docker)
        await archive._begin()
        yield archive
        await archive._finish()

    def arrange(self, nodes: Iterable[Descriptor], jobs: int) -> int:
        """Give content its place before it comes, where the archive is a file. All of it has to come then.

        Args:
            nodes: what comes, in the order in which it is to be in the archive.
            jobs: how many would come at once.

        Returns:
            How many may come at once.
        """
        if not self._seekable:
            return 1
        for node in nodes:
            if self._places.setdefault((node.digest, node.size), self._end) == self._end:
                self._end += length(node)
        self._batch = batch_size(jobs)
        return jobs

    async def has(self, node: Descriptor) -> bool:
        """`BlobChecker`: whether it has been written."""
        return self._there.get(node.digest) == node.size

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """`Sink`: write verified bytes; a second time, nothing. Where they were cut, the next attempt goes on.

        Raises:
            ContentError: the bytes are not what the descriptor says. A pipe cannot be finished any more.
            StorageError: the disk refused.
        """
        place = self._places.get((node.digest, node.size))
        async with self._turns[place]:
            if node.digest not in self._there:
                await self._put(node, fetch, self._end if place is None else place)
                self._end += length(node) if place is None else 0
        if place is not None:
            self._turns.pop(place, None)  # whoever waits for it holds it
        if self._there[node.digest] != node.size:
            raise InvalidContent(f"{node.digest} has {self._there[node.digest]} bytes, and should have {node.size}.")

    async def _put(self, node: Descriptor, fetch: Fetch, offset: int) -> None:
        member = self._member(node, offset)
        async with fetch(member.size) as body:
            await self._write(member, body)
        del self._members[offset]
        self._there[node.digest] = node.size

    def _member(self, node: Descriptor, offset: int) -> MemberWriter:
        """The member that this content is in: the one that was cut, or a new one."""
        known = self._members.get(offset)
        if known and known.sound and known.node == node:
            return known
        self._check_whole()
        member = self._members[offset] = MemberWriter(node, offset)
        return member

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """`Sink`: make `name` stand for `root` in the `index.json` to come."""
        before = self._index.add(name, root)
        if self._images is not None:
            image = docker_manifest.paths_of(manifest.parse(data, root.media_type, root.digest))
            self._images.setdefault(image, []).extend([name] if Reference.parse(name).tag else [])
        return before.root.digest if before else None

    async def _write(self, member: MemberWriter, body: BlobReader) -> None:
        """One member, or the rest of it. The last bytes wait until all are known to be right: see `to_pipe`."""
        done = member.size - body.start  # where the source cannot begin in the middle
        if body.fill and not done:
            return await to_thread_cancellable(partial(member.take, self._output, body, body.fill))
        found = batches(body, member.node, self._batch)
        await pipeline(after(done, found), member.update, partial(member.hold, self._output))  # one blob, two cores
        return await to_thread(partial(member.finish, self._output, body))

    async def _begin(self) -> None:
        await self._file("oci-layout", index.OCI_LAYOUT)

    async def _finish(self) -> None:
        self._check_whole()
        if lacking := [digest for digest, size in self._places if self._there.get(digest) != size]:
            raise StorageError(f"The archive lacks {lacking[0]}, and {len(lacking) - 1} others.")
        await self._file("index.json", b"".join(self._index.dump()))
        if self._images is not None:
            items = [docker_manifest.item(image, names) for image, names in self._images.items()]
            await self._file(docker_manifest.FILE, json.dumps(items).encode())
        await self._append([header.END])
        if self._seekable:
            await to_thread(partial(self._output.truncate, self._end))

    async def _file(self, name: str, data: bytes) -> None:
        await self._append([header.build(name, len(data)), data, header.padding(len(data))])

    async def _append(self, chunks: Sequence[bytes]) -> None:
        await to_thread(partial(self._output.write_at, chunks, self._end))
        self._end += sum(map(len, chunks))

    def _check_whole(self) -> None:
        """What is in a file can be written over."""
        if not self._seekable and any(member.partial_size for member in self._members.values()):
            raise StorageError("The archive ends in the middle of a blob that could not be written.")


def writing(archive: Path | str, *, for_docker: bool) -> AbstractAsyncContextManager[ArchiveWriter]:
    """An archive to write to; the text `-` is stdout. See `ArchiveWriter.to_file` and `to_pipe`.

    Raises:
        UsageError: the file's name promises that it is compressed.
    """
    if archive == "-":
        return ArchiveWriter.to_pipe(sys.stdout.fileno(), for_docker=for_docker)
    if tool := _TOOLS.get(Path(archive).suffix.lower()):
        hint = f"Write to stdout, and from there: mirror … - … | {tool} > {archive}"
        raise UsageError(f"{archive} would not be compressed.", hint=hint)
    return ArchiveWriter.to_file(Path(archive), for_docker=for_docker)
