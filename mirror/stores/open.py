"""Open the images at any location: the one place that decides what a location means."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from mirror.errors import UsageError
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions
from mirror.retry import ONCE, RetryPolicy
from mirror.stores.local import LocalImages, open_local
from mirror.stores.location import Location, Transport
from mirror.stores.remote import RegistryImages


@asynccontextmanager
async def opened_images(
    what: str, images: Sequence[str], registries: RegistryOptions, retry: RetryPolicy
) -> AsyncIterator[LocalImages | RegistryImages]:
    """Open the images at a location, with a client if it is in a registry.

    Args:
        what: the location, as a user types it.
        images: names of images of a layout or an archive.
        registries: how to talk to a registry.
        retry: how often to try again after a transient failure.

    Raises:
        UsageError: the location is one image of a registry, and there are names.
        MirrorError: there is nothing at the location, or it cannot be read.
    """
    location = Location.parse(what)
    if images and location.transport is Transport.REGISTRY:
        raise UsageError(
            f"{what!r} is taken as one image of a registry, so no other name can follow it.",
            hint=f"If it is a directory or an archive: ./{what}",
        )
    async with AsyncExitStack() as stack:
        remote = location.transport is Transport.REGISTRY
        client = await stack.enter_async_context(Client(registries)) if remote else None
        yield await open_images(location, stack, client, retry)


async def open_images(
    location: Location, stack: AsyncExitStack, client: Client | None, retry: RetryPolicy = ONCE
) -> LocalImages | RegistryImages:
    """Open the images at a location.

    Args:
        location: where they are.
        stack: closes what is opened.
        client: for registries.
        retry: how often to try again after a transient failure of a registry.

    Raises:
        UsageError: there is no client, and the location is in a registry.
        MirrorError: there is nothing at the location, or it cannot be read.
    """
    if location.transport is not Transport.REGISTRY:
        return await open_local(location, stack)
    if client is None:
        raise UsageError(f"{location} is in a registry.", hint="Name a layout or an archive.")
    return RegistryImages(client, [Reference.parse(location.where)], retry)
