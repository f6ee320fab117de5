"""A docker-registry that trusts a token server: it checks each token's signature, audience, time and grants itself."""

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
    """The registry, its token server, and the same content without either."""

    registry: DockerRegistry
    tokens: TokenServer
    open: DockerRegistry

    @property
    def host(self) -> str:
        return self.registry.host


def may(user: str | None, repository: str, action: str) -> bool:
    """The carrier may do everything, the reader read everything, and anybody what is public."""
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


def write(folder: Path, host: str, **entry: str) -> dict[str, str]:
    """What a login leaves behind, and the environment that leads there."""
    (folder / "config.json").write_text(json.dumps({"auths": {host: entry}}))
    return {"DOCKER_CONFIG": str(folder)}


def auth(user: str, password: str | None = None) -> str:
    return base64.b64encode(f"{user}:{USERS[user] if password is None else password}".encode()).decode()


@pytest.mark.slow
def test_a_pull_and_a_push_with_tokens(guarded: Guarded, mirror: Program, skopeo: Skopeo, tmp_path: Path) -> None:
    env = write(tmp_path, guarded.host, auth=auth("carrier"))
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
def test_an_identity_token_is_good_for_pull_and_push(guarded: Guarded, mirror: Program, tmp_path: Path) -> None:
    env = write(tmp_path, guarded.host, auth=auth("carrier", ""), identitytoken="identity")
    mirror("pull", f"{guarded.host}/team/app:1", "--all-platforms", "-o", "layout", env=env)
    mirror("push", "layout", f"{guarded.host}/new", env=env)
    assert {(asked.method, asked.user) for asked in guarded.tokens.asked} == {("POST", "carrier")}
    assert guarded.open.tags("new/team/app") == ["1"]


@pytest.mark.slow
def test_a_push_that_mounts_has_a_token_for_both_repositories(
    guarded: Guarded, mirror: Program, tmp_path: Path
) -> None:
    env = write(tmp_path, guarded.host, auth=auth("carrier"))
    names = [f"{guarded.host}/{name}:1" for name in ("team/app", "public/app")]
    mirror("pull", *names, "--all-platforms", "-o", "layout", env=env)
    mirror("push", "layout", f"{guarded.host}/new", env=env)
    mounted = [one.status for one in guarded.registry.requests() if "mount=" in one.path]
    assert mounted
    assert set(mounted) <= {201, 401}, "a mount is asked for without a token first"
    assert mounted.count(201) == len(IMAGE.blobs)


@pytest.mark.slow
def test_what_is_not_granted_is_refused_by_the_registry_in_words(
    guarded: Guarded, mirror: Program, tmp_path: Path
) -> None:
    env = write(tmp_path, guarded.host, auth=auth("reader"))
    mirror("pull", f"{guarded.host}/team/app:1", "--all-platforms", "-o", "layout", env=env)
    refused = mirror("push", "layout", f"{guarded.host}/new", env=env, code=1).err
    assert "401" in refused
    assert "Log in there as a user who may push: mirror login" in refused
    assert USERS["reader"] not in refused
    assert guarded.open.tags("new/team/app") == []


@pytest.mark.slow
def test_a_wrong_password_is_refused_by_the_token_server_in_words(
    guarded: Guarded, mirror: Program, tmp_path: Path
) -> None:
    env = write(tmp_path, guarded.host, auth=auth("reader", "guessed"))
    refused = mirror("pull", f"{guarded.host}/team/app:1", "-o", "layout", env=env, code=1).err
    assert "who is that?" in refused
    assert f"from {tmp_path}/config.json." in refused
    assert "guessed" not in refused


@pytest.mark.slow
def test_the_registry_checks_signatures_and_is_not_asked_for_ever(
    guarded: Guarded, mirror: Program, tmp_path: Path
) -> None:
    guarded.tokens.change_key()
    refused = mirror("pull", f"{guarded.host}/public/app:1", "-o", "layout", code=1).err
    assert "401" in refused
    assert len(guarded.tokens.asked) == 1
    assert [one.status for one in guarded.registry.requests()] == [401, 401]


@pytest.mark.slow
def test_what_is_public_needs_no_credentials(guarded: Guarded, mirror: Program, tmp_path: Path) -> None:
    mirror("pull", f"{guarded.host}/public/app:1", "--all-platforms", "-o", "layout")
    assert mirror("pull", f"{guarded.host}/team/app:1", "-o", "other", code=1).out == ""


# Logging in, for others and after others


def log_in(mirror: Program, host: str, *flags: str, user: str = "carrier", code: int = 0) -> str:
    """`mirror login`, with the password on stdin."""
    done = mirror("login", host, "-u", user, "--password-stdin", *flags, stdin=USERS[user], code=code)
    assert USERS[user] not in done.out + done.err
    return done.out


@pytest.mark.slow
def test_skopeo_uses_what_mirror_login_wrote(guarded: Guarded, mirror: Program, skopeo: Skopeo, tmp_path: Path) -> None:
    image = f"docker://{guarded.host}/team/app:1"
    skopeo("inspect", "--tls-verify=false", "--raw", image, code=1)
    assert log_in(mirror, guarded.host, "--authfile", "auth.json") == f"{guarded.host}: logged in as carrier\n"
    assert skopeo("inspect", "--tls-verify=false", "--authfile", "auth.json", "--raw", image).raw == IMAGE.data
    assert skopeo("login", "--get-login", "--authfile", "auth.json", guarded.host).out == "carrier\n"


@pytest.mark.slow
def test_skopeo_uses_what_mirror_login_wrote_without_a_named_file(
    guarded: Guarded, mirror: Program, skopeo: Skopeo
) -> None:
    log_in(mirror, guarded.host)
    assert skopeo.raw(f"docker://{guarded.host}/team/app:1") == IMAGE.data


@pytest.mark.slow
def test_skopeo_uses_a_path_that_mirror_logged_in_to(
    guarded: Guarded, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    log_in(mirror, f"{guarded.host}/team", "--authfile", "auth.json")
    env = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
    image = f"docker://{guarded.host}/team/app:1"
    assert skopeo("inspect", "--tls-verify=false", "--raw", image, env=env).raw == IMAGE.data
    mirror("pull", f"{guarded.host}/team/app:1", "--all-platforms", "-o", "layout", env=env)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [["--authfile", "auth.json"], []], ids=["named", "default"])
def test_mirror_uses_what_skopeo_login_wrote_and_removes_it(
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
def test_skopeo_logs_out_where_mirror_logged_in(guarded: Guarded, mirror: Program, skopeo: Skopeo) -> None:
    log_in(mirror, guarded.host, "--authfile", "auth.json")
    skopeo("logout", "--authfile", "auth.json", guarded.host)
    mirror("pull", f"{guarded.host}/team/app:1", "-o", "layout", "--authfile", "auth.json", code=1)


@pytest.mark.slow
def test_a_password_that_the_registry_does_not_take_is_not_written(
    guarded: Guarded, mirror: Program, tmp_path: Path
) -> None:
    refused = mirror("login", guarded.host, "-u", "carrier", "--password-stdin", stdin="guessed", code=1)
    assert "401" in refused.err
    assert "guessed" not in refused.err
    assert not (tmp_path / ".docker").exists()
