"""Who we are: the entries of docker's config.json, whoever wrote it."""

import base64
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import ConfigError
from mirror.registry.credentials import Credentials, find
from tests.strategies import THOROUGH


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Docker's own folder, empty."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def auth(user: str = "ann", password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(folder: Path, auths: object, **fields: object) -> None:
    (folder / "config.json").write_text(json.dumps({"auths": auths, **fields}))


ANN = Credentials("ann", "secret")


@pytest.mark.parametrize(
    ("key", "registry", "known"),
    [
        ("registry.internal:5000", "registry.internal:5000", True),
        ("https://registry.internal:5000", "registry.internal:5000", True),
        ("https://registry.internal:5000/v2/", "registry.internal:5000", True),
        ("http://registry.internal:5000", "registry.internal:5000", True),
        ("registry.internal", "registry.internal:5000", False),
        ("registry.internal:5000", "registry.internal", False),
        ("registry.internal:5000", "registry.internal:50001", False),
        ("evil.registry.internal:5000", "registry.internal:5000", False),
        ("registry.internal:5000.evil", "registry.internal:5000", False),
        ("[::1]:5000", "[::1]:5000", True),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("index.docker.io", "docker.io", True),
        ("https://index.docker.io/v1/", "quay.io", False),
    ],
)
def test_an_entry_is_for_its_own_host_alone(folder: Path, key: str, registry: str, known: bool) -> None:
    write(folder, {key: auth()})
    assert find(registry) == (ANN if known else None)


@given(st.text(min_size=1).filter(lambda user: ":" not in user), st.text().filter(lambda text: "\0" not in text))
@THOROUGH
def test_user_and_password_come_back(user: str, password: str) -> None:
    """Whatever is in them; the first colon divides them."""
    found = Credentials(user, password).basic.removeprefix("Basic ")
    assert base64.b64decode(found).decode() == f"{user}:{password}"


@pytest.mark.parametrize("password", ["a:b:c", "", "pässwörd", "p\0\0"])
def test_strange_passwords_are_read(folder: Path, password: str) -> None:
    write(folder, {"quay.io": auth(password=password)})
    found = find("quay.io")
    assert found
    assert found.password == password.rstrip("\0")


@pytest.mark.parametrize(
    "entries",
    [
        {},
        None,
        [],
        "quay.io",
        {"quay.io": {}},
        {"quay.io": None},
        {"quay.io": []},
        {"quay.io": {"auth": ""}},
        {"quay.io": {"identitytoken": "t"}},
        {"other.io": auth()},
    ],
)
def test_without_an_entry_there_are_no_credentials(folder: Path, entries: object) -> None:
    write(folder, entries, credsStore="desktop", credHelpers={"quay.io": "x"})
    assert find("quay.io") is None


def test_an_empty_entry_does_not_hide_a_full_one(folder: Path) -> None:
    write(folder, {"quay.io": {}, "https://quay.io": auth()})
    assert find("quay.io") == ANN


def test_without_a_file_there_are_no_credentials() -> None:
    assert find("quay.io") is None


@pytest.mark.parametrize("text", ["é", "not base64!", "YW5u", "YW5uOnNlY3JldA", "//8=", "YW5uOnNlY3JldA==\n", 1, ["a"]])
def test_a_broken_entry_is_named(folder: Path, text: object) -> None:
    write(folder, {"quay.io": {"auth": text}})
    with pytest.raises(ConfigError, match=r"config\.json: the auth entry of 'quay\.io'"):
        find("quay.io")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"null", b"{", b"\xff", b'{"auths":{},"auths":{}}', b"[" * 100_000, b'{"a":NaN}']
)
def test_a_broken_file_is_named(folder: Path, data: bytes) -> None:
    (folder / "config.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"config\.json"):
        find("quay.io")


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "config.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        find("quay.io")


def test_the_home_folder_is_looked_at_by_default(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.setenv("HOME", str(folder))
    (folder / ".docker").mkdir()
    write(folder / ".docker", {"quay.io": auth()})
    assert find("quay.io") == ANN


def nobody(_: int) -> None:
    raise KeyError("no such user")


def test_nobody_without_a_home_has_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container with any uid has no entry in passwd."""
    monkeypatch.delenv("DOCKER_CONFIG")
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert find("quay.io") is None


def test_nothing_secret_shows() -> None:
    for text in (repr(ANN), str(ANN), f"{ANN!r}", repr([ANN])):
        assert "secret" not in text
        assert "ann" not in text
