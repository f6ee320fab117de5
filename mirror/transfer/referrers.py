"""The referrers of an image, copied with it (docs/adr/0012).

They are further tasks of the same plan. A registry does not get a list of referrers, but the listed manifests by their
digests, and cosign's tags as tags. In a layout or an archive, both stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace

from mirror.content.graph import Graph
from mirror.content.plan import CopyTask
from mirror.errors import MirrorError
from mirror.layout import Entry
from mirror.layout.referrers import FoundReferrers, Referrer, subjects_of
from mirror.layout.referring import is_list
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.report.transfers import ReferrerSummary
from mirror.stores.local import LocalImages


@dataclass(slots=True)
class ReferrerCopies:
    """The referrers of one image, and the tasks that copy them.

    `failures` say, by subject, why some may be missing. `tasks` are by the name and digest of the referrer's entry; a
    referrer that is copied as an image of its own has none here. `lists` are, by subject, the digests that the
    referrers tags of a registry without the referrers API point to afterwards.
    """

    subjects: list[Digest]
    referrers: list[Referrer]
    failures: dict[Digest, MirrorError]
    tasks: dict[tuple[str, Digest], CopyTask] = field(default_factory=dict)
    lists: dict[Digest, Digest] = field(default_factory=dict)

    @classmethod
    def of(cls, entry: Entry, graph: Graph, found: FoundReferrers) -> ReferrerCopies:
        """Prepare to copy what was found for an image; referrers that could not be read become failures.

        The other members of their list are copied.
        """
        failed = {one.subject: one.failure for one in found.referrers if one.failure}
        unread = [digest for one in found.referrers if one.failure for digest in one.members]
        whole = [part for one in found.referrers if (part := one.intact() if one.failure else one)]
        return cls([*subjects_of(entry, graph), *unread], whole, {**failed, **found.failures})

    def add(self, other: ReferrerCopies) -> None:
        """Add the referrers of the same image under another name."""
        self.subjects += other.subjects
        self.referrers += other.referrers
        self.failures |= other.failures

    def leave_out(self, referrer: Referrer, error: MirrorError) -> None:
        """Do not copy a referrer, for this reason; what refers to it is copied."""
        self.referrers.remove(referrer)
        self.subjects += referrer.members
        self.failures.setdefault(referrer.subject, error)

    def arrived(self) -> Iterator[CopyTask]:
        """Yield the tasks that have not failed."""
        return (task for task in self.tasks.values() if not task.failure)

    def summary(self) -> ReferrerSummary:
        """Count the referrers of the image, and the referrers of those; keep the first failure."""
        by_subject: dict[Digest, list[Referrer]] = {}
        for referrer in self.referrers:
            by_subject.setdefault(referrer.subject, []).append(referrer)
        todo, members, failures = list(dict.fromkeys(self.subjects)), set[Digest](), list[MirrorError]()
        seen, sizes = set(todo), dict[Digest, int]()
        for subject in todo:  # grows below
            failures += [self.failures[subject]] if subject in self.failures else []
            for referrer in by_subject.get(subject, ()):
                task = self.tasks.get((referrer.entry.name, referrer.entry.root.digest))
                if task and task.failure:
                    failures.append(task.failure)
                    continue
                members.update(referrer.members)
                sizes |= {blob.digest: blob.size for blob in referrer.graph.blobs.values()}
                todo += [digest for digest in referrer.members if digest not in seen]
                seen.update(referrer.members)
        return ReferrerSummary(len(members), sum(sizes.values()), failures[0] if failures else None)


def for_registry(entry: Entry, graph: Graph) -> tuple[Graph, str, Descriptor]:
    """Return what a registry gets of an entry (of a list, the listed manifests only), its name there, and its root."""
    if not is_list(entry):
        return graph, entry.tag or entry.root.digest, entry.root
    listed = {digest: node for digest, node in graph.nodes.items() if digest != entry.root.digest}
    return replace(graph, nodes=listed), entry.root.digest, entry.root


def left_out(store: LocalImages, referring: Collection[str]) -> list[str]:
    """Return a warning if a store has entries that refer to other images than those of a transfer that renames one.

    `referring` are the names of the entries that refer to the images of the transfer.
    """
    others = store.without_subject(referring)
    return [f"Entries that refer to other images were left out: {len(others)}."] if others else []
