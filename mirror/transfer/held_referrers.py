"""The referrers that a layout already has: a transfer adds to them, and drops none of them (docs/adr/0019).

A list becomes the union of both lists. Signatures under a tag of cosign are layers of one manifest, which cannot be
merged without a new digest: the new manifest replaces the old one only if it has all of its layers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from mirror.content.graph import Graph
from mirror.content.store import Source
from mirror.content.walk import read_node, walk
from mirror.content.wrappers import FallbackSource
from mirror.errors import MirrorError
from mirror.layout import Entry, Layout
from mirror.layout.referrers import Referrer, walk_entry
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.retry import RetryPolicy

_Content = set[tuple[Digest, tuple[tuple[str, str], ...]]]


class HeldReferrers:
    """Decides what is written to a layout; once for images that share referrers.

    `replace_tags`: tags of cosign get the new manifest in any case.
    """

    def __init__(self, *, replace_tags: bool) -> None:
        self._replace_tags = replace_tags
        self._decided: dict[tuple[str, Digest], Referrer | None] = {}

    async def keep(
        self,
        layout: Layout | None,
        name: str,
        before: Entry | None,
        referrer: Referrer,
        notes: list[str],
        source: Source,
        retry: RetryPolicy,
    ) -> Referrer | None:
        """Return what is written of a referrer as `name`; None if what `layout` has, `before`, stays. Add notes.

        Referrers that are damaged in the layout are read from `source`.
        """
        digest = referrer.entry.root.digest
        if layout is None or before is None or not before.reference or before.root.digest == digest:
            return referrer
        if (name, digest) not in self._decided:
            if referrer.is_list:
                lists = _OldLists(layout, source, retry)
                self._decided[name, digest] = await lists.unite(before, referrer, notes)
            else:
                self._decided[name, digest] = await self._newer(layout, before, referrer, notes)
        return self._decided[name, digest]

    async def _newer(self, layout: Layout, before: Entry, referrer: Referrer, notes: list[str]) -> Referrer | None:
        if self._replace_tags or not await _has_more(layout, before, referrer):
            return referrer
        notes.append(
            f"{before.name}: kept at {before.root.digest.short}, because {referrer.entry.root.digest.short} lacks "
            "signatures that it has. --replace takes the new one."
        )
        return None

    def forget(self) -> None:
        """Decide anew, because the layout has changed."""
        self._decided.clear()


@dataclass(frozen=True, slots=True)
class _OldLists:
    """The lists of referrers in a layout. Content that is damaged there is read from `source`, if that has it."""

    layout: Layout
    source: Source
    retry: RetryPolicy

    async def unite(self, before: Entry, referrer: Referrer, notes: list[str]) -> Referrer:
        """Return a list of referrers with those that the layout lists in the entry `before`; note what is damaged."""
        graph = replace(referrer.graph, nodes=dict(referrer.graph.nodes), blobs=dict(referrer.graph.blobs))
        listed = {digest: graph.nodes[digest] for digest in referrer.members if digest in graph.nodes}
        del graph.nodes[referrer.entry.root.digest]
        for child in await self._children(before):
            if child.digest in listed:
                continue
            old, fault = await self._read(child)
            graph.nodes |= old.nodes
            graph.blobs |= old.blobs
            listed |= {child.digest: old.nodes[child.digest]} if child.digest in old.nodes else {}
            if fault:
                what = "no longer listed" if child.is_unsupported else "damaged and cannot be fetched again"
                notes.append(f"{before.name}: its referrer {child.digest} is {what}: {fault}")
        if listed.keys() <= set(referrer.members):
            return referrer
        return referrer.listing(listed, graph)

    async def _children(self, entry: Entry) -> list[Descriptor]:
        try:
            children = (await read_node(self.layout, entry.root)).document.manifests
        except MirrorError:
            return []  # damaged, and about to be replaced
        return [child for child in children if child.is_manifest or child.is_unsupported]

    async def _read(self, child: Descriptor) -> tuple[Graph, MirrorError | None]:
        """Return a referrer, with those of its blobs that have to be copied, and the first fault of it."""
        faults: list[MirrorError] = []
        near = FallbackSource(self.layout, self.source)
        graph = await walk(near, child, on_fault=lambda _, error: faults.append(error), retry=self.retry)
        lacking = [blob for blob in graph.blobs.values() if not await self.layout.has(blob)]
        graph.blobs.clear()
        for blob in lacking:
            try:
                await self.retry.run(partial(_check, self.source, blob))
                graph.blobs[blob.digest] = blob
            except MirrorError as error:
                faults.append(error)
        return graph, next(iter(faults), None)


async def _check(source: Source, blob: Descriptor) -> None:
    """Raise an error if the source does not have the blob."""
    async with source.open_blob(blob):
        pass


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
