"""What goes with an image: things that refer to it, each under a name of its own (docs/adr/0012).

On its way it is further copies of the same plan. To a registry, a list of referrers is taken apart: its manifests go by
their digests, and what cosign has under tags goes under tags. In a layout or an archive, both stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mirror.content.copy import CopyTask
from mirror.content.graph import Graph
from mirror.content.store import Sink, Source
from mirror.errors import MirrorError, UsageError
from mirror.layout import Entry
from mirror.layout.referrers import StoredReferrer, is_list, subjects_of
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference, is_tag
from mirror.report.transfers import ReferrerSummary


@dataclass(slots=True)
class Referrer:
    """Something about `subject`, under one name. `members` are the manifests that are about it."""

    subject: Digest
    name: str
    graph: Graph
    root: Descriptor
    members: Sequence[Digest]
    copy: CopyTask | None = None


def beside(name: str | None, attached: Entry) -> str:
    """What is about an image is called, where that gets another name: by its own tag, in the repository of that name.

    Where a tag is all of the name, nobody knows a repository.
    """
    if name is None or is_tag(name) or not attached.tag:
        return attached.name
    return f"{Reference.parse(name).name}:{attached.tag}"


def companions(
    subjects: Sequence[Digest], found: Sequence[Referrer], failures: Mapping[Digest, MirrorError]
) -> ReferrerSummary:
    """Count what is about some subjects, and about that; the first failure on the way there is kept."""
    by_subject: dict[Digest, list[Referrer]] = {}
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
    return ReferrerSummary(len(members), sum(sizes.values()), failed[0] if failed else None)


@dataclass(slots=True)
class ReferrerCopies:
    """What goes with one image. `failures` say, by subject, why that is not all; `lists` are under referrers tags."""

    subjects: Sequence[Digest]
    found: list[Referrer]
    failures: dict[Digest, MirrorError] = field(default_factory=dict)
    lists: dict[Digest, Digest] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Entry, graph: Graph, attached: Sequence[StoredReferrer]) -> ReferrerCopies:
        whole = [one for one in attached if not one.failure]
        found = [Referrer(one.subject, *named(one.entry, one.graph), one.members) for one in whole]
        failures = {one.subject: one.failure for one in attached if one.failure}
        behind = [digest for one in attached if one.failure for digest in one.members]
        return cls([*subjects_of(entry, graph), *behind], found, failures)

    @classmethod
    def beside(cls, entry: Entry, graph: Graph, name: str | None, attached: Sequence[StoredReferrer]) -> ReferrerCopies:
        """What goes with an image into a layout or an archive, as entries; `name` is another one that it gets there."""
        whole = [one for one in attached if not one.failure]
        found = [
            Referrer(one.subject, beside(name, one.entry), one.graph, one.entry.root, one.members) for one in whole
        ]
        return cls(subjects_of(entry, graph), found, {one.subject: one.failure for one in attached if one.failure})

    def arrived(self) -> list[Referrer]:
        """What has got there."""
        return [one for one in self.found if one.copy and not one.copy.failure]

    def add(self, other: ReferrerCopies) -> None:
        """What goes with the same image from elsewhere."""
        self.subjects = [*self.subjects, *other.subjects]
        self.found += other.found
        self.failures |= other.failures

    def to(self, source: Source, sink: Sink, copies: dict[tuple[int, str], CopyTask]) -> None:
        """Add to the copies of a plan, by sink and name; what goes there already for another image goes once.

        Raises:
            UsageError: something else has the name.
        """
        for one in self.found:
            fresh = CopyTask(source, sink, one.graph, one.name, one.root, optional=True)
            one.copy = copies.setdefault((id(sink), one.name), fresh)
            if one.copy.root.digest != one.root.digest:
                raise UsageError(
                    f"Two different things would both become {sink}:{one.name}.",
                    hint="Push the images one at a time, each to a prefix of its own.",
                )

    def result(self) -> ReferrerSummary:
        return companions(self.subjects, self.found, self.failures)


def named(entry: Entry, graph: Graph) -> tuple[str, Graph, Descriptor]:
    """The name by which an entry goes to a registry, and what goes there: of a list only what it lists."""
    if not is_list(entry):
        return entry.tag or entry.root.digest, graph, entry.root
    listed = {digest: node for digest, node in graph.nodes.items() if digest != entry.root.digest}
    return entry.root.digest, replace(graph, nodes=listed), entry.root
