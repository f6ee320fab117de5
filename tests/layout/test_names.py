"""Tests of the names of images in layouts, as written by mirror and by other tools."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.layout.names import IMAGE_NAME, REF_NAME, annotate, bare_tag, full_name
from mirror.oci.reference import Reference
from tests.support.strategies import HEX, THOROUGH, names, nasty_text

DIGEST = "sha256:" + HEX * 4
REDIS = "docker.io/library/redis:4.0"
# OCI image-spec, annotations.md: alphanum ([-._:@+] | "--") alphanum, joined by slashes
_COMPONENT = "[A-Za-z0-9]+(?:(?:[-._:@+]|--)[A-Za-z0-9]+)*"
LEGAL = re.compile(f"{_COMPONENT}(/{_COMPONENT})*", re.ASCII)


@pytest.mark.parametrize(
    ("image_name", "ref_name", "whole"),
    [
        (REDIS, "4.0", REDIS),  # BuildKit, containerd, mirror
        (REDIS, REDIS, REDIS),
        (REDIS, None, REDIS),
        (None, REDIS, REDIS),  # skopeo and podman with a full name
        (None, "index.docker.io/library/redis:4.0", REDIS),  # crane
        (None, "redis:4.0", REDIS),
        (None, "quay.io/a/b", "quay.io/a/b:latest"),
        (None, "localhost/a", "localhost/a:latest"),
        (None, "team/app:v1", "docker.io/team/app:v1"),
        (None, "10.0.0.1/a", "10.0.0.1/a:latest"),
        (None, "v1.2/stable", None),  # umoci, flatpak
        (None, "v1.2/stable:x", None),
        (None, "stable/v1.2", None),
        (None, "runtime/org.freedesktop.platform/x86_64/21.08", None),
        ("quay.io/a/b:1", "v1.2/stable", None),  # umoci, which copies the rest
        ("quay.io/a/b:__x", None, "quay.io/a/b:__x"),
        (f"quay.io/a/b@{DIGEST}", f"quay.io/a/b@{DIGEST}", f"quay.io/a/b@{DIGEST}"),
        ("10.0:80/a:1", "10.0:80/a:1", "10.0:80/a:1"),
        ("quay.io/a/b:1", "2", "quay.io/a/b:2"),  # umoci, which copies the rest
        ("no name at all", REDIS, REDIS),
        ("UPPER/case:x", "4.0", "UPPER/case:4.0"),
        (None, "4.0", None),  # skopeo, umoci, regctl, oras
        (None, "latest", None),
        (None, None, None),
        ("", "", None),
        (None, "a b/c", None),
        (None, "../../etc/passwd", None),
        ("../../etc/passwd", "4.0", None),
    ],
)
def test_full_names_of_all_tools_are_read(image_name: str | None, ref_name: str | None, whole: str | None) -> None:
    pairs = {IMAGE_NAME: image_name, REF_NAME: ref_name}
    found = full_name({key: text for key, text in pairs.items() if text is not None})
    assert (found.stored if found else None) == whole


@pytest.mark.parametrize(
    ("annotations", "tag"),
    [
        ({REF_NAME: "4.0"}, "4.0"),
        ({REF_NAME: "latest"}, "latest"),
        ({REF_NAME: "4.0", IMAGE_NAME: REDIS}, None),
        ({REF_NAME: REDIS}, None),
        ({REF_NAME: "a+b"}, None),
        ({REF_NAME: ""}, None),
        ({}, None),
    ],
)
def test_bare_tag_is_a_ref_name_without_a_repository(annotations: dict[str, str], tag: str | None) -> None:
    assert bare_tag(annotations) == tag


@pytest.mark.parametrize(
    ("name", "taken", "ref_name"),
    [
        (REDIS, set(), "4.0"),
        (REDIS, {"latest", "3.0"}, "4.0"),
        (REDIS, {"4.0"}, REDIS),
        (REDIS, {"4.0", "quay.io/a/b:4.0"}, REDIS),
        ("quay.io/a/b:__x", set(), None),
        ("quay.io/a/b:a__b", set(), None),
        ("quay.io/a/b:_x", set(), None),
        ("quay.io/a/b:x.", set(), None),
        ("quay.io/a__b/c:1", {"1"}, None),
        ("[::1]:5000/a:1", set(), "1"),
        ("[::1]:5000/a:1", {"1"}, None),
        (f"quay.io/a/b@{DIGEST}", set(), f"quay.io/a/b@{DIGEST}"),
    ],
)
def test_tag_is_the_ref_name_unless_it_is_taken_or_illegal(name: str, taken: set[str], ref_name: str | None) -> None:
    found = annotate(name, taken)
    assert found[IMAGE_NAME] == name
    assert found.get(REF_NAME) == ref_name


@pytest.mark.slow
@given(names(), st.sets(st.sampled_from(["latest", "a", "aZ0_"])))
@THOROUGH
def test_written_names_are_legal_and_read_as_the_same_name(text: str, taken: set[str]) -> None:
    name = Reference.parse(text).stored
    found = annotate(name, taken)
    read = full_name(found)
    assert read
    assert read.stored == name
    assert REF_NAME not in found or LEGAL.fullmatch(found[REF_NAME])
    assert found.get(REF_NAME) not in taken


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from([IMAGE_NAME, REF_NAME]), nasty_text))
@THOROUGH
def test_full_name_of_any_annotations_is_a_valid_name_or_none(annotations: dict[str, str]) -> None:
    found = full_name(annotations)
    assert found is None or Reference.parse(str(found)) == found
