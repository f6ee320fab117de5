"""Find everything that no image of a layout needs, and delete it if requested.

1. Walk every image to find the blobs that are needed. If an image is broken, this is not known, and nothing is deleted.
   Referrers of an image are needed too, wherever they are stored, and so is an image that an artifact refers to.
2. Every other blob is an orphan; unfinished downloads are reported too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from mirror.content.graph import Graph
from mirror.content.walk import walk
from mirror.errors import InvalidDigest, MirrorError, UsageError
from mirror.layout import Entry, Layout, LayoutWriter
from mirror.layout.implied import Relations
from mirror.layout.referrers import chosen_from, walk_entry
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.report.layouts import PrunedBlob, PrunedFile, PruneReport
from mirror.stores.location import Location, Transport


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """Options for pruning.

    Attributes:
        delete: delete what is found; otherwise the layout is only read.
        everything: delete even if the layout has no images, so that nothing in it is needed.
    """

    delete: bool = False
    everything: bool = False


async def prune_layout(path: Path | str, options: PruneOptions | None = None) -> PruneReport:
    """Find blobs that no image of a layout needs, and unfinished downloads; delete them if requested.

    Below `blobs/`, only files named by a SHA-256, SHA-384 or SHA-512 digest are ever deleted. Files in quarantine are
    reported, but kept.

    Raises:
        NotFound: there is no such directory.
        UsageError: the layout has blobs but no images, and `everything` was not requested. Nothing has been deleted.
        ContentError: an image is broken, so what it needs is not known. Nothing has been deleted.
        StorageError: the disk refused, or another mirror process has locked the layout.
    """
    options, directory = options or PruneOptions(), Location.of_kind(path, Transport.LAYOUT).directory
    async with AsyncExitStack() as stack:
        layout = stack.enter_context(Layout.open(directory))  # fails if it is not a layout, before anything is created
        if options.delete:
            layout = await stack.enter_async_context(LayoutWriter.writing(directory, exclusive=True))
        needed = _Needed(layout)
        for entry in layout.entries():
            await needed.add(entry)
        orphans = {digest: size for digest, size in _stored(layout) if digest not in needed.digests}
        unfinished = layout.unfinished()
        if isinstance(layout, LayoutWriter):
            if orphans and not (layout.entries() or options.everything):
                raise UsageError(
                    f"{path} has no images, so all of its blobs would be deleted ({len(orphans)}).",
                    hint=f"If index.json is right: mirror prune {path} --delete --yes",
                )
            await layout.delete(orphans)
            await layout.clear()
        quarantined = layout.quarantined()
    return PruneReport(
        path=str(path),
        deleted=options.delete,
        orphans=tuple(PrunedBlob(digest, size) for digest, size in sorted(orphans.items())),
        unfinished=tuple(PrunedFile(name, size) for name, size in sorted(unfinished.items())),
        quarantined=tuple(PrunedFile(name, size) for name, size in sorted(quarantined.items())),
    )


class _Needed:
    """The digests that the images of a layout need, with their referrers and the images that artifacts refer to."""

    def __init__(self, layout: Layout) -> None:
        self.digests: set[Digest] = set()
        self._layout, self._referrers = layout, Relations.read(layout).referrers

    async def add(self, entry: Entry) -> None:
        """Add what an entry needs; raise MirrorError if any of that is broken."""
        todo = self._include(await walk_entry(self._layout, entry))
        todo += [one for digest in chosen_from(entry) for one in self._referring(digest)]
        for root in todo:  # grows below
            if root.digest not in self.digests:
                todo += self._include(await walk(self._layout, root, foreign=True, on_fault=self._fail_unless_missing))

    def _include(self, graph: Graph) -> list[Descriptor]:
        """Add a graph, and return the referrers of its manifests and the images that they refer to."""
        self.digests.update(graph.nodes, graph.blobs)
        found = [one for digest in graph.nodes for one in self._referring(digest)]
        subjects = [node.document.subject for node in graph.nodes.values() if node.document.subject]
        return found + [subject for subject in subjects if self._layout.holds(subject.digest)]

    def _referring(self, subject: Digest) -> list[Descriptor]:
        return [one.descriptor for one in self._referrers.get(subject, ())]

    def _fail_unless_missing(self, node: Descriptor, error: MirrorError) -> None:
        if self._layout.holds(node.digest):
            raise error


def _stored(layout: Layout) -> Iterator[tuple[Digest, int]]:
    for algorithm, encoded in layout.blobs.stored():
        try:
            digest = Digest.parse(f"{algorithm}:{encoded}")
        except InvalidDigest:
            continue
        size = layout.blobs.size(digest) if digest.hashable else None
        if size is not None:
            yield digest, size
