"""The platforms of an image that are in a store, if nothing records what was left out.

`docker save` and `ctr export` write an index as it was published, with the content of some of its platforms. Of the
others there is nothing, or (containerd's `WithSkipMissing`) only the manifest. If only a part of a platform is missing,
it is damaged. So is a platform that is missing from an image that mirror pulled into a layout, because mirror records
what it leaves out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from mirror.content.store import Source
from mirror.errors import MirrorError
from mirror.layout import names
from mirror.layout.index import Entry
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest

if TYPE_CHECKING:
    from mirror.content.graph import Keep
    from mirror.retry import RetryPolicy

K = TypeVar("K", bound=Hashable)


def is_recorded(entry: Entry, *, is_archive: bool) -> bool:
    """Return whether the entry records which platforms are there. Other tools copy mirror's origin into archives."""
    return entry.kept is not None or (names.ORIGIN in entry.root.annotations and not is_archive)


def absent(children: Mapping[K, tuple[bool, Sequence[K]]], held: Callable[[K], bool]) -> frozenset[K]:
    """Return the children of an index that are absent as a whole; none if no readable image would be left.

    `children` says of each whether it is an image, not an attestation, and what its manifest links to, if it is there.
    """
    uses = Counter(link for _, links in children.values() for link in set(links))
    gone = set()
    for child, (_, links) in children.items():
        own = [link for link in links if uses[link] == 1]
        is_hollow = len(own) > 1 and not any(map(held, own))  # a single blob may as well be lost
        if is_hollow or not held(child):
            gone.add(child)
    is_partial = any(is_image and links and child not in gone for child, (is_image, links) in children.items())
    return frozenset(gone) if is_partial else frozenset()


async def present(
    source: Source, entry: Entry, holds: Callable[[Digest], bool], *, is_archive: bool, retry: RetryPolicy | None = None
) -> Keep:
    """Return which children of an image's indexes should be in a store, which `holds` some; `source` reads them."""
    if not entry.root.is_index or is_recorded(entry, is_archive=is_archive):
        return lambda child: not entry.lacks(child)
    from mirror.content.walk import leaves  # a verification needs neither
    from mirror.retry import ONCE

    gone: set[Digest] = set()
    for index in (await leaves(source, entry.root, retry or ONCE)).nodes.values():
        children = [child for child in index.document.manifests if not child.is_index]
        links = {child.digest: (not child.attests, await _links(source, child, holds)) for child in children}
        gone |= absent(links, holds)
    return lambda child: child.digest not in gone


async def _links(source: Source, child: Descriptor, holds: Callable[[Digest], bool]) -> list[Digest]:
    """Return what a manifest links to; nothing if it is missing or damaged, which the walk reports."""
    if not (child.is_manifest and holds(child.digest)):
        return []
    from mirror.content.walk import read_node  # as above

    try:
        node = await read_node(source, child)
    except MirrorError:
        return []
    return [link.digest for link in node.document.links]
