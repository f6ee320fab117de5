"""Walk a graph whose manifests have to be fetched: find everything to transfer before anything is transferred.

Manifests are small, and their size is limited, so all of them are fetched first, siblings concurrently. This provides
totals, a plan to show, deduplication, and ranks: content always comes before the manifests that reference it.
"""

from __future__ import annotations

from dataclasses import replace

from mirror.concurrency import map_concurrently
from mirror.content import stream
from mirror.content.graph import Graph, Keep, OnFault, Walk, fail
from mirror.content.limits import Budget
from mirror.content.store import Source, remembers
from mirror.errors import InvalidContent, LimitExceeded, MirrorError
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.manifest import Node
from mirror.retry import ONCE, RetryPolicy

_AT_ONCE = 8  # manifests fetched concurrently


async def walk(
    source: Source,
    root: Descriptor,
    *,
    keep: Keep | None = None,
    foreign: bool = False,
    embedded: bool = True,
    retry: RetryPolicy = ONCE,
    on_fault: OnFault = fail,
    known: Node | None = None,
) -> Graph:
    """Fetch every manifest below `root` and note every blob.

    Args:
        source: where to read.
        root: where to start.
        keep: selects the children of indexes to follow; None: all of them.
        foreign: treat foreign layers like other blobs.
        embedded: use manifests that are embedded in descriptors instead of fetching them. The root's are always used.
        retry: how often to try again, for each manifest.
        on_fault: called with every error; by default, the first one ends the walk.
        known: a manifest that has been read already.
    """
    steps = Walk(Budget(root.digest), foreign=foreign, on_fault=on_fault)
    graph = Graph(root, blobs=steps.blobs, foreign=steps.foreign, absent=steps.absent, unsupported=steps.unsupported)

    async def read(node: Descriptor) -> Node | None:
        if known and node.digest == known.descriptor.digest:
            return known._replace(descriptor=node)
        try:
            return await read_node(source, node if embedded or node is root else replace(node, data=None), retry)
        except MirrorError as error:
            on_fault(node, error)
            return None

    async def settle(node: Descriptor) -> None:
        try:
            is_manifest: bool | None = await is_disguised(source, node, retry, steps.affords)
        except MirrorError as error:
            may_be_absent = node.is_foreign and not isinstance(error, LimitExceeded)
            is_manifest = False if may_be_absent else None
            if not may_be_absent:
                on_fault(node, error)
        steps.settle(node, is_manifest)

    level = steps.enter(root, keep)
    await map_concurrently(list(steps.unclear.values()), settle, _AT_ONCE)
    while level:
        nodes = [node for node in await map_concurrently(level, read, _AT_ONCE) if node]
        graph.nodes.update((node.descriptor.digest, node) for node in nodes)
        level = steps.descend(node.document for node in nodes)
        await map_concurrently(list(steps.unclear.values()), settle, _AT_ONCE)
    return graph


async def leaves(source: Source, root: Descriptor, retry: RetryPolicy = ONCE, *, known: Node | None = None) -> Graph:
    """Fetch only the indexes below `root`, except a `known` one; their other children are `absent`."""
    return await walk(source, root, keep=lambda child: child.is_index, retry=retry, known=known)


async def read_node(source: Source, node: Descriptor, retry: RetryPolicy = ONCE) -> Node:
    """Fetch, check and parse one manifest."""
    data = await read_small(source, node, retry)
    return Node(node, data, manifest.parse_once(data, node.media_type, str(node.digest)))


async def is_disguised(
    source: Source, node: Descriptor, retry: RetryPolicy = ONCE, affords: Keep = lambda _: True
) -> bool:
    """Return whether a root, or a child of an index, is a manifest although its media type is that of a blob.

    Of other content only the beginning is read, and nothing if it is larger than a manifest may be. It is not verified:
    damaged, it may be a manifest as well. `affords` is asked before the whole content is read.
    """
    if node.size > MANIFEST_CAP:
        return False

    async def read() -> bytes:
        data = bytearray()
        async with source.open_blob(node) as body:
            async for chunk in body.chunks:
                if not data and not (manifest.may_be_manifest(chunk) and affords(node)):
                    break
                data += chunk
                if len(data) >= node.size:
                    break
        return bytes(data)

    return manifest.is_disguised(await retry.run(read) if node.data is None else node.data)


async def read_small(source: Source, node: Descriptor, retry: RetryPolicy = ONCE) -> bytes:
    """Return the verified bytes of a manifest or a config, which must not be larger than those may be."""
    if node.data is not None:
        return node.data
    node.digest.hasher()
    if node.size > MANIFEST_CAP:
        raise InvalidContent(f"{node.digest} has {node.size} bytes; manifests and configs have at most {MANIFEST_CAP}.")
    known = source.known if remembers(source) else None
    if known and (data := known.get(node)) is not None:
        return data

    async def read() -> bytes:
        async with source.open_blob(node) as body:
            return await stream.read(body, node)

    data = await retry.run(read)
    if known:
        known.add(node.digest, data)
    return data
