"""What one image is, whole: in a registry, or in a layout. Its layers are not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mirror.content.graph import Graph, walk
from mirror.content.image_config import platform_of, read_config, summarize
from mirror.content.store import Source
from mirror.errors import ContentError
from mirror.layout import Layout
from mirror.layout.referrers import LayoutReferrers, Referrer, is_attachable, walk_entry
from mirror.oci.descriptor import Descriptor
from mirror.oci.manifest import Node
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions, pull_source
from mirror.report.images import Inspected, Part, Platformed, Referring
from mirror.retry import ONCE, RetryPolicy
from mirror.strictjson import JsonObject


async def inspect_layout(path: Path | str, images: Sequence[str] = ()) -> list[Inspected]:
    """Images of a layout, whole.

    Raises:
        NotFound: there is no such folder or image.
        ContentError: the layout or the image is broken.
    """
    with Layout.open(Path(path)) as layout:
        chosen, known = layout.find(images), LayoutReferrers(layout, layout.entries())
        found: dict[str, Inspected] = {}
        covered: set[str] = set()
        for entry in sorted(chosen, key=is_attachable):  # images first: they tell what is attached to them
            if images or entry.name not in covered:
                graph = await walk_entry(layout, entry)
                attached = [] if is_attachable(entry) else await known.of(entry, graph)
                covered |= {other.entry.name for other in attached}
                whole = await _inspect(layout, graph, entry.name, dict(entry.root.annotations))
                found[entry.name] = replace(whole, referrers=tuple(_referring(attached)))
        return [found[entry.name] for entry in chosen if entry.name in found]


def _referring(attached: Sequence[Referrer]) -> Iterator[Referring]:
    for other in attached:
        for node in (other.graph.nodes.get(digest) for digest in other.members):
            if node:
                tag = None if other.is_list else other.entry.tag
                yield Referring(other.subject, _part(node.descriptor), node.document.kind, tag)


async def inspect_image(
    image: str, options: RegistryOptions | None = None, retry: RetryPolicy | None = None
) -> Inspected:
    """An image of a registry, whole; its layers are not fetched.

    Raises:
        NotFound: there is no such image.
        TransferError: the registry could not be reached or refused.
        ContentError: what it sent is not what it should be.
    """
    reference, again = Reference.parse(image), retry or RetryPolicy()
    async with Client(options or RegistryOptions()) as client:
        source = pull_source(client, reference)
        root = await again.run(lambda: source.resolve(reference.target))
        graph = await walk(source, root, retry=again)
        return await _inspect(source, graph, str(reference), {}, again)


async def _inspect(
    source: Source, graph: Graph, name: str, annotations: JsonObject, retry: RetryPolicy = ONCE
) -> Inspected:
    offered = {child.digest: child for node in graph.nodes.values() for child in node.document.manifests}
    parts = [
        await _part_of(source, node, offered.get(node.descriptor.digest, node.descriptor), retry)
        for node in graph.nodes.values()
        if not node.document.is_index
    ]
    root = graph.nodes.get(graph.root.digest)
    return Inspected(
        name=name,
        root=_part(graph.root),
        parts=tuple(parts),
        blobs=len(graph.blobs),
        size=graph.size,
        annotations=annotations,
        raw=root.data if root else b"",
    )


async def _part_of(source: Source, node: Node, offered: Descriptor, retry: RetryPolicy) -> Platformed:
    platform = offered.platform if offered.platform and offered.platform.known else None
    try:
        config = await read_config(source, node, retry) or b"{}"
        settings, platform = summarize(config), platform or platform_of(config)
    except ContentError as error:
        settings = {"problem": str(error)}  # to look at what is broken is what inspecting is for
    return Platformed(
        platform=str(platform) if platform else None,
        manifest=_part(node.descriptor),
        config=_part(node.document.config) if node.document.config else None,
        layers=tuple(_part(layer) for layer in node.document.layers),
        settings=settings,
        about=offered.attests,
    )


def _part(node: Descriptor) -> Part:
    return Part(node.digest, node.media_type, node.size)
