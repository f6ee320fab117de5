"""Write down what an image consists of: a digest record, from a registry or a layout.

    1. walk the graph; every manifest is hashed
    2. read the configs, hashed too
    3. ask for the date of every layer: a HEAD, or the time of a file. Layers are not read

What stands in the record is what the manifests name. That the layers are so too, verify says.
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
from mirror.records import CAP, Record, configs_of, describe
from mirror.registry import Client, RegistryOptions, Repository
from mirror.retry import ONCE, RetryPolicy

_AT_ONCE = 8  # small requests at a time


async def record_layout(path: Path | str, images: Sequence[str] = (), *, name: str | None = None) -> list[Record]:
    """The records of images of a layout; where none is named, of all that are no signatures and the like of others.

    Args:
        path: the layout's folder; it is only read.
        images: which images.
        name: what to call the one image in its record, instead of what the layout calls it.

    Raises:
        NotFound: there is no such folder or image.
        UsageError: an image cannot be recorded from here: it has no name, or parts were left out on purpose.
        ContentError: the layout or the image is broken.
    """
    with Layout.open(Path(path)) as layout:
        entries = layout.find(images) if images else await _images(layout)
        if name and len(entries) > 1:
            raise UsageError(f"{len(entries)} images cannot have one name, {name!r}.", hint="Say which image.")
        return [await _record_entry(layout, entry, name) for entry in entries]


async def _images(layout: Layout) -> list[Entry]:
    """The entries of a layout but for those that are about another one: signatures and the like."""
    entries = layout.find()
    known, about = LayoutReferrers(layout, entries), set[str]()
    for entry in entries:
        if not is_attachable(entry):
            about.update(one.entry.name for one in await known.of(entry, await walk_entry(layout, entry)))
    return [entry for entry in entries if not is_attachable(entry) or entry.name not in about]


async def _record_entry(layout: Layout, entry: Entry, name: str | None) -> Record:
    if name is None and entry.reference is None:
        raise UsageError(
            f"The layout does not say which repository {entry.name} is from.", hint="Say it with --as NAME."
        )
    if entry.kept is not None:
        raise UsageError(
            f"Platforms of {entry.name} were left out of this layout on purpose, so it cannot be recorded from here.",
            hint="Record it from its registry.",
        )
    called = Reference.parse(name or entry.name)
    return await _record(layout, await walk(layout, entry.root), called, ONCE)


async def record_image(
    image: str, options: RegistryOptions | None = None, retry: RetryPolicy | None = None, *, name: str | None = None
) -> Record:
    """The record of an image of a registry.

    Args:
        image: its name.
        options: how to talk to the registry.
        retry: how stubborn to be with each request.
        name: what to call the image in its record, such as the name that it was mirrored from.

    Raises:
        NotFound: there is no such image.
        TransferError: the registry could not be reached or refused.
        ContentError: what it sent is not what it should be.
    """
    reference, again = Reference.parse(image), retry or RetryPolicy()
    called = Reference.parse(name) if name else reference
    async with Client(options or RegistryOptions()) as client:
        source = Repository(client.registry(reference.registry), reference.repository)
        root = await again.run(lambda: source.resolve(reference.target))
        return await _record(source, await walk(source, root, retry=again), called, again)


async def _record(source: Dated, graph: Graph, called: Reference, retry: RetryPolicy) -> Record:
    documents = {digest: node.document for digest, node in graph.nodes.items()}
    configs = configs_of(documents)
    if sum(config.size for config in configs.values()) > MOST_BYTES:
        raise InvalidContent(f"The configs of {called} have more than {MOST_BYTES} bytes in all.")
    read = await map_concurrently(configs.values(), lambda config: read_small(source, config, retry), _AT_ONCE)
    layers = {layer.digest: layer for one in documents.values() for layer in one.layers if not layer.is_foreign}

    async def modified(layer: Descriptor) -> float | None:
        return await retry.run(lambda: source.modified(layer))

    dates = await map_concurrently(layers.values(), modified, _AT_ONCE)
    record = describe(
        called.familiar,
        graph.root,
        documents,
        dict(zip(configs, read, strict=True)),
        dict(zip(layers, dates, strict=True)),
    )
    if record.length > CAP:
        raise InvalidContent(f"A record of {called} would have more than {CAP} bytes, and so much no record has.")
    for manifest in record.manifests:
        if manifest.image is None:
            raise InvalidContent(f"{manifest.digest} in {called} is no manifest, so the image cannot be recorded.")
    return record
