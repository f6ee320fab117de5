"""Tests of locations of images: the prefixes of skopeo, and texts without a prefix."""

from pathlib import Path

import pytest
from hypothesis import given

from mirror.errors import InvalidReference, UsageError
from mirror.stores.location import Location, Transport
from tests.support.strategies import nasty_text, outcome

DIGEST = f"sha256:{'a' * 64}"

WRITTEN = {
    "docker://redis": (Transport.REGISTRY, "redis", None),
    "docker://localhost:5000/a/b:v1": (Transport.REGISTRY, "localhost:5000/a/b:v1", None),
    f"docker://quay.io/a/b@{DIGEST}": (Transport.REGISTRY, f"quay.io/a/b@{DIGEST}", None),
    "oci:layout": (Transport.LAYOUT, "layout", None),
    "oci:/media/stick/layout:v1": (Transport.LAYOUT, "/media/stick/layout", "v1"),
    "oci:layout:quay.io:443/a/b:v1": (Transport.LAYOUT, "layout", "quay.io:443/a/b:v1"),
    f"oci:layout:a/b@{DIGEST}": (Transport.LAYOUT, "layout", f"a/b@{DIGEST}"),
    "oci:layout:@3": (Transport.LAYOUT, "layout", "@3"),
    "oci-archive:a.tar": (Transport.OCI_ARCHIVE, "a.tar", None),
    "oci-archive:-": (Transport.OCI_ARCHIVE, "-", None),
    "oci-archive:a.tar:v1": (Transport.OCI_ARCHIVE, "a.tar", "v1"),
    "docker-archive:a.tar": (Transport.DOCKER_ARCHIVE, "a.tar", None),
    "docker-archive:a.tar:redis:4.0": (Transport.DOCKER_ARCHIVE, "a.tar", "redis:4.0"),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_a_path_ends_at_the_first_colon(text: str) -> None:
    found = Location.parse(text)
    assert (found.transport, found.where, found.ref) == WRITTEN[text]
    assert (found.guessed, found.remark, str(found)) == (False, None, text)


@pytest.mark.parametrize(
    ("ref", "number"), [("@0", 0), ("@12", 12), ("@", None), ("@-1", None), ("@٣", None), ("1", None)]
)
def test_image_may_be_given_by_its_number(ref: str, number: int | None) -> None:
    assert Location.parse(f"oci:layout:{ref}").position == number


@pytest.mark.parametrize("text", ["oci:", "oci::v1", "oci:layout:", "oci-archive:", "docker-archive:a.tar:"])
def test_location_without_a_path_or_a_name_is_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="lacks"):
        Location.parse(text)


@pytest.mark.parametrize(
    "text", ["docker://", "docker://UPPER", "docker:///a", "docker://a/", "no such image", "", "\n"]
)
def test_invalid_image_name_is_an_error(text: str) -> None:
    with pytest.raises(InvalidReference):
        Location.parse(text)


@pytest.mark.parametrize("text", ["dir:layout", "docker-daemon:redis:4.0", "containers-storage:redis"])
def test_unsupported_transports_of_skopeo_are_an_error(text: str) -> None:
    with pytest.raises(UsageError, match="does not support"):
        Location.parse(text)


# Texts without a prefix


def test_directory_with_an_index_json_is_a_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Location.parse("redis").transport is Transport.REGISTRY
    Path("redis").mkdir()
    assert Location.parse("redis").transport is Transport.REGISTRY
    Path("redis/index.json").touch()
    found = Location.parse("redis")
    assert (found.transport, found.remark) == (Transport.LAYOUT, "taken as a layout: oci:redis")


def test_existing_file_is_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").touch()
    found = Location.parse("images")
    assert (found.transport, found.remark) == (Transport.OCI_ARCHIVE, "taken as an archive: oci-archive:images")


@pytest.mark.parametrize("text", ["./new", "../new", "/tmp/new/layout", "new/"])
def test_text_that_looks_like_a_path_is_a_new_layout(text: str) -> None:
    assert Location.parse(text).transport is Transport.LAYOUT


@pytest.mark.parametrize("text", ["new.tar", "./new.tar", "/tmp/new.tar", "-"])
def test_dash_or_path_with_the_suffix_tar_is_an_archive(text: str) -> None:
    assert (Location.parse(text).transport, Location.parse(text).where) == (Transport.OCI_ARCHIVE, text)


@pytest.mark.parametrize("text", ["redis:4.0", "docker:dind", "localhost:5000/a/b", f"quay.io/a/b@{DIGEST}"])
def test_other_text_is_an_image_in_a_registry(text: str) -> None:
    found = Location.parse(text)
    assert (found.transport, found.where) == (Transport.REGISTRY, text)
    assert found.remark == f"taken as an image of a registry: docker://{text}"


@pytest.mark.parametrize("text", ["./layout:v1", "/tmp/layout:redis:4.0", "./new:v1.tar"])
def test_missing_path_with_a_colon_is_ambiguous(text: str) -> None:
    with pytest.raises(UsageError, match="colon") as error:
        Location.parse(text)
    assert "oci:" in str(error.value.hint)


def test_existing_file_with_a_colon_in_its_name_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "a:b.tar").touch()
    assert Location.parse(f"{tmp_path}/a:b.tar").where == f"{tmp_path}/a:b.tar"


def test_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    assert Location.parse("~/layout").where == "/home/user/layout"


@given(nasty_text)
def test_any_text_is_a_location_or_a_usage_error(text: str) -> None:
    for prefix in ("", "docker://", "oci:", "oci-archive:", "docker-archive:"):
        found = outcome(lambda prefix=prefix: Location.parse(prefix + text))  # type: ignore[misc]
        assert isinstance(found, Location | UsageError)


def test_error_for_an_invalid_name_suggests_a_path() -> None:
    with pytest.raises(InvalidReference) as caught:
        Location.parse("Upper")
    assert (caught.value.hint or "").startswith("If it is a path: ./Upper. Image references look like ")
