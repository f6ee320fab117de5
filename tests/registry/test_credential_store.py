"""Tests of the credentials in containers' auth.json and docker's config.json, and of the order of these files."""

import asyncio
import base64
import itertools
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import ConfigError
from mirror.registry.auth.authfile import AuthFile, prefixes
from mirror.registry.auth.credential_store import CredentialStore
from mirror.registry.credentials import Credentials
from mirror.strictjson import JsonObject
from tests.support.strategies import THOROUGH, hosts, repositories

_HOME = ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return Docker's directory, empty, in a home directory without other files."""
    for name in _HOME:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / ".docker").mkdir()
    return tmp_path / ".docker"


def auth(user: str = "ann", password: str = "secret") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def write(folder: Path, auths: object, name: str = "config.json", **fields: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps({"auths": auths, **fields}))
    return folder / name


def find(registry: str, repository: str = "", named: Path | None = None) -> Credentials | None:
    return asyncio.run(CredentialStore(named).find(registry, repository))


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
        ("Registry.Internal:5000", "registry.internal:5000", True),
        ("registry.internal:5000", "Registry.Internal:5000", True),
        ("registry.internal:5000/", "registry.internal:5000", True),
        ("https://index.docker.io/v1/", "docker.io", True),
        ("docker.io", "docker.io", True),
        ("registry-1.docker.io", "docker.io", True),
        ("hub.docker.io", "docker.io", False),
        ("index.docker.io", "docker.io", True),
        ("https://index.docker.io/v1/", "quay.io", False),
    ],
)
def test_entry_is_used_only_for_its_host(folder: Path, key: str, registry: str, known: bool) -> None:
    write(folder, {key: auth()})
    assert find(registry) == (ANN if known else None)


@pytest.mark.slow
@given(st.text(min_size=1).filter(lambda user: ":" not in user), st.text().filter(lambda text: "\0" not in text))
@THOROUGH
def test_basic_header_encodes_any_user_and_password(user: str, password: str) -> None:
    """The first colon ends the user name."""
    found = Credentials(user, password).basic.removeprefix("Basic ")
    assert base64.b64decode(found).decode() == f"{user}:{password}"


@pytest.mark.parametrize("password", ["a:b:c", "", "pässwörd", "p\0\0"])
def test_unusual_passwords_are_read(folder: Path, password: str) -> None:
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
        {"quay.io": {"identitytoken": ""}},
        {"quay.io": {"email": "ann@example.org"}},
        {"quay.io/team": auth()},
        {"other.io": auth()},
    ],
)
def test_without_an_entry_there_are_no_credentials(folder: Path, entries: object) -> None:
    write(folder, entries)
    assert find("quay.io") is None


def test_an_empty_entry_does_not_hide_a_full_one(folder: Path) -> None:
    write(folder, {"quay.io": {}, "https://quay.io": auth()})
    assert find("quay.io") == ANN


def test_without_a_file_there_are_no_credentials() -> None:
    assert find("quay.io") is None


@pytest.mark.parametrize("text", ["é", "not base64!", "YW5u", "YW5uOnNlY3JldA", "//8=", "YW5uOnNlY3JldA==\n", 1, ["a"]])
def test_error_names_the_invalid_entry(folder: Path, text: object) -> None:
    write(folder, {"quay.io": {"auth": text}})
    with pytest.raises(ConfigError, match=r"config\.json: the auth entry of 'quay\.io'"):
        find("quay.io")


@pytest.mark.parametrize(
    "data", [b"[]", b"null", b"{", b"\xff", b'{"auths":{},"auths":{}}', b"[" * 100_000, b'{"a":NaN}']
)
def test_error_names_the_invalid_file(folder: Path, data: bytes) -> None:
    (folder / "config.json").write_bytes(data)
    with pytest.raises(ConfigError, match=r"config\.json"):
        find("quay.io")


def test_unreadable_file_is_an_error(folder: Path) -> None:
    (folder / "config.json").mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        find("quay.io")


def no_such_user(_: int) -> None:
    raise KeyError("no such user")


def test_missing_home_directory_means_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may run with a user ID that is not in passwd."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", no_such_user)
    assert find("quay.io") is None


@pytest.mark.parametrize("data", [b"", b"\n", b"{}"])
def test_an_empty_file_has_no_credentials(folder: Path, data: bytes) -> None:
    (folder / "config.json").write_bytes(data)
    assert find("quay.io") is None


# Kinds of entries


def test_an_identity_token_is_found_with_its_user(folder: Path) -> None:
    write(folder, {"quay.io": {**auth(password=""), "identitytoken": "token"}})
    assert find("quay.io") == Credentials("ann", "", identity_token="token")


def test_an_identity_token_is_found_alone(folder: Path) -> None:
    write(folder, {"quay.io": {"identitytoken": "token"}})
    assert find("quay.io") == Credentials("", "", identity_token="token")


def test_a_registry_token_is_found(folder: Path) -> None:
    write(folder, {"quay.io": {"registrytoken": "token"}})
    assert find("quay.io") == Credentials("", "", registry_token="token")


def test_plain_user_and_password_are_found(folder: Path) -> None:
    """The form of Kubernetes' dockerconfigjson."""
    write(folder, {"quay.io": {"username": "ann", "password": "secret"}})
    assert find("quay.io") == ANN


@pytest.mark.parametrize("field", ["identitytoken", "registrytoken", "username", "password"])
def test_error_names_the_field_that_is_not_a_string(folder: Path, field: str) -> None:
    write(folder, {"quay.io": {field: ["secret"]}})
    with pytest.raises(ConfigError, match=field) as raised:
        find("quay.io")
    assert "secret" not in str(raised.value)


def test_the_source_of_credentials_is_their_file(folder: Path) -> None:
    path = write(folder, {"quay.io": auth()})
    found = find("quay.io")
    assert found
    assert found.source == str(path)


# Paths


PATHS = {
    "quay.io/team/app": auth("app"),
    "quay.io/team": auth("team"),
    "quay.io": auth("all"),
    "docker.io/library": auth("library"),
    "https://index.docker.io/v1/": auth("hub"),
}


@pytest.mark.parametrize(
    ("registry", "repository", "user"),
    [
        ("quay.io", "team/app", "app"),
        ("quay.io", "team/app/sub", "app"),
        ("quay.io", "team/application", "team"),
        ("quay.io", "team", "team"),
        ("quay.io", "teams/app", "all"),
        ("quay.io", "", "all"),
        ("docker.io", "library/redis", "library"),
        ("docker.io", "bitnami/redis", "hub"),
    ],
)
def test_entry_with_the_longest_path_is_used(folder: Path, registry: str, repository: str, user: str) -> None:
    write(folder, PATHS)
    found = find(registry, repository)
    assert found
    assert found.user == user


def test_path_in_a_url_is_not_a_repository(folder: Path) -> None:
    write(folder, {"https://quay.io/team": auth()})
    assert find("quay.io", "other") == ANN


@given(hosts, repositories)
def test_prefixes_lead_from_the_repository_to_the_registry(host: str, repository: str) -> None:
    found = list(prefixes(f"{host}/{repository}"))
    assert found[0] == f"{host}/{repository}"
    assert found[-1] == host
    assert all(longer.rpartition("/")[0] == shorter for longer, shorter in itertools.pairwise(found))


# Order of files


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Write a file in every place, with the place as the user of quay.io; return them in order of precedence."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "variable.json"))
    paths = {
        "variable": tmp_path / "variable.json",
        "run": tmp_path / "run" / "containers" / "auth.json",
        "settings": tmp_path / "settings" / "containers" / "auth.json",
        "docker": tmp_path / "docker" / "config.json",
    }
    for user, path in paths.items():
        write(path.parent, {"quay.io": auth(user)}, path.name)
    return paths


def test_files_are_used_in_order(places: dict[str, Path]) -> None:
    for user, path in places.items():
        found = find("quay.io", "a/b")
        assert found
        assert found.user == user
        write(path.parent, {"other.io": auth("other")}, path.name)
    assert find("quay.io", "a/b") is None


def test_given_file_replaces_the_one_of_the_environment(places: dict[str, Path], tmp_path: Path) -> None:
    named = write(tmp_path, {"quay.io": auth("named")}, "named.json")
    found = find("quay.io", named=named)
    assert found
    assert found.user == "named"
    assert find("quay.io", named=write(tmp_path, {}, "named.json")) == Credentials("run", "secret")


def test_earlier_file_wins_over_a_longer_path_in_a_later_file(places: dict[str, Path]) -> None:
    path = places["docker"]
    write(path.parent, {"quay.io/a/b": auth("exact")}, path.name)
    found = find("quay.io", "a/b")
    assert found
    assert found.user == "variable"


def test_many_repositories_share_what_is_read_of_the_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("mirror.registry.auth.credential_store.time.monotonic", lambda: now)
    store, file = CredentialStore(), write(folder, {"a.b": auth()})
    assert asyncio.run(store.find("a.b", "c")) == ANN
    write(folder, {"a.b": auth("bob")})
    assert asyncio.run(store.find("a.b", "d")) == ANN
    now += 1.0
    found = asyncio.run(store.find("a.b", "d"))
    assert found is not None
    assert found.user == "bob"
    file.write_text("no JSON")
    now += 1.0
    for _ in range(2):
        with pytest.raises(ConfigError):
            asyncio.run(store.find("a.b", "d"))
    write(folder, {"a.b": auth()})
    assert asyncio.run(store.find("a.b", "d")) == ANN


def test_missing_given_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"absent\.json does not exist"):
        find("quay.io", named=tmp_path / "absent.json")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "gone.json"))
    with pytest.raises(ConfigError, match=r"gone\.json does not exist"):
        find("quay.io")


def test_runtime_directory_defaults_to_the_one_of_the_user_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    looked: list[object] = []
    monkeypatch.setattr("mirror.registry.auth.credential_store.os.access", lambda path, mode: looked.append(path))
    assert find("quay.io") is None
    assert looked == [Path(f"/run/containers/{os.getuid()}/auth.json")]


def test_given_credentials_take_precedence_for_their_registry_only(places: dict[str, Path]) -> None:
    keyring = CredentialStore(given={"quay.io": ANN})
    assert asyncio.run(keyring.find("quay.io", "a/b")) == ANN
    assert asyncio.run(keyring.find("other.io")) is None


# Changes


def test_new_entry_is_found_and_other_fields_are_kept() -> None:
    before = {"HttpHeaders": {"X": "1"}, "auths": {"other.io": {"auth": "x", "email": "y"}}, "psFormat": 1.5}
    file = AuthFile(Path("config.json"), before)
    after = file.with_entry("quay.io", ANN)
    assert asyncio.run(after.find("quay.io")) == ANN
    assert json.loads(after.without_entry("quay.io").to_bytes()) == json.loads(file.to_bytes()) == before
    assert list(after.document) == list(before)


@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", "https://index.docker.io/v1/", "registry-1.docker.io"])
def test_new_entry_replaces_all_keys_of_docker_hub(key: str) -> None:
    file = AuthFile(Path("config.json"), {"auths": {key: auth("old"), "docker.io/library": auth("library")}})
    after = file.with_entry("docker.io", ANN).document["auths"]
    assert after == {"docker.io/library": auth("library"), "https://index.docker.io/v1/": auth()}
    assert list(file.without_entry("docker.io").document["auths"]) == ["docker.io/library"]


def test_entry_is_added_to_a_file_without_auths() -> None:
    documents: list[JsonObject] = [{}, {"auths": None}, {"auths": []}]
    for document in documents:
        assert AuthFile(Path("x"), document).with_entry("quay.io", ANN).document == {"auths": {"quay.io": auth()}}


def test_lone_surrogate_is_written_unchanged() -> None:
    file = AuthFile(Path("x"), json.loads('{"a":"\\ud800"}'))
    assert json.loads(file.to_bytes()) == {"a": "\ud800"}


@given(st.text(min_size=1).filter(lambda user: ":" not in user), st.text(min_size=1))
def test_any_user_and_password_are_read_back(user: str, password: str) -> None:
    file = AuthFile(Path("x")).with_entry("quay.io", Credentials(user, password))
    found = asyncio.run(AuthFile(Path("x"), json.loads(file.to_bytes())).find("quay.io"))
    assert found
    assert (found.user, found.password) == (user, password.rstrip("\0"))


# Secrets


def test_repr_has_no_secrets() -> None:
    secret = Credentials("ann", "secret", "secret", "secret", "file")
    for text in (
        repr(secret),
        str(secret),
        f"{secret!r}",
        repr([secret]),
        repr(CredentialStore(given={"quay.io": secret})),
    ):
        assert "secret" not in text
        assert "ann" not in text
    assert "auth" not in repr(AuthFile(Path("x"), {"auths": {"quay.io": auth()}})).removeprefix("AuthFile")
