"""Record images of registries, a layout or an archive.

    1. walk the graph, verifying every manifest
    2. read and verify the configs
    3. get the date of every layer: Last-Modified from a HEAD request, or the time of a file in a layout

Layers are not read: a record lists what the manifests reference, and `verify` checks whether the layers match.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from mirror.archive.reader import Archive
from mirror.concurrency import map_concurrently
from mirror.content.graph import Graph
from mirror.content.limits import MOST_BYTES, affordable
from mirror.content.store import Source
from mirror.content.walk import read_small, walk
from mirror.errors import InvalidContent, UsageError
from mirror.layout import Entry, Layout
from mirror.layout.referrers import LayoutReferrers, walk_entry
from mirror.layout.referring import can_refer
from mirror.oci.descriptor import Descriptor
from mirror.oci.reference import Reference
from mirror.records import CAP, Record, build_record, image_configs
from mirror.registry import Client, RegistryOptions
from mirror.retry import ONCE, RetryPolicy
from mirror.stores.images import StoreImage
from mirror.stores.local import LocalImages
from mirror.stores.location import Location, Transport
from mirror.stores.open import opened_images
from mirror.stores.remote import RegistryImages

DateOf = Callable[[Descriptor], Awaitable[float | None]]  # returns the Last-Modified of a layer

_CONCURRENCY = 8  # small requests about one image
_IMAGES = 4  # images of registries at once


@dataclass(frozen=True, slots=True)
class RecordOptions:
    """Options of `record_images`.

    Attributes:
        name: the name in the record, if there is only one image; by default the image's own name.
        retry: how often to try each request.
        registries: how to connect to registries.
    """

    name: str | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def record_images(
    what: Path | str, images: Sequence[str] = (), options: RecordOptions | None = None
) -> list[Record]:
    """Record images of registries, or of a layout or an archive.

    Args:
        what: an image name, a directory or an archive, or a location with a prefix such as `oci:`.
        images: the images of a layout or archive, by default all except referrers of other images; after an image
            name, more images of registries.
        options: see `RecordOptions`.

    Raises:
        NotFound: there is no such directory, archive or image.
        UsageError: an image has no name, or some of its platforms were left out on purpose.
        TransferError: the registry could not be reached, or refused the request.
        ContentError: the layout, a manifest or a config is broken.
    """
    options, location = options or RecordOptions(), Location.parse(str(what))
    if location.transport is Transport.REGISTRY:
        names = dict.fromkeys(Reference.parse(name) for name in (location.where, *images))
        _check_name(options.name, list(map(str, names)), "The registries")
        async with Client(options.registries) as client:
            store = RegistryImages(client, list(names), options.retry)
            record = partial(_record_from_registry, store, options)
            with location.explained():
                return await map_concurrently(store.images(), record, _IMAGES)
    async with opened_images(str(what), images, options.registries, options.retry) as local:
        assert isinstance(local, LocalImages), "the location is not in a registry"
        entries = local.entries(images) if images else await _without_referrers(local)
        _check_name(options.name, [entry.name for entry in entries], local.name)
        return [await _record_entry(local.store, entry, options.name) for entry in entries]


def _check_name(name: str | None, images: Sequence[str], where: str) -> None:
    if name and len(images) > 1:
        raise UsageError(f"{where}: {len(images)} images cannot all be named {name!r}.", hint="Choose one image.")


async def _record_from_registry(store: RegistryImages, options: RecordOptions, image: StoreImage) -> Record:
    entry, source = await store.resolve(image), store.source(image)
    assert image.reference is not None, "registry images have references"
    graph = await walk(source, entry.root, retry=options.retry)
    name = Reference.parse(options.name) if options.name else image.reference
    return await _record(source, partial(store.modified, image.reference), graph, name, options.retry)


async def _without_referrers(store: LocalImages) -> list[Entry]:
    entries = store.entries()
    referrers, found = LayoutReferrers(store.store, store.known()), set[str]()
    for entry in entries:
        if not can_refer(entry):
            found.update(one.entry.name for one in await referrers.of(entry, await walk_entry(store.store, entry)))
    return [entry for entry in entries if not can_refer(entry) or entry.name not in found]


async def _record_entry(store: Layout | Archive, entry: Entry, name: str | None) -> Record:
    if name is None and entry.reference is None:
        raise UsageError(
            f"{entry.name}: the layout does not say which repository the image is from.",
            hint="Name the image with --as NAME.",
        )
    if entry.kept is not None:
        raise UsageError(
            f"{entry.name}: platforms were left out of this layout on purpose, so it cannot be recorded from here.",
            hint=f"Record it from its registry: mirror record {entry.name}",
        )
    graph = await walk_entry(store, entry)
    if graph.absent:
        raise UsageError(
            f"{entry.name}: {store.path} has only some of its platforms, so it cannot be recorded from here.",
            hint=f"Record it from its registry: mirror record {entry.name}",
        )
    return await _record(store, store.modified, graph, Reference.parse(name or entry.name), ONCE)


async def _record(source: Source, date_of: DateOf, graph: Graph, name: Reference, retry: RetryPolicy) -> Record:
    documents = {digest: node.document for digest, node in graph.nodes.items()}
    configs = image_configs(documents)
    if len(affordable(configs.values())) < len(configs):
        raise InvalidContent(f"{name}: its configs have more than {MOST_BYTES} bytes in total.")
    contents = await map_concurrently(configs.values(), lambda config: read_small(source, config, retry), _CONCURRENCY)
    layers = {layer.digest: layer for one in documents.values() for layer in one.layers if not layer.is_foreign}
    dates = await map_concurrently(layers.values(), lambda layer: retry.run(lambda: date_of(layer)), _CONCURRENCY)
    record = build_record(
        name.familiar,
        graph.root,
        documents,
        dict(zip(configs, contents, strict=True)),
        dict(zip(layers, dates, strict=True)),
    )
    if record.estimated_length > CAP:
        raise InvalidContent(f"{name}: its record would have more than {CAP} bytes, the maximum.")
    for manifest in record.manifests:
        if manifest.image is None:
            raise InvalidContent(f"{name}: {manifest.digest} is not a manifest, so the image cannot be recorded.")
    return record
