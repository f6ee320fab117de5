"""Tests of tokens: the requests that registries and token servers of several kinds receive."""

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror
from tests.support.credential_helper import install
from tests.support.registry import Action, Basic, Bearer, EcrPublic, EmbeddedRegistry, Fault, Redirect, Status, serving
from tests.support.registry.messages import Answer, Call

IMAGE = images.multi_arch()
MANY = images.image("linux/amd64", *(images.layer(number, 100) for number in range(50)))
ANN = {"ann": "pass:word"}


def write(mirror: Mirror, auths: dict[str, object], **fields: object) -> None:
    """Write Docker's config.json."""
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": auths, **fields}))


def entry(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@contextmanager
def registry(auth: Bearer, image: images.Image = IMAGE) -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(auth=auth)) as running:
        image.publish(running, "a", "v1")
        yield running


def pull(mirror: Mirror, running: EmbeddedRegistry, *flags: object, code: int = 0, stdin: str = "") -> str:
    return mirror("pull", f"{running.host}/a:v1", "--all", *flags, code=code, stdin=stdin).err


# Number of tokens


@pytest.mark.slow
def test_fifty_blobs_at_once_need_one_token(mirror: Mirror) -> None:
    auth = Bearer(anonymous_pull=True)
    with registry(auth, MANY) as running:
        pull(mirror, running, "-j", 50)
        assert running.count("GET", "/blobs/") == 51
    assert [asked.scopes for asked in auth.asked] == [("repository:a:pull",)]


@dataclass(frozen=True)
class Expire(Action):
    """Revoke all tokens that were issued so far."""

    auth: Bearer

    def on_call(self, call: Call) -> Call:
        self.auth.expire()
        return call


class Slow(Bearer):
    """A token server that issues its second token after the registry has refused forty requests."""

    refused = 0

    def refuse(self, call: Call, needs: tuple[str, ...]) -> Answer | None:
        given = super().refuse(call, needs)
        self.refused += given is not None
        return given

    async def serve(self, call: Call) -> Answer | None:
        for _ in range(6000):
            if call.path != "/token" or not self.asked or self.refused >= 40:
                break
            await asyncio.sleep(0.01)
        return await super().serve(call)


@pytest.mark.slow
def test_fifty_blobs_refused_at_once_need_one_more_token(mirror: Mirror) -> None:
    auth = Slow(anonymous_pull=True)
    with registry(auth, MANY) as running:
        running.fault(Fault(path="/blobs/", skip=1, action=Expire(auth)))
        pull(mirror, running, "-j", 50)
    assert auth.refused >= 40
    assert len(auth.asked) == 2


@pytest.mark.slow
@pytest.mark.parametrize("users", [{}, ANN], ids=["anonymous", "ann"])
def test_tokens_that_expire_early_are_renewed(mirror: Mirror, users: dict[str, str]) -> None:
    """Revoke tokens three times, although their lifetime is five minutes."""
    auth = Bearer(users, anonymous_pull=not users)
    with registry(auth, MANY) as running:
        for blobs in (5, 20, 40):
            running.fault(Fault(path="/blobs/", skip=blobs, action=Expire(auth)))
        write(mirror, {running.host: entry("ann", ANN["ann"])} if users else {})
        pull(mirror, running, "-j", 2)
    assert [asked.scopes for asked in auth.asked] == [("repository:a:pull",)] * 4


@pytest.mark.slow
@pytest.mark.parametrize("issued", ["1970-01-01T00:00:00Z", "2200-01-01T00:00:00Z", "nonsense", 5, None])
def test_wrong_time_of_issue_does_not_cause_more_token_requests(mirror: Mirror, issued: object) -> None:
    auth = Bearer(anonymous_pull=True, fields={"issued_at": issued})
    with registry(auth, MANY) as running:
        pull(mirror, running)
    assert len(auth.asked) == 1


def test_registry_that_rejects_each_token_gets_one_request_with_a_token(mirror: Mirror) -> None:
    auth = Bearer(ANN, never=frozenset({"repository:a:pull"}))
    with registry(auth) as running:
        write(mirror, {running.host: entry("ann", ANN["ann"])})
        assert "401" in pull(mirror, running, code=1)
        assert [seen.path for seen in running.requests] == ["/v2/", "/token", "/v2/a/manifests/v1"]
    assert len(auth.asked) == 1


def test_scope_of_a_challenge_is_added_to_the_token_request(mirror: Mirror) -> None:
    auth = Bearer(ANN, one_scope=True)
    with registry(auth) as running:
        write(mirror, {running.host: entry("ann", ANN["ann"])})
        first = f'Bearer realm="{running.url}/token",service="embedded",scope="registry:catalog:*"'
        running.fault(Fault(path="^/v2/a/", action=Status(401, (("WWW-Authenticate", first),))))
        pull(mirror, running)
    assert [asked.scopes for asked in auth.asked] == [
        ("repository:a:pull",),
        ("registry:catalog:*", "repository:a:pull"),
        ("repository:a:pull", "registry:catalog:*"),
    ]


@pytest.mark.slow
def test_token_with_fewer_scopes_is_accepted(mirror: Mirror) -> None:
    """Without permission to push, a client can still read the stored blobs."""
    auth = Bearer(ANN, never=frozenset({"repository:b/a:push"}))
    with registry(auth) as running:
        write(mirror, {running.host: entry("ann", ANN["ann"])})
        pull(mirror, running)
        refused = mirror("push", "layout", f"{running.host}/b", code=1).err
        assert "401" in refused
        assert "/token" not in refused
        assert running.count("HEAD", "^/v2/b/a/blobs") > 0
    assert len(auth.asked) < 5


@pytest.mark.slow
def test_token_for_a_mount_has_the_scopes_of_both_repositories(mirror: Mirror) -> None:
    auth = Bearer(ANN)
    with registry(auth) as running:
        IMAGE.publish(running, "b", "v1")
        write(mirror, {running.host: entry("ann", ANN["ann"])})
        mirror("pull", f"{running.host}/a:v1", f"{running.host}/b:v1", "--all")
        auth.asked.clear()
        mirror("push", "layout", f"{running.host}/c")
        assert running.tags("c/b") == {"v1": IMAGE.root}
    asked = [asked.scopes for asked in auth.asked]
    assert len(asked) == len(set(asked)) <= 4
    assert any(len(scopes) == 2 for scopes in asked)


# Token requests


@pytest.mark.slow
@pytest.mark.parametrize("fields", [{}, {"token": None}])
def test_token_is_read_from_either_field(mirror: Mirror, fields: dict[str, object]) -> None:
    with registry(Bearer(anonymous_pull=True, fields=fields)) as running:
        pull(mirror, running)
        assert running.count("GET", "^/token$") == 1
        assert {seen.status for seen in running.requests if "/blobs/" in seen.path} == {200}


@pytest.mark.slow
def test_without_credentials_the_token_is_anonymous(mirror: Mirror) -> None:
    auth = Bearer(anonymous_pull=True)
    with registry(auth) as running:
        write(mirror, {"other.example": entry("ann", ANN["ann"])})
        pull(mirror, running)
    assert [asked.credentials for asked in auth.asked] == [None]


@pytest.mark.slow
def test_identity_token_is_sent_by_post(mirror: Mirror) -> None:
    auth = Bearer(identity_tokens={"identity": "ann"})
    with registry(auth) as running:
        write(mirror, {running.host: {**entry("ann", ""), "identitytoken": "identity"}})
        pull(mirror, running)
    assert [asked.method for asked in auth.asked] == ["POST"]
    assert auth.asked[0].form == {
        "grant_type": "refresh_token",
        "refresh_token": "identity",
        "service": "embedded",
        "client_id": "oci-mirror",
        "scope": "repository:a:pull",
    }
    assert auth.asked[0].credentials is None


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 404, 405])
def test_token_is_requested_by_get_if_post_is_refused(mirror: Mirror, status: int) -> None:
    auth = Bearer({"ann": "identity"}, no_post=status)
    with registry(auth) as running:
        write(mirror, {running.host: {**entry("ann", ""), "identitytoken": "identity"}})
        pull(mirror, running)
    assert [asked.method for asked in auth.asked] == ["POST", "GET"]


@pytest.mark.slow
def test_identity_token_of_a_credential_helper_is_sent_by_post(mirror: Mirror, tmp_path: Path) -> None:
    auth = Bearer(identity_tokens={"identity": "ann"})
    install(tmp_path, "box")
    with registry(auth) as running:
        secret = {"ServerURL": running.host, "Username": "<token>", "Secret": "identity"}
        (tmp_path / "box.box").write_text(json.dumps({running.host: secret}))
        write(mirror, {}, credHelpers={running.host: "box"})
        mirror("pull", f"{running.host}/a:v1", "--all", env={"PATH": f"{tmp_path}:{mirror.env['PATH']}"})
    assert [asked.form["refresh_token"] for asked in auth.asked] == ["identity"]


def test_registry_token_is_sent_only_to_the_registry(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry()) as elsewhere, registry(Bearer(token_realm=f"{elsewhere.url}/token")) as running:
        write(mirror, {running.host: {"registrytoken": "direct"}})
        pull(mirror, running, code=1)
        sent = [seen.headers.get("authorization") for seen in running.requests]
        assert sent == [None, "Bearer direct"]
        assert elsewhere.requests == []


@pytest.mark.slow
def test_each_repository_has_its_own_credentials(mirror: Mirror) -> None:
    users = {"ann": "one", "bob": "two", "all": "three"}
    auth = Bearer(users)
    with registry(auth) as running:
        names = ("team/app", "team/tool", "other/app")
        for name in names:
            IMAGE.publish(running, name, "v1")
        entries = {"team/app": "ann", "team": "bob", "": "all"}
        write(
            mirror, {f"{running.host}/{path}".rstrip("/"): entry(user, users[user]) for path, user in entries.items()}
        )
        mirror("pull", *(f"{running.host}/{name}:v1" for name in names), "--all")
    users_of_scopes = {asked.scopes[0]: asked.credentials and asked.credentials[0] for asked in auth.asked}
    assert users_of_scopes == {
        f"repository:{name}:pull": user for name, user in zip(names, ["ann", "bob", "all"], strict=True)
    }


@pytest.mark.slow
def test_basic_authentication_uses_the_credentials_of_each_repository(mirror: Mirror) -> None:
    users = {"ann": "one", "bob": "two"}
    with serving(EmbeddedRegistry(auth=Basic(users))) as running:
        for name in ("a", "b"):
            IMAGE.publish(running, name, "v1")
        write(mirror, {f"{running.host}/a": entry("ann", "one"), f"{running.host}/b": entry("bob", "two")})
        mirror("pull", f"{running.host}/a:v1", f"{running.host}/b:v1", "--all")
        sent = {(seen.path.split("/")[2], seen.headers.get("authorization")) for seen in running.requests}
    wanted = {("a", "Basic " + entry("ann", "one")["auth"]), ("b", "Basic " + entry("bob", "two")["auth"])}
    assert sent == {("", None), *wanted}


@pytest.mark.slow
def test_credentials_are_sent_only_to_the_token_server(mirror: Mirror) -> None:
    auth = Bearer(ANN)
    with (
        serving(EmbeddedRegistry()) as storage,
        serving(EmbeddedRegistry(auth=auth)) as tokens,
        registry(Bearer(ANN, token_realm=f"{tokens.url}/token", _tokens=auth._tokens)) as running,
    ):
        for digest, data in IMAGE.blobs.items():
            storage.put_blob("a", data)
            running.fault(
                Fault(
                    path=digest, method="GET", action=Status(307, (("Location", f"{storage.url}/v2/a/blobs/{digest}"),))
                )
            )
        write(mirror, {running.host: entry("ann", ANN["ann"])})
        pull(mirror, running)
        basic = "Basic " + entry("ann", ANN["ann"])["auth"]
        assert {seen.headers.get("authorization") for seen in tokens.requests} == {basic}
        assert storage.requests
        assert not any("authorization" in seen.headers for seen in storage.requests)
        assert not any(seen.headers.get("authorization") == basic for seen in running.requests)


def test_redirect_of_a_token_request_is_not_followed(mirror: Mirror) -> None:
    """A redirect with 307 would repeat the POST, whose form contains the identity token."""
    with (
        serving(EmbeddedRegistry()) as elsewhere,
        registry(Bearer(ANN, identity_tokens={"identity": "ann"})) as running,
    ):
        write(mirror, {running.host: {"identitytoken": "identity"}})
        running.fault(Fault(path="^/token", action=Redirect(f"{elsewhere.url}/token")))
        assert "307" in pull(mirror, running, "--retries", 0, code=1)
        assert elsewhere.requests == []


# ECR Public


@pytest.mark.slow
def test_ecr_public_token_has_the_scope_aws_and_is_renewed_once(mirror: Mirror) -> None:
    auth = EcrPublic(anonymous_pull=True)
    with registry(auth, MANY) as running:
        pull(mirror, running)
        assert [asked.scopes for asked in auth.asked] == [("aws", "repository:a:pull")]
        auth.asked.clear()
        running.fault(Fault(path="/blobs/", action=Expire(auth)))
        pull(mirror, running, "-o", "other")
        assert [asked.scopes for asked in auth.asked] == [("aws", "repository:a:pull")] * 2


def test_repeated_status_400_is_an_error_after_one_more_token(mirror: Mirror) -> None:
    auth = Bearer(anonymous_pull=True)
    with registry(auth) as running:
        running.fault(Fault(path="/blobs/", times=None, action=Status(400)))
        assert "400" in pull(mirror, running, "-j", 1, code=1)
        assert running.count("GET", "/blobs/") == 2
    assert len(auth.asked) == 2


@pytest.mark.slow
def test_push_with_refused_head_requests_needs_few_tokens(mirror: Mirror) -> None:
    """Let HEAD return 401 for each of 50 blobs; that must not cause 50 token requests."""
    auth = EcrPublic(ANN, anonymous_pull=True)
    with registry(auth, MANY) as running:
        write(mirror, {running.host: entry("ann", ANN["ann"])})
        pull(mirror, running)
        auth.asked.clear()
        mirror("push", "layout", f"{running.host}/b", "-j", 1)
        assert running.tags("b/a") == {"v1": MANY.root}
    assert len(auth.asked) <= 2


# Secrets in messages


@pytest.mark.slow
@pytest.mark.parametrize(("where", "skip"), [("^/v2/", 1), ("^/token", 0)])
def test_secrets_are_not_printed_in_errors(mirror: Mirror, where: str, skip: int) -> None:
    auth = Bearer(ANN, identity_tokens={"identity": "ann"})
    with registry(auth) as running:
        write(mirror, {running.host: {**entry("ann", ""), "identitytoken": "identity"}})
        running.fault(Fault(path=where, skip=skip, times=None, action=Status(500, body=b"identity pass:word")))
        err = pull(mirror, running, "-v", "--retries", 1, code=1)
    assert "identity" not in err
    assert not any(token in err for token in auth._tokens)


# Credentials of the command line


@pytest.mark.slow
def test_username_option_and_password_from_stdin_are_used(mirror: Mirror) -> None:
    with registry(Bearer(ANN)) as running:
        pull(mirror, running, "--username", "ann", "--password-stdin", stdin=f"{ANN['ann']}\n")
        push = ["push", "layout", f"{running.host}/b", "-u", "ann", "--password-stdin"]
        mirror(*push, stdin=ANN["ann"])
        name = f"{running.host}/b/a:v1"
        raw = mirror("inspect", name, "--raw", "-u", "ann", "--password-stdin", stdin=f"{ANN['ann']}\r\n").raw
        assert raw == IMAGE.data


def test_credentials_of_the_command_line_for_two_registries_are_refused(mirror: Mirror) -> None:
    names = ["127.0.0.1:9/a", "127.0.0.1:8/a"]
    result = mirror("pull", *names, "-u", "ann", "--password-stdin", stdin="secret", code=2)
    assert "127.0.0.1:8, 127.0.0.1:9" in result.err
    assert "secret" not in result.err


@pytest.mark.parametrize(
    ("flags", "stdin", "said"),
    [
        (["--password-stdin"], "secret", "needs --username"),
        (["-u", "ann"], "secret", "--password-stdin"),
        (["-u", "ann", "--password-stdin"], "", "no password on stdin"),
        (["-u", "ann", "--password-stdin"], "\n", "no password on stdin"),
        (["-u", "ann", "--password-stdin"], "secret" * 20_000, "more than 64 KiB"),
        (["-u", "ann", "--password-stdin"], "secret" + "€" * 22_000, "more than 64 KiB"),
    ],
)
def test_invalid_password_options_are_refused(mirror: Mirror, flags: list[str], stdin: str, said: str) -> None:
    err = mirror("pull", "127.0.0.1:9/a", *flags, stdin=stdin, code=2).err
    assert said in err
    assert "secret" not in err


@pytest.mark.slow
def test_authfile_overrides_the_docker_config(mirror: Mirror, tmp_path: Path) -> None:
    with registry(Bearer(ANN)) as running:
        write(mirror, {running.host: entry("ann", "wrong")})
        (tmp_path / "auth.json").write_text(json.dumps({"auths": {running.host: entry("ann", ANN["ann"])}}))
        assert "401" in pull(mirror, running, code=1)
        for number, (flags, env) in enumerate(
            [
                (["--authfile", "auth.json"], {}),
                ([], {"MIRROR_AUTHFILE": "auth.json"}),
                ([], {"REGISTRY_AUTH_FILE": "auth.json"}),
            ]
        ):
            done = mirror("pull", f"{running.host}/a:v1", "--all", "-o", number, *flags, env=env)
            assert done.lines == [f"{running.host}/a:v1@{IMAGE.root}"]


def test_missing_authfile_is_an_error(mirror: Mirror) -> None:
    with registry(Bearer(ANN)) as running:
        message = pull(mirror, running, "--authfile", "absent.json", code=2)
        assert "absent.json cannot be read: No such file or directory." in message


@pytest.mark.slow
def test_authfile_in_settings_of_the_working_directory_is_ignored(mirror: Mirror, tmp_path: Path) -> None:
    """An authfile can name credential helpers, which are programs to run."""
    log = install(tmp_path, "box")
    with registry(Bearer(ANN)) as running:
        (tmp_path / "auth.json").write_text(json.dumps({"credHelpers": {running.host: "box"}}))
        (tmp_path / "mirror.toml").write_text('authfile = "auth.json"\n')
        env = {"PATH": f"{tmp_path}:{mirror.env['PATH']}"}
        err = mirror("pull", f"{running.host}/a:v1", "--all", env=env, code=1).err
        assert "authfile is ignored" in err
        assert not log.exists()
        mirror("pull", f"{running.host}/a:v1", "--all", "--config", "mirror.toml", env=env, code=1)
        assert log.exists()


def test_error_for_a_wrong_password_names_its_file(mirror: Mirror) -> None:
    with registry(Bearer(ANN)) as running:
        write(mirror, {running.host: entry("ann", "guessed")})
        err = pull(mirror, running, code=1)
    assert re.search(r"The token server rejected the credentials for .* from .*config\.json\.", err)
    assert "guessed" not in err


@pytest.mark.slow
def test_broken_credentials_file_is_an_error_whether_or_not_credentials_are_needed(mirror: Mirror) -> None:
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir()
    (folder / "config.json").write_text("{")
    with registry(Bearer(ANN)) as running:
        assert "config.json: not valid JSON" in pull(mirror, running, code=2)
    with serving(EmbeddedRegistry()) as unguarded:
        IMAGE.publish(unguarded, "a", "v1")
        assert "config.json: not valid JSON" in pull(mirror, unguarded, code=2)


def test_missing_credential_helper_is_an_error(mirror: Mirror) -> None:
    with registry(Bearer(anonymous_pull=True)) as running:
        write(mirror, {}, credsStore="desktop.exe")
        err = pull(mirror, running, code=2)
    assert "docker-credential-desktop.exe" in err
    assert "not installed" in err
