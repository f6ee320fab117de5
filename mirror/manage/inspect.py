"""Show what an image of a registry or a layout consists of. Layers are not read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mirror.content.graph import Graph, walk
from mirror.content.image_config import platform_of, read_config, summarize
from mirror.content.store import Source
from mirror.errors import ContentError
from mirror.layout import Layout
from mirror.layout.referrers import LayoutReferrers, StoredReferrer, is_attachable, walk_entry
from mirror.oci.descriptor import Descriptor
from mirror.oci.manifest import Node
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions, pull_source
from mirror.report.images import Blob, InspectedImage, InspectedManifest, InspectedReferrer
from mirror.retry import ONCE, RetryPolicy
from mirror.strictjson import JsonObject


async def inspect_layout(path: Path | str, images: Sequence[str] = ()) -> list[InspectedImage]:
    """Inspect images of a layout: those that are named, or all.

    Raises:
        NotFound: there is no such directory or image.
        ContentError: the layout or an image is broken.
    """
    with Layout.open(Path(path)) as layout:
        chosen, known = layout.find(images), LayoutReferrers(layout, layout.entries())
        found: dict[str, InspectedImage] = {}
        shown_as_referrers: set[str] = set()
        for entry in sorted(chosen, key=is_attachable):  # images first: they tell which entries refer to them
            if images or entry.name not in shown_as_referrers:
                graph = await walk_entry(layout, entry)
                referrers = [] if is_attachable(entry) else await known.of(entry, graph)
                shown_as_referrers |= {other.entry.name for other in referrers}
                image = await _inspect(layout, graph, entry.name, dict(entry.root.annotations))
                found[entry.name] = replace(image, referrers=tuple(_inspected_referrers(referrers)))
        return [found[entry.name] for entry in chosen if entry.name in found]


async def inspect_image(
    image: str, options: RegistryOptions | None = None, retry: RetryPolicy | None = None
) -> InspectedImage:
    """Inspect an image of a registry.

    Raises:
        NotFound: there is no such image.
        TransferError: the registry could not be reached, or refused.
        ContentError: a manifest or a config is broken.
    """
    reference, again = Reference.parse(image), retry or RetryPolicy()
    async with Client(options or RegistryOptions()) as client:
        source = pull_source(client, reference)
        root = await again.run(lambda: source.resolve(reference.target))
        graph = await walk(source, root, retry=again)
        return await _inspect(source, graph, str(reference), {}, again)


async def _inspect(
    source: Source, graph: Graph, name: str, annotations: JsonObject, retry: RetryPolicy = ONCE
) -> InspectedImage:
    listed = {child.digest: child for node in graph.nodes.values() for child in node.document.manifests}
    manifests = [
        await _manifest(source, node, listed.get(node.descriptor.digest, node.descriptor), retry)
        for node in graph.nodes.values()
        if not node.document.is_index
    ]
    root = graph.nodes.get(graph.root.digest)
    return InspectedImage(
        name=name,
        digest=graph.root.digest,
        media_type=graph.root.media_type,
        size=graph.root.size,
        manifests=tuple(manifests),
        blobs=len(graph.blobs),
        blob_size=graph.size,
        annotations=annotations,
        raw=root.data if root else b"",
    )


async def _manifest(source: Source, node: Node, listed: Descriptor, retry: RetryPolicy) -> InspectedManifest:
    """Describe one manifest; `listed` is its descriptor in the index, or its own."""
    platform = listed.platform if listed.platform and listed.platform.known else None
    try:
        config = await read_config(source, node, retry) or b"{}"
        settings, platform = summarize(config), platform or platform_of(config)
    except ContentError as error:
        settings = {"problem": str(error)}  # inspecting broken images is useful too
    return InspectedManifest(
        platform=str(platform) if platform else None,
        manifest=_blob(node.descriptor),
        config=_blob(node.document.config) if node.document.config else None,
        layers=tuple(map(_blob, node.document.layers)),
        settings=settings,
        subject=listed.attests,
    )


def _inspected_referrers(referrers: Sequence[StoredReferrer]) -> Iterator[InspectedReferrer]:
    for referrer in referrers:
        tag = None if referrer.is_list else referrer.entry.tag
        for node in filter(None, map(referrer.graph.nodes.get, referrer.members)):
            yield InspectedReferrer(referrer.subject, _blob(node.descriptor), node.document.kind, tag)


def _blob(descriptor: Descriptor) -> Blob:
    return Blob(descriptor.digest, descriptor.media_type, descriptor.size)
