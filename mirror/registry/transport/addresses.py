"""Rules for the addresses that a registry may redirect to, checked at each connection (docs/adr/0010).

A registry that the user named may be at any address. The hosts that it refers to (token servers, redirects, upload
Locations) must not be more private than itself: a registry on the Internet must not make us send requests into our own
network, nor a registry on our network to this machine. Addresses are checked, not names: a name can be made to resolve
to any address, and to a different one a moment later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from mirror.config.hosts import Network

Address = IPv4Address | IPv6Address
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]  # as getaddrinfo returns it

# Addresses, other than link-local ones, at which clouds serve the credentials of a machine
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")))
# IPv6 prefixes with an embedded IPv4 address, and the number of bits after it (RFC 4291, 6052, 8215, 3056).
_EMBEDDED_IPV4 = (
    (ipaddress.ip_network("::ffff:0:0/96"), 0),
    (ipaddress.ip_network("::/96"), 0),
    (ipaddress.ip_network("64:ff9b::/96"), 0),
    (ipaddress.ip_network("64:ff9b:1::/48"), 0),
    (ipaddress.ip_network("2002::/16"), 80),
)
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that has been assigned to the Internet so far
_NUMERIC = re.compile(r"[0-9a-fx.]+", re.ASCII | re.IGNORECASE)


class ForbiddenAddress(OSError):
    """A connection that our rules forbid; the message is a sentence without a full stop."""

    def __init__(self, why: str, *, hint: str | None = None) -> None:
        super().__init__(why)
        self.hint = hint


class AddressScope(IntEnum):
    """The privacy of an address; higher values are more private."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2

    def __str__(self) -> str:
        return self.name.lower()


def scope_of(address: Address) -> AddressScope:
    """Return the scope of an address; special addresses count as private."""
    plain = _unwrap(address)
    if plain.is_loopback or plain.is_unspecified:  # connecting to 0.0.0.0 reaches this machine
        return AddressScope.LOOPBACK
    is_public = plain.is_global and (isinstance(plain, IPv4Address) or plain in _GLOBAL_UNICAST)
    return AddressScope.PUBLIC if is_public and not plain.is_multicast else AddressScope.PRIVATE


def is_forbidden(address: Address) -> bool:
    """Return whether no registry may redirect to `address`, such as one that serves a cloud's credentials."""
    plain = _unwrap(address)
    if plain.is_link_local or plain.is_unspecified or plain.is_multicast or plain in _METADATA:
        return True
    return isinstance(plain, IPv4Address) and plain.is_reserved


def _unwrap(address: Address) -> Address:
    """Return the IPv4 address embedded in an IPv6 address; other addresses unchanged."""
    if isinstance(address, IPv6Address) and int(address) > 1:
        for prefix, bits_after in _EMBEDDED_IPV4:
            if address in prefix:
                return IPv4Address(int(address) >> bits_after & 0xFFFFFFFF)
    return address


class AddressPolicy:
    """Rules for the connections of one registry. It creates the sockets, so that every connection is checked.

    The limit is the registry's least private address so far, so that resolving its name to a more private one later
    (DNS rebinding) does not help an attacker.
    """

    def __init__(self, registry: str, trusted: Sequence[Network] = ()) -> None:
        self._registry, self._trusted = registry, trusted
        self._registry_scope: AddressScope | None = None

    def registry_socket(self, info: AddressInfo) -> socket.socket:
        """Return a socket for the registry, unless it was less private before, and is now loopback or forbidden."""
        address = _address(info)
        before, now = self._registry_scope, scope_of(address)
        if before is not None and before < now and (now is AddressScope.LOOPBACK or is_forbidden(address)):
            raise ForbiddenAddress(
                f"{self._registry} now resolves to {address}, but resolved to a {before} address before"
            )
        self.registry_is_at(address)
        return _socket(info)

    def registry_is_at(self, address: Address) -> None:
        """Record an address of the registry itself."""
        scope = scope_of(address)
        self._registry_scope = scope if self._registry_scope is None else min(self._registry_scope, scope)

    def redirect_socket(self, info: AddressInfo) -> socket.socket:
        """Return a socket for a connection to a host that the registry redirected to; see `check_redirect`."""
        self.check_redirect(_address(info))
        return _socket(info)

    def check_redirect(self, address: Address) -> None:
        """Raise ForbiddenAddress if the registry may not redirect to `address`; behind a proxy, it counts as public."""
        if is_forbidden(address):
            raise ForbiddenAddress(f"no registry may redirect to {address}")
        own, scope = self._registry_scope or AddressScope.PUBLIC, scope_of(address)
        trusted = any(form in network for network in self._trusted for form in (address, _unwrap(address)))
        if scope > own and not trusted:
            raise ForbiddenAddress(
                f"{self._registry} is at a {own} address and may not redirect to {address}, a {scope} one",
                hint=f"To allow it, add this to ~/.config/mirror/mirror.toml: "
                f'[host."{self._registry}"] trusted_networks = ["{address}"].',
            )


def _address(info: AddressInfo) -> Address:
    return ipaddress.ip_address(str(info[4][0]).partition("%")[0])


def _socket(info: AddressInfo) -> socket.socket:
    return socket.socket(family=info[0], type=info[1], proto=info[2])


def parse_address(host: str) -> Address | None:
    """Return the IP address in `host`, in any form that inet_aton accepts (127.1, 0x7f000001); None for names."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host.rstrip("."))) if _NUMERIC.fullmatch(host) else None
    except OSError:
        return None


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, judging by its name alone, without DNS."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
