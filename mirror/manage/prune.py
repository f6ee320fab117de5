"""Prune: what a layout holds and nobody needs, out of it. Nothing goes unless that is asked for.

1. from every image down: what is needed. Where an image is broken, nobody can tell, and nothing goes
2. every blob that is not, and what was begun and never finished
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

from mirror.errors import InvalidDigest
from mirror.layout import Layout, LayoutWriter
from mirror.manage.ls import needed_by
from mirror.oci.digest import Digest
from mirror.report.pruned import Pruned


async def prune_layout(path: Path | str, *, delete: bool = False) -> Pruned:
    """Find the blobs that no image of a layout needs, and unfinished downloads; delete them, if that is asked for.

    Only what is named like a digest is ever deleted below `blobs/`. What is in quarantine may be somebody's, and stays.

    Args:
        path: the layout's folder.
        delete: whether to delete; otherwise the layout is only read.

    Raises:
        NotFound: there is no such folder.
        ContentError: an image is broken, so that nobody can tell what it needs. Nothing has been deleted.
        StorageError: the disk refused, or another mirror is at work in the layout.
    """
    async with AsyncExitStack() as stack:
        layout = stack.enter_context(Layout.open(Path(path)))  # refuses what is no layout before it is written to
        if delete:
            layout = await stack.enter_async_context(LayoutWriter.writing(Path(path), alone=True))
        needed: set[Digest] = set()
        for entry in layout.entries():
            needed |= await needed_by(layout, entry)
        orphans = [(digest, size) for digest, size in _stored(layout) if digest not in needed]
        unfinished = layout.unfinished()
        if isinstance(layout, LayoutWriter):
            await layout.delete(digest for digest, _ in orphans)
            await layout.clear()
        quarantined = layout.quarantined()
    return Pruned(str(path), dict(orphans), unfinished, quarantined, delete)


def _stored(layout: Layout) -> Iterator[tuple[Digest, int]]:
    """Every regular file that is named by a digest, and its size."""
    for algorithm, encoded in layout.blobs.stored():
        try:
            digest = Digest.parse(f"{algorithm}:{encoded}")
        except InvalidDigest:
            continue
        size = layout.blobs.size(digest)
        if size is not None:
            yield digest, size
