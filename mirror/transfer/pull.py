"""Pull: from registries into a layout. `mirror.transfer.engine` carries it out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.content.select import PlatformSelection
from mirror.content.store import Progress
from mirror.errors import UsageError
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions
from mirror.report.transfers import TransferReport
from mirror.retry import RetryPolicy
from mirror.stores.location import Location, Transport
from mirror.stores.remote import RegistryImages
from mirror.transfer.engine import Engine, TransferOptions
from mirror.transfer.layout_target import LayoutTarget


@dataclass(frozen=True, slots=True)
class PullOptions:
    """Options for pulling.

    Attributes:
        platforms: which platforms; this host's by default.
        referrers: pull the referrers of the images too; None: only with all platforms.
        keep_going: go on if an image fails.
        dry_run: only report what would be pulled.
        replace: drop the platforms that the layout has of an image, and that are not requested.
        retry: how often to try each request.
        registries: how to connect to registries; `jobs` is how many blobs to fetch at once.
    """

    platforms: PlatformSelection = field(default_factory=PlatformSelection)
    referrers: bool | None = None
    keep_going: bool = False
    dry_run: bool = False
    replace: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)

    @property
    def with_referrers(self) -> bool:
        return self.platforms.all if self.referrers is None else self.referrers


async def pull_image(
    image: str, output: Path | str, options: PullOptions | None = None, progress: Progress | None = None
) -> TransferReport:
    """Pull one image into a layout, verifying every byte; see `pull_images`."""
    return await pull_images([image], output, options, progress)


async def pull_images(
    images: Sequence[str], output: Path | str, options: PullOptions | None = None, progress: Progress | None = None
) -> TransferReport:
    """Pull images into a layout, verifying every byte; a blob that several images share is fetched once.

    Args:
        images: names such as `redis:4.0`.
        output: the layout's directory, created if it does not exist.
        options: how; the defaults pull this host's platform.
        progress: is told about the progress.

    Returns:
        What was pulled. With `keep_going`, images that failed have an `error`.

    Raises:
        UsageError: an image or a platform does not exist, or the directory is not a layout. Images that were complete
            before the error are in the layout.
        ContentError: something does not match its digest or is not valid; none of it was kept.
        TransferError: a registry could not be reached, or refused.
        StorageError: the disk is full or refused.
    """
    options, path = options or PullOptions(), Location.of_kind(output, Transport.LAYOUT).directory
    references = _references(images)
    target = LayoutTarget(path, jobs=options.registries.jobs, replace_images=options.replace)
    async with AsyncExitStack() as stack:
        target.check(options.platforms, stack)
        if len(images) == 1:
            stack.enter_context(Location(Transport.REGISTRY, images[0], guessed=True).explained())
        client = await stack.enter_async_context(Client(options.registries))
        store = RegistryImages(client, references, options.retry, target.near)
        transfer = TransferOptions(
            selection=options.platforms,
            referrers=options.with_referrers,
            keep_going=options.keep_going,
            dry_run=options.dry_run,
            jobs=options.registries.jobs,
            retry=options.retry,
        )
        engine = Engine("pull", store, target, transfer, progress)
        await engine.run(stack, target.place(store.images(), "the list"))
    report = engine.report()
    return replace(report, quotas=tuple(client.quota_usage()), warnings=(*report.warnings, *client.warnings))


def _references(images: Sequence[str]) -> list[Reference]:
    """Parse names, and drop duplicates."""
    references: dict[str, Reference] = {}
    for image in images:
        reference = Reference.parse(Location(Transport.REGISTRY, image.removeprefix("docker://")).checked().where)
        other = references.setdefault(reference.stored, reference)
        if other != reference:
            raise UsageError(
                f"{other} and {reference} would both be called {reference.stored}.",
                hint="Pull them into two layouts, or by digest only.",
            )
    return list(references.values())
