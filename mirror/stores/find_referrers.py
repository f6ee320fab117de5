"""Find the referrers of images in registries, and make them into entries of a layout (docs/adr/0012).

Each subject with referrers gets one entry, an index of them under the referrers tag; each of cosign's tags becomes an
entry of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from mirror.content.walk import walk
from mirror.content.wrappers import FallbackSource, MemorySource
from mirror.errors import MirrorError
from mirror.layout import Entry, Layout, names
from mirror.layout.referrers import FoundReferrers, Referrer
from mirror.oci.descriptor import OCI_INDEX, Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.oci.referrers import list_of, referrers_tag
from mirror.registry import MirroredRepository, Referrers, Repository
from mirror.retry import RetryPolicy


class Discovery:
    """A search of one repository for all referrers of some images, and the referrers of those.

    `layout` is where the images are pulled into, if it exists.
    """

    def __init__(
        self,
        name: str,
        repository: Repository | MirroredRepository,
        layout: Layout | None,
        retry: RetryPolicy,
    ) -> None:
        self._name, self._repository, self._retry = name, repository, retry
        self._source = FallbackSource(layout, repository)
        self._found = FoundReferrers()

    async def run(self, finder: Referrers, subjects: Sequence[Digest]) -> FoundReferrers:
        """Search for referrers of `subjects`, the digests of the images' manifests. The result includes failures."""
        listed = await finder.find(self._repository.resolved_by, subjects, self._source)
        self._found = FoundReferrers([], listed.failures, listed.warnings)
        for subject in sorted(listed.referrers):
            name = f"{self._name}:{referrers_tag(subject)}"
            nodes = {node.descriptor.digest: node for node in listed.referrers[subject]}
            data = list_of(nodes.values())
            root = Descriptor(OCI_INDEX, Digest.of(data), len(data), data=data)
            await self._add(subject, name, root, {digest: node.data for digest, node in nodes.items()})
        for tag, (subject, root) in sorted(listed.tagged.items()):
            name = f"{self._name}:{tag}"
            await self._add(subject, name, replace(root, annotations={names.ORIGIN: f"{name}@{root.digest}"}), {})
        return self._found

    async def _add(self, subject: Digest, name: str, root: Descriptor, contents: Mapping[Digest, bytes]) -> None:
        try:
            graph = await walk(MemorySource(contents, self._source), root, retry=self._retry)
            graph.check_hashable()
        except MirrorError as error:
            self._found.failures.setdefault(subject, error)
            return
        reference = Reference.parse(name)
        root = replace(root, data=None, artifact_type=graph.nodes[root.digest].document.artifact_type)
        self._found.referrers.append(Referrer(subject, Entry(root, reference, reference.tag), graph))
