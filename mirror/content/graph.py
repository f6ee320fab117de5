"""The walk: from a root to everything that has to move, before anything moves.

Manifests are small and capped, so the whole graph of them is fetched first, siblings at once. That gives totals, a
plan that can be shown, each content once, and ranks: what is named always comes before what names it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from graphlib import TopologicalSorter

from mirror.concurrency import map_concurrently
from mirror.content import stream
from mirror.content.store import Source
from mirror.errors import InvalidContent
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.retry import ONCE, RetryPolicy

# Limits against a hostile registry. The largest real images have some hundred manifests, two deep.
MOST_MANIFESTS = 10_000
MOST_BYTES = 64 * 1024 * 1024  # of all manifests of one image, which are held in memory
DEEPEST = 32
_AT_ONCE = 8  # manifests fetched concurrently

Keep = Callable[[Descriptor], bool]


@dataclass(slots=True)
class Graph:
    """All that one root names.

    `nodes` holds the manifests in the order in which they were found, `blobs` everything else; `foreign` the layers
    that live elsewhere and are left out, `absent` the children that were not to be followed.
    """

    root: Descriptor
    nodes: dict[Digest, Node] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    foreign: dict[Digest, Descriptor] = field(default_factory=dict)
    absent: dict[Digest, Descriptor] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(blob.size for blob in self.blobs.values())

    @property
    def kept(self) -> list[Digest]:
        """The children of its indexes that were followed, indexes themselves aside."""
        children = [child for node in self.nodes.values() for child in node.document.manifests]
        return [child.digest for child in children if not child.is_index and child.digest not in self.absent]

    def check_hashable(self) -> None:
        """Refuse what cannot be verified, before anything moves.

        Raises:
            InvalidDigest: something is named by a digest that cannot be computed.
        """
        for digest in (*self.nodes, *self.blobs):
            digest.hasher()

    def largest_first(self) -> list[Descriptor]:
        return sorted(self.blobs.values(), key=lambda blob: (-blob.size, blob.digest))

    def ranks(self) -> list[list[Node]]:
        """The manifests, rank by rank: each names only content of the ranks before it; the root is the last."""
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
        """The manifests, as `ranks` has them."""
        for rank in self.ranks():
            yield from (node.descriptor for node in rank)


async def walk(
    source: Source, root: Descriptor, *, keep: Keep | None = None, foreign: bool = False, retry: RetryPolicy = ONCE
) -> Graph:
    """Fetch every manifest below `root` and note every blob.

    Args:
        source: where to read.
        root: where to start.
        keep: which children of an index to follow; all of them where it is None.
        foreign: whether to treat foreign layers as blobs like any other.
        retry: how stubborn to be with each manifest.

    Raises:
        ContentError: a manifest is not what its digest names, is broken, or contradicts another one.
        MirrorError: a manifest could not be read, or the graph is larger than any honest one.
    """
    steps = _Walk(Graph(root), keep, foreign)
    level = steps.sort_in([root])
    for _ in range(DEEPEST):
        nodes = await map_concurrently(level, lambda node: read_node(source, node, retry), _AT_ONCE)
        level = [link for node in nodes for link in steps.add(node)]
        if not level:
            return steps.found
    raise InvalidContent(f"{root.digest} nests more than {DEEPEST} levels deep.")


async def leaves(source: Source, root: Descriptor, retry: RetryPolicy = ONCE) -> Graph:
    """Open nothing but the indexes below `root`; their other children are `absent`.

    Raises:
        MirrorError: as `walk`.
    """
    return await walk(source, root, keep=lambda child: child.is_index, retry=retry)


async def read_node(source: Source, node: Descriptor, retry: RetryPolicy = ONCE) -> Node:
    """Fetch, check and parse one manifest.

    Raises:
        MirrorError: as `walk`.
    """
    data = await read_small(source, node, retry)
    return Node(node, data, manifest.parse(data, node.media_type, str(node.digest)))


async def read_small(source: Source, node: Descriptor, retry: RetryPolicy = ONCE) -> bytes:
    """The verified bytes of a manifest or a config.

    Raises:
        InvalidContent: it is larger than such a thing can be.
        MirrorError: as `walk`.
    """
    if node.data is not None:
        return node.data
    if node.size > MANIFEST_CAP:
        raise InvalidContent(f"{node.digest} has {node.size} bytes; {MANIFEST_CAP} are the most for its kind.")

    async def read() -> bytes:
        async with source.open_blob(node) as body:
            return await stream.read(body, node)

    return await retry.run(read)


class _Walk:
    """What a walk has seen so far, and the rules that it holds every link to."""

    def __init__(self, found: Graph, keep: Keep | None, foreign: bool) -> None:
        self.found = found
        self._keep, self._foreign = keep, foreign
        self._named: dict[Digest, Descriptor] = {}
        self._manifests = self._bytes = 0

    def add(self, node: Node) -> list[Descriptor]:
        """Note a manifest that has been read, and return the manifests that it leads to."""
        self.found.nodes[node.descriptor.digest] = node
        if not (node.document.is_index and self._keep):
            return self.sort_in(node.document.links)
        for child in node.document.manifests:
            if not self._keep(child):
                self.found.absent.setdefault(child.digest, child)
        return self.sort_in(filter(self._keep, node.document.manifests))

    def sort_in(self, links: Iterable[Descriptor]) -> list[Descriptor]:
        """Note blobs, and return the manifests that are new."""
        fresh = []
        for link in links:
            new = self._agrees(link)
            if link.is_manifest:
                if new:
                    self._count(link)
                    fresh.append(link)
            elif link.is_foreign and not self._foreign:
                self.found.foreign.setdefault(link.digest, link)
            else:
                self.found.blobs.setdefault(link.digest, link)
        return fresh

    def _count(self, link: Descriptor) -> None:
        """Before it is read: sizes are checked while reading, so what is declared is what it can cost."""
        self._manifests += 1
        self._bytes += link.size
        if self._manifests > MOST_MANIFESTS:
            raise InvalidContent(f"{self.found.root.digest} names more than {MOST_MANIFESTS} manifests.")
        if self._bytes > MOST_BYTES:
            raise InvalidContent(f"The manifests of {self.found.root.digest} have more than {MOST_BYTES} bytes in all.")

    def _agrees(self, link: Descriptor) -> bool:
        """Whether this is the first link to its content.

        One digest has one size and one kind. The type of a blob is only a label, and may differ (docs/adr/0004).
        """
        other = self._named.setdefault(link.digest, link)
        if other.size != link.size:
            raise InvalidContent(
                f"{link.digest} is said to have {other.size} bytes in one place and {link.size} in another."
            )
        if other.media_type != link.media_type and (other.is_manifest or link.is_manifest):
            raise InvalidContent(
                f"{link.digest} is called {other.media_type} in one place and {link.media_type} in another."
            )
        return other is link
