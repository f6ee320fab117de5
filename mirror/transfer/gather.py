"""What refers to the images of a pull, on its way with them: found, and made into further copies of the same plan.

Each subject with referrers gets one entry in the layout, an index of them under the referrers tag; each of cosign's
tags is an entry of its own (docs/adr/0012). What the layout has already is kept, whatever the registry has forgotten.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from mirror.content.copy import CopyTask
from mirror.content.graph import read_node, walk
from mirror.content.store import Sink, Source
from mirror.content.wrappers import FallbackSource, MemorySource
from mirror.errors import MirrorError
from mirror.layout import Entry, Layout, names
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.oci.referrers import list_of, referrers_tag
from mirror.registry import Found, MirroredRepository, Referrers, Repository
from mirror.report.transfers import ReferrerSummary
from mirror.retry import RetryPolicy
from mirror.transfer.attachments import Referrer, companions


@dataclass(slots=True)
class FoundReferrers:
    """All that goes with the images of the repository `name`. `failures` say, by subject, why there may be more."""

    name: str
    source: Source
    found: list[Referrer] = field(default_factory=list)
    failures: dict[Digest, MirrorError] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def to(self, sink: Sink, taken: set[str]) -> list[CopyTask]:
        """The copies of a plan, but for names that somebody asked for by themselves."""
        copies = []
        for one in self.found:
            if one.name not in taken:
                one.copy = CopyTask(self.source, sink, one.graph, one.name, one.root, optional=True)
                copies.append(one.copy)
        return copies

    def about(self, subjects: Sequence[Digest]) -> ReferrerSummary:
        """What there is about one image of the repository."""
        return companions(subjects, self.found, self.failures)


async def gather(
    finder: Referrers,
    name: str,
    source: Repository | MirroredRepository,
    subjects: Sequence[Digest],
    there: Layout | None,
    retry: RetryPolicy,
) -> FoundReferrers:
    """Find all that refers to some images of a repository. What fails is kept, and is no reason to stop.

    Args:
        finder: what is known of registries.
        name: what the repository is called, wherever it is read.
        source: where it is read.
        subjects: the digests of the images' manifests and indexes.
        there: the layout, as it is.
        retry: how stubborn to be.
    """
    near = FallbackSource(there, source)
    found = await finder.find(source.resolved_by, subjects, near)
    gathering = _Gathering(
        FoundReferrers(name, source, failures=found.failures, warnings=found.warnings), near, there, retry
    )
    await gathering.lists(found)
    await gathering.tags(found)
    return gathering.result


class _Gathering:
    """Makes attachments from what has been found."""

    def __init__(self, result: FoundReferrers, near: FallbackSource, there: Layout | None, retry: RetryPolicy) -> None:
        self.result = result
        self._near, self._there, self._retry = near, there, retry
        self._entries: dict[str, Entry] = {entry.name: entry for entry in there.entries()} if there else {}

    async def lists(self, found: Found) -> None:
        """An index for each subject that has referrers."""
        for subject in sorted(found.referrers):
            name = f"{self.result.name}:{referrers_tag(subject)}"
            nodes = {node.descriptor.digest: node for node in found.referrers[subject]}
            for old in await self._old(name):
                nodes.setdefault(old.descriptor.digest, old)
            data = list_of(nodes.values())
            root = Descriptor(OCI_INDEX, Digest.of(data), len(data), data=data)
            await self._add(subject, name, root, list(nodes), {digest: node.data for digest, node in nodes.items()})

    async def tags(self, found: Found) -> None:
        """What cosign has under tags, as it is."""
        for tag, (subject, root) in sorted(found.tagged.items()):
            name = f"{self.result.name}:{tag}"
            origin = {names.ORIGIN: f"{name}@{root.digest}"}
            await self._add(subject, name, replace(root, annotations=origin), [root.digest], {})

    async def _add(
        self,
        subject: Digest,
        name: str,
        root: Descriptor,
        members: Sequence[Digest],
        contents: Mapping[Digest, bytes],
    ) -> None:
        try:
            graph = await walk(MemorySource(contents, self._near), root, retry=self._retry)
            graph.check_hashable()
        except MirrorError as error:
            self.result.failures.setdefault(subject, error)
            return
        kind = graph.nodes[root.digest].document.artifact_type
        self.result.found.append(Referrer(subject, name, graph, replace(root, data=None, artifact_type=kind), members))

    async def _old(self, name: str) -> list[Node]:
        """The referrers that the layout lists under a name: what a registry has forgotten is not forgotten here."""
        entry = self._entries.get(name)
        if entry is None or self._there is None or not entry.root.is_index:
            return []
        try:
            listed = await read_node(self._there, entry.root)
        except MirrorError:
            return []  # it is damaged, and is about to be replaced
        nodes = [await self._kept(child, name) for child in listed.document.manifests if child.is_manifest]
        return [node for node in nodes if node]

    async def _kept(self, child: Descriptor, name: str) -> Node | None:
        try:
            return await read_node(self._near, child, self._retry)
        except MirrorError as error:
            self.result.warnings.append(f"{name} had {child.digest}, which is damaged and cannot be had again: {error}")
            return None
