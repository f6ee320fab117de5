"""Tests of tags that are made from digests, and of lists of referrers."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.oci.descriptor import MANIFEST_TYPES
from mirror.oci.digest import Digest
from mirror.oci.manifest import Node, parse
from mirror.oci.reference import is_tag
from mirror.oci.referrers import cosign_tags, is_about, is_referrers_tag, list_of, referrers_tag
from tests.support import images
from tests.support.memory import descriptor_of
from tests.support.strategies import QUICK, any_digest

IMAGE = images.image("linux/amd64", images.layer(1, 100))
SHA256, SHA512 = Digest("sha256:" + "a" * 64), Digest("sha512:" + "b" * 128)


def node(image: images.Image) -> Node:
    return Node(descriptor_of(image), image.data, parse(image.data, image.root_media_type, "it"))


def test_a_tag_has_no_more_than_64_characters_of_the_digest() -> None:
    assert referrers_tag(SHA256) == "sha256-" + "a" * 64
    assert referrers_tag(SHA512) == "sha512-" + "b" * 64


def test_characters_that_are_illegal_in_tags_become_dashes() -> None:
    long = Digest.parse("multihash+base58_with.a-name.of.40.chars:abc=_-")
    assert referrers_tag(long) == "multihash-base58_with.a-name.of.-abc-_-"


@pytest.mark.slow
@given(any_digest | st.from_regex(r"[a-z0-9]{1,9}([+._-][a-z0-9]{1,9}){0,5}:[a-zA-Z0-9=_-]{1,90}", fullmatch=True))
@QUICK
def test_tags_of_any_digest_are_valid(text: str) -> None:
    digest = Digest.parse(text)
    assert is_tag(referrers_tag(digest))
    assert all(map(is_tag, cosign_tags(digest)))


def test_cosign_has_no_tags_for_digests_that_are_too_long() -> None:
    assert cosign_tags(SHA256) == [f"sha256-{'a' * 64}.{kind}" for kind in ("sig", "att", "sbom")]
    assert cosign_tags(SHA512) == []


@given(any_digest)
@QUICK
def test_tags_made_from_digests_are_recognized(text: str) -> None:
    digest = Digest.parse(text)
    assert is_referrers_tag(referrers_tag(digest))
    assert all(is_about(tag) and not is_referrers_tag(tag) for tag in cosign_tags(digest))


@pytest.mark.parametrize(
    "tag", [None, "", "v1", "sha256-abc", f"x-{'a' * 64}", f"sha256-{'A' * 64}", f"sha256-{'a' * 64}.x"]
)
def test_other_tags_are_not_recognized(tag: str | None) -> None:
    assert not is_about(tag)
    assert not is_referrers_tag(tag)


def test_a_list_is_sorted_and_has_each_referrer_once() -> None:
    some = [node(images.signature(IMAGE, number)) for number in range(4)]
    assert list_of(some) == list_of([*reversed(some), some[0]])
    digests = [child["digest"] for child in json.loads(list_of(some))["manifests"]]
    assert digests == sorted(one.descriptor.digest for one in some)


def test_list_describes_each_referrer() -> None:
    signed = images.signature(IMAGE)
    (child,) = json.loads(list_of([node(signed)]))["manifests"]
    assert child == {
        "mediaType": images.OCI_MANIFEST,
        "digest": signed.root,
        "size": len(signed.data),
        "artifactType": "application/vnd.cncf.notary.signature",
        "annotations": {"n": "0"},
    }
    assert child["mediaType"] in MANIFEST_TYPES


def test_artifact_type_defaults_to_the_media_type_of_the_config() -> None:
    old = images.manifest(images.Blob.of(b"{}", "application/vnd.acme"), [], subject=IMAGE.subject())
    (child,) = json.loads(list_of([node(old)]))["manifests"]
    assert child["artifactType"] == "application/vnd.acme"


def test_artifact_type_of_an_index_has_no_default() -> None:
    plain = images.index([IMAGE], subject=IMAGE.subject())
    named = images.index([IMAGE], subject=IMAGE.subject(), artifactType="a/b")
    kinds = {
        child["digest"]: child.get("artifactType")
        for child in json.loads(list_of(map(node, (plain, named))))["manifests"]
    }
    assert kinds == {plain.root: None, named.root: "a/b"}
