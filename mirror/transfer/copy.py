"""Copy: from any place that images can be in to any other: registries, layouts, archives."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.content.select import PlatformSelection
from mirror.content.store import Progress
from mirror.errors import UsageError
from mirror.layout import Entry, names
from mirror.oci.descriptor import Platform
from mirror.oci.reference import DOCKER_HUB, Reference, is_tag
from mirror.registry import Client, RegistryOptions
from mirror.report.transfers import TransferReport
from mirror.retry import RetryPolicy
from mirror.stores.images import StoreImage
from mirror.stores.local import LocalImages, open_local
from mirror.stores.location import Location, Transport
from mirror.stores.open import open_images
from mirror.stores.remote import RegistryImages
from mirror.text import count
from mirror.transfer.engine import Engine, TransferOptions
from mirror.transfer.image import ImageTransfer, only
from mirror.transfer.registry_target import RegistryTarget
from mirror.transfer.target import ArchiveTarget, DockerArchiveTarget, ImageTarget, LayoutTarget


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How to copy.

    `platforms`: which ones, all that there are if none is named. `name`: what to call the one image that is copied.
    `referrers`: whether to copy referrers too. `hard_links`: whether blobs may be hard links to another layout's files.
    """

    platforms: tuple[Platform, ...] = ()
    name: str | None = None
    referrers: bool = True
    dry_run: bool = False
    hard_links: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def copy_images(
    source: str, target: str, options: CopyOptions | None = None, progress: Progress | None = None
) -> TransferReport:
    """Copy an image, or all images of a place, to another place, verifying every byte on its way.

    Args:
        source: where they are, as `mirror.stores.location` describes.
        target: where they go.
        options: how; the defaults keep everything that the source has.
        progress: is told.

    Raises:
        UsageError: no such place, image or platform, or a name that is missing or stands for two images.
        ContentError: something is not what it should be; nothing of it was kept.
        TransferError: a registry could not be reached or refused.
        StorageError: the disk is full or refused.
    """
    options = options or CopyOptions()
    start, end = Location.parse(source), Location.parse(target)
    selection = PlatformSelection(options.platforms, all=not options.platforms)
    async with AsyncExitStack() as stack:
        client = None
        if Transport.REGISTRY in (start.transport, end.transport):
            client = await stack.enter_async_context(Client(options.registries))
        goal = _target(start, end, options, client, stack)
        goal.check(selection)
        store = await _store(start, end, client, options, stack)
        transfer = TransferOptions(
            selection=selection,
            referrers=options.referrers,
            dry_run=options.dry_run,
            jobs=options.registries.jobs,
            retry=options.retry,
        )
        engine = Engine("copy", store, goal, transfer, progress)
        await engine.run(stack, _placed(start, end, store, goal))
        warnings = await _copy_unattached(engine, store, goal, options, stack)
    report = engine.report()
    notes, quotas = (client.warnings, client.quota_usage()) if client else ([], [])
    return replace(report, warnings=(*report.warnings, *warnings, *notes), quotas=tuple(quotas))


async def _store(
    start: Location, end: Location, client: Client | None, options: CopyOptions, stack: AsyncExitStack
) -> LocalImages | RegistryImages:
    """Open the source. What comes through a pipe is kept beside the layout that it goes to."""
    if start.transport is Transport.REGISTRY:
        return await open_images(start, stack, client, options.retry)
    near = Path(end.where) if end.transport is Transport.LAYOUT else None
    return await open_local(start, stack, near)


def _target(
    start: Location, end: Location, options: CopyOptions, client: Client | None, stack: AsyncExitStack
) -> ImageTarget:
    """Make the target, checked as far as is possible now.

    Raises:
        UsageError: the images cannot be copied this way.
    """
    if options.name and (end.ref or end.transport is Transport.REGISTRY):
        raise UsageError(f"{end} says what the image is to be called, and so does --as.", hint="Say it once.")
    if end.index is not None:
        raise UsageError(f"{end.ref} is not a name for an image.", hint="Numbers are for what is read.")
    if options.hard_links and (start.transport, end.transport) != (Transport.LAYOUT, Transport.LAYOUT):
        raise UsageError("--hard-links is for copies from layout to layout.")
    name = options.name or (end.ref if end.ref and not is_tag(end.ref) else None)
    if end.transport is Transport.LAYOUT:
        return LayoutTarget(Path(end.where), name, jobs=options.registries.jobs, hard_links=options.hard_links)
    if end.transport is not Transport.REGISTRY:
        kind = DockerArchiveTarget if end.transport is Transport.DOCKER_ARCHIVE else ArchiveTarget
        return kind(end.where, name)
    place = Reference.parse(end.where)
    # A plain word is a name in Docker Hub for every other tool; as a target, it is more likely a directory.
    if end.guessed and place.registry == DOCKER_HUB and "docker.io/" not in end.where:
        raise UsageError(
            f"{end.where!r} could be a folder, or an image of Docker Hub.",
            hint=f"Say which: ./{end.where} or docker://{end.where}.",
        )
    assert client is not None, "opened for registries"
    target = RegistryTarget(client, place, options.retry)
    stack.push_async_callback(target.close)
    return target


def _placed(
    start: Location, end: Location, store: LocalImages | RegistryImages, target: ImageTarget
) -> list[ImageTransfer]:
    """Decide what each image is called at the target. A REF there is a tag, or a full name."""
    images = store.images()
    if end.ref and is_tag(end.ref) and not isinstance(target, RegistryTarget):
        image, name = _tagged(only(images, end.ref, str(start)), end.ref)
        if isinstance(target, DockerArchiveTarget):
            return target.place([image], str(start))
        return [ImageTransfer(image, name)]
    return target.place(images, str(start))


def _tagged(image: StoreImage, tag: str) -> tuple[StoreImage, str]:
    """Give an image another tag. If its repository is unknown, the tag is its whole name, as with skopeo."""
    if image.reference:
        return image, f"{image.reference.name}:{tag}"
    assert image.entry is not None, "an image without a reference is in a layout or an archive"
    given = names.given(image.entry.root.annotations)
    kept = {key: text for key, text in image.entry.root.annotations.items() if key not in given}
    entry = Entry.of(replace(image.entry.root, annotations={**kept, names.REF_NAME: tag}))
    return replace(image, entry=entry), tag


async def _copy_unattached(
    engine: Engine,
    store: LocalImages | RegistryImages,
    target: ImageTarget,
    options: CopyOptions,
    stack: AsyncExitStack,
) -> Sequence[str]:
    """Copy entries that could refer to an image but refer to none here, unless the images are renamed."""
    if not (options.referrers and target.takes_referrers and isinstance(store, LocalImages)):
        return []
    unattached = store.unattached(engine.attached)
    if not unattached:
        return []
    if target.renames:
        return [f"{count(len(unattached), 'entry')} that refer to other images were not copied."]
    await engine.run(stack, target.place(unattached, store.name))
    return []
