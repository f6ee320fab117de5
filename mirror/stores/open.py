"""Open the images at any location: the one place that decides what a location means."""

from __future__ import annotations

from contextlib import AsyncExitStack

from mirror.errors import UsageError
from mirror.oci.reference import Reference
from mirror.registry import Client
from mirror.retry import ONCE, RetryPolicy
from mirror.stores.local import LocalImages, open_local
from mirror.stores.location import Location, Transport
from mirror.stores.remote import RegistryImages


async def open_images(
    location: Location, stack: AsyncExitStack, client: Client | None, retry: RetryPolicy = ONCE
) -> LocalImages | RegistryImages:
    """Open the images at any location.

    Args:
        location: where they are.
        stack: closes what is opened.
        client: for registries.
        retry: how often to try again after a transient failure of a registry.

    Raises:
        UsageError: there is no client, and the location is a registry.
        MirrorError: there is nothing at the location, or it cannot be read.
    """
    if location.transport is not Transport.REGISTRY:
        return await open_local(location, stack)
    if client is None:
        raise UsageError(f"{location} is in a registry.", hint="Name a layout or an archive.")
    return RegistryImages(client, [Reference.parse(location.where)], retry)
