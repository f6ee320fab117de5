"""Tests of mistyped arguments, files and settings: each is an error that says what was probably meant."""

import re
from pathlib import Path

import pytest

from mirror.cli import _COMMANDS
from mirror.config.settings import VARIABLES
from tests.readme import context_of
from tests.support import images, layouts
from tests.support.command import Mirror

OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9"}  # nothing in these tests may reach Docker Hub
GUESSING = (["inspect", "NAME"], ["record", "NAME"], ["copy", "NAME", "oci:copy"])


# Directories that are taken for images


@pytest.mark.parametrize("line", GUESSING, ids=lambda line: line[0])
def test_name_that_could_be_a_directory_gets_a_hint(mirror: Mirror, line: list[str]) -> None:
    for name, read_as in (("drive", "library/drive"), ("media/drive", "media/drive")):
        args = [name if word == "NAME" else word for word in line]
        err = mirror(*args, "--retries", "0", code=1, env=OFFLINE).err
        assert f"hint: '{name}' was read as docker.io/{read_as}; for a directory, write ./{name}. " in err


def test_similar_directory_is_suggested(mirror: Mirror, tmp_path: Path) -> None:
    layouts.write(tmp_path / "layout", images.image("linux/amd64"), name="docker.io/library/a:v1")
    err = mirror("inspect", "layuot", "--retries", "0", code=1, env=OFFLINE).err
    assert "'layuot' was read as docker.io/library/layuot; did you mean the directory ./layout?" in err


@pytest.mark.parametrize("name", ["redis:4.0", "127.0.0.1:9/layout", "docker://layout", "docker.io/layout"])
def test_name_that_can_only_be_an_image_gets_no_such_hint(mirror: Mirror, name: str) -> None:
    assert "was read as" not in mirror("inspect", name, "--retries", "0", code=1, env=OFFLINE).err


@pytest.mark.parametrize("line", [*GUESSING, ["pull", "NAME"]], ids=lambda line: line[0])
def test_registry_without_an_image_is_not_looked_for_in_docker_hub(mirror: Mirror, line: list[str]) -> None:
    for name in ("localhost:9", "registry.internal:5000"):
        err = mirror(*(name if word == "NAME" else word for word in line), code=2, env=OFFLINE).err
        assert f"error: {name} is a registry, not an image.\nhint: Name one of its images: {name}/team/app:1.0" in err


def test_pull_of_a_name_that_could_be_a_directory_gets_a_hint(mirror: Mirror, tmp_path: Path) -> None:
    layouts.write(tmp_path / "layout", images.image("linux/amd64"), name="docker.io/library/a:v1")
    err = mirror("pull", "layuot", "-o", "other", "--retries", "0", code=1, env=OFFLINE).err
    assert "'layuot' was read as docker.io/library/layuot; did you mean the directory ./layout?" in err


def test_tags_of_a_directory_names_the_command_for_it(mirror: Mirror, tmp_path: Path) -> None:
    layouts.write(tmp_path / "layout", images.image("linux/amd64"), name="docker.io/library/a:v1")
    err = mirror("tags", "layout", "--retries", "0", code=1, env=OFFLINE).err
    listed = "'layout' was read as docker.io/library/layout; for the images of the directory: mirror ls ./layout. "
    assert f"hint: {listed}" in err
    assert "was read as" not in mirror("tags", "other", "--retries", "0", code=1, env=OFFLINE).err


@pytest.mark.parametrize("name", ["./layout", "/srv/layout", "oci:layout:a", "docker-archive:images.tar"])
def test_pull_of_a_directory_or_an_archive_names_the_command_for_it(mirror: Mirror, name: str) -> None:
    err = mirror("pull", name, code=2).err
    assert err == f"error: pull takes names of images, not {name}.\nhint: To copy it: mirror copy {name} DST\n"


# Lists of names


@pytest.mark.parametrize("command", ["pull", "record"])
@pytest.mark.parametrize(
    ("data", "line"), [(b"a\n# b\n\nredis 4.0\n", 4), (b"UPPER\r\n", 1), (b"a\n\n  b@sha256:1 # c\n", 3)]
)
def test_error_in_a_list_of_names_has_its_line(
    mirror: Mirror, tmp_path: Path, command: str, data: bytes, line: int
) -> None:
    (tmp_path / "images.txt").write_bytes(data)
    assert mirror(command, "--from-file", "images.txt", code=2).err.startswith(f"error: images.txt, line {line}: '")
    assert f"error: stdin, line {line}: '" in mirror(command, "--from-file", "-", stdin=data.decode(), code=2).err


def test_byte_order_mark_is_not_part_of_a_name(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "images.txt").write_bytes(b"\xef\xbb\xbf127.0.0.1:9/a\r\n")
    assert "Cannot connect to 127.0.0.1:9" in mirror("pull", "--from-file", "images.txt", "--retries", "0", code=1).err


# Files


@pytest.mark.parametrize(
    "command",
    [["pull", "127.0.0.1:9/a"], ["push", "layout", "127.0.0.1:9"], ["tags", "127.0.0.1:9/a"], ["verify", "layout"]],
)
@pytest.mark.parametrize(
    ("option", "data", "said"),
    [
        ("--ca-file", None, "given cannot be read: No such file or directory."),
        ("--ca-file", b"", "given does not contain a CA certificate in PEM form."),
        ("--ca-file", b"-----BEGIN", "given does not contain a CA certificate in PEM form."),
        ("--authfile", None, "given cannot be read: No such file or directory."),
        ("--authfile", b"{", "given: not valid JSON"),
        ("--authfile", b"[]", "given: "),
        ("--authfile", b'{"auths": []}', "given: 'auths' is not a JSON object."),
    ],
)
def test_unusable_file_is_an_error_even_if_it_is_not_needed(
    mirror: Mirror, tmp_path: Path, command: list[str], option: str, data: bytes | None, said: str
) -> None:
    if data is not None:
        (tmp_path / "given").write_bytes(data)
    error, hint = mirror(*command, option, "given", "--retries", "0", code=2).err.splitlines()
    assert error.startswith(f"error: {said}")
    assert hint.startswith(f"hint: Check {option}, MIRROR_")


def test_login_creates_the_credentials_file_that_does_not_exist(mirror: Mirror) -> None:
    line = ["login", "127.0.0.1:9", "-u", "ann", "--password-stdin", "--authfile", "new.json", "--retries", "0"]
    assert "Cannot connect" in mirror(*line, stdin="secret", code=1).err


# Variables


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("MIRROR_JOB", "Did you mean MIRROR_JOBS?"),
        ("MIRROR_PLATFORMS", "Did you mean MIRROR_PLATFORM?"),
        ("MIRROR_XYZQ", "Unset it; names with this prefix are settings of mirror."),
    ],
)
def test_unknown_variable_is_an_error(mirror: Mirror, name: str, hint: str) -> None:
    error, said = mirror("pull", "127.0.0.1:9/a", code=2, env={name: "4"}).err.splitlines()
    assert error == f"error: There is no setting {name} (an environment variable)."
    assert said == f"hint: {hint}"


@pytest.mark.parametrize("command", ["ls", "rm a", "prune", "export l a.tar", "import a.tar", "logout a.test", "serve"])
def test_every_command_reports_an_unknown_variable(mirror: Mirror, command: str) -> None:
    said = mirror(*command.split(), code=2, env={"MIRROR_JOB": "4"}).err
    assert said.startswith("error: There is no setting MIRROR_JOB")
    assert mirror(*command.split(), "--help", env={"MIRROR_JOB": "4"}).out.startswith("Usage: ")


def test_variables_of_other_commands_are_known(mirror: Mirror) -> None:
    env = {"MIRROR_SPARSE": "1", "MIRROR_PLATFORM": "linux/amd64"}
    assert "Cannot connect" in mirror("tags", "127.0.0.1:9/a", "--retries", "0", code=1, env=env).err


def test_all_variables_of_commands_are_known() -> None:
    read = {
        option.envvar
        for name in _COMMANDS
        for option in context_of(name).command.params
        if isinstance(option.envvar, str) and re.match("MIRROR_", option.envvar)
    }
    assert sorted(read - VARIABLES) == []
