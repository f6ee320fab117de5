"""A layout that is to be verified (`mirror.content.store.VerifiableStore`). It is only read."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from mirror.content.finding import Finding, Kind, Severity
from mirror.content.finding_text import link_hint
from mirror.content.hashing import BlobCheck, Reader
from mirror.errors import MirrorError, NotFound
from mirror.fs.directory import Directory, is_directory, kind_name
from mirror.layout.blobs import Blobs
from mirror.oci.digest import Digest

_LAYOUT_NAMES = {"oci-layout", "index.json", "blobs"}


class VerifiableLayout:
    """The content of a layout's directory, broken or not. Close it."""

    is_archive = False

    def __init__(self, path: Path) -> None:
        """Open a directory; the path may contain links. Raise NotFound if there is no such directory."""
        if not is_directory(path):
            hint = "Choose a layout, an archive, or docker://IMAGE."
            raise NotFound(f"There is no directory {str(path)!r}.", hint=hint)
        self._root = Directory.open(path)
        self._blobs = Blobs(self._root)

    @property
    def name(self) -> str:
        return str(self._root.path)

    def read(self, name: str, cap: int) -> bytes:
        return self._root.read(name, cap)

    def open(self, digest: Digest) -> Reader | BlobCheck:
        return self._blobs.look(digest)

    def stored(self) -> Iterator[tuple[str, str]]:
        return self._blobs.stored()

    def faults(self) -> Iterator[Finding]:
        for name in self._root.names():
            if name not in _LAYOUT_NAMES and name.lower() in _LAYOUT_NAMES:  # from a case-insensitive file system
                yield Finding(Kind.BAD_NAME, Severity.ERROR, name, name.lower(), name)
        kind = self._root.kind("blobs")
        if kind != stat.S_IFDIR:
            found = None if kind is None else kind_name(kind)
            hint = link_hint(found or "")
            yield Finding(Kind.BROKEN_LAYOUT, Severity.ERROR, "blobs", "directory", found, advice=hint)

    def docker_manifest(self) -> bytes | None:
        return None

    def leftovers(self) -> Iterator[Finding]:
        try:
            with self._root.sub(".mirror") as metadata, metadata.sub("tmp") as temporary:
                names = temporary.names()
        except (FileNotFoundError, MirrorError):
            return
        for name in names:
            yield Finding(Kind.LEFTOVER, Severity.WARNING, f".mirror/tmp/{name}", found="a file")

    def close(self) -> None:
        self._blobs.close()
        self._root.close()
