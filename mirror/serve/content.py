"""The content of a repository: everything that its images reference, as far as their manifests can be read.

A registry serves content only from the repositories that contain it. The manifests are therefore read once, when a
digest is first requested. This also finds the referrers: all manifests with a `subject` (OCI distribution-spec,
"Listing Referrers"). The index under a referrers tag (`sha256-…`) is an entry like any other, so its referrers are
found too.

A broken image must not hide the others, so faults are not raised here; a request for the broken blob reports them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mirror.content.graph import Walk
from mirror.content.limits import MOST_MANIFESTS, Budget, Limits
from mirror.errors import ContentError, LimitExceeded, MirrorError
from mirror.layout import Entry
from mirror.oci import manifest
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Document
from mirror.serve.parts import ReadManifest, absent_parts


@dataclass(slots=True)
class RepositoryContent:
    """The content of one repository: everything that its images reference, and the manifests with a `subject`.

    `absent` are the platforms that its images do not have here, whether or not they record it.
    """

    descriptors: dict[Digest, Descriptor] = field(default_factory=dict)
    referrers: dict[Digest, list[Descriptor]] = field(default_factory=dict)  # by subject, sorted by their own digest
    absent: dict[Digest, Descriptor] = field(default_factory=dict)
    complete: bool = True  # False if a manifest could not be read, so that another attempt may find more
    excess: str | None = None  # a sentence about the limit that was exceeded; content beyond it is not served


def read_content(
    name: str, entries: Sequence[Entry], read: ReadManifest, holds: Callable[[Digest], bool]
) -> RepositoryContent:
    """Read the manifests of a repository; `holds` says of a digest whether a layout has it. Blocks."""
    content = RepositoryContent()

    def note_excess(_: Descriptor, error: MirrorError) -> None:
        if isinstance(error, LimitExceeded):
            content.excess = str(error)

    # All images together may have as many bytes of manifests as one: a hostile layout must not exhaust the memory.
    walk = Walk(Budget(name, Limits(manifests=MOST_MANIFESTS * len(entries))), on_fault=note_excess)
    content.descriptors = walk.seen
    for entry in entries:
        gone = absent_parts(entry, read, holds)
        content.complete &= not gone  # they are served once they are there
        walk.follow(entry.root, partial(_read_manifest, content, read), partial(_has, entry, gone))
    content.absent = {digest: child for digest, child in walk.absent.items() if digest not in walk.unsupported}
    for referrers in content.referrers.values():
        referrers.sort(key=lambda descriptor: descriptor.digest)
    return content


def _has(entry: Entry, gone: Container[Digest], child: Descriptor) -> bool:
    return not entry.lacks(child) and child.digest not in gone


def _read_manifest(content: RepositoryContent, read: ReadManifest, descriptor: Descriptor) -> Document | None:
    """Return a manifest, None if it cannot be read. Add it to the referrers if it has a subject."""
    if descriptor.size > MANIFEST_CAP:
        return None
    data = read(descriptor)
    if data is None:
        content.complete = False
        return None
    try:
        document = manifest.parse(data, descriptor.media_type, str(descriptor.digest))
    except ContentError:
        return None  # it is served as published; the client decides
    if document.subject:
        # The referrers API requires the annotations and the artifact type of the manifest itself.
        kind = document.artifact_type or (document.config.media_type if document.config else None)
        referrer = replace(descriptor, artifact_type=kind, annotations=document.annotations, platform=None, data=None)
        content.referrers.setdefault(document.subject.digest, []).append(referrer)
    return document
