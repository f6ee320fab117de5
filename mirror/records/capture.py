"""Record what an image of a registry or a layout consists of.

    1. walk the graph, verifying every manifest
    2. read and verify the configs
    3. get the date of every layer: Last-Modified from a HEAD request, or the time of a file

Layers are not read: a record says what the manifests reference, and `verify` says whether the layers match.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mirror.concurrency import map_concurrently
from mirror.content.graph import MOST_BYTES, Graph, read_small, walk
from mirror.content.store import Dated
from mirror.errors import InvalidContent, UsageError
from mirror.layout import Entry, Layout
from mirror.layout.referrers import LayoutReferrers, is_attachable, walk_entry
from mirror.oci.descriptor import Descriptor
from mirror.oci.reference import Reference
from mirror.records import CAP, Record, build_record, image_configs
from mirror.registry import Client, RegistryOptions, Repository
from mirror.retry import ONCE, RetryPolicy

_CONCURRENCY = 8  # small requests


async def record_layout(path: Path | str, images: Sequence[str] = (), *, name: str | None = None) -> list[Record]:
    """Record images of a layout.

    Args:
        path: the directory of the layout, which is only read.
        images: which images; by default all, without signatures and other referrers of these.
        name: the name in the record, if there is one image; by default its name in the layout.

    Raises:
        NotFound: there is no such directory or image.
        UsageError: an image has no name, or some of its platforms were left out on purpose.
        ContentError: the layout or the image is broken.
    """
    with Layout.open(Path(path)) as layout:
        entries = layout.find(images) if images else await _images(layout)
        if name and len(entries) > 1:
            raise UsageError(f"{path}: {len(entries)} images cannot all be named {name!r}.", hint="Choose one image.")
        return [await _record_entry(layout, entry, name) for entry in entries]


async def _images(layout: Layout) -> list[Entry]:
    """Return the entries of a layout without the referrers of other entries."""
    entries = layout.find()
    referrers, found = LayoutReferrers(layout, entries), set[str]()
    for entry in entries:
        if not is_attachable(entry):
            found.update(one.entry.name for one in await referrers.of(entry, await walk_entry(layout, entry)))
    return [entry for entry in entries if not is_attachable(entry) or entry.name not in found]


async def _record_entry(layout: Layout, entry: Entry, name: str | None) -> Record:
    if name is None and entry.reference is None:
        raise UsageError(
            f"{entry.name}: the layout does not say which repository it is from.", hint="Name the image with --as NAME."
        )
    if entry.kept is not None:
        raise UsageError(
            f"{entry.name}: platforms were left out of this layout on purpose, so it cannot be recorded from here.",
            hint=f"Record it from its registry: mirror record {entry.name}",
        )
    return await _record(layout, await walk(layout, entry.root), Reference.parse(name or entry.name), ONCE)


async def record_image(
    image: str, options: RegistryOptions | None = None, retry: RetryPolicy | None = None, *, name: str | None = None
) -> Record:
    """Record an image of a registry.

    Args:
        image: its name.
        options: how to connect to the registry.
        retry: how often to try each request.
        name: the name in the record, such as the one that it was mirrored from; by default `image`.

    Raises:
        NotFound: there is no such image.
        TransferError: the registry could not be reached, or refused.
        ContentError: a manifest or a config is broken.
    """
    reference, again = Reference.parse(image), retry or RetryPolicy()
    recorded_as = Reference.parse(name) if name else reference
    async with Client(options or RegistryOptions()) as client:
        source = Repository(client.registry(reference.registry), reference.repository)
        root = await again.run(lambda: source.resolve(reference.target))
        return await _record(source, await walk(source, root, retry=again), recorded_as, again)


async def _record(source: Dated, graph: Graph, name: Reference, retry: RetryPolicy) -> Record:
    documents = {digest: node.document for digest, node in graph.nodes.items()}
    configs = image_configs(documents)
    if sum(config.size for config in configs.values()) > MOST_BYTES:
        raise InvalidContent(f"{name}: its configs have more than {MOST_BYTES} bytes in all.")
    contents = await map_concurrently(configs.values(), lambda config: read_small(source, config, retry), _CONCURRENCY)
    layers = {layer.digest: layer for one in documents.values() for layer in one.layers if not layer.is_foreign}

    async def modified(layer: Descriptor) -> float | None:
        return await retry.run(lambda: source.modified(layer))

    record = build_record(
        name.familiar,
        graph.root,
        documents,
        dict(zip(configs, contents, strict=True)),
        dict(zip(layers, await map_concurrently(layers.values(), modified, _CONCURRENCY), strict=True)),
    )
    if record.estimated_length > CAP:
        raise InvalidContent(f"{name}: its record would have more than {CAP} bytes, the maximum.")
    for manifest in record.manifests:
        if manifest.image is None:
            raise InvalidContent(f"{name}: {manifest.digest} is not a manifest, so the image cannot be recorded.")
    return record
