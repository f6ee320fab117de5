"""Registries as targets: an image is pushed with everything it references, the tag last, and read back."""

from __future__ import annotations

import logging
from asyncio import Lock
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from operator import eq

from mirror.concurrency import map_concurrently
from mirror.content.graph import Graph
from mirror.content.select import PlatformSelection, SelectedImage
from mirror.content.store import Progress, Sink
from mirror.content.wrappers import ReadOnlySink
from mirror.errors import MirrorError, NotFound, TransferError, UsageError
from mirror.layout import Entry
from mirror.layout.referrers import Referrer
from mirror.layout.referring import is_list
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.registry import Client, Repository, list_under_tag, open_target
from mirror.retry import RetryPolicy, read_until
from mirror.stores.images import ImageStore, StoreImage
from mirror.stores.remote import RegistryImages
from mirror.transfer.image import ImageTransfer, left_behind, only
from mirror.transfer.naming import PushTarget
from mirror.transfer.receipts import mismatch, pushed, unlisted
from mirror.transfer.referrers import for_registry
from mirror.transfer.target import ImageTarget
from mirror.verify.readback import read_back
from mirror.verify.receipt_document import ReceiptImage

log = logging.getLogger(__name__)
_AT_ONCE = 4  # images that are read back concurrently


class RegistryTarget(ImageTarget):
    """Repositories of one registry. `where` names each image, or is the name of the one image.

    With `foreign`, foreign layers that the source has are pushed too. With `receipt`, every byte is read back, and
    `receipts` describe the pushed images. With `keep_going`, the error of an image is kept in it. Without `overwrite`,
    tags that point to other images are left alone.
    """

    subjects_first = True  # Harbor answers 404 to a signature of an image that it does not have
    renames = True

    def __init__(
        self,
        client: Client,
        where: PushTarget | Reference,
        retry: RetryPolicy,
        *,
        foreign: bool = False,
        keep_going: bool = False,
        overwrite: bool = True,
        receipt: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.receipts: list[ReceiptImage] = []
        self.takes_foreign = foreign
        self._client, self._where, self._retry = client, where, retry
        self._keep_going, self._overwrite = keep_going, overwrite
        self._receipt, self._progress = receipt, progress
        self._repositories: dict[str, Repository] = {}
        self._dry: dict[str, ReadOnlySink] | None = None
        self._unconfirmed: list[tuple[ImageTransfer, Callable[[], None]]] = []
        self._listing: defaultdict[str, Lock] = defaultdict(Lock)  # by the repository's name

    def place(self, images: Sequence[StoreImage], where: str) -> list[ImageTransfer]:
        if isinstance(self._where, Reference):
            image = only(images, str(self._where), where)
            return [ImageTransfer(image, self._where.stored, self._where)]
        placed = self._where.places([image.entry for image in images if image.entry])
        return [
            ImageTransfer(StoreImage.of(first), place.stored, place, [StoreImage.of(entry) for entry in duplicates])
            for place, (first, *duplicates) in placed.items()
        ]

    async def select(
        self, store: ImageStore, image: ImageTransfer, selection: PlatformSelection, retry: RetryPolicy
    ) -> SelectedImage:
        selected = await super().select(store, image, selection, retry)
        if error := left_behind(
            selected.graph, "and so was the image, since registries require all that its index lists"
        ):
            raise error
        if image.at_target.digest not in (None, selected.root.digest):
            raise UsageError(f"{image.image.label} is {selected.root.digest}, and cannot become {image.place}.")
        registry = self.repository(image).registry
        if isinstance(store, RegistryImages) and image.image.reference:
            origin = store.repository(image.image.reference).origin
            if origin.registry is registry:  # blobs of one of its repositories can be mounted into another
                for digest in selected.graph.blobs:
                    registry.blob_repositories.setdefault(digest, origin.name)
        return selected

    def place_referrer(self, image: ImageTransfer, referrer: Entry, graph: Graph) -> tuple[Graph, str, Descriptor]:
        return for_registry(referrer, graph)

    def is_unique(self, name: str, root: Descriptor) -> bool:
        return True

    async def look_up(self, store: ImageStore, image: ImageTransfer, retry: RetryPolicy, *, referrers: bool) -> None:
        if image.at_target.tag and not is_list(image.copied):
            root, nodes = image.chosen.root.digest, image.graph.nodes
            image.before = await self._look_up(self.repository(image), image.at_target.tag, root, nodes)
        copies = image.referrers
        if not (referrers and copies):
            return

        async def look_up_cosign_tag(referrer: Referrer) -> None:
            graph, name, root = for_registry(referrer.entry, referrer.graph)
            try:
                if ":" not in name:
                    await self._look_up(self.repository(image), name, root.digest, graph.nodes)
            except MirrorError as error:  # the tag must not be overwritten, or that is not known
                copies.leave_out(referrer, error)

        await map_concurrently(list(copies.referrers), look_up_cosign_tag, _AT_ONCE)

    async def _look_up(
        self, repository: Repository, tag: str, root: Digest, manifests: Iterable[Digest]
    ) -> Digest | None:
        try:
            return await self._retry.run(partial(repository.look_up, tag, root, manifests))
        except TransferError as error:
            if error.transient or not self._overwrite:
                raise
            log.info("%s:%s: what it stands for is not known: %s", repository, tag, error)  # the user may only push
            return None

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        self._dry = {} if dry_run else None

    def repository(self, image: ImageTransfer) -> Repository:
        """Return the repository that an image is pushed to. Images of the same repository share it."""
        place = image.at_target
        if place.name not in self._repositories:
            self._repositories[place.name] = open_target(self._client, place, overwrite=self._overwrite)
        return self._repositories[place.name]

    def sink(self, image: ImageTransfer) -> Sink:
        repository = self.repository(image)
        if self._dry is None:
            return repository
        return self._dry.setdefault(repository.name, ReadOnlySink(repository))

    async def before_name(self, image: ImageTransfer) -> None:
        """List, under referrers tags, what the registry does not list: the tag of the image comes last."""
        repository, copies = self.repository(image), image.referrers
        tasks = copies.arrived() if copies else ()
        if not (copies or is_list(image.copied)):
            return
        lists, failures = await self._list(repository, [image.graph, *(task.graph for task in tasks)])
        if copies:
            copies.lists |= lists
            copies.failures |= failures
        if is_list(image.copied):  # its members are all that there is of it
            for subject in failures.keys() & unlisted(repository, [image.graph]).keys():
                raise failures[subject]

    async def confirm(self, image: ImageTransfer, done: Callable[[], None]) -> None:
        """Read the tag back. With a receipt, `finish` reads everything back."""
        if not is_list(image.copied):  # a list has become part of the registry's own list, and was read back there
            place, root = image.at_target, image.chosen.root
            repository = self.repository(image)
            if not repository.has_read_back(place.target, root.digest):
                await self._read_back_name(repository, place.target, root.digest, str(place))
        if self._receipt:
            self._unconfirmed.append((image, done))
        else:
            done()

    async def finish(self, images: Sequence[ImageTransfer]) -> None:
        """Read cosign's tags back; for a receipt, read every byte."""
        for image in images:
            await self._read_back_cosign_tags(image)
        if self._receipt:
            await self._read_back_content(images)
            self.receipts += [pushed(image, self.repository(image)) for image in images if not is_list(image.copied)]
        for image, done in self._unconfirmed:
            if not image.failure:
                done()
        self._unconfirmed.clear()

    async def _each(self, step: Callable[[ImageTransfer], Awaitable[None]], images: Sequence[ImageTransfer]) -> None:
        """Apply a step to every image that has not failed. With `keep_going`, an error is kept in its image."""

        async def attempt(image: ImageTransfer) -> None:
            try:
                await step(image)
            except MirrorError as error:
                if not self._keep_going:
                    raise
                image.error = error

        await map_concurrently([image for image in images if not image.failure], attempt, _AT_ONCE)

    async def _read_back_name(self, repository: Repository, name: str, digest: Digest, what: str) -> None:
        """Read back what a name points to."""

        async def read() -> Digest | None:
            try:
                return (await self._retry.run(partial(repository.resolve, name))).digest
            except NotFound:
                return None

        found = await read_until(read, partial(eq, digest))
        if found == digest:
            return
        raise TransferError(
            f"{what} was pushed as {digest}, but could not be confirmed: the registry {_shows(found)}.",
            hint=f"It may show new tags late, or others may be pushing there. Check it again in a minute: "
            f"mirror inspect docker://{what}",
        )

    async def _read_back_cosign_tags(self, image: ImageTransfer) -> None:
        """Read cosign's tags of an image back; an error becomes the failure of the tag's task."""
        if image.failure or not image.referrers:
            return
        repository = self.repository(image)
        for task in image.referrers.arrived():
            if ":" not in task.name:
                try:
                    await self._read_back_name(repository, task.name, task.root.digest, f"{repository}:{task.name}")
                except MirrorError as error:
                    task.failure = error

    async def _list(
        self, repository: Repository, graphs: Sequence[Graph]
    ) -> tuple[dict[Digest, Digest], dict[Digest, MirrorError]]:
        """Return the digests that referrers tags point to now, by subject, and the errors of those that failed."""
        lists, failures = dict[Digest, Digest](), dict[Digest, MirrorError]()
        async with self._listing[repository.name]:  # images may share a list, which is read, changed and written
            for subject, nodes in sorted(unlisted(repository, graphs).items()):
                try:
                    lists[subject] = await list_under_tag(repository, subject, list(nodes.values()), self._retry)
                except MirrorError as error:
                    failures[subject] = error
        return lists, failures

    async def _read_back_content(self, images: Sequence[ImageTransfer]) -> None:
        """Read everything back: a receipt records only what was read."""
        done = [image for image in images if not image.failure and not is_list(image.copied)]
        expected = [pushed(image, self.repository(image)).expected(self.repository(image)) for image in done]
        jobs = self._client.options.jobs
        found = await read_back(expected, jobs=jobs, retry=self._retry, progress=self._progress)

        async def check(image: ImageTransfer) -> None:
            affecting = [finding for finding in found.findings if image.at_target.stored in finding.images]
            if affecting:
                raise mismatch(image, affecting)

        await self._each(check, done)

    def warnings(self, image: ImageTransfer) -> list[str]:
        return [
            f"{self.repository(image)}:{task.name} now stands for {task.root.digest} (was {task.replaced})."
            for task in (image.referrers.tasks.values() if image.referrers else ())
            if task.replaced
        ]

    async def close(self) -> None:
        """Close the connections to the repositories."""
        for repository in self._repositories.values():
            await repository.close()


def _shows(found: Digest | None) -> str:
    return f"shows {found}" if found else "does not show it"
