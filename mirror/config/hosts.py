"""Settings of one registry host, from a `[host."…"]` table of `mirror.toml`."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The settings of one registry host: TLS, mirrors, and the private networks that it may redirect to.

    Attributes:
        plain_http: use HTTP without TLS.
        insecure: do not verify the host's certificate.
        ca_file: a PEM file with additional CA certificates for this host.
        client_cert: a PEM file with the client certificate, and the key unless `client_key` is set.
        client_key: a PEM file with the client certificate's key.
        trusted_networks: networks that the registry may redirect to, although they are more private than itself.
        mirrors: locations, `HOST[:PORT][/PATH]`, in the order in which they are tried.
        mirror_tags: mirrors may also resolve tags; otherwise, they only serve content by digest.
    """

    plain_http: bool = False
    insecure: bool = False
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    trusted_networks: tuple[Network, ...] = ()
    mirrors: tuple[str, ...] = ()
    mirror_tags: bool = True
