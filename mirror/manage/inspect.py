"""Show what an image of a registry, a layout or an archive consists of. Layers are not read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.content.graph import Graph, fail_unless_unsupported
from mirror.content.image_config import platform_of, read_config, summarize
from mirror.content.store import Source
from mirror.content.walk import walk
from mirror.errors import ContentError
from mirror.layout.referrers import LayoutReferrers
from mirror.layout.referring import can_refer
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.registry import RegistryOptions
from mirror.report.images import InspectedBlob, InspectedImage, InspectedManifest, InspectedReferrer
from mirror.retry import ONCE, RetryPolicy
from mirror.stores.local import LocalImages
from mirror.stores.open import opened_images
from mirror.strictjson import JsonObject


@dataclass(frozen=True, slots=True)
class InspectOptions:
    """Options for inspecting: how often to try each request, and how to connect to a registry."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def inspect_images(
    what: Path | str, images: Sequence[str] = (), options: InspectOptions | None = None
) -> list[InspectedImage]:
    """Inspect an image of a registry, or images of a layout or an archive.

    Args:
        what: a location: an image name, a directory, an archive, or one with a prefix such as `oci:`.
        images: which images of a layout or an archive; all of them if empty.
        options: how to inspect.

    Raises:
        NotFound: there is no such directory, archive or image.
        TransferError: the registry could not be reached, or refused.
        ContentError: the layout, a manifest or a config is broken.
    """
    options = options or InspectOptions()
    async with opened_images(str(what), images, options.registries, options.retry) as store:
        if isinstance(store, LocalImages):
            return await _inspect_local(store, images)
        image = store.images()[0]
        root, source = (await store.resolve(image)).root, store.source(image)
        graph = await walk(source, root, retry=options.retry, on_fault=fail_unless_unsupported(root))
        return [await _inspect(source, graph, image.label, {}, options.retry)]


async def _inspect_local(store: LocalImages, images: Sequence[str]) -> list[InspectedImage]:
    chosen, known = store.entries(images), LayoutReferrers(store.store, store.known())
    found: dict[tuple[str, Digest], InspectedImage] = {}
    shown_as_referrers: set[str] = set()
    for entry in sorted(chosen, key=can_refer):  # images first, to know which entries refer to them
        if images or entry.name not in shown_as_referrers:
            present, on_fault = await store.present(entry), fail_unless_unsupported(entry.root)
            graph = await walk(store.store, entry.root, keep=present, foreign=True, on_fault=on_fault)
            referrers = [] if can_refer(entry) else await known.of(entry, graph)
            shown_as_referrers |= {other.entry.name for other in referrers}
            image = await _inspect(store.store, graph, entry.name, dict(entry.root.annotations))
            inspected = [
                InspectedReferrer(
                    one.subject, _blob(node.descriptor), node.document.kind, None if one.is_list else one.entry.tag
                )
                for one in referrers
                for node in filter(None, map(one.graph.nodes.get, one.members))
            ]
            found[entry.name, entry.root.digest] = replace(image, referrers=tuple(inspected))
    keys = [(entry.name, entry.root.digest) for entry in chosen]
    return [found[key] for key in keys if key in found]


async def _inspect(
    source: Source, graph: Graph, name: str, annotations: JsonObject, retry: RetryPolicy = ONCE
) -> InspectedImage:
    listed, root = {child.digest: child for child in graph.children}, graph.root
    nodes = [node for node in graph.nodes.values() if not node.document.is_index]
    return InspectedImage(
        name=name,
        digest=root.digest,
        media_type=root.media_type,
        size=root.size,
        manifests=tuple([await _manifest(source, node, listed.get(node.descriptor.digest), retry) for node in nodes]),
        blobs=len(graph.blobs),
        blob_size=graph.size,
        annotations=annotations,
        raw=graph.nodes[root.digest].data if root.digest in graph.nodes else b"",
    )


async def _manifest(source: Source, node: Node, listed: Descriptor | None, retry: RetryPolicy) -> InspectedManifest:
    """Describe one manifest; `listed` is its descriptor in an index, if it is in one."""
    listed = listed or node.descriptor
    platform = listed.platform if listed.platform and listed.platform.known else None
    try:
        config = await read_config(source, node, retry) or b"{}"
        platform = platform or platform_of(config)
        settings = summarize(config)
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


def _blob(descriptor: Descriptor) -> InspectedBlob:
    return InspectedBlob(descriptor.digest, descriptor.media_type, descriptor.size)
