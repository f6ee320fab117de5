"""What a repository holds: everything that its images lead to, as far as their manifests can be read.

A registry serves content in the repositories that have it. So the manifests are read once, when a digest is first asked
for, and with them come the referrers: all manifests with a `subject` (OCI distribution-spec, "Listing Referrers"; an
index under a referrers tag, `sha256-…`, is an entry like any other, so what it lists is found too).

A broken image must not hide the others, so nothing is raised here; what is broken is said when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from mirror.content.graph import MOST_BYTES
from mirror.errors import ContentError
from mirror.layout import Entry
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document

Read = Callable[[Descriptor], bytes | None]


@dataclass(slots=True)
class RepositoryContent:
    """`content` are all descriptors by digest, `referrers` those of manifests by the digest of their subject.

    `complete` is false where a manifest could not be read, so that another look may find more. `size` is bytes of
    manifests, of which no more than `MOST_BYTES` are read.
    """

    content: dict[Digest, Descriptor] = field(default_factory=dict)
    referrers: dict[Digest, list[Descriptor]] = field(default_factory=dict)
    complete: bool = True
    size: int = 0


def survey(entries: Iterable[Entry], read: Read) -> RepositoryContent:
    """Follow every entry.

    Args:
        entries: where to start.
        read: the verified bytes of a manifest, None where there are none; it blocks.
    """
    found = RepositoryContent()
    for entry in entries:
        _follow(found, entry, read)
    for some in found.referrers.values():
        some.sort(key=lambda node: node.digest)
    return found


def _follow(found: RepositoryContent, entry: Entry, read: Read) -> None:
    todo = [entry.root]
    while todo:
        node = todo.pop()
        if node.digest in found.content or entry.lacks(node):
            continue
        found.content[node.digest] = node
        if node.is_manifest:
            document = _document(found, node, read)
            todo.extend(document.links if document else ())


def _document(found: RepositoryContent, node: Descriptor, read: Read) -> Document | None:
    """A manifest that can be read; its referrer is noted."""
    found.size += node.size
    if node.size > MANIFEST_CAP or found.size > MOST_BYTES:  # a layout may be hostile: what it names costs memory
        return None
    data = read(node)
    if data is None:
        found.complete = False
        return None
    try:
        document = manifest.parse(data, node.media_type, str(node.digest))
    except ContentError:
        return None  # the bytes are those that were published; who asks for them is to judge them
    if document.subject:
        found.referrers.setdefault(document.subject.digest, []).append(_referrer(node, document))
    return document


def _referrer(node: Descriptor, document: Document) -> Descriptor:
    """The descriptor that the referrers API wants: with the manifest's own annotations and its artifact type."""
    kind = document.artifact_type or (document.config.media_type if document.config else None)
    return replace(node, artifact_type=kind, annotations=document.annotations, platform=None, data=None)
