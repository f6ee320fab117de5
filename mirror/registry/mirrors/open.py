"""Opening repositories, by the mirrors and rules in the settings and `registries.conf`."""

from __future__ import annotations

from mirror.oci.reference import Reference
from mirror.registry.client import Client
from mirror.registry.mirrors.endpoints import Endpoint, source_endpoints, target_endpoint
from mirror.registry.mirrors.repository import Candidate, MirroredRepository
from mirror.registry.repository import Repository


def open_source(client: Client, reference: Reference) -> Repository | MirroredRepository:
    """Return the repository of an image for reading, from its mirrors or the registry itself (`origin`).

    Raises:
        UsageError: `registries.conf` blocks it.
        ConfigError: a settings file cannot be used.
    """
    mirrors, origin = source_endpoints(reference, client.options, client.registries_conf)
    is_rewritten = origin.registry != reference.registry
    itself = _repository(client, origin, explicit=not is_rewritten)
    if not mirrors:
        return itself
    candidates = [Candidate(_repository(client, endpoint, explicit=False), endpoint) for endpoint in mirrors]
    return MirroredRepository(candidates, Candidate(itself, origin, is_origin=True), client.warnings)


def open_target(client: Client, reference: Reference, *, push: bool = True) -> Repository:
    """Return the repository of an image for pushing or, without `push`, for reading back what was pushed.

    Mirrors and locations in `registries.conf` are ignored: they are only for pulls.

    Raises:
        UsageError: `registries.conf` blocks it.
        ConfigError: a settings file cannot be used.
    """
    endpoint = target_endpoint(reference, client.registries_conf)
    registry = client.registry(endpoint.registry, insecure=endpoint.insecure)
    return Repository(registry, endpoint.repository, jobs=client.options.jobs, push=push)


def _repository(client: Client, endpoint: Endpoint, *, explicit: bool) -> Repository:
    registry = client.registry(endpoint.registry, insecure=endpoint.insecure, explicit=explicit)
    return Repository(registry, endpoint.repository)
