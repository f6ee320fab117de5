"""What a layout holds: list its images, remove one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from mirror.content.graph import walk
from mirror.content.select import platforms_there
from mirror.errors import MirrorError
from mirror.layout import Entry, Layout, LayoutWriter
from mirror.layout.referrers import LayoutReferrers, StoredReferrer, is_attachable, walk_entry
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.report.images import Listed, Listing, Removed


async def list_layout(path: Path | str) -> Listing:
    """The images of a layout, with platforms and sizes; only manifests are read.

    Raises:
        NotFound: there is no such folder.
        BrokenLayout: it is no layout, or its `oci-layout` or `index.json` is broken.
    """
    with Layout.open(Path(path)) as layout:
        blobs: dict[Digest, int] = {}
        heads, families = await _families(layout)
        covered = {other.entry.name: other for some in families.values() for other in some}
        alone = [entry for entry in layout.entries() if entry in heads or entry.name not in covered]
        rows = [await _listed(layout, entry, families.get(entry.name, []), blobs) for entry in alone]
    members = {digest for other in covered.values() for digest in other.members}
    return Listing(str(path), tuple(rows), sum(blobs.values()), len(members))


async def _families(layout: Layout) -> tuple[list[Entry], dict[str, list[StoredReferrer]]]:
    """The entries that are images for certain, and what is attached to each; a broken one has nobody."""
    entries = layout.entries()
    known = LayoutReferrers(layout, entries)
    heads = [entry for entry in entries if not is_attachable(entry)]
    found: dict[str, list[StoredReferrer]] = {}
    for entry in heads:
        with suppress(MirrorError):
            found[entry.name] = await known.of(entry, await walk_entry(layout, entry))
    return heads, found


async def _listed(layout: Layout, entry: Entry, attached: Sequence[StoredReferrer], blobs: dict[Digest, int]) -> Listed:
    root = entry.root
    try:
        graph = await walk_entry(layout, entry)
        platforms = await platforms_there(layout, graph)
        for other in attached:
            if other.failure:
                raise other.failure
    except MirrorError as error:
        return Listed(entry.name, root.digest, root.media_type, problem=str(error))
    blobs.update(
        (blob.digest, blob.size) for one in (graph, *(other.graph for other in attached)) for blob in one.blobs.values()
    )
    return Listed(
        entry.name,
        root.digest,
        root.media_type,
        platforms,
        len(graph.blobs),
        graph.size,
        sparse=entry.kept is not None,
        referrers=len({digest for other in attached for digest in other.members}),
    )


async def remove_image(path: Path | str, image: str) -> Removed:
    """Take one image out of a layout: its entry, what refers to it alone, and then the blobs that nobody else needs.

    Raises:
        NotFound: there is no such folder or image.
        ContentError: another image is broken, so that nobody can tell what it needs. Nothing has been removed.
        StorageError: the disk refused, or another mirror is at work in the layout.
    """
    Layout.open(Path(path)).close()  # refuses what is no layout, before anything is created in it
    async with LayoutWriter.writing(Path(path), alone=True) as layout:
        entry = layout.find([image])[0]
        gone = [*await _attached_to(layout, entry), entry]
        needed: set[Digest] = set()
        for other in layout.entries():
            if other not in gone:
                needed |= await needed_by(layout, other)
        own = {digest for one in gone for digest in await _reachable(layout, one.root)}
        doomed = own - needed
        sizes = {digest: size for digest in doomed if (size := layout.blobs.size(digest)) is not None}
        await layout.remove(gone)
        await layout.delete(sorted(sizes))
    return Removed(
        entry.name,
        entry.root.digest,
        len(sizes),
        sum(sizes.values()),
        len(own & needed),
        [one.name for one in gone[:-1]],
    )


async def _attached_to(layout: Layout, entry: Entry) -> list[Entry]:
    """The entries that are about one image, and about no other."""
    _, families = await _families(layout)
    others = {one.entry.name for name, some in families.items() if name != entry.name for one in some}
    return [one.entry for one in families.get(entry.name, ()) if one.entry.name not in others]


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


async def needed_by(layout: Layout, entry: Entry) -> set[Digest]:
    """All that an image needs.

    Raises:
        MirrorError: a manifest of it is broken, so that nobody can tell.
    """
    graph = await walk_entry(layout, entry)
    return {*graph.nodes, *graph.blobs}
