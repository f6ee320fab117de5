"""List the tags of a repository in a registry."""

from __future__ import annotations

from dataclasses import dataclass, field

from mirror.errors import UsageError
from mirror.oci.reference import Reference, is_only_a_registry
from mirror.registry import Client, RegistryOptions, listing, open_source
from mirror.report.images import TagList
from mirror.retry import RetryPolicy


@dataclass(frozen=True, slots=True)
class TagOptions:
    """Options for listing tags.

    Attributes:
        retry: how often to try each request.
        registries: how to connect to the registry.
    """

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    registries: RegistryOptions = field(default_factory=RegistryOptions)


async def list_tags(name: str, options: TagOptions | None = None) -> TagList:
    """Return the tags of a repository, in the order of the registry.

    `name` is an image name without tag and digest, such as `redis` or `quay.io/a/b`.

    Raises:
        UsageError: the name has a tag or a digest, or is not a valid image name.
        NotFound: there is no such repository.
        ContentError: the response is not a list of tags, or never ends.
        TransferError: the registry could not be reached, or refused.
    """
    reference = Reference.parse(name)
    if is_only_a_registry(name):
        raise UsageError(f"{name} is a registry, not a repository.", hint=f"Add one: mirror tags {name}/team/app")
    if reference.digest or name.endswith(f":{reference.tag}"):
        raise UsageError(f"{name!r} is an image, not a repository.", hint=f"Omit the tag: mirror tags {reference.name}")
    options = options or TagOptions()
    async with Client(options.registries) as client:
        origin = open_source(client, reference).origin  # not a mirror, which may have only some of the tags
        scope = f"repository:{origin.name}:pull"
        tags = await listing.list_tags(origin.registry, origin.name, scope, retry=options.retry)
    return TagList(reference.name, tuple(tags))
