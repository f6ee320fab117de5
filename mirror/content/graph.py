"""The graph below a root, and the rules of every walk. Pure: the caller reads the manifests.

Registries, layouts and archives are walked by the same rules, whether a walk stops at the first fault (copy) or reports
it and goes on (verify). So what verify accepts is never too large or oddly shaped for a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from mirror.content.limits import Budget
from mirror.errors import LimitExceeded, MirrorError, SizeConflict, TypeConflict, UnsupportedManifest
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_TYPES, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document, Node

Keep = Callable[[Descriptor], bool]
OnFault = Callable[[Descriptor, MirrorError], None]


@dataclass(slots=True)
class Graph:
    """Everything below one root.

    Attributes:
        root: where the walk began.
        nodes: the manifests, in the order in which they were found.
        blobs: everything else.
        foreign: layers that are kept elsewhere and left out.
        absent: children of indexes that were not followed.
        unsupported: those of them that cannot be followed, because of their type.
    """

    root: Descriptor
    nodes: dict[Digest, Node] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    foreign: dict[Digest, Descriptor] = field(default_factory=dict)
    absent: dict[Digest, Descriptor] = field(default_factory=dict)
    unsupported: dict[Digest, Descriptor] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Total bytes of the blobs."""
        return sum(blob.size for blob in self.blobs.values())

    @property
    def children(self) -> list[Descriptor]:
        """The children of all indexes, index by index, including `absent` ones."""
        return [child for node in self.nodes.values() for child in node.document.manifests]

    @property
    def kept(self) -> list[Digest]:
        """The digests of the children that were followed and are not indexes themselves."""
        return [child.digest for child in self.children if not child.is_index and child.digest not in self.absent]

    def check_hashable(self) -> None:
        """Raise InvalidDigest if some content cannot be verified, before anything is transferred."""
        for digest in (*self.nodes, *self.blobs):
            digest.hasher()

    def largest_first(self) -> list[Descriptor]:
        return sorted(self.blobs.values(), key=lambda blob: (-blob.size, blob.digest))

    def ranks(self) -> list[list[Node]]:
        """Return the manifests rank by rank: each references only earlier ranks; the root is the last."""
        order: TopologicalSorter[Digest] = TopologicalSorter()
        for digest, node in self.nodes.items():
            order.add(digest, *(link.digest for link in node.document.links if link.digest in self.nodes))
        order.prepare()
        ranks = []
        while order.is_active():
            ready = order.get_ready()
            ranks.append([self.nodes[digest] for digest in ready])
            order.done(*ready)
        return ranks

    def manifests(self) -> Iterator[Descriptor]:
        """Yield the manifests in the order of `ranks`."""
        for rank in self.ranks():
            yield from (node.descriptor for node in rank)


def fail(node: Descriptor, error: MirrorError) -> None:
    """Raise the error, which ends the walk."""
    raise error


def fail_unless_unsupported(root: Descriptor) -> OnFault:
    """Return a handler that leaves out children of unsupported types, and raises every other error below `root`."""

    def on_fault(node: Descriptor, error: MirrorError) -> None:
        if node.digest == root.digest or not isinstance(error, UnsupportedManifest):
            raise error

    return on_fault


def ignore(node: Descriptor, error: MirrorError) -> None:
    """Leave out what is wrong; reading or verifying it reports the error."""


class Walk:
    """The bookkeeping of a walk: the links seen so far, and the rules for them.

        level = walk.enter(root)
        while level:
            level = walk.descend(read(node) for node in level)

    `seen` holds the first descriptor of every digest; `blobs`, `foreign`, `absent` and `unsupported` are as in `Graph`.
    Several roots may be entered in turn; manifests below an earlier root are not returned again. `on_fault` is called
    with every error and the descriptor concerned: if it raises, the walk ends; if it returns, the descriptor is not
    followed.
    """

    def __init__(self, budget: Budget, *, foreign: bool = False, on_fault: OnFault = fail) -> None:
        self.seen: dict[Digest, Descriptor] = {}
        self.blobs: dict[Digest, Descriptor] = {}
        self.foreign: dict[Digest, Descriptor] = {}
        self.absent: dict[Digest, Descriptor] = {}
        self.unsupported: dict[Digest, Descriptor] = {}
        self._budget, self._foreign, self._on_fault = budget, foreign, on_fault
        self._full = False

    def enter(self, root: Descriptor, keep: Keep | None = None) -> list[Descriptor]:
        """Start at a root, and return what to read first. `keep` selects the children of indexes to follow."""
        self._root, self._keep = root, keep
        self._budget.ascend()
        return self._sort_in(self._supported([root]))

    def descend(self, documents: Iterable[Document | None]) -> list[Descriptor]:
        """Process the manifests of a level, with None for those that could not be read; return what to read next."""
        level = [link for document in documents if document for link in self._below(document)]
        if not level:
            return level
        try:
            self._budget.descend()
        except LimitExceeded as error:
            self._on_fault(self._root, error)
            return []
        return level

    def follow(self, root: Descriptor, read: Callable[[Descriptor], Document | None], keep: Keep | None = None) -> None:
        """Walk everything below a root, with a `read` that need not be awaited."""
        level = self.enter(root, keep)
        while level:
            level = self.descend(map(read, level))

    def _below(self, document: Document) -> list[Descriptor]:
        if not document.is_index:
            return self._sort_in(document.links)
        for child in document.manifests:
            if self._keep and not self._keep(child):
                self.absent.setdefault(child.digest, child)
        return self._sort_in(self._supported(filter(self._keep or (lambda _: True), document.manifests)))

    def _supported(self, nodes: Iterable[Descriptor]) -> list[Descriptor]:
        """Return a root, or the children of an index, without those that cannot be followed, which are a fault."""
        supported = []
        for node in nodes:
            if not node.is_unsupported:
                supported.append(node)
            elif node.digest not in self.unsupported:
                self.unsupported[node.digest] = self.absent[node.digest] = node
                self._on_fault(node, manifest.unsupported(node))
        return supported

    def _sort_in(self, links: Iterable[Descriptor]) -> list[Descriptor]:
        """Note blobs; return the manifests that are new and within the budget."""
        fresh = []
        for link in links:
            is_new = link.digest not in self.seen
            if not self._agrees(self.seen.setdefault(link.digest, link), link):
                continue
            if not link.is_manifest:
                (self.foreign if link.is_foreign and not self._foreign else self.blobs).setdefault(link.digest, link)
            elif is_new and self._affords(link):
                fresh.append(link)
        return fresh

    def _agrees(self, known: Descriptor, link: Descriptor) -> bool:
        """Compare a descriptor with the first one of its digest: a digest has one size and one kind of content."""
        if known.size != link.size:
            self._on_fault(link, SizeConflict(link.digest, (known.size, link.size)))
        elif not same_kind(known.media_type, link.media_type):
            self._on_fault(link, TypeConflict(link.digest, (known.media_type, link.media_type)))
        else:
            return True
        return False

    def _affords(self, link: Descriptor) -> bool:
        try:
            self._budget.take(link.size)
        except LimitExceeded as error:
            if not self._full:  # reported once
                self._full = True
                self._on_fault(self._root, error)
            return False
        return True


def same_kind(one: str, other: str) -> bool:
    """Return True if one digest may have both media types. A blob's type is only a label (docs/adr/0004)."""
    return one == other or MANIFEST_TYPES.isdisjoint((one, other))
