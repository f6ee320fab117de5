"""The files of a layout that is in an archive: where the bytes of each are. Both forms of archive come to this.

    an OCI image layout    skopeo and podman (oci-archive), docker from 25 on, containerd, nerdctl, mirror
    docker's own form      docker before 25, skopeo and podman (docker-archive), crane

Where there is an `oci-layout`, the archive is the former, as containerd has it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial

from mirror.archive import docker, docker_manifest
from mirror.archive.docker import Content
from mirror.archive.tar import Tar
from mirror.concurrency import to_thread
from mirror.content.stream import ReadInto
from mirror.errors import BrokenArchive
from mirror.fs.directory import os_errors
from mirror.layout.blobs import place
from mirror.oci.digest import Digest

_CHUNK = 4 * 1024 * 1024  # bytes read at once for whoever copies: a batch, since each read is a hop to a thread


class Files:
    """What an archive holds, in the form of a layout. It takes over the tar archive; close it."""

    def __init__(self, tar: Tar) -> None:
        """Look which form the archive has.

        Raises:
            BrokenArchive: neither.
        """
        self.tar = tar
        self._contents = _contents(tar)

    def read(self, name: str, cap: int) -> bytes | None:
        """A small file at the top; None where there is none.

        Raises:
            BrokenArchive: it has more than `cap` bytes.
            StorageError: it cannot be read.
        """
        content = self._contents.get(name)
        return content if content is None or isinstance(content, bytes) else self.tar.read(content, cap)

    def open(self, digest: Digest) -> Piece | None:
        """The content that is there under this name, if any."""
        content = self._contents.get(place(digest))
        return None if content is None else Piece(self.tar, content)

    def stored(self) -> Iterator[tuple[str, str]]:
        """All names below `blobs/`, as (algorithm, encoded)."""
        for name in self._contents:
            if name.startswith("blobs/"):
                algorithm, _, encoded = name.removeprefix("blobs/").partition("/")
                yield algorithm, encoded


class Piece:
    """The content of one file, to be read from front to back (`mirror.content.hashing.Reader`)."""

    def __init__(self, tar: Tar, content: Content) -> None:
        self._tar, self._content = tar, content
        self.size = len(content) if isinstance(content, bytes) else content.size
        self._done = 0
        self._state = _state(tar)

    def readinto(self, buffer: memoryview, /) -> int:
        count = min(len(buffer), self.size - self._done)
        if isinstance(self._content, bytes):
            buffer[:count] = self._content[self._done : self._done + count]
        elif count:
            count = os.preadv(self._tar.fd, [buffer[:count]], self._content.offset + self._done)
        self._done += count
        return count

    def changed(self) -> bool:
        return _state(self._tar) != self._state

    def close(self) -> None:
        """The archive stays open."""

    async def chunks(self, start: int) -> AsyncIterator[bytes]:
        """The bytes from `start` on."""
        for done in range(start, self.size, _CHUNK):
            yield await to_thread(partial(self._at, done, min(_CHUNK, self.size - done)))

    def filler(self, start: int) -> ReadInto:
        """What puts the bytes from `start` on into buffers."""
        self._done = start

        def fill(buffer: memoryview) -> int:
            with os_errors(self._tar.path):
                return self.readinto(buffer)

        return fill

    def _at(self, start: int, count: int) -> bytes:
        if isinstance(self._content, bytes):
            return self._content[start : start + count]
        return self._tar.pread(self._content.offset + start, count)


def _contents(tar: Tar) -> Mapping[str, Content]:
    if "oci-layout" in tar.members:
        return tar.members
    if docker_manifest.FILE in tar.members:
        return docker.as_layout(tar)
    raise tar.fault or BrokenArchive(
        f"{tar.path} is no archive of images: it has no oci-layout and no {docker_manifest.FILE}.", hint=_hint(tar)
    )


def _hint(tar: Tar) -> str:
    below = next((name.rpartition("/")[0] for name in tar.members if name.endswith("/oci-layout")), None)
    if below:
        return f"It has a layout below {below!r}. Pack that folder's content: tar -C {below} -cf ARCHIVE ."
    if "repositories" in tar.members:
        return "A docker before 1.10 wrote it. Load it into a docker of today, and save it again."
    return "Archives of images are written by mirror export, docker save, podman save, skopeo, nerdctl and ctr."


def _state(tar: Tar) -> tuple[int, int]:
    now = os.fstat(tar.fd)
    return now.st_size, now.st_mtime_ns
