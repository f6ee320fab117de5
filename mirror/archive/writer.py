"""An archive as a sink: an OCI image layout in a tar archive, with every byte written once.

    1. `oci-layout`
    2. blobs as they arrive, each hashed while it is written; then manifests, then indexes
    3. `index.json`; for docker also `manifest.json`; the end of the archive

Content comes before everything that references it, so a reader of a truncated stream never finds a name for an
incomplete image. The same content in the same order gives the same archive, byte for byte.

In a file, content can be given its offset in advance (`ArchiveWriter.arrange`), so that several blobs are written at
once.
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
from mirror.content.stream import Fetch, batch_size, batches, pipeline
from mirror.errors import DigestMismatch, InvalidContent, SizeMismatch, StorageError, UsageError
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
    """An archive that is being written. `to_file` and `to_pipe` create it, and complete it at their end."""

    def __init__(self, output: Output, *, seekable: bool, for_docker: bool) -> None:
        self._output, self._seekable = output, seekable
        self._images: dict[Image, list[str]] | None = {} if for_docker else None  # with the names that docker gets
        self._index = IndexEditor(index.EMPTY)
        self._sizes: dict[Digest, int] = {}  # of content that has been written
        self._batch = batch_size(jobs=1)
        self._end = 0  # the offset of the next member that was not arranged
        self._offsets: dict[tuple[Digest, int], int] = {}  # of arranged content, by digest and size
        self._members: dict[int, MemberWriter] = {}  # unfinished or interrupted members, by offset
        self._locks: dict[int | None, Lock] = defaultdict(Lock)  # one for each offset, None for the end

    @classmethod
    @asynccontextmanager
    async def to_file(cls, path: Path, *, for_docker: bool = False) -> AsyncIterator[ArchiveWriter]:
        """Write a file, which gets its name when it is complete and durable."""
        path = Path(os.path.realpath(path))  # the target of a link is replaced, not the link
        with Directory.open(path.parent) as directory:
            kind = directory.kind(path.name)
            if kind not in (None, stat.S_IFREG):
                raise UsageError(f"{path} is {kind_name(kind or 0)}.", hint="Name a file, or - to write to stdout.")
            temporary = AtomicFile.create(directory, beside=path.name)
            try:
                async with cls(temporary, seekable=True, for_docker=for_docker)._completed() as archive:
                    yield archive
            except BaseException:
                temporary.discard()
                raise
            await to_thread(partial(temporary.commit, directory, path.name))

    @classmethod
    def to_pipe(cls, fd: int, *, for_docker: bool = False) -> AbstractAsyncContextManager[ArchiveWriter]:
        """Write to an open pipe. After a failure, the archive is truncated in the middle of a member."""
        return cls(Pipe(fd), seekable=False, for_docker=for_docker)._completed()

    @asynccontextmanager
    async def _completed(self) -> AsyncIterator[ArchiveWriter]:
        """Write the beginning and the end of the archive."""
        await self._file("oci-layout", index.OCI_LAYOUT)
        yield self
        self._check_complete()
        if lacking := [digest for digest, size in self._offsets if self._sizes.get(digest) != size]:
            raise StorageError(f"The archive lacks {lacking[0]}, and {len(lacking) - 1} others.")
        await self._file("index.json", b"".join(self._index.dump()))
        if self._images is not None:
            items = [docker_manifest.item(image, names) for image, names in self._images.items()]
            await self._file(docker_manifest.FILE, json.dumps(items).encode())
        await self._append([header.END])
        if self._seekable:
            await to_thread(partial(self._output.truncate, self._end))

    def arrange(self, nodes: Iterable[Descriptor], jobs: int) -> int:
        """Assign offsets to content in advance if the output is a file. Then all of it has to be put.

        Return how many blobs may be put at once: `jobs` in a file, one in a pipe.
        """
        if not self._seekable:
            return 1
        for node in nodes:
            if self._offsets.setdefault((node.digest, node.size), self._end) == self._end:
                self._end += length(node)
        self._batch = batch_size(jobs)
        return jobs

    async def has(self, node: Descriptor) -> bool:
        """Return True if the content has been written (`BlobChecker`)."""
        return self._sizes.get(node.digest) == node.size

    async def put(self, node: Descriptor, fetch: Fetch) -> None:
        """Write verified content, once; an interrupted put is resumed by the next one (`Sink`).

        In a pipe, the archive cannot be completed after content that does not match its descriptor.
        """
        offset = self._offsets.get((node.digest, node.size))
        async with self._locks[offset]:
            if node.digest not in self._sizes:
                await self._write(node, fetch, self._end if offset is None else offset)
                self._end += length(node) if offset is None else 0
        if offset is not None:
            self._locks.pop(offset, None)  # other tasks that wait for it keep a reference
        if self._sizes[node.digest] != node.size:
            raise InvalidContent(f"{node.digest} has {self._sizes[node.digest]} bytes, but should have {node.size}.")

    async def _write(self, node: Descriptor, fetch: Fetch, offset: int) -> None:
        """Write a member. If its beginning is from an earlier attempt, and the whole is wrong, write it once more."""
        member = self._members.get(offset)
        if member is None or not member.is_resumable or member.node != node:
            member = self._begin(node, offset)
        resumed = member.size > 0
        try:
            await self._receive(member, fetch)
        except (DigestMismatch, SizeMismatch) as error:
            if error.transient or not (resumed and self._seekable):
                raise
            await self._receive(self._begin(node, offset), fetch)
        del self._members[offset]
        self._sizes[node.digest] = node.size

    def _begin(self, node: Descriptor, offset: int) -> MemberWriter:
        self._check_complete()
        self._members[offset] = MemberWriter(node, offset)
        return self._members[offset]

    async def _receive(self, member: MemberWriter, fetch: Fetch) -> None:
        async with fetch(member.size) as body:
            member.trust(body)
            excess = member.size - body.start  # bytes that a source sends again because it cannot seek
            if body.fill and not excess:
                take = partial(member.take, self._output, body, body.fill)
                await to_thread_cancellable(take, on_cancel=body.interrupt)
            else:
                # Hash and write each batch in two threads. The last bytes are held back until the digest is verified.
                found = after(excess, batches(body, member.node, self._batch))
                await pipeline(found, member.update, partial(member.hold, self._output))
                await to_thread(partial(member.finish, self._output, body))

    async def tag(self, name: str, root: Descriptor, data: bytes) -> Digest | None:
        """Make `name` point to `root` in the `index.json` to be written (`Sink`)."""
        before = self._index.add(name, root)
        if self._images is not None:
            image = docker_manifest.paths_of(manifest.parse_once(data, root.media_type, root.digest))
            self._images.setdefault(image, []).extend([name] if Reference.parse(name).tag else [])
        return before.root.digest if before else None

    async def _file(self, name: str, data: bytes) -> None:
        await self._append([header.build(name, len(data)), data, header.padding(len(data))])

    async def _append(self, chunks: Sequence[bytes]) -> None:
        await to_thread(partial(self._output.write_at, chunks, self._end))
        self._end += sum(map(len, chunks))

    def _check_complete(self) -> None:
        """Refuse to go on after an incomplete member in a pipe; in a file, it can be overwritten."""
        if not self._seekable and any(member.partial_size for member in self._members.values()):
            raise StorageError("The archive is truncated in the middle of a blob that could not be written.")


def writing(archive: Path | str, *, for_docker: bool) -> AbstractAsyncContextManager[ArchiveWriter]:
    """Open an archive for writing; the text `-` is stdout. See `ArchiveWriter.to_file` and `to_pipe`."""
    if archive == "-":
        return ArchiveWriter.to_pipe(sys.stdout.fileno(), for_docker=for_docker)
    if tool := _TOOLS.get(Path(archive).suffix.lower()):
        hint = f"Write to stdout, and compress that: mirror … - … | {tool} > {archive}"
        raise UsageError(f"{archive} would not be compressed.", hint=hint)
    return ArchiveWriter.to_file(Path(archive), for_docker=for_docker)
