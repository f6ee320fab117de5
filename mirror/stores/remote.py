"""Images of registries, by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mirror.concurrency import map_concurrently
from mirror.content.graph import Keep
from mirror.content.select import SelectedImage
from mirror.content.store import Source
from mirror.content.wrappers import FallbackSource
from mirror.layout import Entry, Layout, names
from mirror.layout.referrers import FoundReferrers
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry import Client, ForeignLayers, MirroredRepository, Referrers, Repository, open_source
from mirror.retry import RetryPolicy
from mirror.stores.find_referrers import Discovery
from mirror.stores.images import StoreImage

_AT_ONCE = 8  # repositories that are searched for referrers concurrently


class RegistryImages:
    """`ImageStore`: images of any registries, by reference. Manifests that the layout `near` has are not fetched."""

    is_local = False

    def __init__(
        self, client: Client, references: Sequence[Reference], retry: RetryPolicy, near: Layout | None = None
    ) -> None:
        self.client, self.retry = client, retry
        self.name = str(references[0]) if len(references) == 1 else "the registries"
        self.near = near
        self._known = {entry.name: entry for entry in near.entries()} if near else {}
        self._finder = Referrers(retry)
        self._references = references
        self._repositories: dict[str, tuple[Repository | MirroredRepository, Source]] = {}

    def images(self, names: Sequence[str] = ()) -> list[StoreImage]:
        references = [Reference.parse(name) for name in names] or self._references
        return [StoreImage(str(reference), reference) for reference in references]

    async def resolve(self, image: StoreImage) -> Entry:
        reference = _reference(image)
        repository = self.repository(reference)
        if reference.tag and reference.digest:
            repository.pin(reference.tag, reference.digest)
        # A HEAD before the GET is worthwhile only if the layout may already have the manifest.
        source = FallbackSource(self.near, repository) if reference.stored in self._known else repository
        root = await self.retry.run(lambda: source.resolve(reference.target))
        origin = {names.ORIGIN: reference.pinned(root.digest)}
        return Entry(replace(root, annotations=origin), reference, reference.tag)

    def repository(self, reference: Reference) -> Repository | MirroredRepository:
        """Return the repository of an image, with its mirrors. Images of the same repository share it."""
        return self._opened(reference)[0]

    def source(self, image: StoreImage) -> Source:
        return self._opened(_reference(image))[1]

    def manifests(self, image: StoreImage) -> Source:
        """Return a source that reads manifests from the layout if it has them, else from the registry."""
        return FallbackSource(self.near, self.repository(_reference(image)))

    async def modified(self, reference: Reference, node: Descriptor) -> float | None:
        """Return a blob's Last-Modified, in seconds since the epoch; None if the registry does not send it."""
        return await self.repository(reference).modified(node)

    async def present(self, entry: Entry) -> Keep:
        return lambda _: True

    async def referrers(self, images: Sequence[tuple[Entry, SelectedImage]]) -> list[FoundReferrers]:
        """`ImageStore`: each repository is searched once, for all of its images."""
        subjects: dict[str, list[Digest]] = {}
        repositories: dict[str, Reference] = {}
        for entry, selected in images:
            reference = _reference(StoreImage.of(entry))
            repositories[reference.name] = reference
            subjects.setdefault(reference.name, []).extend(selected.subjects)

        async def find(reference: Reference) -> FoundReferrers:
            repository = self.repository(reference)
            discovery = Discovery(reference.name, repository, self.near, self.retry)
            return await discovery.run(self._finder, subjects[reference.name])

        found = await map_concurrently(repositories.values(), find, _AT_ONCE)
        by_name = dict(zip(repositories, found, strict=True))
        return [by_name[_reference(StoreImage.of(entry)).name] for entry, _ in images]

    def holds(self, digest: Digest) -> bool:
        return False

    def _opened(self, reference: Reference) -> tuple[Repository | MirroredRepository, Source]:
        if reference.name not in self._repositories:
            repository = open_source(self.client, reference)
            content = ForeignLayers(repository, repository.origin.registry)
            self._repositories[reference.name] = (repository, content)
        return self._repositories[reference.name]


def _reference(image: StoreImage) -> Reference:
    assert image.reference is not None, "registry images have references"
    return image.reference
