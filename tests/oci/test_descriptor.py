"""Tests of parsing and writing descriptors and platforms."""

import base64
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given

from mirror.errors import ContentError, InvalidContent, InvalidDigest, UsageError
from mirror.oci.descriptor import Descriptor, Platform
from mirror.strictjson import Fields
from tests.support import images
from tests.support.strategies import THOROUGH, descriptors, digest_by, json_values, outcome

DATA = b"content"
NODE = {"mediaType": "a/b", "digest": images.digest_of(DATA), "size": len(DATA)}


def parse(**changes: Any) -> Descriptor:
    return Descriptor.from_json({**NODE, **changes}, "it")


def found_fields(found: object) -> tuple[object, ...]:
    assert isinstance(found, Descriptor)
    return found.media_type, found.digest, found.size


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.slow
@given(descriptors() | json_values)
@THOROUGH
def test_any_json_is_a_descriptor_or_a_content_error(value: Any) -> None:
    found = outcome(lambda: Descriptor.from_json(value, "it"))
    assert isinstance(found, ContentError) or (
        found_fields(found) == (value["mediaType"], value["digest"], value["size"])
    )


@pytest.mark.slow
@given(descriptors())
@THOROUGH
def test_written_descriptor_is_read_as_the_same(value: Any) -> None:
    found = outcome(lambda: Descriptor.from_json(value, "it"))
    if isinstance(found, Descriptor):
        assert Descriptor.from_json(found.to_json(), "it") == replace(found, urls=(), data=None)


@pytest.mark.parametrize("value", [None, [], "a", 1, True, [NODE]])
def test_value_that_is_not_an_object_is_refused(value: object) -> None:
    with pytest.raises(InvalidContent):
        Descriptor.from_json(value, "it")


@pytest.mark.parametrize("name", ["mediaType", "digest", "size"])
def test_required_field_may_not_be_missing(name: str) -> None:
    with pytest.raises(ContentError):
        Descriptor.from_json({key: value for key, value in NODE.items() if key != name}, "it")


@pytest.mark.parametrize("name", ["MediaType", "DIGEST", "Size", "Data", "URLs", "Platform", "Annotations"])
def test_a_field_in_another_case_is_refused(name: str) -> None:
    """Readers in Go ignore the case of keys, so they would read another descriptor."""
    with pytest.raises(ContentError, match="some readers take"):
        parse(**{name: None})


# Sizes


@pytest.mark.parametrize("size", [0, 1, 2**53 + 1, 2**62, 2**63 - 1])
def test_sizes_below_2_to_the_power_of_63_are_accepted(size: int) -> None:
    assert parse(size=size).size == size


@pytest.mark.parametrize("size", [-1, -(2**63), 2**63, 2**64, 10**400, 1.0, 7.5, True, False, "7", None, [7], {}])
def test_invalid_size_is_refused(size: object) -> None:
    with pytest.raises(InvalidContent, match="'size' is not a number from 0") as caught:
        parse(size=size)
    assert len(str(caught.value)) < 200


# Digests


@pytest.mark.parametrize(
    "digest", [None, 1, "", "sha256:", "sha256:../../x", "sha256:" + "A" * 64, "sha256:" + "a" * 63]
)
def test_a_bad_digest_is_refused(digest: object) -> None:
    with pytest.raises(InvalidDigest):
        parse(digest=digest)


# Other fields


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mediaType", 1),
        ("mediaType", None),
        ("mediaType", ""),
        ("mediaType", ["a/b"]),
        ("artifactType", 1),
        ("urls", "https://example.invalid"),
        ("urls", [1]),
        ("urls", {"a": "b"}),
        ("annotations", []),
        ("annotations", "a"),
        ("annotations", {"a": 1}),
        ("annotations", {"a": None}),
        ("annotations", {"a": ["b"]}),
        ("platform", []),
        ("platform", "linux/amd64"),
        ("platform", {"os": 1}),
        ("platform", {"os": "linux", "architecture": ["amd64"]}),
        ("platform", {"os": "linux", "architecture": "arm", "variant": 7}),
        ("platform", {"os": "linux", "architecture": "arm", "Variant": "v7"}),
        ("platform", {"os": "windows", "architecture": "amd64", "os.version": 10.0}),
        ("platform", {"os": "windows", "architecture": "amd64", "os.features": "win32k"}),
        ("platform", {"os": "linux", "architecture": "amd64", "features": [1]}),
    ],
)
def test_field_of_a_wrong_type_or_value_is_refused(name: str, value: object) -> None:
    with pytest.raises(InvalidContent):
        parse(**{name: value})


def test_unknown_fields_and_media_types_are_accepted() -> None:
    found = parse(mediaType="application/vnd.example.never+heard", newField={"a": [1.5, None]}, artifactType="x/y")
    assert (found.media_type, found.artifact_type) == ("application/vnd.example.never+heard", "x/y")


def test_optional_fields_may_be_null() -> None:
    assert parse(urls=None, annotations=None, platform=None, data=None, artifactType=None) == parse()


def test_annotations_are_kept_unchanged() -> None:
    annotations = {"org.opencontainers.image.title": "../../etc/passwd", "": "\x1b[0m", "ü": ""}
    assert parse(annotations=annotations).annotations == annotations


# Embedded data


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_embedded_data_is_checked_and_kept(algorithm: str) -> None:
    assert parse(digest=digest_by(algorithm, DATA), data=encoded(DATA)).data == DATA


def test_embedded_data_may_be_empty() -> None:
    assert parse(digest=images.digest_of(b""), size=0, data="").data == b""


def test_empty_descriptor_contains_its_two_bytes() -> None:
    assert Descriptor.from_json(images.EMPTY.descriptor(embed=True), "it").data == b"{}"


@pytest.mark.parametrize(
    "text",
    [
        "é",
        "Y29udGVudA=",
        "Y29udGVudA",
        "Y29udGVudA==\n",
        "Y29u dGVudA==",
        "Y29u\x00dGVudA==",
        "!Y29udGVudA==",
        "Y29udGVudA==Y29udGVudA==",
        "_-",
        "=",
        1,
        True,
        ["Y29udGVudA=="],
        {},
    ],
)
def test_invalid_base64_is_refused(text: object) -> None:
    """Python's decoder skips unknown characters by default."""
    with pytest.raises(InvalidContent, match=r"'data' is not (base64|a string)"):
        parse(data=text)


@pytest.mark.parametrize("data", [b"Content", b"", b"conten", b"content!"])
def test_embedded_data_with_other_content_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidContent, match="is not the content that"):
        parse(data=encoded(data))


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1, 2**62])
def test_embedded_data_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(InvalidContent, match="is not the content that"):
        parse(data=encoded(DATA), size=size)


def test_embedded_data_with_an_unsupported_algorithm_is_refused() -> None:
    with pytest.raises(InvalidDigest, match=r"digest algorithm .* is not supported"):
        parse(digest="md5:9a0364b9e99bb480dd25e1f0284c8555", data=encoded(DATA))


def test_embedded_data_is_not_written() -> None:
    assert "data" not in parse(data=encoded(DATA)).to_json()


# Kinds


@pytest.mark.parametrize(
    ("media_type", "is_index", "is_manifest", "is_foreign"),
    [
        (images.OCI_INDEX, True, True, False),
        (images.DOCKER_LIST, True, True, False),
        (images.OCI_MANIFEST, False, True, False),
        (images.DOCKER_MANIFEST, False, True, False),
        ("application/vnd.oci.artifact.manifest.v1+json", False, True, False),
        (images.OCI_CONFIG, False, False, False),
        (images.OCI_LAYER, False, False, False),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", False, False, True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", False, False, True),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", False, False, True),
        ("x/application/vnd.docker.image.rootfs.foreign.diff.tar", False, False, False),
        ("something/unknown", False, False, False),
    ],
)
def test_media_type_determines_the_kind(media_type: str, is_index: bool, is_manifest: bool, is_foreign: bool) -> None:
    found = parse(mediaType=media_type)
    assert (found.is_index, found.is_manifest, found.is_foreign) == (is_index, is_manifest, is_foreign)


def test_attestation_has_the_digest_of_its_image() -> None:
    tied = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": "sha256:a"}
    assert parse(annotations=tied).attests == "sha256:a"
    assert parse(annotations={"vnd.docker.reference.digest": "sha256:a"}).attests is None
    assert parse().attests is None


# Platforms


@pytest.mark.parametrize(
    ("text", "platform"),
    [
        ("linux/amd64", Platform("linux", "amd64")),
        ("Linux/AMD64", Platform("linux", "amd64")),
        ("linux/arm/v7", Platform("linux", "arm", "v7")),
        ("linux/arm64/v8", Platform("linux", "arm64", "v8")),
        ("linux/x86_64", Platform("linux", "amd64")),
        ("linux/aarch64", Platform("linux", "arm64")),
        ("linux/armhf", Platform("linux", "arm", "v7")),
        ("linux/armel", Platform("linux", "arm", "v6")),
        ("linux/armv7l", Platform("linux", "arm", "v7")),
        ("linux/i686", Platform("linux", "386")),
        ("windows/amd64:10.0.17763.1", Platform("windows", "amd64", None, "10.0.17763.1")),
        ("linux/mips64le", Platform("linux", "mips64le")),
    ],
)
def test_common_spellings_of_platforms_are_accepted(text: str, platform: Platform) -> None:
    assert Platform.parse(text) == platform


@pytest.mark.parametrize(
    "text",
    [
        "",
        "linux",
        "linux/",
        "/amd64",
        "linux//v7",
        "linux/arm/v7/x",
        "linux/amd 64",
        "linux/amd64\n",
        "linux,amd64",
        ":1",
    ],
)
def test_invalid_platform_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Unknown platform"):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("text", "meant"),
    [("amd64", "linux/amd64"), ("x86_64", "linux/amd64"), ("arm/v7", "linux/arm/v7"), ("armhf", "linux/arm/v7")],
)
def test_error_for_a_platform_without_an_os_suggests_the_full_one(text: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"Unknown platform '{text}'") as caught:
        Platform.parse(text)
    assert caught.value.hint == f"Did you mean {meant}?"


@pytest.mark.parametrize("text", ["linux/amd64", "linux/arm/v7", "windows/amd64:10.0", "linux/arm64/v8:1"])
def test_platform_is_unchanged_as_text_and_as_json(text: str) -> None:
    platform = Platform.parse(text)
    assert str(platform) == text
    assert Platform.from_fields(Fields(platform.to_json(), "it")) == platform


def test_the_host_runs_linux() -> None:
    assert Platform.host().os == "linux"
    assert Platform.host().known


def test_features_of_a_platform_are_kept_but_not_printed() -> None:
    value = {"os": "windows", "architecture": "amd64", "os.features": ["win32k"], "features": ["sse4"]}
    found = Platform.from_fields(Fields(value, "it"))
    assert (found.to_json(), str(found)) == (value, "windows/amd64")


@pytest.mark.parametrize("value", [{}, {"os": "unknown", "architecture": "unknown"}, {"os": "linux"}, {"os": ""}])
def test_incomplete_or_unknown_platform_is_not_known(value: object) -> None:
    found = Platform.from_fields(Fields(value, "it"))
    assert not found.known
