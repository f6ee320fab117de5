"""The platforms that images do not have in the served layouts, although nothing records that they were left out.

`docker save` and `ctr export` write an index as it was published, with some of its platforms: `mirror.layout.presence`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from mirror.content.graph import Walk, ignore
from mirror.content.limits import Budget
from mirror.errors import ContentError
from mirror.layout import Entry, presence
from mirror.layout.referring import can_refer
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.text import brief

ReadManifest = Callable[[Descriptor], bytes | None]  # returns verified bytes, None if they cannot be read; blocks
_SHOWN = 10  # platforms in one warning


def parse(read: ReadManifest, node: Descriptor) -> Document | None:
    """Return a manifest; None if it cannot be read or is not valid."""
    data = read(node) if node.size <= MANIFEST_CAP else None
    try:
        return manifest.parse(data, node.media_type, str(node.digest)) if data is not None else None
    except ContentError:
        return None


def absent_parts(entry: Entry, read: ReadManifest, holds: Callable[[Digest], bool]) -> dict[Digest, Descriptor]:
    """Return the children of an image's indexes that are absent as a whole, unless it records which are. Blocks."""
    if not entry.root.is_index or can_refer(entry) or presence.is_recorded(entry, is_archive=False):
        return {}
    found: dict[Digest, Document] = {}

    def note(node: Descriptor) -> Document | None:
        document = parse(read, node)
        return found.setdefault(node.digest, document) if document else None

    Walk(Budget(entry.name), on_fault=ignore).follow(entry.root, note)
    gone: dict[Digest, Descriptor] = {}
    for index in list(found.values()):
        children = {child.digest: child for child in index.manifests if not child.is_index}
        links = {
            digest: (not child.attests, [link.digest for link in found[digest].links] if digest in found else [])
            for digest, child in children.items()
        }
        gone |= {digest: children[digest] for digest in presence.absent(links, holds)}
    return gone


def warnings(
    path: Path, entries: Iterable[Entry], read: ReadManifest, holds: Callable[[Digest], bool]
) -> Iterator[str]:
    """Yield a warning about each image of a layout that has only some of its platforms. Blocks."""
    for entry in entries:
        gone = [child for child in absent_parts(entry, read, holds).values() if not child.attests]
        if gone:
            labels = list(dict.fromkeys(str(child.platform or child.digest.short) for child in gone))
            yield (
                f"{path}: {entry.name} is served without {brief(labels, _SHOWN)}, "
                f"which {'is' if len(labels) == 1 else 'are'} not in the layout."
            )
