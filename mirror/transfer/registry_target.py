"""Registries as the target of images: pushed with everything they reference, the tag last, and read back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from mirror.concurrency import map_concurrently
from mirror.content.select import PlatformSelection, SelectedImage
from mirror.content.store import Progress, Sink, Source
from mirror.content.wrappers import ReadOnlySink
from mirror.errors import DigestMismatch, MirrorError, UsageError
from mirror.layout.referrers import FoundReferrers, is_list
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry import Client, Repository, list_under_tag, open_target
from mirror.retry import RetryPolicy
from mirror.stores.images import ImageStore, StoreImage
from mirror.stores.remote import RegistryImages
from mirror.transfer.image import ImageTransfer, only
from mirror.transfer.naming import PushTarget
from mirror.transfer.receipts import expected, not_there, pushed, unlisted
from mirror.transfer.referrers import ReferrerCopies, ReferrerCopy
from mirror.transfer.target import ImageTarget
from mirror.verify.readback import read_back
from mirror.verify.receipt_document import ReceiptImage

_AT_ONCE = 4  # tags read back together


class RegistryTarget(ImageTarget):
    """Repositories of one registry.

    `where` decides the place of each image, or is the place of the one image. With `receipt`, every byte is read back,
    and `receipts` are what has been pushed.
    """

    takes_foreign = False
    renames = True

    def __init__(
        self,
        client: Client,
        where: PushTarget | Reference,
        retry: RetryPolicy,
        *,
        keep_going: bool = False,
        receipt: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.receipts: list[ReceiptImage] = []
        self._client, self._where, self._retry = client, where, retry
        self._keep_going, self._receipt, self._progress = keep_going, receipt, progress
        self._repositories: dict[str, Repository] = {}
        self._dry: dict[str, ReadOnlySink] | None = None

    def place(self, images: Sequence[StoreImage], where: str) -> list[ImageTransfer]:
        if isinstance(self._where, Reference):
            image = only(images, str(self._where), where)
            return [ImageTransfer(image, self._where.stored, self._where)]
        entries = [image.entry for image in images if image.entry]
        self._where.places(entries)
        placed: dict[Reference, ImageTransfer] = {}
        for entry in entries:
            place, image = self._where.place(entry), StoreImage.of(entry)
            first = placed.setdefault(place, ImageTransfer(image, place.stored, place))
            if first.image is not image:
                first.duplicates.append(image)
        return list(placed.values())

    async def select(
        self,
        store: ImageStore,
        manifests: Source,
        image: ImageTransfer,
        selection: PlatformSelection,
        retry: RetryPolicy,
    ) -> SelectedImage:
        selected = await super().select(store, manifests, image, selection, retry)
        if self._place(image).digest not in (None, selected.root.digest):
            raise UsageError(f"{image.image.label} is {selected.root.digest}, and cannot become {image.place}.")
        registry = self.repository(image).registry
        if isinstance(store, RegistryImages) and image.image.reference:
            origin = store.repository(image.image.reference).origin
            if origin.registry is registry:  # blobs of one of its repositories can be mounted into another
                for digest in selected.graph.blobs:
                    registry.blob_repositories.setdefault(digest, origin.name)
        return selected

    def referrers(self, image: ImageTransfer, found: FoundReferrers) -> ReferrerCopies:
        return ReferrerCopies.to_registry(image.copied, image.graph, found)

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        self._dry = {} if dry_run else None

    def repository(self, image: ImageTransfer) -> Repository:
        """Return where an image is pushed; images of one repository share it."""
        place = self._place(image)
        if place.name not in self._repositories:
            self._repositories[place.name] = open_target(self._client, place)
        return self._repositories[place.name]

    def sink(self, image: ImageTransfer) -> Sink:
        repository = self.repository(image)
        if self._dry is None:
            return repository
        return self._dry.setdefault(repository.name, ReadOnlySink(repository))

    async def finish(self, images: Sequence[ImageTransfer]) -> None:
        """Read every tag back, list referrers that the registry does not list itself; for a receipt, read every byte.

        Raises:
            DigestMismatch: the registry serves something else than it was given.
            MirrorError: it could not be asked, unless `keep_going`.
        """
        await self._each(self._read_back_name, images)
        by_repository: dict[str, list[ImageTransfer]] = {}
        for image in images:
            if not image.failure:
                by_repository.setdefault(self._place(image).name, []).append(image)
        for some in by_repository.values():
            await self._list_referrers(some)
        if self._receipt:
            await self._read_back_all(images)
            self.receipts += [pushed(image, self.repository(image)) for image in images if not is_list(image.copied)]

    async def _each(self, step: Callable[[ImageTransfer], Awaitable[None]], images: Sequence[ImageTransfer]) -> None:
        """Take a step with every image that has not failed; with `keep_going`, one that fails keeps its error."""

        async def attempt(image: ImageTransfer) -> None:
            try:
                await step(image)
            except MirrorError as error:
                if not self._keep_going:
                    raise
                image.error = error

        await map_concurrently([image for image in images if not image.failure], attempt, _AT_ONCE)

    async def _read_back_name(self, image: ImageTransfer) -> None:
        if is_list(image.copied):
            return  # it has become part of the registry's own list
        place, want = self._place(image), image.chosen.root.digest
        got = await self._retry.run(partial(self.repository(image).resolve, place.target))
        if got.digest != want:
            raise DigestMismatch(f"{place}, read back after the push,", want=want, got=got.digest)

    async def _list_referrers(self, images: Sequence[ImageTransfer]) -> None:
        """List what the registry does not list itself under referrers tags, and read cosign's tags back."""
        repository = self.repository(images[0])

        async def list_alone(image: ImageTransfer) -> None:
            for error in (await self._list(repository, [image], []))[1].values():
                raise error

        await self._each(list_alone, [image for image in images if is_list(image.copied)])
        along = [image for image in images if image.referrers]
        copies = [copy for image in along if image.referrers for copy in image.referrers.arrived()]
        lists, failures = await self._list(repository, along, copies)
        for copy in copies:
            if ":" not in copy.name:
                await self._read_tag_back(repository, copy)
        for image in along:
            if image.referrers:
                image.referrers.failures |= failures
                image.referrers.lists |= lists

    async def _list(
        self, repository: Repository, images: Sequence[ImageTransfer], copies: Sequence[ReferrerCopy]
    ) -> tuple[dict[Digest, Digest], dict[Digest, MirrorError]]:
        """Return what the referrers tags stand for now, by subject, and likewise what failed."""
        lists, failures = dict[Digest, Digest](), dict[Digest, MirrorError]()
        graphs = [*(image.graph for image in images), *(copy.graph for copy in copies)]
        for subject, nodes in sorted(unlisted(repository, graphs).items()):
            try:
                lists[subject] = await list_under_tag(repository, subject, list(nodes.values()), self._retry)
            except MirrorError as error:
                failures[subject] = error
        return lists, failures

    async def _read_tag_back(self, repository: Repository, copy: ReferrerCopy) -> None:
        """Read one of cosign's tags back; if it does not stand for what was pushed, its copy has failed."""
        assert copy.task is not None, "it has arrived"
        try:
            got = await self._retry.run(lambda: repository.resolve(copy.name))
            if got.digest != copy.root.digest:
                what = f"{repository}:{copy.name}, read back after the push,"
                raise DigestMismatch(what, want=copy.root.digest, got=got.digest)
        except MirrorError as error:
            copy.task.failure = error

    async def _read_back_all(self, images: Sequence[ImageTransfer]) -> None:
        """For a receipt, nothing counts as pushed that has not been read there."""
        done = [image for image in images if not image.failure and not is_list(image.copied)]
        found = await read_back(
            [expected(image, self.repository(image)) for image in done],
            jobs=self._client.options.jobs,
            retry=self._retry,
            progress=self._progress,
        )

        async def judge(image: ImageTransfer) -> None:
            affecting = [finding for finding in found.findings if self._place(image).stored in finding.images]
            if affecting:
                raise not_there(image, affecting)

        await self._each(judge, done)

    def _place(self, image: ImageTransfer) -> Reference:
        assert image.place is not None, "placed before"
        return image.place

    async def close(self) -> None:
        """Close the connections to its repositories."""
        for repository in self._repositories.values():
            await repository.close()
