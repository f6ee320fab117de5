"""Tests of selecting the children of an index by platform."""

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
def test_offered_platform_must_have_the_requested_fields(wanted: str, offered: str, fit: bool) -> None:
    assert fits(Platform.parse(wanted), Platform.parse(offered)) is fit


def test_child_without_a_platform_does_not_fit() -> None:
    assert not fits(Platform.parse("linux/amd64"), None)


def test_unknown_platform_does_not_fit_itself() -> None:
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
def test_best_of_several_fitting_platforms_is_selected(offered: list[str | None], wanted: str, best: str) -> None:
    assert chosen(offered, wanted) == [best]


def test_first_of_equal_platforms_is_selected() -> None:
    children = [child("linux/amd64", name="one"), child("linux/amd64", name="other")]
    assert select(children, [Platform.parse("linux/amd64")], "it") == [children[0]]


def test_the_published_order_is_kept() -> None:
    offered: list[str | None] = ["linux/s390x", None, "linux/arm/v7", "linux/amd64", "linux/arm64"]
    assert chosen(offered, "linux/amd64", "linux/arm64", "linux/s390x") == ["linux/s390x", "linux/amd64", "linux/arm64"]


def test_child_that_fits_two_requested_platforms_is_selected_once() -> None:
    assert chosen(["linux/arm/v7", "linux/amd64"], "linux/arm/v7", "linux/arm") == ["linux/arm/v7"]


def test_error_for_a_missing_platform_lists_the_available_platforms() -> None:
    with pytest.raises(NotFound, match="it has no image for linux/riscv64") as caught:
        chosen(["linux/amd64", None, "linux/arm/v7", "linux/amd64", "unknown/unknown"], "linux/amd64", "linux/riscv64")
    assert caught.value.hint == "It has: linux/amd64, linux/arm/v7."


@pytest.mark.parametrize("offered", [[], [None], ["unknown/unknown"]])
def test_hint_for_an_index_without_platforms_is_all_platforms(offered: list[str | None]) -> None:
    with pytest.raises(NotFound) as caught:
        chosen(offered, "linux/amd64")
    assert "--all-platforms" in (caught.value.hint or "")


def test_attestations_of_selected_images_are_added_in_the_published_order() -> None:
    amd64, arm64 = child("linux/amd64"), child("linux/arm64")
    about_amd64, about_arm64 = child("unknown/unknown", about=amd64), child("unknown/unknown", about=arm64)
    children = [about_arm64, amd64, arm64, about_amd64]
    assert with_attestations(children, [amd64]) == [amd64, about_amd64]
    assert with_attestations(children, [arm64]) == [about_arm64, arm64]
    assert with_attestations(children, [arm64, amd64]) == children
