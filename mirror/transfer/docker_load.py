"""What docker loads of an image: one platform, under a whole name, and nothing that is about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mirror.content.graph import leaves, walk
from mirror.content.image_config import diff_ids_of, platform_of, read_config
from mirror.content.select import INDEX
from mirror.errors import InvalidContent, UsageError
from mirror.layout import Entry
from mirror.oci import platforms
from mirror.oci.descriptor import Descriptor, Platform
from mirror.oci.reference import Reference
from mirror.retry import ONCE, RetryPolicy
from mirror.text import count
from mirror.transfer.attachments import ReferrerCopies
from mirror.transfer.outgoing import SelectedSourceImage, SourceImage, noted


async def for_docker(offered: SourceImage, platform: Platform | None, retry: RetryPolicy = ONCE) -> SelectedSourceImage:
    """The one image of it that docker is going to load: for a platform, this host's where it is None.

    Raises:
        NotFound: there is none for this platform.
        UsageError: docker cannot load it.
    """
    source, entry, name = offered.source, offered.entry, offered.name
    chosen = await _choose(offered, platform, retry)
    graph = await walk(source, chosen, retry=retry)
    image = graph.nodes[chosen.digest]
    config = await read_config(source, image, retry)
    if config is None or graph.foreign:
        what = "has layers that live elsewhere" if config else "is no image"
        raise UsageError(
            f"{name} {what}, so docker cannot load it.", hint="Name the images that it can load, or use an oci-archive."
        )
    layers, diff_ids = image.document.layers, diff_ids_of(config, f"the config of {name}")
    if len(layers) != len(diff_ids):
        raise InvalidContent(f"{name} has {len(layers)} layers, and {len(diff_ids)} diff_ids in its config.")
    offered_for = chosen.platform or platform_of(config)
    if platform and not platforms.fits(platform, offered_for):
        raise platforms.absent(platform, [offered_for], name)
    annotations = noted(entry, graph)
    if chosen.digest != entry.root.digest:
        annotations[INDEX] = entry.root.digest
    root = replace(chosen, annotations=annotations, data=None)
    return SelectedSourceImage(offered, root, graph, (str(offered_for),) if offered_for else ())


async def _choose(offered: SourceImage, platform: Platform | None, retry: RetryPolicy) -> Descriptor:
    """The manifest for a platform: of several, this host's where none is named."""
    root = offered.entry.root
    if not root.is_index:
        return root
    indexes = await leaves(offered.source, root, retry)
    children = [child for node in indexes.nodes.values() for child in node.document.manifests]
    there = [child for child in children if not (child.is_index or child.attests) and offered.there(child)]
    if len(there) == 1 and not platform:
        return there[0]
    return platforms.select(there, [platform or Platform.host()], offered.entry.name)[0]


def check_names(named: Sequence[tuple[str, Entry]], where: str, *, given: bool) -> None:
    """Whether every image has a whole name, which docker wants; `given` is whether a person has said it.

    Raises:
        UsageError: one has none.
    """
    for name, entry in named:
        if not (entry.reference or given):
            raise UsageError(
                f"{where} does not say which repository {name!r} is from, and docker would make one up.",
                hint="Take it alone, and say what to call it: --as registry.internal/team/app:v1.",
            )


def remarks_on_names(images: Sequence[SelectedSourceImage]) -> list[str]:
    """What a person should know of what docker is going to call some images."""
    return [
        f"{image.offer.name} has no tag, so docker loads it without a name."
        for image in images
        if not Reference.parse(image.offer.name).tag
    ]


def stay_out(images: Sequence[SelectedSourceImage], company: Sequence[ReferrerCopies]) -> list[str]:
    """What a person should know of what refers to images that go to docker."""
    going = {image.root.digest for image in images}
    left = {digest for others in company for one in others.found for digest in one.members} - going
    stay = "stays" if len(left) == 1 else "stay"
    return [f"{count(len(left), 'referrer')} of these images {stay} out: docker has no place for them."] if left else []
