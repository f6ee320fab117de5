"""Settings of one registry host in `mirror.toml`, read by `mirror.config.settings` and used by `mirror.registry`."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from mirror.oci.reference import is_host, is_repository

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Host:
    """The settings of one registry: its TLS, its mirrors, and the private networks that it may send us to.

    `mirrors` are `HOST[:PORT][/PATH]`, in the order in which they are asked; `mirror_tags` says whether they are asked
    what a tag stands for, too.
    """

    plain_http: bool = False
    insecure: bool = False
    ca_file: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    trusted_networks: tuple[Network, ...] = ()
    mirrors: tuple[str, ...] = ()
    mirror_tags: bool = True


ORDINARY = Host()


def is_place(text: str) -> bool:
    """Whether `text` is `HOST[:PORT][/PATH]`: where a registry, or a part of it, is."""
    host, slash, path = text.rstrip("/").partition("/")
    return is_host(host) and (not slash or is_repository(path))
