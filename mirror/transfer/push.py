"""Push: from a layout or an archive into a registry, digests preserved."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from mirror.content.store import Progress
from mirror.errors import UsageError
from mirror.fs.atomic import replacing
from mirror.layout.referrers import is_attachable
from mirror.registry import Client, RegistryOptions
from mirror.report.transfers import TransferReport
from mirror.retry import RetryPolicy
from mirror.stores.images import StoreImage
from mirror.stores.local import open_local
from mirror.stores.location import Location, Transport
from mirror.transfer.engine import Engine, TransferOptions
from mirror.transfer.naming import NameMapping, PushTarget
from mirror.transfer.registry_target import RegistryTarget
from mirror.verify.receipt_document import Receipt, Tool
from mirror.version import VERSION


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How to push: under which names, how often to try again, and how to talk to the registry.

    `referrers`: whether to push the referrers of the images too. `keep_going`: an image that fails does not stop the
    others. `receipt`: the file that records what was pushed where, all of it read back. `registries.jobs` is how many
    blobs to push at once.
    """

    mapping: NameMapping = field(default_factory=NameMapping)
    referrers: bool = True
    dry_run: bool = False
    keep_going: bool = False
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
    """Push images to a registry, verifying every byte on its way and every tag at the end.

    Args:
        source: a layout's directory, an archive, or a location such as `oci:./layout`; it is only read.
        target: `REGISTRY[/PREFIX]`.
        images: which images; all of them if none is named.
        options: how.
        progress: is told.

    Returns:
        What was done. With `keep_going`, its images may carry failures.

    Raises:
        UsageError: no such image or layout, or two images that would land on one name.
        ContentError: the source, or what the registry gave back, is not what it should be.
        TransferError: the registry could not be reached or refused.
        StorageError: the receipt could not be written.
    """
    options, began = options or PushOptions(), datetime.now(UTC)
    location, where = Location.parse(str(source), registry=False), PushTarget.parse(target, options.mapping)
    if location.transport is Transport.REGISTRY:
        raise UsageError(
            f"push reads a layout or an archive, and {source} is an image of a registry.",
            hint=f"From registry to registry: mirror copy {location} docker://{target}/NAME:TAG",
        )
    async with AsyncExitStack() as stack:
        store = await open_local(location, stack)
        receipt = stack.enter_context(replacing(options.receipt)) if options.receipt else None
        client = await stack.enter_async_context(Client(options.registries))
        pushing = RegistryTarget(
            client, where, options.retry, keep_going=options.keep_going, receipt=bool(receipt), progress=progress
        )
        stack.push_async_callback(pushing.close)
        transfer = TransferOptions(
            referrers=options.referrers,
            find_attached=True,
            keep_going=options.keep_going,
            dry_run=options.dry_run,
            jobs=options.registries.jobs,
            retry=options.retry,
        )
        entries = store.entries(images)
        engine = Engine("push", store, pushing, transfer, progress)
        heads = [StoreImage.of(entry) for entry in entries if not is_attachable(entry)]
        await engine.run(stack, pushing.place(heads, store.name))
        by_name = bool(images) and not options.referrers  # what is named is wanted
        alone = [entry for entry in entries if is_attachable(entry) and (by_name or entry.name not in engine.attached)]
        await engine.run(stack, pushing.place([StoreImage.of(entry) for entry in alone], store.name))
        if receipt and not options.dry_run:
            written = Receipt(Tool(VERSION), began, datetime.now(UTC), str(source), tuple(pushing.receipts))
            receipt.write(written.to_bytes())
    report = engine.report()
    unused = where.renaming.idle([entry.reference for entry in entries if entry.reference])
    return replace(report, warnings=(*unused, *report.warnings))
