"""Which tags a repository of a registry has."""

from __future__ import annotations

from mirror.errors import UsageError
from mirror.oci.reference import Reference
from mirror.registry import Client, RegistryOptions, listing, pull_source
from mirror.report.images import Tags
from mirror.retry import RetryPolicy


async def list_tags(name: str, options: RegistryOptions | None = None, retry: RetryPolicy | None = None) -> Tags:
    """The tags of a repository, in the registry's order.

    Args:
        name: an image name without tag and digest, such as `redis` or `quay.io/a/b`.
        options: how to talk to the registry.
        retry: how stubborn to be.

    Raises:
        UsageError: the name has a tag or a digest, or is none.
        NotFound: there is no such repository.
        ContentError: what the registry sent is no list of tags, or has no end.
        TransferError: the registry could not be reached or refused.
    """
    reference = Reference.parse(name)
    if reference.digest or name.endswith(f":{reference.tag}"):
        raise UsageError(f"{name!r} names an image, not a repository.", hint=f"Leave the tag out: {reference.name}")
    async with Client(options or RegistryOptions()) as client:
        origin = pull_source(client, reference).origin  # a mirror may know few of them
        scope = f"repository:{origin.name}:pull"
        tags = await listing.list_tags(origin.registry, origin.name, scope, retry=retry or RetryPolicy())
    return Tags(reference.name, tuple(tags))
