"""How to talk to registries, as flags and settings say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from mirror.config.hosts import HostSettings
from mirror.registry.credentials import Credentials


@dataclass(frozen=True, slots=True)
class RegistryOptions:
    """How to talk to registries.

    `plain_http` and `insecure` (TLS without verification) are the hosts that they apply to; `*` is every registry that
    is asked for by name, and nobody to whom it sends us. `ca_file` has further authorities to believe, about everybody.
    `hosts` are settings of single hosts. `jobs` is how many blobs move at once; their read buffers share one budget of
    memory. `connections_per_blob` is how many connections fetch one large blob; as many as help where it is None.
    `timeout` is how many seconds a registry may be silent. `limit_rate` is how many bytes per second all bodies
    together may have; no limit where it is None. `chunk_size` is how many bytes of a blob one upload request carries;
    where it is None, all of them, and fewer where that turns out to be too much. `authfile` is the credentials file to
    look in first; `credentials`, by registry, beat all files.
    """

    plain_http: frozenset[str] = frozenset()
    insecure: frozenset[str] = frozenset()
    ca_file: str | None = None
    hosts: Mapping[str, HostSettings] = field(default_factory=dict)
    jobs: int = 4
    agent: str = "oci-mirror"
    connections_per_blob: int | None = None
    timeout: float = 60.0
    limit_rate: int | None = None
    chunk_size: int | None = None
    authfile: Path | None = None
    credentials: Mapping[str, Credentials] = field(default_factory=dict)

    def for_mirrors(self) -> RegistryOptions:
        """The same without what flags say of the registries that are asked for by name."""
        return replace(self, plain_http=self.plain_http - {"*"}, insecure=self.insecure - {"*"})
