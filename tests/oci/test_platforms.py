"""Which child of an index is the one for a platform."""

import pytest

from mirror.errors import NotFound
from mirror.oci.descriptor import Descriptor, Platform
from mirror.oci.digest import Digest
from mirror.oci.platforms import fits, select, with_attestations

ATTESTATION = {"vnd.docker.reference.type": "attestation-manifest"}


def child(platform: str | None, *, about: Descriptor | None = None, name: str = "") -> Descriptor:
    digest = Digest.of(f"{platform}{name}{about}".encode())
    annotations = {**ATTESTATION, "vnd.docker.reference.digest": str(about.digest)} if about else {}
    return Descriptor("a/b", digest, 1, Platform.parse(platform) if platform else None, annotations)


def chosen(offered: list[str | None], *wanted: str) -> list[str]:
    children = [child(platform) for platform in offered]
    return [str(one.platform) for one in select(children, map(Platform.parse, wanted), "it")]


@pytest.mark.parametrize(
    ("wanted", "offered", "fit"),
    [
        ("linux/amd64", "linux/amd64", True),
        ("linux/amd64", "linux/amd64/v2", True),
        ("linux/amd64/v2", "linux/amd64", False),
        ("linux/amd64/v2", "linux/amd64/v3", False),
        ("linux/amd64", "linux/386", False),
        ("linux/amd64", "windows/amd64", False),
        ("linux/amd64", "windows/amd64:10.0", False),
        ("linux/arm", "linux/arm/v7", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/arm/v6", "linux/arm/v7", False),
        ("linux/arm", "linux/arm64", False),
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm64/v8", "linux/arm64", True),
        ("linux/arm64/v8", "linux/arm64/v8", True),
        ("linux/arm64/v9", "linux/arm64", False),
        ("windows/amd64", "windows/amd64:10.0.17763.1", True),
        ("windows/amd64:10.0.17763.1", "windows/amd64:10.0.17763.1", True),
        ("windows/amd64:10.0.17763.1", "windows/amd64:10.0.20348.1", False),
        ("windows/amd64:10.0.17763.1", "windows/amd64", False),
        ("linux/amd64", "unknown/unknown", False),
        ("linux/amd64", "linux/unknown", False),
    ],
)
def test_what_is_asked_for_has_to_match(wanted: str, offered: str, fit: bool) -> None:
    assert fits(Platform.parse(wanted), Platform.parse(offered)) is fit


def test_no_platform_fits_nothing() -> None:
    assert not fits(Platform.parse("linux/amd64"), None)


def test_unknown_matches_nothing_not_even_itself() -> None:
    unknown = Platform("unknown", "unknown")
    assert not fits(unknown, unknown)


@pytest.mark.parametrize(
    ("offered", "wanted", "best"),
    [
        (["linux/arm/v5", "linux/arm/v6", "linux/arm/v7"], "linux/arm", "linux/arm/v7"),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm", "linux/arm/v6"),
        (["linux/arm/v5", "linux/arm"], "linux/arm", "linux/arm/v5"),
        (["linux/arm/v8", "linux/arm/v6"], "linux/arm", "linux/arm/v6"),
        (["linux/arm/v6", "linux/arm/v7"], "linux/arm/v6", "linux/arm/v6"),
        (["linux/amd64/v3", "linux/amd64"], "linux/amd64", "linux/amd64"),
        (["linux/arm64/v9", "linux/arm64/v8"], "linux/arm64", "linux/arm64/v8"),
        (["linux/arm64/v8", "linux/arm64"], "linux/arm64/v8", "linux/arm64/v8"),
        (["windows/amd64:10.0.1", "windows/amd64:10.0.2"], "windows/amd64", "windows/amd64:10.0.1"),
        (["windows/amd64:10.0.1", "windows/amd64:10.0.2"], "windows/amd64:10.0.2", "windows/amd64:10.0.2"),
    ],
)
def test_of_several_that_fit_the_best_is_taken(offered: list[str | None], wanted: str, best: str) -> None:
    assert chosen(offered, wanted) == [best]


def test_of_equals_the_first_published_is_taken() -> None:
    children = [child("linux/amd64", name="one"), child("linux/amd64", name="other")]
    assert select(children, [Platform.parse("linux/amd64")], "it") == [children[0]]


def test_the_published_order_is_kept() -> None:
    offered: list[str | None] = ["linux/s390x", None, "linux/arm/v7", "linux/amd64", "linux/arm64"]
    assert chosen(offered, "linux/amd64", "linux/arm64", "linux/s390x") == ["linux/s390x", "linux/amd64", "linux/arm64"]


def test_a_platform_asked_for_twice_is_taken_once() -> None:
    assert chosen(["linux/arm/v7", "linux/amd64"], "linux/arm/v7", "linux/arm") == ["linux/arm/v7"]


def test_a_platform_that_is_not_there_lists_those_that_are() -> None:
    with pytest.raises(NotFound, match="it has no image for linux/riscv64") as caught:
        chosen(["linux/amd64", None, "linux/arm/v7", "linux/amd64", "unknown/unknown"], "linux/amd64", "linux/riscv64")
    assert caught.value.hint == "It has: linux/amd64, linux/arm/v7."


@pytest.mark.parametrize("offered", [[], [None], ["unknown/unknown"]])
def test_where_no_platform_is_named_all_of_them_is_the_advice(offered: list[str | None]) -> None:
    with pytest.raises(NotFound) as caught:
        chosen(offered, "linux/amd64")
    assert "--all-platforms" in (caught.value.hint or "")


def test_attestations_stay_with_their_image() -> None:
    amd64, arm64 = child("linux/amd64"), child("linux/arm64")
    about_amd64, about_arm64 = child("unknown/unknown", about=amd64), child("unknown/unknown", about=arm64)
    children = [about_arm64, amd64, arm64, about_amd64]
    assert with_attestations(children, [amd64]) == [amd64, about_amd64]
    assert with_attestations(children, [arm64]) == [about_arm64, arm64]
    assert with_attestations(children, [arm64, amd64]) == children
