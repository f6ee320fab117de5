"""Where the content of a repository is asked for: its mirrors, in order, and then itself (docs/adr/0011).

Mirrors are named in mirror.toml, or else in `registries.conf`, which may also move a registry, block it, or excuse its
TLS. The name under which an image is kept stays the one that was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

from mirror.config.hosts import DEFAULTS
from mirror.config.registriesconf import EndpointConfig, RegistriesConf, RegistryConfig
from mirror.errors import ConfigError, UsageError
from mirror.oci.reference import Reference, is_repository
from mirror.registry.options import RegistryOptions


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A repository at a registry, and for which names it is asked; a `lenient` one may do without proper TLS."""

    registry: str
    repository: str
    lenient: bool = False
    tags: bool = True
    digests: bool = True


def sources(reference: Reference, options: RegistryOptions, rules: RegistriesConf) -> tuple[list[Endpoint], Endpoint]:
    """The mirrors of a repository, and where it is itself.

    Raises:
        UsageError: settings forbid to use it.
        ConfigError: they lead to something that is no repository.
    """
    rule = _rule(reference, rules)
    settings = options.hosts.get(reference.registry, DEFAULTS)
    own = [EndpointConfig(location, tags=settings.mirror_tags) for location in settings.mirrors]
    mirrors = [_moved(reference, place, reference.registry, "mirror.toml") for place in own]
    if rule and not own:
        start = rule.matching_prefix(reference.name) or ""
        mirrors = [_moved(reference, place, start, rule.file) for place in rule.mirrors]
    origin = Endpoint(reference.registry, reference.repository)
    if rule and rule.endpoint.location:
        origin = _moved(reference, rule.endpoint, rule.matching_prefix(reference.name) or "", rule.file)
    elif rule:
        origin = Endpoint(reference.registry, reference.repository, rule.endpoint.insecure)
    return mirrors, origin


def target(reference: Reference, rules: RegistriesConf) -> Endpoint:
    """Where a repository is pushed to: itself; mirrors and locations are for reading, in every tool that has them.

    Raises:
        UsageError: settings forbid to use it.
    """
    rule = _rule(reference, rules)
    return Endpoint(reference.registry, reference.repository, rule is not None and rule.endpoint.insecure)


def _rule(reference: Reference, rules: RegistriesConf) -> RegistryConfig | None:
    rule = rules.find(reference.name)
    if rule and rule.blocked:
        raise UsageError(f"{reference.name} is blocked by {rule.file}.")
    return rule


def _moved(reference: Reference, place: EndpointConfig, start: str, file: str) -> Endpoint:
    """`reference` with another beginning than `start`."""
    registry, _, path = f"{place.location}{reference.name[len(start) :]}".partition("/")
    if not is_repository(path):
        raise ConfigError(f"{file} turns {reference.name} into {registry}/{path}, which is no repository.")
    if place.proxy:
        raise ConfigError(f"{file} wants a proxy of its own for {place.location}, which mirror cannot do.")
    return Endpoint(registry, path, place.insecure, place.tags, place.digests)
