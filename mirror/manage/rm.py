"""Remove images from a layout."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path

from mirror.content.walk import walk
from mirror.errors import MirrorError, StorageError, UsageError
from mirror.fs.directory import is_full
from mirror.layout import Entry, Layout, LayoutWriter
from mirror.layout.implied import Relations
from mirror.layout.index import EntryFinder
from mirror.layout.referrers import LayoutReferrers, walk_entry
from mirror.layout.referring import can_refer
from mirror.manage.needed import Needed
from mirror.oci.digest import Digest
from mirror.report.layouts import RemovedImage, RemoveReport
from mirror.report.transfers import Amount
from mirror.stores.location import Location, Transport


async def remove_images(path: Path | str, images: Sequence[str]) -> RemoveReport:
    """Remove images: their entries, the entries that refer to no other image, and the blobs that no other image needs.

    Either all images are removed or none.

    If an earlier call was killed, delete the blobs that it was about to delete.

    Raises:
        UsageError: no image is named, or a text stands for several images, or for several names of one.
        NotFound: there is no such directory or image.
        ContentError: another image is broken, so what it needs is not known. Nothing has been removed.
        StorageError: the disk refused, or another mirror process has locked the layout.
    """
    if not images:
        raise UsageError("Name at least one image.", hint="All images of a layout: delete its directory.")
    directory = Location.of_kind(path, Transport.LAYOUT).directory
    Layout.open(directory).close()  # fails if it is not a layout, before anything is created in it
    async with LayoutWriter.writing(directory, exclusive=True) as layout:
        await _finish_deletion(layout)
        entries, relations = _named(layout, images), Relations.read(layout)
        own = await _own_referrers(layout, entries, relations.complete(layout.entries()))
        removed, left = _divide(relations, layout.entries(), entries, list(chain(*own.values())))
        content = set[Digest]()
        for one in removed:  # a broken manifest can be removed too; its blobs are not known, and become orphans
            graph = await walk(layout, one.root, foreign=True, on_fault=lambda node, _: content.add(node.digest))
            content.update(graph.nodes, graph.blobs)
        needed = await _needed(layout, relations, left, content)
        sizes = {digest: size for digest in content - needed if (size := layout.blobs.size(digest)) is not None}
        await _remove(layout, removed, sizes)
    gone = (
        RemovedImage(entry.name, entry.root.digest, tuple(one.name for one in own.get(_key(entry), ())))
        for entry in {_key(entry): entry for entry in entries}.values()
    )
    return RemoveReport(str(directory), tuple(gone), Amount(len(sizes), sum(sizes.values())), len(content & needed))


def _named(layout: Layout, texts: Sequence[str]) -> list[Entry]:
    """Return the entries to remove; raise UsageError if a digest, or a tag, has several names and so means none."""
    layout.find(texts)  # fails if an image does not exist
    finder, found = EntryFinder(layout.entries(), str(layout.path)), list[Entry]()
    for text in texts:
        matches = finder.find_names(text)
        found += matches
        names = list(dict.fromkeys(entry.name for entry in matches))
        if len(names) > 1:
            raise UsageError(
                f"{layout.path} has {text!r} under {len(names)} names.",
                hint=f"Name those to remove: mirror rm {layout.path} {' '.join(names)}",
            )
    return list(dict.fromkeys(found))


async def _finish_deletion(layout: LayoutWriter) -> None:
    """Delete the blobs that an earlier call was about to delete, except those that an image needs."""
    planned = layout.planned_deletion()
    if not planned:
        return
    with suppress(MirrorError):  # a broken image may need any of them: try again next time
        relations = Relations.read(layout)
        needed = await _needed(layout, relations, relations.complete(layout.entries()), planned)
        await layout.delete(digest for digest in planned if digest not in needed)
        layout.end_deletion()


async def _remove(layout: LayoutWriter, entries: Sequence[Entry], sizes: Mapping[Digest, int]) -> None:
    """Remove entries, and then delete their blobs.

    On a full disk, the shorter `index.json` may not fit beside the old one. Then the largest blobs are deleted before,
    one by one, until it does: a kill at that moment leaves the image incomplete, and it can be removed again.
    """
    largest_first = sorted(sizes, key=lambda digest: (-sizes[digest], digest))
    with suppress(StorageError):  # on a full disk, a kill may leave blobs that no image needs
        layout.plan_deletion(largest_first)
    try:
        await layout.remove(entries)
    except StorageError as error:
        if not is_full(error):
            raise
        await _remove_on_full_disk(layout, largest_first, error)
    await layout.delete(largest_first)
    layout.end_deletion()


async def _remove_on_full_disk(layout: LayoutWriter, digests: Sequence[Digest], error: StorageError) -> None:
    for digest in digests:
        await layout.delete([digest])
        try:
            await layout.flush()
        except StorageError as again:
            error = again
        else:
            return
    raise error


def _divide(
    relations: Relations, stored: Sequence[Entry], images: Sequence[Entry], referrers: Sequence[Entry]
) -> tuple[list[Entry], list[Entry]]:
    """Return the entries to remove, and those that are left, with all referrers of theirs.

    With images and their referrers go the entries that only repeat a part of it, and would now be taken for images.
    """
    repeating = set(stored) - set(relations.complete(stored))
    gone, relations = dict.fromkeys([*referrers, *images]), relations.without(images)
    while True:
        left = relations.complete([one for one in stored if one not in gone])
        obsolete = [one for one in left if one in repeating]
        if not obsolete:
            return list(gone), left
        gone |= dict.fromkeys(obsolete)


def _key(entry: Entry) -> tuple[str, Digest]:
    return entry.name, entry.root.digest


async def _needed(
    layout: Layout, relations: Relations, entries: Iterable[Entry], removed: Iterable[Digest]
) -> set[Digest]:
    """Return the digests that entries need if `removed` is removed; raise MirrorError if one of them is broken."""
    needed = Needed(layout, relations, set(removed))
    await needed.add(entries)
    return needed.digests


async def _own_referrers(
    layout: Layout, removed: Sequence[Entry], entries: Sequence[Entry]
) -> dict[tuple[str, Digest], list[Entry]]:
    """Return the entries that refer to images that are removed, and to no other, by image."""
    chosen = set(map(_key, removed))
    finder = LayoutReferrers(layout, entries)
    own: dict[tuple[str, Digest], list[Entry]] = {}
    others: set[str] = set()
    for image in entries:
        if not can_refer(image):
            with suppress(MirrorError):  # a broken image has no known referrers
                found = [one.entry for one in await finder.of(image, await walk_entry(layout, image))]
                if _key(image) in chosen:
                    own[_key(image)] = found
                else:
                    others.update(one.name for one in found)
    return {image: [one for one in found if one.name not in others] for image, found in own.items()}
