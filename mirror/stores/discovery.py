"""Find the referrers of images in registries, and make them into entries of a layout (docs/adr/0012).

Each subject with referrers gets one entry, an index of them under the referrers tag; each of cosign's tags is an entry
of its own. What the layout lists already is kept, even if the registry has forgotten it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from mirror.content.walk import read_node, walk
from mirror.content.wrappers import FallbackSource, MemorySource
from mirror.errors import MirrorError
from mirror.layout import Entry, Layout, names
from mirror.layout.referrers import FoundReferrers, Referrer
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node
from mirror.oci.reference import Reference
from mirror.oci.referrers import list_of, referrers_tag
from mirror.registry import Found, MirroredRepository, Referrers, Repository
from mirror.retry import RetryPolicy


class Discovery:
    """Finds referrers for one command; `entries` are those of the layout that images are pulled into."""

    def __init__(self, retry: RetryPolicy, entries: Iterable[Entry]) -> None:
        self.retry, self.finder = retry, Referrers(retry)
        self.entries: Mapping[str, Entry] = {entry.name: entry for entry in entries}

    def search(self, name: str, repository: Repository | MirroredRepository, near: Layout | None) -> Search:
        """Return a search of one repository, `name`; `near` is the layout, if it is there."""
        return Search(self, name, repository, near)


class Search:
    """A search of one repository for everything that refers to some images, and for what refers to that."""

    def __init__(
        self, shared: Discovery, name: str, repository: Repository | MirroredRepository, near: Layout | None
    ) -> None:
        self._shared, self._name, self._repository, self._layout = shared, name, repository, near
        self._near = FallbackSource(near, repository)
        self._found = FoundReferrers([])
        self._referrers: list[Referrer] = []

    async def run(self, subjects: Sequence[Digest]) -> FoundReferrers:
        """Ask about `subjects`, the digests of the images' manifests and indexes. Failures are kept in the result."""
        listed = await self._shared.finder.find(self._repository.resolved_by, subjects, self._near)
        self._found = FoundReferrers(self._referrers, listed.failures, listed.warnings)
        await self._make_lists(listed)
        await self._make_tags(listed)
        return self._found

    async def _make_lists(self, listed: Found) -> None:
        """Make an index for each subject that has referrers."""
        for subject in sorted(listed.referrers):
            name = f"{self._name}:{referrers_tag(subject)}"
            nodes = {node.descriptor.digest: node for node in listed.referrers[subject]}
            for old in await self._listed_before(name):
                nodes.setdefault(old.descriptor.digest, old)
            data = list_of(nodes.values())
            root = Descriptor(OCI_INDEX, Digest.of(data), len(data), data=data)
            await self._add(subject, name, root, {digest: node.data for digest, node in nodes.items()})

    async def _make_tags(self, listed: Found) -> None:
        """Make an entry for each of cosign's tags."""
        for tag, (subject, root) in sorted(listed.tagged.items()):
            name = f"{self._name}:{tag}"
            origin = {names.ORIGIN: f"{name}@{root.digest}"}
            await self._add(subject, name, replace(root, annotations=origin), {})

    async def _add(self, subject: Digest, name: str, root: Descriptor, contents: Mapping[Digest, bytes]) -> None:
        try:
            graph = await walk(MemorySource(contents, self._near), root, retry=self._shared.retry)
            graph.check_hashable()
        except MirrorError as error:
            self._found.failures.setdefault(subject, error)
            return
        reference = Reference.parse(name)
        root = replace(root, data=None, artifact_type=graph.nodes[root.digest].document.artifact_type)
        self._referrers.append(Referrer(subject, Entry(root, reference, reference.tag), graph))

    async def _listed_before(self, name: str) -> list[Node]:
        """Return what the layout lists under a name: what a registry has forgotten is not forgotten here."""
        entry, layout = self._shared.entries.get(name), self._layout
        if entry is None or layout is None or not entry.root.is_index:
            return []
        try:
            listed = await read_node(layout, entry.root)
        except MirrorError:
            return []  # it is damaged, and is about to be replaced
        nodes = [await self._kept(child, name) for child in listed.document.manifests if child.is_manifest]
        return [node for node in nodes if node]

    async def _kept(self, child: Descriptor, name: str) -> Node | None:
        try:
            return await read_node(self._near, child, self._shared.retry)
        except MirrorError as error:
            self._found.warnings.append(
                f"{name}: its referrer {child.digest} is damaged and cannot be fetched again: {error}"
            )
            return None
