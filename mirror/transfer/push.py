"""Push: from a layout or an archive to a registry, with unchanged digests."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from mirror.content.store import Progress
from mirror.errors import UsageError
from mirror.fs.atomic import replacing
from mirror.layout.referring import can_refer
from mirror.registry import Client, RegistryOptions
from mirror.report.transfers import TransferReport
from mirror.retry import RetryPolicy
from mirror.stores.images import StoreImage
from mirror.stores.local import open_local
from mirror.stores.location import Location, Transport
from mirror.stores.outputs import refuse_overwrite
from mirror.transfer.engine import Engine, TransferOptions
from mirror.transfer.naming import NameMapping, PushTarget
from mirror.transfer.registry_target import RegistryTarget
from mirror.verify.receipt_document import Receipt, Tool
from mirror.version import VERSION


@dataclass(frozen=True, slots=True)
class PushOptions:
    """Options for pushing.

    Attributes:
        mapping: the names of the images in the registry.
        foreign: push foreign layers that the source has too.
        referrers: push the referrers of the images too.
        keep_going: go on if an image fails.
        overwrite: replace tags that point to other images; False: such an image is an error.
        dry_run: only report what would be pushed.
        receipt: a file to write: a record of what was pushed where, after reading every byte back.
        retry: how often to try each request.
        registries: how to connect to the registry; `jobs` is how many blobs to push at once.
    """

    mapping: NameMapping = field(default_factory=NameMapping)
    foreign: bool = False
    referrers: bool = True
    keep_going: bool = False
    overwrite: bool = True
    dry_run: bool = False
    receipt: Path | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def push_images(
    source: Path | str,
    target: str,
    images: Sequence[str] = (),
    options: PushOptions | None = None,
    progress: Progress | None = None,
) -> TransferReport:
    """Push images to a registry, verifying every byte that is sent, and every tag at the end.

    Args:
        source: a layout's directory, an archive, or a location such as `oci:./layout`; it is only read.
        target: `REGISTRY[/PREFIX]`.
        images: which images; everything in the source if empty.
        options: how to push.
        progress: is told about the progress.

    Returns:
        What was pushed. With `keep_going`, images that failed have an `error`.

    Raises:
        UsageError: the source or an image does not exist, two images would have the same name, or a tag would be
            overwritten although it must not.
        ContentError: the source is broken, or the registry does not serve what was pushed.
        TransferError: the registry could not be reached, or refused.
        StorageError: the source could not be read, or the receipt could not be written.
    """
    options, started = options or PushOptions(), datetime.now(UTC)
    location, where = Location.parse(str(source), registry=False), PushTarget.parse(target, options.mapping)
    if location.transport is Transport.REGISTRY:
        raise UsageError(
            f"push reads a layout or an archive, but {source} is an image of a registry.",
            hint=f"From registry to registry: mirror copy {location} docker://{target}/NAME:TAG",
        )
    if options.receipt:
        refuse_overwrite(options.receipt, [location.where])
    async with AsyncExitStack() as stack:
        store = await open_local(location, stack)
        receipt = stack.enter_context(replacing(options.receipt)) if options.receipt else None
        pushing = await _target(where, options, stack, progress)
        entries = store.entries(images)
        transfer = TransferOptions(
            referrers=options.referrers,
            find_referrers=True,
            keep_going=options.keep_going,
            dry_run=options.dry_run,
            jobs=options.registries.jobs,
            retry=options.retry,
        )
        engine = Engine("push", store, pushing, transfer, progress)
        certain = [StoreImage.of(entry) for entry in entries if not can_refer(entry)]
        await engine.run(stack, pushing.place(certain, store.name))
        # Referrers that are named are pushed.
        referring = set() if images and not options.referrers else engine.referring
        rest = [StoreImage.of(entry) for entry in entries if can_refer(entry) and entry.name not in referring]
        await engine.run(stack, pushing.place(rest, store.name))
        if receipt and not options.dry_run:
            written = Receipt(Tool(VERSION), started, datetime.now(UTC), str(source), tuple(pushing.receipts))
            receipt.write(written.to_bytes())
    report = engine.report()
    return replace(report, warnings=(*where.mapping.unused(entries), *report.warnings))


async def _target(
    where: PushTarget, options: PushOptions, stack: AsyncExitStack, progress: Progress | None
) -> RegistryTarget:
    """Open the target; `stack` closes it."""
    client = await stack.enter_async_context(Client(options.registries))
    target = RegistryTarget(
        client,
        where,
        options.retry,
        foreign=options.foreign,
        keep_going=options.keep_going,
        overwrite=options.overwrite,
        receipt=options.receipt is not None,
        progress=progress,
    )
    stack.push_async_callback(target.close)
    return target
