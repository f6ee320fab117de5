"""The files of the layout in an archive, and where their bytes are, for both archive formats:

    OCI image layout    skopeo and podman (oci-archive), docker since version 25, containerd, nerdctl, mirror
    docker archive      docker before version 25, skopeo and podman (docker-archive), crane

As in containerd, an archive with an `oci-layout` file has the first format. Docker 25.0 saves an image by its ID with
an `index.json` that names nothing, so this is read in the second format, as skopeo and podman do.
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
from mirror.errors import BrokenArchive, ContentError
from mirror.fs.directory import os_errors
from mirror.layout import index
from mirror.layout.blobs import place
from mirror.oci.digest import Digest

_CHUNK = 4 * 1024 * 1024  # bytes per read of a copy: a whole batch, since each read is a call to a thread


class Files:
    """The content of a tar archive in the form of a layout."""

    def __init__(self, tar: Tar) -> None:
        """Detect the format."""
        self.tar = tar
        self._contents: Mapping[str, Content]
        if "oci-layout" in tar.members and not _is_by_id(tar):
            self._contents = docker.completed(tar)
        elif docker_manifest.FILE in tar.members:
            self._contents = docker.as_layout(tar)
        else:
            raise tar.fault or BrokenArchive(
                f"{tar.path} is not an image archive: it has no oci-layout and no {docker_manifest.FILE}.",
                hint=_hint(tar),
                unsupported=True,
            )

    def read(self, name: str, cap: int) -> bytes | None:
        """Return the content of a file of up to `cap` bytes at the top; None if it is not there."""
        content = self._contents.get(name)
        return content if content is None or isinstance(content, bytes) else self.tar.read(content, cap)

    def open(self, digest: Digest) -> Piece | None:
        """Open the blob of this digest; None if it is not there."""
        content = self._contents.get(place(digest))
        return None if content is None else Piece(self.tar, content)

    def stored(self) -> Iterator[tuple[str, str]]:
        """Yield all names below `blobs/`, as (algorithm, encoded)."""
        for name in self._contents:
            if name.startswith("blobs/"):
                algorithm, _, encoded = name.removeprefix("blobs/").partition("/")
                yield algorithm, encoded


class Piece:
    """The content of one file, read from start to end (`mirror.content.hashing.Reader`)."""

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
            count = self._tar.readinto(self._content, self._done, buffer[:count])
        self._done += count
        return count

    def changed(self) -> bool:
        return _state(self._tar) != self._state

    def close(self) -> None:
        """Do nothing: the archive stays open."""

    async def chunks(self, start: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` on."""
        for done in range(start, self.size, _CHUNK):
            yield await to_thread(partial(self._at, done, min(_CHUNK, self.size - done)))

    def filler(self, start: int) -> ReadInto:
        """Return a function that reads the bytes from `start` on into buffers."""
        self._done = start

        def fill(buffer: memoryview) -> int:
            with os_errors(self._tar.path):
                return self.readinto(buffer)

        return fill

    def _at(self, start: int, count: int) -> bytes:
        if isinstance(self._content, bytes):
            return self._content[start : start + count]
        return self._tar.at(self._content, start, count)


def _is_by_id(tar: Tar) -> bool:
    """Return whether only `manifest.json` lists the images of an archive."""
    members = [tar.members.get(name) for name in ("index.json", docker_manifest.FILE)]
    try:
        listed, images = (tar.read(member, index.CAP) if member else b"" for member in members)
        return bool(images) and not index.entries(listed) and any(docker_manifest.images_of(images))
    except ContentError:
        return False


def _hint(tar: Tar) -> str:
    below = next((name.rpartition("/")[0] for name in tar.members if name.endswith("/oci-layout")), None)
    if below:
        return f"There is a layout in {below!r}. Pack the content of that directory: tar -C {below} -cf ARCHIVE ."
    if "repositories" in tar.members:
        return "It was written by docker before version 1.10. Load it into a current docker, and save it again."
    return "mirror export, docker save, podman save, skopeo, nerdctl and ctr write image archives."


def _state(tar: Tar) -> tuple[int, int]:
    now = os.fstat(tar.fd)
    return now.st_size, now.st_mtime_ns
