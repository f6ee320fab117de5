"""Select the platforms of an image (docs/adr/0005).

all platforms        the index as it was published
one platform         its manifest becomes the root
several              a new index: same media type, same order, attestations with their images
sparse               the published index; the other children are absent on purpose
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from mirror.content.graph import Graph, Keep, fail_unless_unsupported
from mirror.content.image_config import platform_of, read_config
from mirror.content.store import Source
from mirror.content.walk import is_disguised, leaves, read_node, walk
from mirror.oci import manifest, platforms
from mirror.oci.descriptor import Descriptor, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node, build_index, raw_children
from mirror.retry import ONCE, RetryPolicy
from mirror.strictjson import JsonObject

Held = Callable[[Descriptor, Sequence[Descriptor]], Keep]  # gets a published index, and its children without indexes


@dataclass(frozen=True, slots=True)
class PlatformSelection:
    """The requested platforms; by default, this host's.

    Attributes:
        platforms: the requested ones.
        all: all platforms.
        sparse: keep the published index.
        foreign: also fetch foreign layers, from the URLs that the manifests give.
    """

    platforms: tuple[Platform, ...] = ()
    all: bool = False
    sparse: bool = False
    foreign: bool = False

    @property
    def wanted(self) -> tuple[Platform, ...]:
        return self.platforms or (Platform.host(),)


@dataclass(frozen=True, slots=True)
class SelectedImage:
    """The selected part of an image: its root, and everything below it.

    `published` is the digest of the root that the image's name points to.
    """

    root: Descriptor
    published: Digest
    graph: Graph
    platforms: tuple[str, ...]
    warnings: list[str] = field(default_factory=list)

    @property
    def subjects(self) -> list[Digest]:
        """The digests that referrers may refer to: published manifests that are kept, and the published root."""
        built = self.root.digest if self.root.is_index and self.root.digest != self.published else None
        return [digest for digest in dict.fromkeys((self.published, *self.graph.nodes)) if digest != built]


async def select(
    source: Source,
    root: Descriptor,
    choice: PlatformSelection,
    image: str,
    retry: RetryPolicy = ONCE,
    there: Keep | None = None,
    held: Held | None = None,
) -> SelectedImage:
    """Walk the requested part of the image below the published `root`; errors call it `image`.

    `there` accepts the children of indexes that the source has; None: it has all of them. `held` returns which children
    of the published index are selected in any case. Raise NotFound if the image does not have a requested platform, and
    UnsupportedManifest if its root, or the requested platform, has a type that cannot be followed. Other children of
    such types are left out, and are in the graph's `unsupported`.
    """
    if root.is_unsupported or (not root.is_manifest and await is_disguised(source, root, retry)):
        raise manifest.unsupported(root)
    node = await read_node(source, root, retry)
    if root.artifact_type is None:  # a HEAD response does not tell it, and the entry in index.json has it
        root = replace(root, artifact_type=node.document.artifact_type)
    if node.document.is_index:
        chosen, keep = await _choose(source, node, choice, image, retry, there, held)
        on_fault = fail_unless_unsupported(chosen)
        graph = await walk(
            source, chosen, keep=keep, foreign=choice.foreign, retry=retry, on_fault=on_fault, known=node
        )
        present, warnings = names(graph), list[str]()
    else:
        chosen, graph = root, await walk(source, root, foreign=choice.foreign, retry=retry, known=node)
        offered = await _platform(source, node, graph, retry)
        present, warnings = ((str(offered),) if offered else ()), _check(offered, choice, image)
    graph.check_hashable()
    return SelectedImage(replace(chosen, data=None), root.digest, graph, present, warnings)


def names(graph: Graph) -> tuple[str, ...]:
    """Return the platforms of a graph's images, as far as its indexes name them."""
    offered = [child.platform for child in graph.children if child.digest not in graph.absent]
    known = [str(platform) for platform in offered if platform and platform.known]
    if not known and graph.root.platform:
        known = [str(graph.root.platform)]
    return tuple(dict.fromkeys(known))


async def platforms_there(source: Source, graph: Graph) -> tuple[str, ...]:
    """Return the platforms of a graph's images: as `names`, or if there is no index, the config's."""
    known, node = names(graph), graph.nodes.get(graph.root.digest)
    config = None if known or node is None else await read_config(source, node)
    platform = platform_of(config) if config else None
    return (str(platform),) if platform else known


async def _choose(
    source: Source,
    root: Node,
    choice: PlatformSelection,
    image: str,
    retry: RetryPolicy,
    there: Keep | None,
    held: Held | None,
) -> tuple[Descriptor, Keep | None]:
    """Return the root for the requested platforms of an index, and which children to follow (None: all)."""
    if choice.all:
        return root.descriptor, there
    whole = children_of(await leaves(source, root.descriptor, retry, known=root))
    offered = [(child, raw) for child, raw in whole if there is None or there(child)]
    children = [child for child, _ in offered]  # one manifest may be listed for several platforms
    picked = platforms.select(children, choice.wanted, image)
    if held:
        also = held(root.descriptor, [child for child, _ in whole])
        picked = [child for child in children if child in picked or also(child)]
    kept = platforms.with_attestations(children, picked)
    if len(kept) == len(whole):
        return root.descriptor, None
    if choice.sparse:
        digests = {child.digest for child in kept}
        return root.descriptor, lambda child: child.is_index or child.digest in digests
    images = [child for child in picked if child.attests is None]
    if len(images) == 1:
        return images[0], None
    media_type = root.document.media_type
    data = build_index(
        media_type, [raw for child, raw in offered if child in kept], {platforms.INDEX: root.descriptor.digest}
    )
    return Descriptor(media_type, Digest.of(data), len(data), data=data), None


def children_of(indexes: Graph) -> list[tuple[Descriptor, JsonObject]]:
    """Return the descriptors in the indexes of an image, in order: parsed, and as they were published."""
    return [
        (child, raw)
        for node in indexes.nodes.values()
        for child, raw in zip(
            node.document.manifests, raw_children(node.data, str(node.descriptor.digest)), strict=True
        )
        if not child.is_index
    ]


async def _platform(source: Source, image: Node, graph: Graph, retry: RetryPolicy) -> Platform | None:
    """Return the platform in the config of an image without an index; keep the config, so that it is fetched once."""
    data = await read_config(source, image, retry)
    if data is None or image.document.config is None:
        return None
    graph.blobs[image.document.config.digest] = replace(image.document.config, data=data)
    return platform_of(data)


def _check(offered: Platform | None, choice: PlatformSelection, image: str) -> list[str]:
    """Check that an image without an index is for the requested platform. Artifacts fit every platform.

    If no platform was requested, and the image is not for this host's, return a warning.
    """
    if offered is None or choice.all:
        return []
    lacking = [platform for platform in choice.wanted if not platforms.fits(platform, offered)]
    if lacking and choice.platforms:
        raise platforms.absent(lacking[0], [offered], image)
    return [f"{image} has no index: it is for {offered} only, and this host is {lacking[0]}."] if lacking else []
