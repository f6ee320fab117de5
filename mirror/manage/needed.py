"""Find what the images of a layout need, so that nothing of it is deleted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from mirror.content.graph import Graph
from mirror.content.walk import walk
from mirror.errors import MirrorError
from mirror.layout import Entry, Layout
from mirror.layout.implied import Relations, StoredReferrer
from mirror.layout.referrers import walk_entry
from mirror.layout.referring import chosen_from
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest


class Needed:
    """The digests that images of a layout need, with their referrers and the images that artifacts refer to.

    What only refers to `removed` content, or is only referred to and is in `removed`, is not needed. `lacking` are
    manifests that are missing, of platforms that are absent as a whole, if no record says so.
    """

    def __init__(self, layout: Layout, relations: Relations, removed: Collection[Digest] = frozenset()) -> None:
        self.digests: set[Digest] = set()
        self.lacking: list[Digest] = []
        self._layout, self._removed = layout, removed
        self._referrers: Mapping[Digest, Sequence[StoredReferrer]] = relations.referrers

    async def add(self, entries: Iterable[Entry]) -> None:
        """Add what entries need; raise MirrorError if any of that is broken."""
        for entry in entries:
            graph = await walk_entry(self._layout, entry)
            self._include_absent(entry, graph)
            todo = self._include(graph)
            todo += [one for digest in chosen_from(entry) for one in self._referring(digest)]
            for root in todo:  # grows below
                if root.digest not in self.digests and root.digest not in self._removed:
                    found = await walk(self._layout, root, foreign=True, on_fault=self._fail_unless_missing)
                    todo += self._include(found)

    def _include(self, graph: Graph) -> list[Descriptor]:
        """Add a graph, and return the referrers of its manifests and the images that they refer to."""
        self.digests.update(graph.nodes, graph.blobs)
        found = [one for digest in graph.nodes for one in self._referring(digest)]
        subjects = [node.document.subject for node in graph.nodes.values() if node.document.subject]
        return found + [subject for subject in subjects if self._layout.holds(subject.digest)]

    def _include_absent(self, entry: Entry, graph: Graph) -> None:
        """Add the manifests of absent platforms that are here, unless a record says that they were left out."""
        unrecorded = [digest for digest, child in graph.absent.items() if not entry.lacks(child)]
        self.digests.update(unrecorded)
        self.lacking += [digest for digest in unrecorded if not self._layout.holds(digest)]

    def _referring(self, subject: Digest) -> list[Descriptor]:
        return [one.descriptor for one in self._referrers.get(subject, ())]

    def _fail_unless_missing(self, node: Descriptor, error: MirrorError) -> None:
        if self._layout.holds(node.digest):
            raise error
