"""Tests of credentials in DOCKER_AUTH_CONFIG, and of `credential-helpers` in registries.conf."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror
from tests.support.credential_helper import install
from tests.support.registry import Basic, EmbeddedRegistry, serving

pytestmark = pytest.mark.slow

IMAGE = images.image("linux/amd64", images.layer(1, 1000))


@pytest.fixture
def guarded() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(auth=Basic({"ann": "secret"}))) as running:
        IMAGE.publish(running, "a", "v1")
        yield running


def auths(host: str, password: str = "secret") -> str:
    return json.dumps({"auths": {host: {"auth": base64.b64encode(f"ann:{password}".encode()).decode()}}})


def passwords(registry: EmbeddedRegistry) -> set[str]:
    """Return the passwords that the registry has received since its log was cleared."""
    sent = {seen.headers["authorization"] for seen in registry.requests if "authorization" in seen.headers}
    registry.clear_log()
    return {base64.b64decode(header.removeprefix("Basic ")).decode().removeprefix("ann:") for header in sent}


def docker_config(mirror: Mirror, text: str) -> Path:
    path = Path(mirror.env["DOCKER_CONFIG"], "config.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


# DOCKER_AUTH_CONFIG


@pytest.mark.parametrize("in_the_file", ["wrong", None])
def test_variable_with_credentials_comes_before_the_usual_files(
    mirror: Mirror, guarded: EmbeddedRegistry, in_the_file: str | None
) -> None:
    if in_the_file:
        docker_config(mirror, auths(guarded.host, in_the_file))
    mirror("pull", f"{guarded.host}/a:v1", env={"DOCKER_AUTH_CONFIG": auths(guarded.host)})
    assert passwords(guarded) == {"secret"}


def test_explicit_file_comes_before_the_variable(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    (mirror.folder / "auth.json").write_text(auths(guarded.host))
    wrong = {"DOCKER_AUTH_CONFIG": auths(guarded.host, "wrong")}
    mirror("pull", f"{guarded.host}/a:v1", "--authfile", "auth.json", env=wrong)
    assert passwords(guarded) == {"secret"}
    mirror("pull", f"{guarded.host}/a:v1", env={**wrong, "REGISTRY_AUTH_FILE": "auth.json"})
    assert passwords(guarded) == {"secret"}
    assert "401" in mirror("pull", f"{guarded.host}/a:v1", env=wrong, code=1).err
    assert passwords(guarded) == {"wrong"}


@pytest.mark.parametrize("variable", ["", " ", "{}", auths("other.example")])
def test_variable_without_these_credentials_does_not_matter(
    mirror: Mirror, guarded: EmbeddedRegistry, variable: str
) -> None:
    docker_config(mirror, auths(guarded.host))
    mirror("pull", f"{guarded.host}/a:v1", env={"DOCKER_AUTH_CONFIG": variable})
    assert passwords(guarded) == {"secret"}


def test_invalid_variable_is_an_error_that_does_not_show_it(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    failed = mirror("pull", f"{guarded.host}/a:v1", env={"DOCKER_AUTH_CONFIG": '{"xyzzy'}, code=2)
    assert failed.err.startswith("error: DOCKER_AUTH_CONFIG: not valid JSON: ")
    assert "xyzzy" not in failed.err


def test_login_and_logout_leave_the_variable_alone(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    env = {"DOCKER_AUTH_CONFIG": auths(guarded.host)}
    mirror("login", guarded.host, "-u", "ann", "--password-stdin", stdin="secret", env=env)
    assert guarded.host in Path(mirror.env["DOCKER_CONFIG"], "config.json").read_text()
    mirror("logout", guarded.host, env=env)
    assert not list(mirror.folder.glob("DOCKER_AUTH_CONFIG*"))


# credential-helpers


def helpers(mirror: Mirror, *names: str) -> None:
    path = mirror.folder / "home/.config/containers/registries.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"credential-helpers = {json.dumps(names)}\n")


def box(mirror: Mirror, host: str, password: str = "secret") -> Path:
    """Install a helper `box` that has these credentials; return the log of its calls."""
    log = install(mirror.folder, "box")
    document = {host: {"ServerURL": host, "Username": "ann", "Secret": password}}
    (mirror.folder / "box.box").write_text(json.dumps(document))
    mirror.env["PATH"] = f"{mirror.folder}:{mirror.env['PATH']}"
    return log


@pytest.mark.parametrize("names", [("box",), ("containers-auth.json", "box"), ("box", "containers-auth.json")])
def test_helper_of_registries_conf_has_the_credentials(
    mirror: Mirror, guarded: EmbeddedRegistry, names: tuple[str, ...]
) -> None:
    log = box(mirror, guarded.host)
    helpers(mirror, *names)
    mirror("pull", f"{guarded.host}/a:v1")
    assert json.loads(log.read_text().splitlines()[0]) == {"arguments": ["get"], "stdin": guarded.host}


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (("box", "containers-auth.json"), "of the helper"),
        (("containers-auth.json", "box"), "of the file"),
        (("box",), "of the helper"),
    ],
)
def test_helpers_and_files_are_asked_in_the_order_of_the_list(
    mirror: Mirror, guarded: EmbeddedRegistry, names: tuple[str, ...], first: str
) -> None:
    """The first one with credentials counts, even if the registry refuses them."""
    box(mirror, guarded.host, "of the helper")
    docker_config(mirror, auths(guarded.host, "of the file"))
    helpers(mirror, *names)
    assert "401" in mirror("pull", f"{guarded.host}/a:v1", code=1).err
    assert passwords(guarded) == {first}


def test_files_are_read_even_if_the_list_lacks_them(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    """`mirror login` writes to a file, which must not be without effect."""
    box(mirror, "other.example")
    helpers(mirror, "box")
    mirror("login", guarded.host, "-u", "ann", "--password-stdin", stdin="secret")
    guarded.clear_log()
    mirror("pull", f"{guarded.host}/a:v1")
    assert passwords(guarded) == {"secret"}


@pytest.mark.parametrize("value", ['"box"', "[1]", "{}"])
def test_invalid_list_is_an_error(mirror: Mirror, guarded: EmbeddedRegistry, value: str) -> None:
    helpers(mirror)
    path = mirror.folder / "home/.config/containers/registries.conf"
    path.write_text(f"credential-helpers = {value}\n")
    failed = mirror("pull", f"{guarded.host}/a:v1", code=2)
    assert f"{path}: credential-helpers should be a list of strings." in failed.err


def test_helper_that_is_not_installed_is_an_error_with_the_file_that_names_it(
    mirror: Mirror, guarded: EmbeddedRegistry
) -> None:
    helpers(mirror, "absent")
    failed = mirror("pull", f"{guarded.host}/a:v1", code=2)
    assert "docker-credential-absent, named in " in failed.err
    assert "registries.conf, is not installed" in failed.err
