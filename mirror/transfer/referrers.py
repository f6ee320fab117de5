"""The referrers of an image, on their way with it (docs/adr/0012).

They are further tasks of the same plan. In a registry a list of referrers is taken apart: its manifests are pushed by
their digests, and cosign's tags as tags. In a layout or an archive both stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from mirror.content.copy import CopyTask
from mirror.content.graph import Graph
from mirror.content.store import Sink, Source
from mirror.errors import MirrorError, UsageError
from mirror.layout import Entry
from mirror.layout.referrers import FoundReferrers, is_list, subjects_of
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference, is_tag
from mirror.report.transfers import ReferrerSummary

ReferrerKey = tuple[int, str]  # a sink's id, and a name in it


@dataclass(slots=True)
class ReferrerCopy:
    """A referrer, what it is called at the target, and what of it goes there."""

    subject: Digest
    members: Sequence[Digest]
    graph: Graph
    name: str
    root: Descriptor
    task: CopyTask | None = None

    @property
    def arrived(self) -> bool:
        return self.task is not None and not self.task.failure


@dataclass(slots=True)
class ReferrerCopies:
    """The referrers that are copied with one image.

    `failures` say, by subject, why there may be more. `lists` are, by subject, what the referrers tags of a registry
    without the referrers API stand for afterwards.
    """

    subjects: Sequence[Digest]
    copies: list[ReferrerCopy]
    failures: dict[Digest, MirrorError] = field(default_factory=dict)
    lists: dict[Digest, Digest] = field(default_factory=dict)

    @classmethod
    def to_registry(cls, entry: Entry, graph: Graph, found: FoundReferrers) -> ReferrerCopies:
        """Plan to push the referrers of an image, lists taken apart."""
        whole = [one for one in found.referrers if not one.failure]
        copies = [ReferrerCopy(one.subject, one.members, *taken_apart(one.entry, one.graph)) for one in whole]
        return cls(_subjects(entry, graph, found), copies, _failures(found))

    @classmethod
    def beside(cls, entry: Entry, graph: Graph, name: str | None, found: FoundReferrers) -> ReferrerCopies:
        """Plan to copy the referrers as entries of a layout or an archive; `name` is a new name of the image there."""
        whole = [one for one in found.referrers if not one.failure]
        copies = [
            ReferrerCopy(one.subject, one.members, one.graph, _name_beside(name, one.entry), one.entry.root)
            for one in whole
        ]
        return cls(_subjects(entry, graph, found), copies, _failures(found))

    def arrived(self) -> list[ReferrerCopy]:
        return [copy for copy in self.copies if copy.arrived]

    def add(self, other: ReferrerCopies) -> None:
        """Add those of the same image under another name."""
        self.subjects = [*self.subjects, *other.subjects]
        self.copies += other.copies
        self.failures |= other.failures

    def to(
        self,
        source: Source,
        sink: Sink,
        tasks: dict[ReferrerKey, CopyTask],
        named: dict[ReferrerKey, Digest],
        *,
        skip: Collection[str] = (),
    ) -> None:
        """Add their tasks to those of a plan; what two images share is copied once.

        Args:
            source: where to read them.
            sink: where they go.
            tasks: the tasks of the plan, by sink and name.
            named: what every name has stood for in this call so far.
            skip: names of images that are copied for themselves.

        Raises:
            UsageError: something else has the name.
        """
        for copy in (copy for copy in self.copies if copy.name not in skip):
            key = (id(sink), copy.name)
            fresh = CopyTask(source, sink, copy.graph, copy.name, copy.root, optional=True)
            copy.task = tasks.setdefault(key, fresh)
            if named.setdefault(key, copy.root.digest) != copy.root.digest:
                raise UsageError(
                    f"Two different things would both become {sink}:{copy.name}.",
                    hint="Push the images one at a time, each to a prefix of its own.",
                )

    def summary(self) -> ReferrerSummary:
        """Count the referrers of the image, and theirs; the first failure on the way there is kept."""
        by_subject: dict[Digest, list[ReferrerCopy]] = {}
        for copy in self.copies:
            by_subject.setdefault(copy.subject, []).append(copy)
        todo, members, failed = list(dict.fromkeys(self.subjects)), dict[Digest, None](), list[MirrorError]()
        seen, sizes = set(todo), dict[Digest, int]()
        for subject in todo:  # grows meanwhile
            failed += [self.failures[subject]] if subject in self.failures else []
            for copy in by_subject.get(subject, ()):
                if copy.task and copy.task.failure:
                    failed.append(copy.task.failure)
                    continue
                members.update(dict.fromkeys(copy.members))
                sizes |= {blob.digest: blob.size for blob in copy.graph.blobs.values()}
                todo += [digest for digest in copy.members if digest not in seen]
                seen.update(copy.members)
        return ReferrerSummary(len(members), sum(sizes.values()), failed[0] if failed else None)


def taken_apart(entry: Entry, graph: Graph) -> tuple[Graph, str, Descriptor]:
    """Return what of an entry goes to a registry, of a list only what it lists; the name that it gets; and its root."""
    if not is_list(entry):
        return graph, entry.tag or entry.root.digest, entry.root
    listed = {digest: node for digest, node in graph.nodes.items() if digest != entry.root.digest}
    return replace(graph, nodes=listed), entry.root.digest, entry.root


def _subjects(entry: Entry, graph: Graph, found: FoundReferrers) -> list[Digest]:
    """What a failure can be about includes the members of lists that could not be read."""
    behind = [digest for one in found.referrers if one.failure for digest in one.members]
    return [*subjects_of(entry, graph), *behind]


def _failures(found: FoundReferrers) -> dict[Digest, MirrorError]:
    own: Mapping[Digest, MirrorError] = {one.subject: one.failure for one in found.referrers if one.failure}
    return {**own, **found.failures}


def _name_beside(image: str | None, referrer: Entry) -> str:
    """The name of a referrer whose image is renamed: the same tag, in the image's new repository, if it has one."""
    if image is None or is_tag(image) or not referrer.tag:
        return referrer.name
    return f"{Reference.parse(image).name}:{referrer.tag}"
