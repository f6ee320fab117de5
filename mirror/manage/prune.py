"""Find everything that no image of a layout needs, and delete it if requested.

1. Walk every image to find the blobs that are needed. If an image is broken, this is not known, and nothing is deleted.
   Referrers of an image are needed too, wherever they are stored, and so is an image that an artifact refers to.
2. Every other blob is an orphan; unfinished downloads are reported too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from mirror.errors import InvalidDigest, UsageError
from mirror.layout import Layout, LayoutWriter
from mirror.layout.implied import Relations
from mirror.manage.needed import Needed
from mirror.oci.digest import Digest
from mirror.report.layouts import PrunedBlob, PrunedFile, PruneReport
from mirror.stores.location import Location, Transport


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """Options for pruning.

    Attributes:
        delete: delete what is found; otherwise the layout is only read.
        everything: delete even if the layout has no images, so that nothing in it is needed.
    """

    delete: bool = False
    everything: bool = False


async def prune_layout(path: Path | str, options: PruneOptions | None = None) -> PruneReport:
    """Find blobs that no image of a layout needs, and unfinished downloads; delete them if requested.

    Below `blobs/`, only files named by a SHA-256, SHA-384 or SHA-512 digest are ever deleted. Files in quarantine are
    reported, but kept.

    Raises:
        NotFound: there is no such directory.
        UsageError: the layout has blobs but no images, and `everything` was not requested. Nothing has been deleted.
        ContentError: an image is broken, so what it needs is not known. Nothing has been deleted.
        StorageError: the disk refused, or another mirror process has locked the layout.
    """
    options, directory = options or PruneOptions(), Location.of_kind(path, Transport.LAYOUT).directory
    async with AsyncExitStack() as stack:
        layout = stack.enter_context(Layout.open(directory))  # fails if it is not a layout, before anything is created
        if options.delete:
            layout = await stack.enter_async_context(LayoutWriter.writing(directory, exclusive=True))
        needed = Needed(layout, Relations.read(layout))
        await needed.add(layout.entries())
        orphans = {digest: size for digest, size in _stored(layout) if digest not in needed.digests}
        if orphans and needed.lacking:  # they may be what is left of that platform: verify calls its manifest lost
            layout.blobs.open(needed.lacking[0])
        unfinished = layout.unfinished()
        if isinstance(layout, LayoutWriter):
            if orphans and not (layout.entries() or options.everything):
                raise UsageError(
                    f"{path} has no images, so all of its blobs would be deleted ({len(orphans)}).",
                    hint=f"If index.json is right: mirror prune {path} --delete --yes",
                )
            await layout.delete(orphans)
            await layout.clear()
        quarantined = layout.quarantined()
    return PruneReport(
        path=str(path),
        deleted=options.delete,
        orphans=tuple(PrunedBlob(digest, size) for digest, size in sorted(orphans.items())),
        unfinished=tuple(PrunedFile(name, size) for name, size in sorted(unfinished.items())),
        quarantined=tuple(PrunedFile(name, size) for name, size in sorted(quarantined.items())),
    )


def _stored(layout: Layout) -> Iterator[tuple[Digest, int]]:
    for algorithm, encoded in layout.blobs.stored():
        try:
            digest = Digest.parse(f"{algorithm}:{encoded}")
        except InvalidDigest:
            continue
        size = layout.blobs.size(digest) if digest.hashable else None
        if size is not None:
            yield digest, size
