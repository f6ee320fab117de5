"""What docker loads of an image: one platform, under a full name, and nothing that refers to it."""

from __future__ import annotations

from collections.abc import Sequence

from mirror.content.graph import Keep
from mirror.content.image_config import diff_ids_of, platform_of, read_config
from mirror.content.select import SelectedImage
from mirror.content.store import Source
from mirror.content.walk import leaves, walk
from mirror.errors import InvalidContent, UsageError
from mirror.layout import Entry
from mirror.oci import platforms
from mirror.oci.descriptor import Descriptor, Platform
from mirror.oci.reference import Reference
from mirror.retry import ONCE, RetryPolicy
from mirror.transfer.image import ImageTransfer


async def select_for_docker(
    source: Source,
    entry: Entry,
    name: str,
    present: Keep,
    platform: Platform | None,
    retry: RetryPolicy = ONCE,
) -> SelectedImage:
    """Walk the one image that docker is going to load.

    Args:
        source: where to read.
        entry: the image in its store.
        name: what docker is going to call it.
        present: which children of its indexes are there.
        platform: which of them; this host's if None.
        retry: how often to try again after a transient failure.

    Raises:
        NotFound: there is none for this platform.
        UsageError: docker cannot load it.
    """
    chosen = await _choose(source, entry, present, platform, retry)
    graph = await walk(source, chosen, retry=retry)
    image = graph.nodes[chosen.digest]
    config = await read_config(source, image, retry)
    if config is None or graph.foreign:
        what = "has layers that are stored elsewhere" if config else "is not an image"
        raise UsageError(
            f"{name} {what}, so docker cannot load it.", hint="Name the images that it can load, or use an oci-archive."
        )
    layers, diff_ids = image.document.layers, diff_ids_of(config, f"the config of {name}")
    if len(layers) != len(diff_ids):
        raise InvalidContent(f"{name} has {len(layers)} layers, but its config has {len(diff_ids)} diff_ids.")
    offered = chosen.platform or platform_of(config)
    if platform and not platforms.fits(platform, offered):
        raise platforms.absent(platform, [offered], name)
    return SelectedImage(chosen, entry.root.digest, graph, (str(offered),) if offered else ())


async def _choose(
    source: Source, entry: Entry, present: Keep, platform: Platform | None, retry: RetryPolicy
) -> Descriptor:
    """The manifest for a platform: of several, this host's if none is named."""
    if not entry.root.is_index:
        return entry.root
    indexes = await leaves(source, entry.root, retry)
    children = [child for node in indexes.nodes.values() for child in node.document.manifests]
    there = [child for child in children if not (child.is_index or child.attests) and present(child)]
    if len(there) == 1 and not platform:
        return there[0]
    return platforms.select(there, [platform or Platform.host()], entry.name)[0]


def check_names(images: Sequence[ImageTransfer], where: str, *, given: bool) -> None:
    """Check that every image has a full name, which docker needs; `given` is whether the user gives one.

    Raises:
        UsageError: one has none.
    """
    for image in images:
        if not (image.image.reference or given):
            raise UsageError(
                f"{where} does not say which repository {image.name!r} is from, and docker would make one up.",
                hint="Export it alone, and give it a name: --as registry.internal/team/app:v1.",
            )


def unnamed(images: Sequence[ImageTransfer]) -> list[str]:
    """Return a warning for each image that docker loads without a name."""
    return [
        f"{image.name} has no tag, so docker loads it without a name."
        for image in images
        if not Reference.parse(image.name).tag
    ]
