"""What goes with an image: things that refer to it, each under a name of its own (docs/adr/0012)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mirror.copy import Copy
from mirror.descriptor import Descriptor
from mirror.digest import Digest
from mirror.errors import MirrorError
from mirror.graph import Graph
from mirror.layout import Entry
from mirror.reference import Reference
from mirror.report.transfers import Companions


@dataclass(slots=True)
class Attachment:
    """Something about `subject`, under one name. `members` are the manifests that are about it."""

    subject: Digest
    name: str
    graph: Graph
    root: Descriptor
    members: Sequence[Digest]
    copy: Copy | None = None


def beside(name: str, attached: Entry) -> str:
    """What is about an image called `name` is called, in a layout or an archive: by its own tag, in that repository."""
    if attached.reference is None:
        return attached.name
    return f"{Reference.parse(name).name}:{attached.tag}"


def companions(
    subjects: Sequence[Digest], found: Sequence[Attachment], failures: Mapping[Digest, MirrorError]
) -> Companions:
    """Count what is about some subjects, and about that; the first failure on the way there is kept."""
    by_subject: dict[Digest, list[Attachment]] = {}
    for one in found:
        by_subject.setdefault(one.subject, []).append(one)
    todo, members, failed = list(dict.fromkeys(subjects)), dict[Digest, None](), list[MirrorError]()
    seen, sizes = set(todo), dict[Digest, int]()
    for subject in todo:  # grows meanwhile
        failed += [failures[subject]] if subject in failures else []
        for one in by_subject.get(subject, ()):
            if one.copy and one.copy.failure:
                failed.append(one.copy.failure)
                continue
            members.update(dict.fromkeys(one.members))
            sizes |= {blob.digest: blob.size for blob in one.graph.blobs.values()}
            todo += [digest for digest in one.members if digest not in seen]
            seen.update(one.members)
    return Companions(len(members), sum(sizes.values()), failed[0] if failed else None)
