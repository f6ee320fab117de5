"""The part of an image that docker loads: the manifest of one platform."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mirror.content.graph import Keep
from mirror.content.image_config import diff_ids_of, has_rootfs, platform_of, read_config
from mirror.content.select import SelectedImage
from mirror.content.store import Source
from mirror.content.walk import leaves, walk
from mirror.errors import InvalidContent, UsageError
from mirror.layout import Entry
from mirror.oci import platforms
from mirror.oci.descriptor import Descriptor, Platform
from mirror.oci.digest import Digest
from mirror.retry import RetryPolicy


async def select_for_docker(
    source: Source,
    entry: Entry,
    name: str,
    present: Keep,
    holds: Callable[[Digest], bool],
    platform: Platform | None,
    retry: RetryPolicy,
) -> SelectedImage:
    """Select and walk the one manifest of an image that docker is going to load as `name`.

    `present` accepts the children of its indexes that the store has, `holds` the foreign layers. Without `platform`,
    and if there are several, the one for this host is selected. Raise UsageError if docker cannot load it.
    """
    chosen = await _choose(source, entry, present, platform, retry)
    graph = await walk(source, chosen, retry=retry)
    image = graph.nodes[chosen.digest]
    config = await read_config(source, image, retry)
    if config is None or not has_rootfs(config):
        raise UsageError(
            f"{name} is not an image, so docker cannot load it.",
            hint="List the images that it can load, or use an oci-archive.",
        )
    if not all(map(holds, graph.foreign)):
        raise UsageError(
            f"{name} has layers that are stored elsewhere, so docker cannot load it.",
            hint="Pull it again with --include-foreign, which fetches them from their URLs, or use an oci-archive.",
        )
    _check_layers(name, image.document.layers)
    layers, diff_ids = image.document.layers, diff_ids_of(config, f"the config of {name}")
    if len(layers) != len(diff_ids):
        raise InvalidContent(f"{name} has {len(layers)} layers, but its config has {len(diff_ids)} diff_ids.")
    offered = chosen.platform or platform_of(config)
    if platform and not platforms.fits(platform, offered):
        raise platforms.absent(platform, [offered], name)
    return SelectedImage(chosen, entry.root.digest, graph, (str(offered),) if offered else ())


def _check_layers(name: str, layers: Sequence[Descriptor]) -> None:
    """Raise UsageError if docker cannot unpack a layer."""
    for layer in layers:
        if layer.is_encrypted:
            raise UsageError(
                f"{name} has encrypted layers, so docker cannot load it.",
                hint="Decrypt it first, as with skopeo copy --decryption-key KEY, or use an oci-archive.",
            )
        if not layer.is_tar:
            raise UsageError(
                f"{name} has a layer of type {layer.media_type[:200]}, which docker cannot load.",
                hint="Use an oci-archive.",
            )


async def _choose(
    source: Source, entry: Entry, present: Keep, platform: Platform | None, retry: RetryPolicy
) -> Descriptor:
    if not entry.root.is_index:
        return entry.root
    children = (await leaves(source, entry.root, retry)).children
    candidates = [child for child in children if not (child.is_index or child.attests) and present(child)]
    if len(candidates) == 1 and not platform:
        return candidates[0]
    return platforms.select(candidates, [platform or Platform.host()], entry.name)[0]
