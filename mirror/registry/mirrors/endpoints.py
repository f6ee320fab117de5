"""The endpoints of a repository: its mirrors in order, then the registry itself (docs/adr/0011).

Mirrors are set in mirror.toml, else in `registries.conf`, which can also rewrite the name of a registry, block it, or
allow it to be insecure. Images are always stored under the requested name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mirror.config.registriesconf import EndpointConfig, RegistriesConf, RegistryConfig
from mirror.errors import ConfigError, UsageError
from mirror.oci.reference import Reference, is_repository
from mirror.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A repository at a registry."""

    registry: str  # `HOST[:PORT]`
    repository: str
    insecure: bool = False  # plain HTTP and any certificate are allowed
    tags: bool = True  # it is used to resolve tags
    digests: bool = True  # it is used for content by digest

    def is_at(self, reference: Reference) -> bool:
        """Return whether this is the repository of `reference`."""
        same_host = _host(self.registry) == _host(reference.registry)
        return same_host and self.repository == reference.repository


def source_endpoints(
    reference: Reference, options: RegistryOptions, conf: RegistriesConf
) -> tuple[list[Endpoint], Endpoint]:
    """Return the mirrors of a repository, and the repository itself."""
    table = find_unblocked(reference.name, conf)
    prefix = (table.matching_prefix(reference.name) if table else None) or ""
    origin = Endpoint(reference.registry, reference.repository, table is not None and table.endpoint.insecure)
    if table and table.endpoint.location:
        origin = _rewrite(reference, table.endpoint, prefix, table.file)
    settings = options.host(reference.registry)
    if settings.mirrors:  # in place of those in registries.conf
        configs = [EndpointConfig(location, tags=settings.mirror_tags) for location in settings.mirrors]
        return [_rewrite(reference, config, reference.registry, "mirror.toml") for config in configs], origin
    return [_rewrite(reference, mirror, prefix, table.file) for mirror in table.mirrors] if table else [], origin


def is_mirrored_at(target: Reference, reference: Reference, mirrors: Sequence[Endpoint], origin: Endpoint) -> bool:
    """Return whether `target` is one of the `mirrors` of `reference`.

    Raise UsageError if `reference` is rewritten to `target`: nothing else can be read under its name.
    """
    if origin.is_at(target) and origin.registry != reference.registry:
        raise UsageError(
            f"registries.conf rewrites {reference.name} to {target.name}, the target.",
            hint="To fill the target, make it a mirror in that file instead of a location.",
        )
    return any(mirror.is_at(target) for mirror in mirrors)


def target_endpoint(reference: Reference, conf: RegistriesConf) -> Endpoint:
    """Return the endpoint to push to: the repository itself. As in podman, mirrors and locations are only for pulls."""
    table = find_unblocked(reference.name, conf)
    return Endpoint(reference.registry, reference.repository, table is not None and table.endpoint.insecure)


def find_unblocked(name: str, conf: RegistriesConf) -> RegistryConfig | None:
    """Return the table of `registries.conf` for `REGISTRY[/REPOSITORY]`, if any; raise UsageError if it is blocked."""
    table = conf.find(name)
    if table and table.blocked:  # containers-registries.conf(5) only requires this for pulls
        hint = f"If that is wrong, remove blocked = true for {table.prefix} from that file."
        raise UsageError(f"{name} is blocked by {table.file}.", hint=hint)
    return table


def _host(registry: str) -> str:
    return registry.lower().removesuffix(":443")


def _rewrite(reference: Reference, config: EndpointConfig, prefix: str, file: str) -> Endpoint:
    """Return the endpoint for `reference`, with `prefix` replaced by the configured location."""
    registry, _, path = f"{config.location}{reference.name[len(prefix) :]}".partition("/")
    if not is_repository(path):
        raise ConfigError(f"{file} rewrites {reference.name} to {registry}/{path}, which is not a repository.")
    if config.proxy:
        raise ConfigError(f"{file} sets a proxy for {config.location}, which mirror does not support.")
    return Endpoint(registry, path, config.insecure, config.tags, config.digests)
