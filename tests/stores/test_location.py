"""Where images are: the prefixes of skopeo, and what a plain name is taken for."""

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
def test_an_image_may_be_meant_by_its_number(ref: str, number: int | None) -> None:
    assert Location.parse(f"oci:layout:{ref}").index == number


@pytest.mark.parametrize("text", ["oci:", "oci::v1", "oci:layout:", "oci-archive:", "docker-archive:a.tar:"])
def test_what_lacks_a_path_or_a_name_is_no_location(text: str) -> None:
    with pytest.raises(UsageError, match="lacks"):
        Location.parse(text)


@pytest.mark.parametrize(
    "text", ["docker://", "docker://UPPER", "docker:///a", "docker://a/", "no such image", "", "\n"]
)
def test_an_image_has_a_name_that_one_can_have(text: str) -> None:
    with pytest.raises(InvalidReference):
        Location.parse(text)


@pytest.mark.parametrize("text", ["dir:layout", "docker-daemon:redis:4.0", "containers-storage:redis"])
def test_places_of_skopeo_that_mirror_does_not_reach_are_no_images_of_docker_hub(text: str) -> None:
    with pytest.raises(UsageError, match="does not support"):
        Location.parse(text)


# Guesses


def test_a_folder_with_an_index_json_is_a_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Location.parse("redis").transport is Transport.REGISTRY
    Path("redis").mkdir()
    assert Location.parse("redis").transport is Transport.REGISTRY
    Path("redis/index.json").touch()
    found = Location.parse("redis")
    assert (found.transport, found.remark) == (Transport.LAYOUT, "taken as a layout: oci:redis")


def test_a_file_is_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("images").touch()
    found = Location.parse("images")
    assert (found.transport, found.remark) == (Transport.OCI_ARCHIVE, "taken as an archive: oci-archive:images")


@pytest.mark.parametrize("text", ["./new", "../new", "/tmp/new/layout", "new/"])
def test_what_looks_like_a_path_is_a_layout_to_be(text: str) -> None:
    assert Location.parse(text).transport is Transport.LAYOUT


@pytest.mark.parametrize("text", ["new.tar", "./new.tar", "/tmp/new.tar", "-"])
def test_what_ends_in_tar_is_an_archive_to_be_and_a_dash_a_pipe(text: str) -> None:
    assert (Location.parse(text).transport, Location.parse(text).where) == (Transport.OCI_ARCHIVE, text)


@pytest.mark.parametrize("text", ["redis:4.0", "docker:dind", "localhost:5000/a/b", f"quay.io/a/b@{DIGEST}"])
def test_everything_else_is_an_image(text: str) -> None:
    found = Location.parse(text)
    assert (found.transport, found.where) == (Transport.REGISTRY, text)
    assert found.remark == f"taken as an image of a registry: docker://{text}"


@pytest.mark.parametrize("text", ["./layout:v1", "/tmp/layout:redis:4.0", "./new:v1.tar"])
def test_a_path_with_a_colon_can_be_meant_in_two_ways_and_is_not_guessed(text: str) -> None:
    with pytest.raises(UsageError, match="colon") as error:
        Location.parse(text)
    assert "oci:" in str(error.value.hint)


def test_a_file_with_a_colon_in_its_name_is_there_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "a:b.tar").touch()
    assert Location.parse(f"{tmp_path}/a:b.tar").where == f"{tmp_path}/a:b.tar"


def test_a_tilde_is_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert Location.parse("~/layout").where == "/home/somebody/layout"


@given(nasty_text)
def test_whatever_is_typed_is_a_location_or_an_error_in_words(text: str) -> None:
    for prefix in ("", "docker://", "oci:", "oci-archive:", "docker-archive:"):
        found = outcome(lambda prefix=prefix: Location.parse(prefix + text))  # type: ignore[misc]
        assert isinstance(found, Location | UsageError)


def test_a_name_that_is_none_may_be_a_path() -> None:
    with pytest.raises(InvalidReference) as caught:
        Location.parse("Upper")
    assert (caught.value.hint or "").startswith("If it is a path: ./Upper. Image references look like ")
