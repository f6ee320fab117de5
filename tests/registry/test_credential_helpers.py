"""Tests of credential helpers: programs on the PATH that are called as docker calls them."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from mirror.errors import ConfigError
from mirror.registry.auth import credential_helpers
from mirror.registry.auth.credential_helpers import CredentialHelper
from mirror.registry.auth.credential_store import CredentialStore
from mirror.registry.credentials import Credentials
from tests.support.credential_helper import install

ANN = Credentials("ann", "secret")
NOT_FOUND = "print('credentials not found in native keychain'); sys.exit(1)"


@pytest.fixture(autouse=True)
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory on the PATH, and set a home directory with `.docker`."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    for name in ("REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / ".docker").mkdir()
    return folder


def script(folder: Path, name: str, code: str) -> None:
    """Write a helper that runs this code."""
    program = folder / f"docker-credential-{name}"
    program.write_text(
        f"#!{sys.executable}\nimport json, sys, time\naction, server = sys.argv[1], sys.stdin.read()\n{code}\n"
    )
    program.chmod(0o755)


def get(name: str, server: str = "quay.io") -> Credentials | None:
    return asyncio.run(CredentialHelper(name, Path("config.json")).get(server))


def failure(name: str, server: str = "quay.io") -> str:
    """Return the message and the hint of a failed helper; neither may contain the secret."""
    with pytest.raises(ConfigError) as raised:
        get(name, server)
    text = f"{raised.value} {raised.value.hint}"
    assert f"docker-credential-{name}" in text
    assert "config.json" in text
    assert "secret" not in text
    assert "secret" not in repr(raised.value.__cause__)
    return text


# The protocol


@pytest.mark.slow
def test_helper_stores_finds_and_erases_credentials(path: Path) -> None:
    install(path, "box")
    helper = CredentialHelper("box", Path("config.json"))

    async def main() -> None:
        assert await helper.get("quay.io") is None
        await helper.store("quay.io", ANN)
        assert await helper.get("quay.io") == ANN
        assert await helper.get("other.io") is None
        await helper.erase("quay.io")
        assert await helper.get("quay.io") is None
        await helper.erase("quay.io")

    asyncio.run(main())


def test_secret_is_sent_through_stdin_and_not_as_an_argument(path: Path) -> None:
    log = install(path, "box")
    asyncio.run(CredentialHelper("box", Path("config.json")).store("quay.io", ANN))
    seen = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["arguments"] for one in seen] == [["store"]]
    assert json.loads(seen[0]["stdin"]) == {"ServerURL": "quay.io", "Username": "ann", "Secret": "secret"}


def test_secret_of_the_user_token_is_an_identity_token(path: Path) -> None:
    script(path, "box", "print(json.dumps({'ServerURL': server, 'Username': '<token>', 'Secret': 'abc'}))")
    found = get("box")
    assert found == Credentials("<token>", "", identity_token="abc")
    assert found.source == "docker-credential-box"


@pytest.mark.parametrize("code", [NOT_FOUND, 'print(\'{"Username":"","Secret":""}\')'])
def test_helper_without_credentials_is_not_an_error(path: Path, code: str) -> None:
    script(path, "box", code)
    assert get("box") is None


# Failures


SECRET = "print(json.dumps({'Username': 'ann', 'Secret': 'secret'}))"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("sys.exit(3)", "exit status 3"),
        (f"{SECRET}; sys.exit(1)", "exit status 1"),
        (f"{SECRET}; print('secret', file=sys.stderr); sys.exit(1)", "exit status 1"),
        ("print('secret')", "did not print a JSON object"),
        (f"{SECRET}; print('x')", "did not print a JSON object"),
        ("", "did not print a JSON object"),
        ("print('[\"secret\"]')", "did not print a JSON object"),
        ("sys.stdout.buffer.write(bytes([255]))", "did not print a JSON object"),
        ("print(json.dumps({'Username': 'ann'}))", "printed no Username or no Secret"),
        ("print(json.dumps({'Username': 1, 'Secret': 'secret'}))", "printed no Username or no Secret"),
        ("print(json.dumps({'username': 'ann', 'secret': 'secret'}))", "printed no Username or no Secret"),
    ],
)
def test_error_names_the_failed_helper_and_hides_its_output(path: Path, code: str, why: str) -> None:
    script(path, "box", code)
    assert why in failure("box")


@pytest.mark.slow
def test_helper_that_hangs_times_out(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credential_helpers, "TIMEOUT", 0.2)
    script(path, "box", f"{SECRET}; sys.stdout.flush(); time.sleep(1000)")
    assert "has not answered for 0.2 s" in failure("box")


def test_helper_may_ignore_its_stdin(path: Path) -> None:
    (path / "docker-credential-box").write_text('#!/bin/sh\necho \'{"Username":"ann","Secret":"secret"}\'\n')
    (path / "docker-credential-box").chmod(0o755)
    assert get("box") == ANN


def test_error_names_the_missing_helper() -> None:
    assert "is not installed" in failure("absent")


def test_error_names_the_helper_that_cannot_be_run(path: Path) -> None:
    (path / "docker-credential-box").write_bytes(b"\x7fELF nothing")
    (path / "docker-credential-box").chmod(0o755)
    assert "cannot be run" in failure("box")


@pytest.mark.parametrize(
    "name", ["../evil", "/bin/evil", "a/b", "", ".", "..", "-x", "a b", "a\nb", "a\0b", "ä", "a;b"]
)
def test_invalid_helper_name_is_refused(path: Path, tmp_path: Path, name: str) -> None:
    script(tmp_path, "evil", SECRET)
    with pytest.raises(ConfigError, match="does not have a valid name"):
        get(name)


# Choice of a helper


def configure(tmp_path: Path, **document: Any) -> None:
    (tmp_path / ".docker" / "config.json").write_text(json.dumps(document))


def user(registry: str, repository: str = "") -> str | None:
    found = asyncio.run(CredentialStore().find(registry, repository))
    return found.user if found else None


@pytest.fixture
def named(path: Path) -> Path:
    """Install two helpers with credentials for every server; the user begins with the helper's name."""
    for name in ("one", "two"):
        script(path, name, f"print(json.dumps({{'Username': '{name} ' + server, 'Secret': 'x'}}))")
    return path


@pytest.mark.slow
def test_helper_of_a_registry_takes_precedence_over_the_default(named: Path, tmp_path: Path) -> None:
    configure(tmp_path, credsStore="one", credHelpers={"quay.io": "two", "https://gcr.io": "two", "ghcr.io": ""})
    assert user("quay.io", "a/b") == "two quay.io"
    assert user("gcr.io") == "two gcr.io"
    assert user("other.io:5000", "a") == "one other.io:5000"
    assert user("ghcr.io") is None


@pytest.mark.slow
@pytest.mark.parametrize("key", ["docker.io", "index.docker.io", "https://index.docker.io/v1/"])
def test_helper_gets_the_v1_url_of_docker_hub(named: Path, tmp_path: Path, key: str) -> None:
    configure(tmp_path, credHelpers={key: "two"})
    assert user("docker.io", "library/redis") == "two https://index.docker.io/v1/"


@pytest.mark.slow
def test_auths_are_used_if_the_helper_has_no_credentials(path: Path, tmp_path: Path) -> None:
    script(path, "box", NOT_FOUND)
    configure(tmp_path, credsStore="box", auths={"quay.io": {"auth": "YW5uOnNlY3JldA=="}, "other.io": {}})
    assert user("quay.io") == "ann"
    assert user("other.io") is None


def test_entry_for_a_path_takes_precedence_over_a_helper(named: Path, tmp_path: Path) -> None:
    configure(tmp_path, credHelpers={"quay.io": "two"}, auths={"quay.io/team": {"auth": "YW5uOnNlY3JldA=="}})
    assert user("quay.io", "team/app") == "ann"
    assert user("quay.io", "other/app") == "two quay.io"


@pytest.mark.parametrize("document", [{"credsStore": 1}, {"credHelpers": {"quay.io": ["x"]}}, {"credsStore": True}])
def test_helper_that_is_not_a_string_is_an_error(tmp_path: Path, document: dict[str, Any]) -> None:
    configure(tmp_path, **document)
    with pytest.raises(ConfigError, match="should be a string"):
        user("quay.io")


@pytest.mark.slow
def test_helper_is_called_once_for_all_repositories_of_a_registry(path: Path, tmp_path: Path) -> None:
    log = install(path, "box")
    configure(tmp_path, credsStore="box")

    async def main() -> None:
        keyring = CredentialStore()
        for number in range(40):
            await keyring.find("quay.io", f"team/app{number}")
        await keyring.find("other.io")

    asyncio.run(main())
    assert [json.loads(line)["stdin"] for line in log.read_text().splitlines()] == ["quay.io", "other.io"]


@pytest.mark.slow
def test_helper_is_called_once_by_concurrent_requests(path: Path, tmp_path: Path) -> None:
    log = install(path, "box")
    configure(tmp_path, credsStore="box")

    async def main() -> None:
        keyring = CredentialStore()
        await asyncio.gather(*(keyring.find("quay.io", f"team/app{number}") for number in range(16)))

    asyncio.run(main())
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.slow
def test_failed_helper_is_not_called_again_by_waiting_requests(path: Path, tmp_path: Path) -> None:
    log = tmp_path / "calls"
    script(path, "box", f"open({str(log)!r}, 'a').write('call\\n'); sys.exit(1)")
    configure(tmp_path, credsStore="box")

    async def main() -> list[Credentials | BaseException | None]:
        keyring = CredentialStore()
        finding = (keyring.find("quay.io", f"team/app{number}") for number in range(16))
        return await asyncio.gather(*finding, return_exceptions=True)

    assert {type(found) for found in asyncio.run(main())} == {ConfigError}
    assert log.read_text().splitlines() == ["call"]
