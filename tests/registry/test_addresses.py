"""Tests of the addresses that a registry may redirect to: their spelling, name resolution, and connections."""

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.config.hosts import HostSettings
from mirror.content import stream
from mirror.errors import TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, ForeignLayers, RegistryOptions, Repository
from mirror.registry.transport import addresses
from mirror.registry.transport.addresses import (
    AddressInfo,
    AddressPolicy,
    AddressScope,
    ForbiddenAddress,
    is_forbidden,
    parse_address,
    scope_of,
)
from tests.support.registry import EmbeddedRegistry, Fault, Redirect, serving
from tests.support.strategies import QUICK

pytestmark = pytest.mark.usefixtures("each_exchange")

PUBLIC, PRIVATE, LOOPBACK = AddressScope.PUBLIC, AddressScope.PRIVATE, AddressScope.LOOPBACK


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("8.8.8.8", PUBLIC),
        ("2606:4700::1", PUBLIC),
        ("10.1.2.3", PRIVATE),
        ("172.16.0.1", PRIVATE),
        ("172.32.0.1", PUBLIC),
        ("192.168.1.1", PRIVATE),
        ("100.64.0.1", PRIVATE),
        ("198.18.0.1", PRIVATE),
        ("169.254.1.1", PRIVATE),
        ("fd12::1", PRIVATE),
        ("fe80::1", PRIVATE),
        ("fec0::1", PRIVATE),
        ("224.0.0.1", PRIVATE),
        ("255.255.255.255", PRIVATE),
        ("127.0.0.1", LOOPBACK),
        ("127.255.0.1", LOOPBACK),
        ("0.0.0.0", LOOPBACK),
        ("::", LOOPBACK),
        ("::1", LOOPBACK),
        ("::ffff:127.0.0.1", LOOPBACK),
        ("::ffff:10.0.0.1", PRIVATE),
        ("::ffff:8.8.8.8", PUBLIC),
        ("::127.0.0.1", LOOPBACK),
        ("64:ff9b::7f00:1", LOOPBACK),
        ("64:ff9b::808:808", PUBLIC),
        ("64:ff9b:1::a00:1", PRIVATE),
        ("2002:7f00:1::", LOOPBACK),
        ("2002:808:808::1", PUBLIC),
    ],
)
def test_address_scope_is_public_private_or_loopback(address: str, found: AddressScope) -> None:
    assert scope_of(ip_address(address)) is found


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "192.0.0.192",
        "168.63.129.16",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "240.0.0.1",
        "255.255.255.255",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::",
    ],
)
def test_redirect_to_metadata_or_special_purpose_address_is_refused(address: str) -> None:
    assert is_forbidden(ip_address(address))
    policy = at("127.0.0.1")
    with pytest.raises(ForbiddenAddress, match="no registry may redirect"):
        policy.check_redirect(ip_address(address))


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "10.0.0.1", "8.8.8.8", "fd12::1", "::ffff:10.0.0.1"])
def test_ordinary_addresses_are_not_forbidden(address: str) -> None:
    assert not is_forbidden(ip_address(address))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("0X7F.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("127.0.0.1.", "127.0.0.1"),
        ("[::1]", "::1"),
        ("::1", "::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_unusual_spellings_of_addresses_are_parsed(host: str, address: str) -> None:
    assert parse_address(host) == ip_address(address)


@pytest.mark.parametrize(
    "host", ["", "registry.example", "localhost", "1.2.3.4.example", "dead.beef", "127.0.0.256", "f"]
)
def test_host_name_is_not_parsed_as_an_address(host: str) -> None:
    assert parse_address(host) is None


@given(st.ip_addresses())
@QUICK
def test_any_address_can_be_classified(address: Any) -> None:
    assert scope_of(address) in AddressScope
    assert is_forbidden(address) in (True, False)


@given(st.text(max_size=40))
@QUICK
def test_parse_address_never_raises(host: str) -> None:
    found = parse_address(host)
    assert found is None or isinstance(found, IPv4Address | IPv6Address)


# Redirects and DNS rebinding


def info(address: str) -> AddressInfo:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80))


def at(*addresses: str, trusted: str = "") -> AddressPolicy:
    """Return the policy of a registry that was at these addresses, one after the other."""
    policy = AddressPolicy("registry.example", [ip_network(trusted)] if trusted else [])
    for address in addresses:
        policy.registry_socket(info(address)).close()
    return policy


ORDER = ["8.8.8.8", "10.0.0.1", "127.0.0.1"]


@pytest.mark.parametrize("own", ORDER)
@pytest.mark.parametrize("other", ORDER)
def test_redirect_target_must_not_be_more_private_than_the_registry(own: str, other: str) -> None:
    if ORDER.index(other) <= ORDER.index(own):
        at(own).redirect_socket(info(other)).close()
    else:
        with pytest.raises(ForbiddenAddress, match=r"is at a (public|private) address"):
            at(own).redirect_socket(info(other))


def test_registry_that_moves_to_a_private_address_is_refused() -> None:
    """DNS rebinding: the same name, first on the Internet, then on this machine."""
    policy = at("8.8.8.8")
    with pytest.raises(ForbiddenAddress, match="now resolves to"):
        policy.registry_socket(info("127.0.0.1"))
    with pytest.raises(ForbiddenAddress, match="now resolves to"):
        policy.registry_socket(info("169.254.169.254"))
    with pytest.raises(ForbiddenAddress):
        policy.redirect_socket(info("10.0.0.1"))


def test_registry_may_have_a_public_and_a_private_address() -> None:
    policy = at("2606:4700::1", "10.0.0.1", "2606:4700::1")
    with pytest.raises(ForbiddenAddress, match="is at a public address"):
        policy.redirect_socket(info("10.0.0.2"))


def test_registry_behind_a_proxy_counts_as_public() -> None:
    with pytest.raises(ForbiddenAddress):
        at().check_redirect(ip_address("10.0.0.1"))


def test_trusted_networks_allow_private_but_not_metadata_addresses() -> None:
    policy = at("8.8.8.8", trusted="0.0.0.0/0")
    policy.redirect_socket(info("10.0.0.1")).close()
    policy.redirect_socket(info("::ffff:127.0.0.1")).close()
    with pytest.raises(ForbiddenAddress):
        policy.redirect_socket(info("169.254.169.254"))


def test_hint_shows_the_setting_for_trusted_networks() -> None:
    with pytest.raises(ForbiddenAddress) as caught:
        at("8.8.8.8").redirect_socket(info("10.0.0.1"))
    assert caught.value.hint
    assert '[host."registry.example"] trusted_networks = ["10.0.0.1"]' in caught.value.hint


# Connections. Some addresses of 127.0.0.0/8 stand for public and private ones.

DATA = b"content"
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
PATH = f"/v2/a/blobs/{NODE.digest}"
ROLES = {"127.0.0.2": PUBLIC, "127.0.0.3": PRIVATE, "127.0.0.4": PUBLIC, "127.0.0.5": PRIVATE}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, list[str]]:
    """Names and the addresses that they resolve to."""
    names: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **options: Any) -> list[Any]:
        found = [real(address, port, *args, **options) for address in names.get(host, [host])]
        return [info for infos in found for info in infos]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(addresses, "scope_of", lambda address: ROLES.get(str(address), scope_of(address)))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return names


@pytest.fixture
def public(world: dict[str, list[str]]) -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(address="127.0.0.2")) as running:
        running.put_blob("a", DATA)
        yield running


async def fetch(host: str, **settings: Any) -> bytes:
    options = RegistryOptions(plain_http=frozenset({"*"}), hosts={host: HostSettings(**settings)})
    async with Client(options) as client, Repository(client.registry(host), "a").open_blob(NODE) as body:
        return await stream.read(body, NODE)


def redirect_blobs(registry: EmbeddedRegistry, host: str, other: EmbeddedRegistry) -> str:
    """Let `registry` redirect blobs to `host` at the port of `other`, and return `host`."""
    registry.fault(Fault(path="/blobs/", action=Redirect(f"http://{host}:{other.host.partition(':')[2]}{PATH}")))
    return host


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", "localhost"),
        ("127.0.0.1", "localhost."),
        ("127.0.0.1", "inside.test"),
        ("127.0.0.1", "mixed.test"),
        ("127.0.0.3", "127.0.0.3"),
        ("127.0.0.3", "lan.test"),
    ],
)
def test_redirect_to_a_more_private_host_makes_no_connection(
    world: dict[str, list[str]], public: EmbeddedRegistry, address: str, host: str
) -> None:
    world.update({"inside.test": ["127.0.0.1"], "lan.test": ["127.0.0.3"], "mixed.test": ["127.0.0.3", "127.0.0.1"]})
    world.update({"localhost": ["127.0.0.1"], "localhost.": ["127.0.0.1"]})
    with serving(EmbeddedRegistry(address=address)) as inner:
        inner.put_blob("a", DATA)
        redirect_blobs(public, host, inner)
        with pytest.raises(TransferError, match="Not connecting"):
            asyncio.run(fetch(public.host))
        assert inner.requests == []


@pytest.mark.parametrize("names", [["127.0.0.4"], ["127.0.0.1", "127.0.0.4"]])
def test_only_allowed_addresses_of_a_name_are_used(
    world: dict[str, list[str]], public: EmbeddedRegistry, names: list[str]
) -> None:
    world["cdn.test"] = names
    with serving(EmbeddedRegistry(address="127.0.0.4")) as other:
        other.put_blob("a", DATA)
        redirect_blobs(public, "cdn.test", other)
        assert asyncio.run(fetch(public.host)) == DATA


FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


async def fetch_foreign(host: str, url: str) -> bytes:
    """Fetch a foreign layer, for which a manifest of the registry has this URL."""
    node = Descriptor(FOREIGN, NODE.digest, NODE.size, urls=(url,))
    async with Client(RegistryOptions(plain_http=frozenset({"*"}))) as client:
        repository = Repository(client.registry(host), "a")
        async with repository.open_blob(NODE) as body:  # now the client knows the address of the registry
            await stream.read(body, NODE)
        async with ForeignLayers(repository, repository.registry).open_blob(node) as body:
            return await stream.read(body, node)


@pytest.mark.parametrize(("address", "allowed"), [("127.0.0.1", False), ("127.0.0.3", False), ("127.0.0.4", True)])
def test_foreign_layer_url_cannot_lead_to_a_more_private_address(
    world: dict[str, list[str]], public: EmbeddedRegistry, address: str, allowed: bool
) -> None:
    world["layers.test"] = [address]
    with serving(EmbeddedRegistry(address=address)) as other:
        other.put_blob("a", DATA)
        for host in (address, "layers.test"):
            url = f"http://{host}:{other.host.partition(':')[2]}{PATH}"
            if allowed:
                assert asyncio.run(fetch_foreign(public.host, url)) == DATA
            else:
                with pytest.raises(TransferError, match="Not connecting"):
                    asyncio.run(fetch_foreign(public.host, url))
        assert len(other.requests) == (2 if allowed else 0)


def test_redirect_into_a_trusted_network_is_followed(world: dict[str, list[str]], public: EmbeddedRegistry) -> None:
    with serving(EmbeddedRegistry(address="127.0.0.3")) as inner:
        inner.put_blob("a", DATA)
        redirect_blobs(public, "127.0.0.3", inner)
        assert asyncio.run(fetch(public.host, trusted_networks=(ip_network("127.0.0.3/32"),))) == DATA


@pytest.mark.slow
@pytest.mark.parametrize(
    "host", ["2130706433", "127.1", "0x7f.1", "0", "0.0.0.0", "169.254.169.254", "[::ffff:127.0.0.1]"]
)
def test_unusual_spelling_of_an_address_does_not_bypass_the_check(public: EmbeddedRegistry, host: str) -> None:
    with serving(EmbeddedRegistry(address="127.0.0.1")) as inner:
        inner.put_blob("a", DATA)
        redirect_blobs(public, host, inner)
        with pytest.raises(TransferError):
            asyncio.run(fetch(public.host))
        assert inner.requests == []


def test_connection_to_one_registry_is_not_reused_for_another(
    world: dict[str, list[str]], public: EmbeddedRegistry
) -> None:
    """The local registry may be used directly; a redirect of a public one must not use the open connection to it."""
    with serving(EmbeddedRegistry(address="127.0.0.1")) as inner:
        inner.put_blob("a", DATA)
        redirect_blobs(public, "127.0.0.1", inner)

        async def both() -> None:
            async with Client(RegistryOptions()) as client:
                async with Repository(client.registry(inner.host), "a").open_blob(NODE) as body:
                    await stream.read(body, NODE)
                async with Repository(client.registry(public.host), "a").open_blob(NODE) as body:
                    await stream.read(body, NODE)

        with pytest.raises(TransferError, match="Not connecting"):
            asyncio.run(both())
        assert inner.count("GET", "/blobs/") == 1
