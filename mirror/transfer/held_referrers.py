"""The referrers that a layout already has: a transfer adds to them, and drops none of them (docs/adr/0019).

A list becomes the union of both lists. Signatures under a tag of cosign are layers of one manifest, which cannot be
merged without a new digest: the new manifest replaces the old one only if it has all of its layers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mirror.content.graph import Graph
from mirror.content.walk import read_node
from mirror.errors import MirrorError
from mirror.fs.directory import Directory
from mirror.layout import Entry, Layout
from mirror.layout.referrers import Referrer, walk_entry
from mirror.oci.descriptor import OCI_INDEX
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node, parse
from mirror.oci.referrers import list_of

_Content = set[tuple[Digest, tuple[tuple[str, str], ...]]]


class HeldReferrers:
    """Decides what is written to the layout in the directory `path`; once for images that share referrers.

    `replace_tags`: tags of cosign get the new manifest in any case.
    """

    def __init__(self, path: Path, *, replace_tags: bool) -> None:
        self._path, self._replace_tags = path, replace_tags
        self._decided: dict[tuple[str, Digest], Referrer | None] = {}

    async def keep(self, name: str, before: Entry | None, referrer: Referrer, notes: list[str]) -> Referrer | None:
        """Return what is written of a referrer as `name`; None if what the layout has, `before`, stays. Add a note."""
        digest = referrer.entry.root.digest
        if before is None or not before.reference or before.root.digest == digest:
            return referrer
        if (name, digest) not in self._decided:
            self._decided[name, digest] = kept = await self._decide(before, referrer)
            if kept is None:
                notes.append(
                    f"{name}: kept at {before.root.digest.short}, because {digest.short} lacks signatures that it has. "
                    "--replace takes the new one."
                )
        return self._decided[name, digest]

    async def _decide(self, before: Entry, referrer: Referrer) -> Referrer | None:
        with Layout(Directory.open(self._path)) as layout:
            if referrer.is_list:
                return await _united(layout, before, referrer)
            return referrer if self._replace_tags or not await _has_more(layout, before, referrer) else None

    def forget(self) -> None:
        """Decide anew, because the layout has changed."""
        self._decided.clear()


async def _united(layout: Layout, before: Entry, referrer: Referrer) -> Referrer:
    """Return a list of referrers with those that the layout lists in the entry `before`, as far as they are intact."""
    old = await _listed(layout, before)
    new = {digest: referrer.graph.nodes[digest] for digest in referrer.members if digest in referrer.graph.nodes}
    if old.keys() <= new.keys():
        return referrer
    listed = {**old, **new}
    data = list_of(listed.values())
    root = replace(referrer.entry.root, media_type=OCI_INDEX, digest=Digest.of(data), size=len(data), data=None)
    nodes = {digest: node for digest, node in referrer.graph.nodes.items() if digest != referrer.entry.root.digest}
    nodes |= {**listed, root.digest: Node(root, data, parse(data, OCI_INDEX, str(root.digest)))}
    graph = replace(referrer.graph, root=root, nodes=nodes)
    return replace(referrer, entry=replace(referrer.entry, root=root), graph=graph)


async def _listed(layout: Layout, entry: Entry) -> dict[Digest, Node]:
    nodes: dict[Digest, Node] = {}
    try:
        children = (await read_node(layout, entry.root)).document.manifests
    except MirrorError:
        return nodes  # damaged, and about to be replaced
    for child in (child for child in children if child.is_manifest):
        try:
            nodes[child.digest] = await read_node(layout, child)
        except MirrorError:
            continue
    return nodes


async def _has_more(layout: Layout, before: Entry, referrer: Referrer) -> bool:
    """Return whether the layout has intact signatures under a tag of cosign that the new manifest lacks."""
    try:
        old = await walk_entry(layout, before)
    except MirrorError:
        return False
    intact = [await layout.has(blob) for blob in old.blobs.values()]
    return all(intact) and not _content(old) <= _content(referrer.graph)


def _content(graph: Graph) -> _Content:
    """Return the layers of a graph. The payloads of two signatures may be equal; then their annotations differ."""
    layers = (layer for node in graph.nodes.values() for layer in node.document.layers)
    return {(layer.digest, tuple(sorted(layer.annotations.items()))) for layer in layers}
