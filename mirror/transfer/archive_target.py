"""Archives as the target of a transfer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from mirror.archive.writer import ArchiveWriter, writing
from mirror.content.plan import Plan, in_order
from mirror.content.select import PlatformSelection, SelectedImage
from mirror.content.store import Sink
from mirror.content.wrappers import ReadOnlySink
from mirror.errors import UsageError
from mirror.oci.reference import Reference
from mirror.retry import RetryPolicy
from mirror.stores.images import ImageStore, StoreImage
from mirror.transfer.docker_load import select_for_docker
from mirror.transfer.image import ImageTransfer, record
from mirror.transfer.space import size_in_archive
from mirror.transfer.target import ImageTarget

_NOTHING = ReadOnlySink(None)


class ArchiveTarget(ImageTarget):
    """An OCI archive; `-` is stdout."""

    for_docker = False

    def __init__(self, archive: Path | str, name: str | None = None) -> None:
        self.archive, self.name = archive, name
        self.renames = name is not None
        self._writer: ArchiveWriter | None = None

    async def open(self, stack: AsyncExitStack, *, dry_run: bool) -> None:
        if not dry_run:
            self._writer = await stack.enter_async_context(writing(self.archive, for_docker=self.for_docker))

    def sink(self, image: ImageTransfer) -> Sink:
        return self._writer or _NOTHING

    def prepare(self, plan: Plan, jobs: int, *, optional: bool) -> int:
        if self.archive != "-":
            self._require(Path(self.archive), size_in_archive(in_order(plan)), dry_run=self._writer is None)
        if not self._writer or optional:  # a blob that may fail must not get a position in the file in advance
            return 1
        return self._writer.arrange(in_order(plan), jobs)


class DockerArchiveTarget(ArchiveTarget):
    """An archive for `docker load`: one platform of each image, by its full name, and no referrers."""

    for_docker = True
    takes_referrers = False

    def check(self, selection: PlatformSelection, stack: AsyncExitStack) -> None:
        if len(selection.platforms) > 1:
            message = "A docker-archive can contain only one platform of each image."
            raise UsageError(message, hint="An oci-archive can contain several.")

    def place(self, images: Sequence[StoreImage], where: str) -> list[ImageTransfer]:
        placed = super().place(images, where)
        for image in images:
            if not (image.reference or self.renames):
                raise UsageError(
                    f"{where} does not record the repository of {image.name!r}, and docker would make one up.",
                    hint="Export it alone, and give it a name: --as registry.internal/team/app:v1.",
                )
        return placed

    async def select(
        self, store: ImageStore, image: ImageTransfer, selection: PlatformSelection, retry: RetryPolicy
    ) -> SelectedImage:
        entry, manifests = image.at_source, store.manifests(image.image)
        present, platform = await store.present(entry), next(iter(selection.platforms), None)
        selected = await select_for_docker(manifests, entry, image.name, present, store.holds, platform, retry)
        return record(entry, selected, store.holds)

    def warnings(self, image: ImageTransfer) -> list[str]:
        is_tagged = Reference.parse(image.name).tag
        return [] if is_tagged else [f"{image.name} has no tag, so docker loads it without a name."]
