"""Where a registry may send us: by which URLs, and to which addresses behind them (docs/adr/0010).

A registry that the person named may be anywhere. Whatever it sends us to (a token server, a redirect, an upload's
Location) must be no more private than itself: a registry on the Internet has no business with our network, nor one on
our network with this machine. What is checked is the address of each connection, at the moment in which it is made:
a name can be made to resolve to anything, and to something else a moment later.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import aiohttp
from yarl import URL

from mirror.config.hosts import Network
from mirror.errors import TransferError
from mirror.registry.transport import errors
from mirror.registry.transport.errors import Refused
from mirror.registry.transport.urls import web_address

Address = IPv4Address | IPv6Address
AddressInfo = tuple[Any, Any, int, str, tuple[Any, ...]]  # what getaddrinfo gives

# Where clouds keep the credentials of a machine, besides the link-local addresses.
_METADATA = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192", "168.63.129.16")))
# IPv6 prefixes that have an IPv4 address inside, and how many bits follow it (RFC 4291, 6052, 8215, 3056).
_CARRIERS = (
    (ipaddress.ip_network("::ffff:0:0/96"), 0),
    (ipaddress.ip_network("::/96"), 0),
    (ipaddress.ip_network("64:ff9b::/96"), 0),
    (ipaddress.ip_network("64:ff9b:1::/48"), 0),
    (ipaddress.ip_network("2002::/16"), 80),
)
_UNICAST = ipaddress.ip_network("2000::/3")  # all of IPv6 that is given out to the Internet so far
_NUMBER = re.compile(r"[0-9a-fx.]+", re.ASCII | re.IGNORECASE)


class AddressScope(IntEnum):
    """How private an address is."""

    PUBLIC = 0
    PRIVATE = 1
    LOOPBACK = 2

    def __str__(self) -> str:
        return {AddressScope.PUBLIC: "public", AddressScope.PRIVATE: "private", AddressScope.LOOPBACK: "loopback"}[self]


def scope_of(address: Address) -> AddressScope:
    """How private an address is; one that cannot be told is taken for private."""
    plain = _unwrapped(address)
    if plain.is_loopback or plain.is_unspecified:  # connecting to 0.0.0.0 reaches this machine
        return AddressScope.LOOPBACK
    outside = plain.is_global and (isinstance(plain, IPv4Address) or plain in _UNICAST)
    return AddressScope.PUBLIC if outside and not plain.is_multicast else AddressScope.PRIVATE


def is_forbidden(address: Address) -> bool:
    """Whether nobody may send us there: no registry is at such an address, but a cloud's credentials may be."""
    plain = _unwrapped(address)
    if plain.is_link_local or plain.is_unspecified or plain.is_multicast or plain in _METADATA:
        return True
    return isinstance(plain, IPv4Address) and plain.is_reserved


def _unwrapped(address: Address) -> Address:
    """The IPv4 address inside of an IPv6 address that has one."""
    if isinstance(address, IPv6Address) and int(address) > 1:
        for prefix, after in _CARRIERS:
            if address in prefix:
                return IPv4Address(int(address) >> after & 0xFFFFFFFF)
    return address


class AddressPolicy:
    """Where one registry may send us. Makes the sockets for it, so no connection escapes the check.

    The yardstick is the least private address at which the registry was: one that moves to a more private one (DNS
    rebinding) gains nothing by it.
    """

    def __init__(self, name: str, trusted: Sequence[Network] = ()) -> None:
        self._name, self._trusted = name, trusted
        self._own: AddressScope | None = None

    def own(self, info: AddressInfo) -> socket.socket:
        """A socket for a connection to the registry itself.

        Raises:
            Refused: it was elsewhere before, and is on this machine now.
        """
        address = _address(info)
        found = scope_of(address)
        if self._own is not None and self._own < found and (found is AddressScope.LOOPBACK or is_forbidden(address)):
            raise Refused(f"its name has come to stand for {address}, and stood for a {self._own} address before")
        self.note(address)
        return _socket(info)

    def note(self, address: Address) -> None:
        """The registry is at `address`."""
        found = scope_of(address)
        self._own = found if self._own is None else min(self._own, found)

    def other(self, info: AddressInfo) -> socket.socket:
        """A socket for a connection to where the registry has sent us.

        Raises:
            Refused: it may not.
        """
        self.check(_address(info))
        return _socket(info)

    def check(self, address: Address) -> None:
        """Whether the registry may send us to `address`; one that was reached through a proxy counts as public.

        Raises:
            Refused: it may not.
        """
        if is_forbidden(address):
            raise Refused(f"no registry may send anybody to {address}")
        own = self._own or AddressScope.PUBLIC
        if scope_of(address) > own and not self._trusts(address):
            raise Refused(
                f"{address} is a {scope_of(address)} address, and {self._name} is at a {own} one",
                hint=f"If {self._name} may send you there, say so in your own mirror.toml: "
                f'[host."{self._name}"] trusted_networks = ["{address}"].',
            )

    def _trusts(self, address: Address) -> bool:
        plain = _unwrapped(address)
        return any(one in network for network in self._trusted for one in (address, plain))


def _address(info: AddressInfo) -> Address:
    return ipaddress.ip_address(str(info[4][0]).partition("%")[0])


def _socket(info: AddressInfo) -> socket.socket:
    return socket.socket(family=info[0], type=info[1], proto=info[2])


def literal(host: str) -> Address | None:
    """The address that a host is, if it is one: also in the forms that only inet_aton knows (127.1, 0x7f000001)."""
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host.rstrip("."))) if _NUMBER.fullmatch(host) else None
    except OSError:
        return None


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its name alone: nothing is looked up."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def location(response: aiohttp.ClientResponse) -> URL:
    """Where a redirect leads, or an upload goes on: a signed URL must stay as it is, to the last byte.

    Raises:
        TransferError: nowhere, or somewhere that no registry should lead to.
    """
    text = response.headers.get("Location", "")
    target = web_address(text, base=response.url) if text else None
    if target is None:
        raise TransferError(f"{errors.shown(response.url)}: sent on to {_shown(text)!r}, which is no web address.")
    if response.url.scheme == "https" and target.scheme == "http":
        raise TransferError(f"{errors.shown(response.url)}: sent on to {target.host} without encryption.")
    return target


def _shown(text: str) -> str:
    """An address that is none, without what may be secret in it."""
    return re.sub(r"//[^/@]*@", "//", text.partition("?")[0])[:200]
