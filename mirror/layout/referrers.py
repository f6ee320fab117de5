"""Entries of a layout that refer to its images: lists of referrers, and cosign's tags (docs/adr/0012).

They are named like images, so that other tools find them, and are copied with their image. An entry belongs to an
image if its tag is made from a digest of that image, and both are in the same repository. An entry that belongs to no
image is listed like an image, so nothing can hide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from mirror.content.store import Source
from mirror.errors import MirrorError, UnsupportedManifest
from mirror.layout.index import Entry
from mirror.layout.referring import can_refer, chosen_from, home, is_list
from mirror.oci.descriptor import OCI_INDEX
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node, parse
from mirror.oci.referrers import list_of, tags_about

if TYPE_CHECKING:
    from mirror.content.graph import Graph, Keep

_SHOWN = 10  # manifests of unsupported types that an error names


@dataclass(frozen=True, slots=True)
class Referrer:
    """An entry that refers to `subject`: a list of referrers, or one of cosign's tags, with everything below it.

    `failure` is the error if that could not be read completely, and `faulty` are the digests with faults.
    """

    subject: Digest
    entry: Entry
    graph: Graph
    failure: MirrorError | None = None
    faulty: frozenset[Digest] = frozenset()

    @property
    def is_list(self) -> bool:
        return is_list(self.entry)

    @property
    def members(self) -> tuple[Digest, ...]:
        """The manifests that refer to the subject."""
        return members(self.entry, self.graph)

    def intact(self) -> Referrer | None:
        """Return a list of the members with nothing faulty below them; None if that is not a list, or has none."""
        root, bad = self.graph.root.digest, set(self.faulty)
        if not self.is_list or root in bad:
            return None
        for digest in (node.digest for node in self.graph.manifests() if node.digest != root):
            if any(link.digest in bad for link in self.graph.nodes[digest].document.links):
                bad.add(digest)
        intact = self.graph.nodes.keys() - bad
        listed = {digest: self.graph.nodes[digest] for digest in self.members if digest in intact}
        needed = replace(self.graph, nodes={}, blobs={}, absent={}, unsupported={})
        todo = list(listed.values())
        for node in todo:  # grows below
            needed.nodes[node.descriptor.digest] = node
            for link in node.document.links:
                if link.digest in self.graph.blobs:
                    needed.blobs[link.digest] = self.graph.blobs[link.digest]
                elif link.digest in self.graph.nodes and link.digest not in needed.nodes:
                    todo.append(self.graph.nodes[link.digest])
        return replace(self.listing(listed, needed), failure=None, faulty=frozenset()) if listed else None

    def listing(self, listed: Mapping[Digest, Node], graph: Graph) -> Referrer:
        """Return a list of other referrers of the subject; `graph`, which gets its root, has everything below it."""
        data = list_of(listed.values())
        root = replace(self.entry.root, media_type=OCI_INDEX, digest=Digest.of(data), size=len(data), data=None)
        graph.root, graph.nodes[root.digest] = root, Node(root, data, parse(data, OCI_INDEX, str(root.digest)))
        return replace(self, entry=self.entry._replace(root=root), graph=graph)


@dataclass(slots=True)
class FoundReferrers:
    """The referrers of some images. `failures` say, by subject, why some may be missing; `warnings` are sentences."""

    referrers: list[Referrer] = field(default_factory=list)
    failures: dict[Digest, MirrorError] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def members(entry: Entry, graph: Graph) -> tuple[Digest, ...]:
    """Return the manifests of an entry that refer to its subject: those that it lists, or its root."""
    if not is_list(entry):
        return (entry.root.digest,)
    root = graph.nodes.get(entry.root.digest)
    return tuple(dict.fromkeys(child.digest for child in root.document.manifests)) if root else ()


class Local(Source, Protocol):
    """A layout or an archive. `there` returns which children of an image's indexes should be in it."""

    async def there(self, entry: Entry) -> Keep: ...


async def walk_entry(store: Local, entry: Entry) -> Graph:
    """Walk everything below an entry, except children that are intentionally absent, or absent as a whole."""
    from mirror.content.walk import walk  # a verification does not need it

    return await walk(store, entry.root, keep=await store.there(entry), foreign=True)


def subjects_of(entry: Entry, graph: Graph) -> list[Digest]:
    """Return the digests that referrers of an image can refer to: its manifests, and the index it was chosen from."""
    return list(dict.fromkeys([*graph.nodes, *chosen_from(entry)]))


class LayoutReferrers:
    """Finds the entries of one layout or archive that refer to others."""

    def __init__(self, source: Source, entries: Iterable[Entry]) -> None:
        self._source = source
        self._by_name: dict[tuple[str | None, str | None], dict[Digest, Entry]] = {}  # a bare tag need not be unique
        for entry in filter(can_refer, entries):
            self._by_name.setdefault((home(entry), entry.tag), {}).setdefault(entry.root.digest, entry)

    async def of(self, entry: Entry, graph: Graph) -> list[Referrer]:
        """Return what refers to one image, and what refers to that."""
        if not self._by_name:
            return []
        found: dict[tuple[str, Digest], Referrer] = {}
        subjects = subjects_of(entry, graph)
        seen = set(subjects)
        for subject in subjects:  # grows below
            named = (self._by_name.get((home(entry), tag), {}) for tag in tags_about(subject))
            for digest, other in chain.from_iterable(alike.items() for alike in named):
                if (other.name, digest) in found or other == entry:
                    continue
                found[other.name, digest] = referrer = await self._read(subject, other)
                fresh = [digest for digest in referrer.members if digest not in seen]
                seen.update(fresh)
                subjects += fresh
        return list(found.values())

    async def _read(self, subject: Digest, entry: Entry) -> Referrer:
        """Walk everything below an entry, even if parts are damaged: the rest may have referrers too."""
        from mirror.content.walk import walk  # as above

        faults: dict[Digest, MirrorError] = {}
        graph = await walk(self._source, entry.root, on_fault=lambda node, error: faults.update({node.digest: error}))
        return Referrer(subject, entry, graph, _summary(list(faults.values())), frozenset(faults))


def _summary(faults: Sequence[MirrorError]) -> MirrorError | None:
    """Return the first error, if any; one that names all manifests if they are only of unsupported types."""
    if len(faults) > 1 and all(isinstance(error, UnsupportedManifest) for error in faults):
        more = f" And {len(faults) - _SHOWN} more." if len(faults) > _SHOWN else ""
        return UnsupportedManifest(" ".join(map(str, faults[:_SHOWN])) + more, hint=faults[0].hint)
    return next(iter(faults), None)
