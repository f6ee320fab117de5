"""Build again what mirror itself has built, which no registry has: an index for some platforms, a list of referrers.

The published index is read again, or the referrers are listed again. The selection is not recorded: it is found by
trying, and the digest decides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, combinations, islice
from typing import TypeVar

from mirror.content.select import children_of
from mirror.content.store import Source
from mirror.content.walk import leaves, read_node
from mirror.content.wrappers import MemorySource
from mirror.errors import MirrorError, NotFound
from mirror.layout import Entry, Layout
from mirror.layout.referring import is_list
from mirror.oci.digest import Digest
from mirror.oci.manifest import build_index
from mirror.oci.platforms import INDEX, with_attestations
from mirror.oci.referrers import list_of, subject_of
from mirror.registry import MirroredRepository, Referrers, Repository
from mirror.retry import RetryPolicy

T = TypeVar("T")

_MOST = 4096  # selections to try: all of 12 platforms, or of 12 referrers


async def with_built(layout: Layout, entry: Entry, source: Source, retry: RetryPolicy) -> Source:
    """Return a source that has the root of an entry even if mirror has built that: `source`, or one around it.

    Raises:
        NotFound: `source` does not have it, and lacks what it was built from.
    """
    root = entry.root
    selected = root.annotations.get(INDEX, root.digest) != root.digest
    if not root.is_index or not (selected or is_list(entry)):
        return source
    try:
        await read_node(source, root, retry)
    except MirrorError as error:
        if error.transient:
            raise
    else:
        return source
    candidates = _lists(entry, source, retry) if is_list(entry) else _indexes(layout, entry, source, retry)
    with suppress(MirrorError):
        async for data in candidates:
            if Digest.of(data) == root.digest:
                return MemorySource({root.digest: data}, source)
    raise NotFound(_how(layout, entry))


async def _indexes(layout: Layout, entry: Entry, source: Source, retry: RetryPolicy) -> AsyncIterator[bytes]:
    """Yield indexes for some platforms of the published index, as `mirror.content.select` builds them."""
    published = entry.root.annotations[INDEX]
    root = await retry.run(lambda: source.resolve(published))
    children = children_of(await leaves(source, root, retry))
    offered = [child for child, _ in children]
    images = [child for child in offered if child.attests is None]
    for picked in _selections(images, lambda child: layout.holds(child.digest)):
        kept = {child.digest for child in with_attestations(offered, picked)}
        raws = [raw for child, raw in children if child.digest in kept]
        yield build_index(root.media_type, raws, {INDEX: published})


async def _lists(entry: Entry, source: Source, retry: RetryPolicy) -> AsyncIterator[bytes]:
    """Yield lists of the referrers that a registry lists now; the layout may have been filled when it had fewer."""
    subject = subject_of(entry.tag)
    if subject and isinstance(source, Repository | MirroredRepository):
        found = await Referrers(retry).find(source.resolved_by, [subject], source)
        for nodes in _selections(found.referrers.get(subject, ()), lambda _: True):
            yield list_of(nodes)


def _selections(items: Sequence[T], likely: Callable[[T], bool]) -> Iterator[Sequence[T]]:
    """Yield selections of the items in their order: first the likely ones, then up to `_MOST` others."""
    every = chain.from_iterable(combinations(items, count) for count in range(len(items), 0, -1))
    return chain([[item for item in items if likely(item)]], islice(every, _MOST))


def _how(layout: Layout, entry: Entry) -> str:
    """Return why the root of an entry cannot be fetched, and the command that restores it."""
    name = entry.reference.name if entry.reference else "IMAGE"
    what, of, flags = "a list of referrers", str(subject_of(entry.tag)), "--all --referrers"
    if not is_list(entry):
        what, of, flags = "an index for some platforms", entry.root.annotations[INDEX], "--platform OS/ARCH,…"
        name += f":{entry.tag}" if entry.tag else ""  # the published index takes the place of the built one
    return (
        f"{entry.root.digest} is {what} of {of}, built by mirror, and the source does not have what it was built from. "
        f"Name a source that does, or pull it again: mirror pull {name}@{of} {flags} -o {layout.path}"
    )
