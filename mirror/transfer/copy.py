"""Copy: from any registry, layout or archive to any other."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.content.select import PlatformSelection
from mirror.content.store import Progress
from mirror.errors import UsageError
from mirror.layout import Entry, names
from mirror.oci.reference import DOCKER_HUB, Reference, is_tag
from mirror.registry import Client, RegistryOptions
from mirror.report.transfers import TransferReport
from mirror.retry import RetryPolicy
from mirror.stores.images import ImageStore
from mirror.stores.local import LocalImages
from mirror.stores.location import Location, Transport
from mirror.stores.open import open_images
from mirror.stores.outputs import refuse_overwrite
from mirror.transfer.archive_target import ArchiveTarget, DockerArchiveTarget
from mirror.transfer.engine import Engine, TransferOptions
from mirror.transfer.image import ImageTransfer, only
from mirror.transfer.layout_target import LayoutTarget
from mirror.transfer.referrers import left_out
from mirror.transfer.registry_target import RegistryTarget
from mirror.transfer.target import ImageTarget


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """Options for copying.

    Attributes:
        platforms: which platforms; all by default. With `foreign`, foreign layers are pushed to a registry too.
        name: the new name of the one image that is copied, in a layout or an archive.
        referrers: copy the referrers of the images too.
        overwrite: replace a registry's tag that points to another image; False: that is an error.
        dry_run: only report what would be copied.
        replace: drop the platforms that a layout has of an image, and that are not copied.
        hard_links: let blobs be hard links to the files of the other layout.
        retry: how often to try each request.
        registries: how to connect to registries; `jobs` is how many blobs to copy at once.
    """

    platforms: PlatformSelection = field(default_factory=lambda: PlatformSelection(all=True))
    name: str | None = None
    referrers: bool = True
    overwrite: bool = True
    dry_run: bool = False
    replace: bool = False
    hard_links: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def copy_images(
    source: str, target: str, options: CopyOptions | None = None, progress: Progress | None = None
) -> TransferReport:
    """Copy one image, or all images of a layout or an archive, to another location, verifying every byte.

    Args:
        source: a location such as `docker://redis:4.0`, `oci:./layout` or `oci-archive:images.tar:v1`.
        target: the location to copy to.
        options: how; the defaults keep everything that the source has.
        progress: is told about the progress.

    Raises:
        UsageError: a location, image or platform does not exist, or a name is missing or used twice.
        ContentError: something does not match its digest or is not valid; none of it was kept.
        TransferError: a registry could not be reached, or refused.
        StorageError: the disk is full or refused.
    """
    options = options or CopyOptions()
    start, end = Location.parse(source), Location.parse(target)
    if end.transport is not Transport.REGISTRY:
        refuse_overwrite(end.where, [start.where] if start.transport is not Transport.REGISTRY else [])
    async with AsyncExitStack() as stack:
        client = None
        if Transport.REGISTRY in (start.transport, end.transport):
            client = await stack.enter_async_context(Client(options.registries))
        destination = _target(start, end, options, client, stack)
        destination.check(options.platforms, stack)
        near = Path(end.where) if end.transport is Transport.LAYOUT else None
        store = await open_images(start, stack, client, options.retry, near)
        transfer = TransferOptions(
            # Of foreign layers, a layout or an archive has some, and all of these are copied.
            selection=replace(options.platforms, foreign=options.platforms.foreign and not store.is_local),
            referrers=options.referrers,
            dry_run=options.dry_run,
            jobs=options.registries.jobs,
            retry=options.retry,
        )
        engine = Engine("copy", store, destination, transfer, progress)
        await engine.run(stack, _placed(start, end, store, destination))
        warnings = await _copy_referrers_without_subject(engine, store, destination, options, stack)
    report = engine.report()
    notes, quotas = (client.warnings, client.quota_usage()) if client else ([], [])
    return replace(report, warnings=(*report.warnings, *warnings, *notes), quotas=tuple(quotas))


def _target(
    start: Location, end: Location, options: CopyOptions, client: Client | None, stack: AsyncExitStack
) -> ImageTarget:
    """Prepare the target; `stack` closes it."""
    if options.name and (end.ref or end.transport is Transport.REGISTRY):
        raise UsageError(f"{end} names the image, and so does --as.", hint="Use one of them.")
    if end.position is not None:
        raise UsageError(f"{end.ref} is not a valid name for an image.", hint="Only a source can have a number.")
    if options.hard_links and (start.transport, end.transport) != (Transport.LAYOUT, Transport.LAYOUT):
        raise UsageError("--hard-links is for copies from layout to layout.")
    if not options.overwrite and end.transport is not Transport.REGISTRY:
        raise UsageError("--no-overwrite is for copies to a registry.")
    if options.replace and end.transport is not Transport.LAYOUT:
        raise UsageError("--replace is for copies to a layout.")
    name = options.name or (end.ref if end.ref and not is_tag(end.ref) else None)
    if end.transport is Transport.LAYOUT:
        return LayoutTarget(
            Path(end.where),
            name,
            jobs=options.registries.jobs,
            hard_links=options.hard_links,
            replace_images=options.replace,
        )
    if end.transport is not Transport.REGISTRY:
        kind = DockerArchiveTarget if end.transport is Transport.DOCKER_ARCHIVE else ArchiveTarget
        return kind(end.where, name)
    place = Reference.parse(end.where)
    # For other tools, a plain word is an image of Docker Hub; as a target, it is more likely a directory.
    if end.guessed and place.registry == DOCKER_HUB and "docker.io/" not in end.where:
        raise UsageError(
            f"{end.where!r} could be a directory, or an image of Docker Hub.",
            hint=f"Choose one: ./{end.where} or docker://{end.where}",
        )
    assert client is not None, "opened for registries"
    client.target = place
    target = RegistryTarget(
        client, place, options.retry, foreign=options.platforms.foreign, overwrite=options.overwrite
    )
    stack.push_async_callback(target.close)
    return target


def _placed(start: Location, end: Location, store: ImageStore, target: ImageTarget) -> list[ImageTransfer]:
    """Name the images at the target. Its REF is a tag or a full name."""
    images = store.images()
    if not (end.ref and is_tag(end.ref)) or isinstance(target, RegistryTarget):
        return target.place(images, str(start))
    image, name = only(images, end.ref, str(start)), end.ref
    if image.reference:
        name = f"{image.reference.name}:{end.ref}"
    else:  # its repository is unknown, so the tag becomes its whole name, as in skopeo
        assert image.entry is not None, "an image without a reference is in a layout or an archive"
        root = image.entry.root
        annotations = {key: text for key, text in root.annotations.items() if key not in names.given(root.annotations)}
        annotations[names.REF_NAME] = end.ref
        image = replace(image, entry=Entry.of(replace(root, annotations=annotations)))
    if isinstance(target, DockerArchiveTarget):
        return target.place([image], str(start))
    return [ImageTransfer(image, name)]


async def _copy_referrers_without_subject(
    engine: Engine, store: ImageStore, target: ImageTarget, options: CopyOptions, stack: AsyncExitStack
) -> Sequence[str]:
    """Copy entries that refer to other images than these; if images are renamed, return a warning instead."""
    if not (options.referrers and target.takes_referrers and isinstance(store, LocalImages)):
        return []
    if target.renames:
        return left_out(store, engine.referring)
    without_subject = store.without_subject(engine.referring)
    if without_subject:
        await engine.run(stack, target.place(without_subject, store.name))
    return []
