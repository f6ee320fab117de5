"""Which part of an image is wanted: all of it, one platform, or some (docs/adr/0005).

all platforms        the index as it was published
one platform         its manifest becomes the root
several              an index that we build: the source's type, the original order, attestations with their images
sparse               the published index, with the other children absent on purpose
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mirror.content.graph import Graph, Keep
from mirror.content.image_config import platform_of, read_config
from mirror.content.store import Source
from mirror.content.walk import leaves, read_node, walk
from mirror.oci import platforms
from mirror.oci.descriptor import Descriptor, Platform
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node, build_index, raw_children
from mirror.retry import ONCE, RetryPolicy
from mirror.strictjson import JsonObject

INDEX = "dev.oci-mirror.index"  # annotation: the published index that a choice was made from


@dataclass(frozen=True, slots=True)
class PlatformSelection:
    """What a person asked for. Without `platforms` and `everything`, this host's platform.

    `foreign`: the layers that live elsewhere, too.
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
    """What the choice came to: the root to keep, and all below it.

    `published` is the digest of the root that the image's name stood for.
    """

    root: Descriptor
    published: Digest
    graph: Graph
    platforms: tuple[str, ...]
    warnings: list[str] = field(default_factory=list)

    @property
    def subjects(self) -> list[Digest]:
        """What others may refer to: everything published that is kept, and the root that the name stood for."""
        built = self.root.digest if self.root.is_index and self.root.digest != self.published else None
        return [digest for digest in dict.fromkeys((self.published, *self.graph.nodes)) if digest != built]


async def select(
    source: Source,
    root: Descriptor,
    choice: PlatformSelection,
    image: str,
    retry: RetryPolicy = ONCE,
    there: Keep | None = None,
) -> SelectedImage:
    """Walk the part of an image that is wanted; `there` says which children of its indexes the source has, if not all.

    Raises:
        NotFound: a platform that was asked for is not there.
        InvalidDigest: something is named by a digest that cannot be computed.
        MirrorError: as `walk`.
    """
    node = await read_node(source, root, retry)
    if root.artifact_type is None:  # a HEAD does not tell it, and the entry has it
        root = replace(root, artifact_type=node.document.artifact_type)
    if node.document.is_index:
        chosen, keep = await _choose(source, node, choice, image, retry, there)
        graph = await walk(source, chosen, keep=keep, foreign=choice.foreign, retry=retry)
        platforms_there, warnings = names(graph), []
    else:
        chosen, graph = root, await walk(source, root, foreign=choice.foreign, retry=retry)
        offered = await _platform(source, node, graph, retry)
        platforms_there, warnings = ((str(offered),) if offered else ()), _check(offered, choice, image)
    graph.check_hashable()
    return SelectedImage(replace(chosen, data=None), root.digest, graph, platforms_there, warnings)


def names(graph: Graph) -> tuple[str, ...]:
    """The platforms of a graph's images, as far as its indexes name them."""
    children = [child for node in graph.nodes.values() for child in node.document.manifests]
    offered = [child.platform for child in children if child.digest not in graph.absent]
    known = [str(platform) for platform in offered if platform and platform.known]
    if not known and graph.root.platform:
        known = [str(graph.root.platform)]
    return tuple(dict.fromkeys(known))


async def platforms_there(source: Source, graph: Graph) -> tuple[str, ...]:
    """As `names`; the platform of an image without an index comes from its config.

    Raises:
        MirrorError: the config cannot be read.
    """
    node = graph.nodes.get(graph.root.digest)
    config = None if names(graph) or node is None else await read_config(source, node)
    found = platform_of(config) if config else None
    return (str(found),) if found else names(graph)


async def _choose(
    source: Source, root: Node, choice: PlatformSelection, image: str, retry: RetryPolicy, there: Keep | None
) -> tuple[Descriptor, Keep | None]:
    """The root for some platforms of an index, and which children to follow where that is the published one."""
    if choice.all:
        return root.descriptor, there
    whole = _children(await leaves(source, root.descriptor, retry))
    offered = [(child, raw) for child, raw in whole if there is None or there(child)]
    children = [child for child, _ in offered]  # one manifest may stand there for several platforms
    picked = platforms.select(children, choice.wanted, image)
    kept = platforms.with_attestations(children, picked)
    if len(kept) == len(whole):
        return root.descriptor, None
    if choice.sparse:
        digests = {child.digest for child in kept}
        return root.descriptor, lambda child: child.is_index or child.digest in digests
    if len(picked) == 1:
        return picked[0], None
    return _index_of([raw for child, raw in offered if child in kept], root), None


def _children(indexes: Graph) -> list[tuple[Descriptor, JsonObject]]:
    """What the indexes of an image offer, in the published order: parsed, and as it was published."""
    return [
        (child, raw)
        for node in indexes.nodes.values()
        for child, raw in zip(
            node.document.manifests, raw_children(node.data, str(node.descriptor.digest)), strict=True
        )
        if not child.is_index
    ]


def _index_of(raw: Sequence[JsonObject], root: Node) -> Descriptor:
    """An index of our own over some children, each with its descriptor as it was published."""
    media_type = root.document.media_type
    data = build_index(media_type, raw, {INDEX: root.descriptor.digest})
    return Descriptor(media_type, Digest.of(data), len(data), data=data)


async def _platform(source: Source, image: Node, graph: Graph, retry: RetryPolicy) -> Platform | None:
    """The platform that the config of an image without an index names. The config is kept, not fetched once more."""
    data = await read_config(source, image, retry)
    if data is None or image.document.config is None:
        return None
    graph.blobs[image.document.config.digest] = replace(image.document.config, data=data)
    return platform_of(data)


def _check(offered: Platform | None, choice: PlatformSelection, image: str) -> list[str]:
    """Whether an image for one platform is wanted. Artifacts are for none, and always wanted.

    Returns:
        A warning where it is not this host's, and no platform was asked for.

    Raises:
        NotFound: it is not the platform that was asked for.
    """
    if offered is None or choice.all:
        return []
    lacking = [platform for platform in choice.wanted if not platforms.fits(platform, offered)]
    if lacking and choice.platforms:
        raise platforms.absent(lacking[0], [offered], image)
    return [f"{image} has no index: it is for {offered} only, and this host is {lacking[0]}."] if lacking else []
