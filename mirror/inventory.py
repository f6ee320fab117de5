"""What a layout holds: list its images, remove one."""

from __future__ import annotations

from pathlib import Path

from mirror.descriptor import Descriptor
from mirror.digest import Digest
from mirror.errors import MirrorError
from mirror.graph import Graph, walk
from mirror.layout import Entry, Layout, LayoutWriter
from mirror.report.images import Listed, Listing, Removed
from mirror.selection import platforms_there


async def list_layout(path: Path | str) -> Listing:
    """The images of a layout, with platforms and sizes; only manifests are read.

    Raises:
        NotFound: there is no such folder.
        BrokenLayout: it is no layout, or its `oci-layout` or `index.json` is broken.
    """
    with Layout.open(Path(path)) as layout:
        blobs: dict[Digest, int] = {}
        rows = [await _listed(layout, entry, blobs) for entry in layout.entries()]
    return Listing(str(path), tuple(rows), sum(blobs.values()))


async def _listed(layout: Layout, entry: Entry, blobs: dict[Digest, int]) -> Listed:
    root = entry.root
    try:
        graph = await _walk(layout, entry)
        platforms = await platforms_there(layout, graph)
    except MirrorError as error:
        return Listed(entry.name, root.digest, root.media_type, problem=str(error))
    blobs.update((blob.digest, blob.size) for blob in graph.blobs.values())
    sparse = entry.kept is not None
    return Listed(entry.name, root.digest, root.media_type, platforms, len(graph.blobs), graph.size, sparse)


async def remove_image(path: Path | str, image: str) -> Removed:
    """Take one image out of a layout: its entry, and then the blobs that no other image needs.

    Raises:
        NotFound: there is no such folder or image.
        ContentError: another image is broken, so that nobody can tell what it needs. Nothing has been removed.
        StorageError: the disk refused, or another mirror is at work in the layout.
    """
    Layout.open(Path(path)).close()  # refuses what is no layout, before anything is created in it
    async with LayoutWriter.writing(Path(path), alone=True) as layout:
        entry = layout.find([image])[0]
        needed: set[Digest] = set()
        for other in layout.entries():
            if other != entry:
                needed |= await needed_by(layout, other)
        own = await _reachable(layout, entry.root)
        doomed = own - needed
        sizes = {digest: size for digest in doomed if (size := layout.blobs.size(digest)) is not None}
        await layout.remove(entry)
        await layout.delete(sorted(sizes))
    return Removed(entry.name, entry.root.digest, len(sizes), sum(sizes.values()), len(own & needed))


async def _reachable(layout: Layout, root: Descriptor) -> set[Digest]:
    """All that an image names, as far as its manifests can be read: a broken image must be removable too."""
    found: set[Digest] = set()
    todo = [root]
    while todo:
        node = todo.pop()
        if node.digest in found:
            continue
        found.add(node.digest)
        if node.is_manifest:
            try:
                graph = await walk(layout, node, keep=lambda _: False)
            except MirrorError:
                continue  # what it names stays behind as orphans, which verify reports
            todo.extend(link for each in graph.nodes.values() for link in each.document.links)
    return found


async def _walk(layout: Layout, entry: Entry) -> Graph:
    return await walk(layout, entry.root, keep=lambda child: not entry.lacks(child), foreign=True)


async def needed_by(layout: Layout, entry: Entry) -> set[Digest]:
    """All that an image needs.

    Raises:
        MirrorError: a manifest of it is broken, so that nobody can tell.
    """
    graph = await _walk(layout, entry)
    return {*graph.nodes, *graph.blobs}
