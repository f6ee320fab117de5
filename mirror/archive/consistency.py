"""Whether the two lists of images in one archive agree.

An archive for docker has two: `index.json`, which containerd reads and mirror verifies, and `manifest.json`, which
older dockers load. Where they lead to different content, one tool verifies what another one runs (as CVE-2021-41190).
"""

from __future__ import annotations

from collections.abc import Iterator

from mirror.archive import docker_manifest
from mirror.archive.docker_manifest import Image
from mirror.archive.files import Files
from mirror.content.finding import Finding, Kind, Severity
from mirror.errors import BrokenArchive, ContentError
from mirror.layout import index
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document

_MOST = 100_000  # steps from an entry to a manifest, of all entries together


def disagreements(files: Files) -> Iterator[Finding]:
    """What `manifest.json` lists and `index.json` does not lead to. What is wrong with the latter is said elsewhere."""
    try:
        listed = list(docker_manifest.images_of(files.read(docker_manifest.FILE, docker_manifest.CAP) or b"[]"))
        named = _Named(files).found
    except BrokenArchive as error:
        yield _finding(Severity.UNVERIFIED, str(error))
        return
    except ContentError as error:
        yield _finding(Severity.ERROR, str(error))
        return
    everything = {image for images in named.values() for image in images}
    for image, names in listed:
        for name in names or [""]:
            if image not in named.get(name, everything):
                yield _finding(Severity.ERROR, f"another one {name}".rstrip())


class _Named:
    """`found` are the images that `index.json` leads to, by the names of its entries."""

    def __init__(self, files: Files) -> None:
        self._files, self._steps = files, 0
        self._documents: dict[Digest, Document | None] = {}
        self.found: dict[str, set[Image]] = {}
        try:
            entries = index.entries(files.read("index.json", index.CAP) or b"")
        except ContentError:
            return
        for entry in entries:
            self.found.setdefault(entry.name, set()).update(self._below(entry.root))

    def _below(self, root: Descriptor) -> Iterator[Image]:
        """What hashes wrong may contain itself, so nothing is looked at twice."""
        todo, seen = [root], {root.digest}
        while todo:
            document = self._document(todo.pop())
            if document is None:
                continue
            if document.config:
                yield docker_manifest.paths_of(document)
            fresh = [child for child in document.manifests if child.digest not in seen]
            seen.update(child.digest for child in fresh)
            todo.extend(fresh)

    def _document(self, node: Descriptor) -> Document | None:
        """A manifest that is there and can be read; what is wrong with the others is said elsewhere."""
        self._steps += 1
        if self._steps > _MOST:
            raise BrokenArchive(f"more than {_MOST} manifests to compare")
        if node.is_manifest and node.digest not in self._documents:
            self._documents[node.digest] = self._parsed(node)
        return self._documents.get(node.digest)

    def _parsed(self, node: Descriptor) -> Document | None:
        data = self._files.read_blob(node.digest, MANIFEST_CAP)
        try:
            return None if data is None else manifest.parse(data, node.media_type, node.digest)
        except ContentError:
            return None


def _finding(severity: Severity, found: str) -> Finding:
    return Finding(Kind.AMBIGUOUS_ARCHIVE, severity, docker_manifest.FILE, "the same images as in index.json", found)
