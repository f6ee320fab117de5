"""Tests of docker-registry with a token server; the registry itself checks each token."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.peers.layouts import assert_clean, everything, stored
from tests.peers.programs import DockerRegistry, Program, Skopeo, docker_registry
from tests.support import images
from tests.support.images import multi_arch
from tests.support.token_server import TokenServer

pytestmark = pytest.mark.peer

IMAGE = multi_arch()
MANY = images.image("linux/amd64", *(images.layer(number, 100) for number in range(50)))
USERS = {"carrier": "pa:ss wörd", "reader": "looks"}


@dataclass(frozen=True)
class Guarded:
    """A registry, its token server, and an open registry with the same content."""

    registry: DockerRegistry
    tokens: TokenServer
    open: DockerRegistry

    @property
    def host(self) -> str:
        return self.registry.host


def may(user: str | None, repository: str, action: str) -> bool:
    """Grant everything to carrier, pulls to reader, and pulls of public images to all others."""
    return user == "carrier" or (action == "pull" and (user == "reader" or repository.startswith("public/")))


@pytest.fixture
def guarded(registry: DockerRegistry, tmp_path: Path) -> Iterator[Guarded]:
    registry.publish(IMAGE, "team/app", "1")
    registry.publish(IMAGE, "public/app", "1")
    folder = tmp_path / "guarded"
    with (
        TokenServer.running(folder, USERS, {"identity": "carrier"}, may) as tokens,
        docker_registry(folder, registry.storage, auth={"token": tokens.settings()}) as running,
    ):
        yield Guarded(running, tokens, registry)


def write_login(folder: Path, host: str, **entry: str) -> dict[str, str]:
    """Write the file that a login writes, and return the environment that selects it."""
    (folder / "config.json").write_text(json.dumps({"auths": {host: entry}}))
    return {"DOCKER_CONFIG": str(folder)}


def auth(user: str, password: str | None = None) -> str:
    return base64.b64encode(f"{user}:{USERS[user] if password is None else password}".encode()).decode()


@pytest.mark.slow
def test_pull_and_push_each_request_one_token(
    guarded: Guarded, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    env = write_login(tmp_path, guarded.host, auth=auth("carrier"))
    mirror("pull", f"{guarded.host}/team/app:1", "--all-platforms", "-o", "layout", env=env)
    assert stored(tmp_path / "layout") == everything(IMAGE)
    assert_clean(mirror, "layout")
    mirror("push", "layout", f"{guarded.host}/new", env=env)
    assert skopeo.raw(f"docker://{guarded.open.host}/new/team/app:1") == IMAGE.data
    assert [(asked.user, asked.scopes) for asked in guarded.tokens.asked] == [
        ("carrier", ("repository:team/app:pull",)),
        ("carrier", ("repository:new/team/app:pull,push",)),
    ]


@pytest.mark.slow
def test_fifty_blobs_at_once_need_one_token(guarded: Guarded, mirror: Program, tmp_path: Path) -> None:
    guarded.open.publish(MANY, "public/many", "1")
    mirror("pull", f"{guarded.host}/public/many:1", "-o", "layout", "-j", 50, "--platform", "linux/amd64")
    assert [(asked.user, asked.scopes) for asked in guarded.tokens.asked] == [(None, ("repository:public/many:pull",))]


@pytest.mark.slow
def test_identity_token_is_used_for_pull_and_push(guarded: Guarded, mirror: Program, tmp_path: Path) -> None:
    env = write_login(tmp_path, guarded.host, auth=auth("carrier", ""), identitytoken="identity")
    mirror("pull", f"{guarded.host}/team/app:1", "--all-platforms", "-o", "layout", env=env)
    mirror("push", "layout", f"{guarded.host}/new", env=env)
    assert {(asked.method, asked.user) for asked in guarded.tokens.asked} == {("POST", "carrier")}
    assert guarded.open.tags("new/team/app") == ["1"]


@pytest.mark.slow
def test_push_that_mounts_gets_a_token_for_both_repositories(guarded: Guarded, mirror: Program, tmp_path: Path) -> None:
    env = write_login(tmp_path, guarded.host, auth=auth("carrier"))
    names = [f"{guarded.host}/{name}:1" for name in ("team/app", "public/app")]
    mirror("pull", *names, "--all-platforms", "-o", "layout", env=env)
    mirror("push", "layout", f"{guarded.host}/new", env=env)
    mounted = [one.status for one in guarded.registry.requests() if "mount=" in one.path]
    assert mounted
    assert set(mounted) <= {201, 401}, "the first attempt to mount has no token for the source"
    assert mounted.count(201) == len(IMAGE.blobs)


@pytest.mark.slow
def test_push_without_permission_is_an_error_with_advice(guarded: Guarded, mirror: Program, tmp_path: Path) -> None:
    env = write_login(tmp_path, guarded.host, auth=auth("reader"))
    mirror("pull", f"{guarded.host}/team/app:1", "--all-platforms", "-o", "layout", env=env)
    refused = mirror("push", "layout", f"{guarded.host}/new", env=env, code=1).err
    assert "401" in refused
    assert "Log in there as a user who may push: mirror login" in refused
    assert USERS["reader"] not in refused
    assert guarded.open.tags("new/team/app") == []


@pytest.mark.slow
def test_error_for_a_wrong_password_names_its_file(guarded: Guarded, mirror: Program, tmp_path: Path) -> None:
    env = write_login(tmp_path, guarded.host, auth=auth("reader", "guessed"))
    refused = mirror("pull", f"{guarded.host}/team/app:1", "-o", "layout", env=env, code=1).err
    assert "who is that?" in refused
    assert f"from {tmp_path}/config.json." in refused
    assert "guessed" not in refused


@pytest.mark.slow
def test_token_that_the_registry_refuses_is_not_requested_again(
    guarded: Guarded, mirror: Program, tmp_path: Path
) -> None:
    guarded.tokens.change_key()
    refused = mirror("pull", f"{guarded.host}/public/app:1", "-o", "layout", code=1).err
    assert "401" in refused
    assert len(guarded.tokens.asked) == 1
    assert [one.status for one in guarded.registry.requests()] == [401, 401]


@pytest.mark.slow
def test_public_image_is_pulled_without_credentials(guarded: Guarded, mirror: Program, tmp_path: Path) -> None:
    mirror("pull", f"{guarded.host}/public/app:1", "--all-platforms", "-o", "layout")
    assert mirror("pull", f"{guarded.host}/team/app:1", "-o", "other", code=1).out == ""


# Logins shared with skopeo


def log_in(mirror: Program, host: str, *flags: str, user: str = "carrier", code: int = 0) -> str:
    """Run `mirror login` with the password on stdin."""
    done = mirror("login", host, "-u", user, "--password-stdin", *flags, stdin=USERS[user], code=code)
    assert USERS[user] not in done.out + done.err
    return done.out


@pytest.mark.slow
def test_skopeo_uses_an_auth_file_of_mirror_login(
    guarded: Guarded, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    image = f"docker://{guarded.host}/team/app:1"
    skopeo("inspect", "--tls-verify=false", "--raw", image, code=1)
    assert log_in(mirror, guarded.host, "--authfile", "auth.json") == f"{guarded.host}: logged in as carrier\n"
    assert skopeo("inspect", "--tls-verify=false", "--authfile", "auth.json", "--raw", image).raw == IMAGE.data
    assert skopeo("login", "--get-login", "--authfile", "auth.json", guarded.host).out == "carrier\n"


@pytest.mark.slow
def test_skopeo_uses_the_default_auth_file_of_mirror_login(guarded: Guarded, mirror: Program, skopeo: Skopeo) -> None:
    log_in(mirror, guarded.host)
    assert skopeo.raw(f"docker://{guarded.host}/team/app:1") == IMAGE.data


@pytest.mark.slow
def test_skopeo_uses_a_login_of_mirror_for_a_path(
    guarded: Guarded, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    log_in(mirror, f"{guarded.host}/team", "--authfile", "auth.json")
    env = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    image = f"docker://{guarded.host}/team/app:1"
    assert skopeo("inspect", "--tls-verify=false", "--raw", image, env=env).raw == IMAGE.data
    mirror("pull", f"{guarded.host}/team/app:1", "--all-platforms", "-o", "layout", env=env)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--authfile", "auth.json"], []], ids=["named", "default"])
def test_mirror_uses_replaces_and_removes_a_login_of_skopeo(
    guarded: Guarded, mirror: Program, skopeo: Skopeo, flags: list[str]
) -> None:
    password = ["--username", "carrier", "--password", USERS["carrier"]]
    skopeo("login", "--tls-verify=false", *password, *flags, guarded.host)
    image = f"{guarded.host}/team/app:1"
    mirror("pull", image, "--all-platforms", "-o", "layout", *flags)
    log_in(mirror, guarded.host, *flags, user="reader")
    assert skopeo("login", "--get-login", *flags, guarded.host).out == "reader\n"
    mirror("logout", guarded.host, *flags)
    mirror("pull", image, "-o", "other", *flags, code=1)
    skopeo("login", "--get-login", *flags, guarded.host, code=1)


@pytest.mark.slow
def test_skopeo_logout_removes_a_login_of_mirror(guarded: Guarded, mirror: Program, skopeo: Skopeo) -> None:
    log_in(mirror, guarded.host, "--authfile", "auth.json")
    skopeo("logout", "--authfile", "auth.json", guarded.host)
    failed = mirror("pull", f"{guarded.host}/team/app:1", "-o", "layout", "--authfile", "auth.json", code=1)
    assert f"mirror login {guarded.host}" in failed.err
    assert guarded.tokens.asked[-1].user is None


@pytest.mark.slow
def test_refused_password_is_not_stored(guarded: Guarded, mirror: Program, tmp_path: Path) -> None:
    refused = mirror("login", guarded.host, "-u", "carrier", "--password-stdin", stdin="guessed", code=1)
    assert "401" in refused.err
    assert "guessed" not in refused.err
    assert not (tmp_path / ".docker").exists()
