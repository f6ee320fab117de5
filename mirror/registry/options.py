"""Options for connections to registries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.config.hosts import HostSettings
from mirror.registry.credentials import Credentials


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """Options for connections to registries.

    Attributes:
        plain_http: hosts to connect to without TLS; `*` stands for every registry that the user names.
        insecure: hosts whose certificates are not verified; `*` stands for every registry that the user names, but not
            for mirrors or hosts that it redirects to.
        ca_file: a PEM file with CA certificates for all hosts, in addition to the system's.
        hosts: settings by host.
        jobs: the number of blobs transferred at once; their read buffers share one memory budget.
        user_agent: the User-Agent header.
        connections_per_blob: the number of connections for one large blob; None: as many as make it faster.
        timeout: seconds without data after which a connection fails.
        max_wait: the longest pause in seconds that a registry may ask for (Retry-After); a longer one is an error.
        limit_rate: the maximum rate of all transfers together in bytes per second; None: unlimited.
        chunk_size: the maximum size of an upload request in bytes; None: unlimited, unless a request is refused.
        authfile: the credentials file that takes precedence over all others.
        credentials: credentials by registry, which take precedence over all files.
    """

    plain_http: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    ca_file: str | None = None
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    jobs: int = 4
    user_agent: str = "oci-mirror"
    connections_per_blob: int | None = None
    timeout: float = 60.0
    max_wait: float = 300.0
    limit_rate: int | None = None
    chunk_size: int | None = None
    authfile: Path | None = None
    credentials: Mapping[str, Credentials] = field(default_factory=dict)

    def host(self, name: str) -> HostSettings:
        """Return the settings of a host, `HOST[:PORT]`."""
        return self.hosts.get(name, HostSettings())

    def without_wildcards(self) -> RegistryOptions:
        """Return these options for a registry that the user did not name, such as a mirror."""
        return replace(self, plain_http=self.plain_http - {"*"}, insecure=self.insecure - {"*"})
