"""Where the images of a copy go: one into a registry, or any number into a layout or an archive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from mirror.archive.writer import ArchiveWriter, writing
from mirror.content.select import PlatformSelection
from mirror.content.store import Sink
from mirror.content.wrappers import ReadOnlySink
from mirror.errors import DigestMismatch, UsageError
from mirror.fs.directory import exists
from mirror.layout import Entry, Layout, LayoutWriter, index, names
from mirror.layout.writer import refuse_foreign
from mirror.oci.descriptor import Platform
from mirror.oci.reference import DOCKER_HUB, Reference, is_tag
from mirror.registry import Client, Repository, push_target
from mirror.retry import RetryPolicy
from mirror.transfer.attachments import ReferrerCopies
from mirror.transfer.deliver import list_referrers, read_tags_back
from mirror.transfer.docker_load import check_names, for_docker, remarks_on_names
from mirror.transfer.location import Location, Transport
from mirror.transfer.origin import Company
from mirror.transfer.outgoing import SelectedSourceImage, SourceImage, some, whole


class ImageTarget(ABC):
    """One place that images go to. `location` is where; `name` what a person wants the one image to be called."""

    takes_company = True  # whether what refers to an image can go there too

    def __init__(self, location: Location, name: str | None, jobs: int) -> None:
        self.location, self.jobs = location, jobs
        self._name = name

    def check(self, platforms: Sequence[Platform]) -> None:
        """What can be known without looking at any image.

        Raises:
            UsageError: this cannot be copied so.
        """
        if self._name and self.location.ref:
            raise _named_twice(self.location)
        if self.location.index is not None:
            raise UsageError(f"{self.location.ref} is no name for an image.", hint="Numbers are for what is read.")

    @property
    def renames(self) -> bool:
        return bool(self._name or self.location.ref)

    def called(self, entries: Sequence[Entry], where: str) -> list[tuple[str, Entry]]:
        """What each image is called there. REF is a tag, beside which its repository stays, or a whole name.

        Raises:
            UsageError: a name is missing, or stands for two images.
        """
        ref = self.location.ref
        if ref and is_tag(ref):
            return [_tagged(index.only(entries, ref, where), ref)]
        return index.called(entries, self._name or ref, where)

    def placed(self, one: SourceImage) -> SourceImage:
        """An image as it is offered to this place."""
        return one

    async def choose(self, one: SourceImage, platforms: Sequence[Platform], retry: RetryPolicy) -> SelectedSourceImage:
        """The part of it that goes."""
        return await (some(one, PlatformSelection(tuple(platforms)), retry) if platforms else whole(one, retry))

    def deliver(self, image: SelectedSourceImage, company: Company) -> ReferrerCopies:
        """What goes along: under names in the same repository as the image's."""
        delivery = ReferrerCopies.beside(image.entry, image.graph, image.renamed, company.attached)
        delivery.failures |= company.failures
        return delivery

    @abstractmethod
    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> Sink:
        """Somewhere to put it; `stack` closes it."""

    async def finish(self, image: SelectedSourceImage, delivery: ReferrerCopies | None) -> None:
        """What is left to do for an image when it is there: here, nothing."""
        return

    def warnings(self, found: Sequence[SelectedSourceImage]) -> list[str]:
        """What a person should know of what does not go."""
        left = [(image, image.graph.foreign.keys() - image.graph.blobs.keys()) for image in found]
        return [
            f"{image.offer.entry.name}: {len(layers)} foreign layers stay where they live; they were not copied."
            for image, layers in left
            if layers
        ]


class ToLayout(ImageTarget):
    """Into a layout. `writer` is known when it is open."""

    writer: LayoutWriter | None = None
    hard_links = False

    def check(self, platforms: Sequence[Platform]) -> None:
        super().check(platforms)
        refuse_foreign(Path(self.location.where))

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> Sink:
        path = Path(self.location.where)
        if dry_run:
            return ReadOnlySink(stack.enter_context(Layout.open(path)) if exists(path / "oci-layout") else None)
        writing = LayoutWriter.writing(path, jobs=self.jobs, hard_links=self.hard_links)
        self.writer = await stack.enter_async_context(writing)
        return self.writer


class ToArchive(ImageTarget):
    """Into an archive. `writer` is known when it is open."""

    writer: ArchiveWriter | None = None
    for_docker = False

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> Sink:
        if dry_run:
            return ReadOnlySink(None)
        self.writer = await stack.enter_async_context(writing(self.location.where, for_docker=self.for_docker))
        return self.writer


class ToDocker(ToArchive):
    """Into an archive that docker loads: one platform of each image, by its whole name."""

    for_docker = True
    takes_company = False

    def check(self, platforms: Sequence[Platform]) -> None:
        super().check(platforms)
        if len(platforms) > 1:
            raise UsageError("A docker-archive holds one platform of each image.", hint="An oci-archive holds several.")

    def called(self, entries: Sequence[Entry], where: str) -> list[tuple[str, Entry]]:
        named = index.called(entries, self._name or self.location.ref, where)
        check_names(named, where, given=self.renames)
        return named

    async def choose(self, one: SourceImage, platforms: Sequence[Platform], retry: RetryPolicy) -> SelectedSourceImage:
        return await for_docker(one, platforms[0] if platforms else None, retry)

    def warnings(self, found: Sequence[SelectedSourceImage]) -> list[str]:
        return remarks_on_names(found)


class ToRegistry(ImageTarget):
    """Into a repository of a registry, whose tag is read back at the end."""

    def __init__(self, location: Location, name: str | None, jobs: int, client: Client, retry: RetryPolicy) -> None:
        super().__init__(location, name, jobs)
        self._place = Reference.parse(location.where)
        self._retry = retry
        self._repository = push_target(client, self._place)

    def check(self, platforms: Sequence[Platform]) -> None:
        if self._name:
            raise _named_twice(self.location)
        # A plain word is a name in Docker Hub to everybody else; as a target, it is more likely a folder's.
        if self.location.guessed and self._place.registry == DOCKER_HUB and "docker.io/" not in self.location.where:
            raise UsageError(
                f"{self.location.where!r} could be a folder, or an image of Docker Hub.",
                hint=f"Say which: ./{self.location.where} or docker://{self.location.where}.",
            )

    @property
    def renames(self) -> bool:
        return True

    def called(self, entries: Sequence[Entry], where: str) -> list[tuple[str, Entry]]:
        return index.called(entries, self.location.where, where)

    def placed(self, one: SourceImage) -> SourceImage:
        """Foreign layers stay where they live (OCI image-spec, layer.md, "Non-Distributable Layers")."""
        return replace(one, place=self._place, holds=lambda _: False)

    async def choose(self, one: SourceImage, platforms: Sequence[Platform], retry: RetryPolicy) -> SelectedSourceImage:
        image = await super().choose(one, platforms, retry)
        if self._place.digest not in (None, image.root.digest):
            raise UsageError(f"{one.entry.name} is {image.root.digest}, and cannot become {self._place}.")
        self._offer_mounts(image)
        return image

    def deliver(self, image: SelectedSourceImage, company: Company) -> ReferrerCopies:
        delivery = ReferrerCopies.of(image.entry, image.graph, company.attached)
        delivery.failures |= company.failures
        return delivery

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> Sink:
        return ReadOnlySink(self._repository) if dry_run else self._repository

    async def finish(self, image: SelectedSourceImage, delivery: ReferrerCopies | None) -> None:
        """Read the tag back, and list what the registry does not list itself.

        Raises:
            DigestMismatch: the registry serves something else than it was given.
        """
        want = image.root.digest
        got = await self._retry.run(partial(self._repository.resolve, self._place.target))
        if got.digest != want:
            raise DigestMismatch(f"{self._place}, read back after the copy,", want=want, got=got.digest)
        if delivery:
            there = delivery.arrived()
            graphs = [image.graph, *(one.graph for one in there)]
            delivery.failures |= (await list_referrers(self._repository, graphs, self._retry)).failures
            await read_tags_back(self._repository, there, self._retry)

    def _offer_mounts(self, image: SelectedSourceImage) -> None:
        """What comes from another repository of the same registry can be mounted."""
        source, registry = image.offer.source, self._repository.registry
        if isinstance(source, Repository) and source.registry is registry:
            for digest in image.graph.blobs:
                registry.blob_repositories.setdefault(digest, source.name)


def _named_twice(location: Location) -> UsageError:
    return UsageError(f"{location} says what the image is to be called, and so does --as.", hint="Say it once.")


def _tagged(entry: Entry, tag: str) -> tuple[str, Entry]:
    """An image by another tag. Where nobody knows its repository, that is all it is called, as with skopeo."""
    if entry.reference:
        return f"{entry.reference.name}:{tag}", entry
    given = names.given(entry.root.annotations)
    annotations = {key: text for key, text in entry.root.annotations.items() if key not in given}
    return tag, Entry.of(replace(entry.root, annotations={**annotations, names.REF_NAME: tag}))


def goal_at(location: Location, name: str | None, jobs: int, client: Client | None, retry: RetryPolicy) -> ImageTarget:
    """The place at a location."""
    if client and location.transport is Transport.REGISTRY:
        return ToRegistry(location, name, jobs, client, retry)
    kinds: dict[Transport, type[ToLayout | ToArchive]] = {
        Transport.LAYOUT: ToLayout,
        Transport.OCI_ARCHIVE: ToArchive,
        Transport.DOCKER_ARCHIVE: ToDocker,
    }
    return kinds[location.transport](location, name, jobs)
