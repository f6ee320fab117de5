"""Open the images at any location."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from mirror.errors import UsageError
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions
from mirror.retry import RetryPolicy
from mirror.stores.local import LocalImages, open_local
from mirror.stores.location import Location, Transport
from mirror.stores.remote import RegistryImages


@asynccontextmanager
async def opened_images(
    what: str, images: Sequence[str], registries: RegistryOptions, retry: RetryPolicy
) -> AsyncIterator[LocalImages | RegistryImages]:
    """Open the images at a location as a user types it, with a client if it is in a registry.

    Raise UsageError if it is one image of a registry, and `images` names others.
    """
    location = Location.parse(what)
    remote = location.transport is Transport.REGISTRY
    if images and remote:
        raise UsageError(
            f"{what!r} is taken as one image of a registry, so no other name can follow it.",
            hint=f"If it is a directory or an archive: ./{what}",
        )
    async with AsyncExitStack() as stack:
        stack.enter_context(location.explained())
        client = await stack.enter_async_context(Client(registries)) if remote else None
        yield await open_images(location, stack, client, retry)


async def open_images(
    location: Location, stack: AsyncExitStack, client: Client | None, retry: RetryPolicy, near: Path | None = None
) -> LocalImages | RegistryImages:
    """Open the images at a location; `stack` closes what is opened, and a registry needs the `client`.

    `near` is a path on the file system that keeps the content of an archive from a pipe.
    """
    if location.transport is not Transport.REGISTRY:
        return await open_local(location, stack, near)
    assert client is not None, "registries need a client"
    return RegistryImages(client, [Reference.parse(location.where)], retry)
