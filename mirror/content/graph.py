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
        unsupported: those of them that are manifests, but cannot be followed because of their type.
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
    `unclear` are roots, and children of indexes, whose type is not that of a manifest: a caller that needs to know what
    is below them reads each, and calls `settle`.
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
        self.unclear: dict[Digest, Descriptor] = {}
        self._settled: set[Digest] = set()
        self._budget, self._foreign, self._on_fault = budget, foreign, on_fault
        self._full = False

    def enter(self, root: Descriptor, keep: Keep | None = None) -> list[Descriptor]:
        """Start at a root, and return what to read first. `keep` selects the children of indexes to follow."""
        self._root, self._keep = root, keep
        self._budget.ascend()
        return self._sort_in(self._supported([root]), self.unclear)

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

    def settle(self, node: Descriptor, is_manifest: bool | None) -> None:
        """Note whether an `unclear` node is a manifest, which cannot be followed, or a blob; None: it is unreadable."""
        del self.unclear[node.digest]
        self._settled.add(node.digest)
        if is_manifest:
            self._leave_out(node)
        elif is_manifest is not None:
            self._note_blob(node)

    def affords(self, node: Descriptor) -> bool:
        """Return whether the limits allow to read one more manifest, or `unclear` node; report it the first time."""
        try:
            self._budget.take(node.size)
        except LimitExceeded as error:
            if not self._full:
                self._full = True
                self._on_fault(self._root, error)
            return False
        return True

    def _below(self, document: Document) -> list[Descriptor]:
        if not document.is_index:
            return self._sort_in(document.links)
        for child in document.manifests:
            if self._keep and not self._keep(child):
                self.absent.setdefault(child.digest, child)
        children = filter(self._keep or (lambda _: True), document.manifests)
        return self._sort_in(self._supported(children), self.unclear)

    def _supported(self, nodes: Iterable[Descriptor]) -> list[Descriptor]:
        """Return a root, or the children of an index, without those that cannot be followed, which are a fault."""
        supported = []
        for node in nodes:
            if not node.is_unsupported:
                supported.append(node)
            elif node.digest not in self.unsupported:
                self._leave_out(node)
        return supported

    def _leave_out(self, node: Descriptor) -> None:
        self.unsupported[node.digest] = self.absent[node.digest] = node
        self._on_fault(node, manifest.unsupported(node))

    def _note_blob(self, link: Descriptor) -> None:
        (self.foreign if link.is_foreign and not self._foreign else self.blobs).setdefault(link.digest, link)

    def _sort_in(
        self, links: Iterable[Descriptor], unclear: dict[Digest, Descriptor] | None = None
    ) -> list[Descriptor]:
        """Note blobs; return the manifests that are new and within the budget.

        Where a manifest belongs, other content goes to `unclear`, once.
        """
        fresh = []
        for link in links:
            is_new = link.digest not in self.seen
            if not self._agrees(self.seen.setdefault(link.digest, link), link):
                continue
            if unclear is not None and not link.is_manifest:
                if link.digest not in self._settled:
                    unclear.setdefault(link.digest, link)
            elif not link.is_manifest:
                self._note_blob(link)
            elif is_new and self.affords(link):
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


def same_kind(one: str, other: str) -> bool:
    """Return True if one digest may have both media types. A blob's type is only a label (docs/adr/0004)."""
    return one == other or MANIFEST_TYPES.isdisjoint((one, other))
