"""Tests of login and logout: the requests, the files of credentials, and the output."""

import base64
import json
import os
import pty
import stat
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.command import Mirror, Result
from tests.support.credential_helper import install
from tests.support.profiles import scaled
from tests.support.registry import Basic, Bearer, EmbeddedRegistry, Fault, Status, serving

IMAGE = images.multi_arch()
PASSWORD = "pass:word ü"
USERS = {"ann": PASSWORD, "bob": "other"}


@pytest.fixture(params=["basic", "bearer"])
def guarded(request: pytest.FixtureRequest) -> Iterator[EmbeddedRegistry]:
    auth = Basic(USERS) if request.param == "basic" else Bearer(USERS)
    with serving(EmbeddedRegistry(auth=auth)) as registry:
        IMAGE.publish(registry, "team/a", "v1")
        yield registry


@pytest.fixture
def basic() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(auth=Basic(USERS))) as registry:
        yield registry


@pytest.fixture
def docker(mirror: Mirror) -> Path:
    """Return the path of Docker's config.json, which does not exist yet."""
    return Path(mirror.env["DOCKER_CONFIG"], "config.json")


def login(
    mirror: Mirror, host: str, *flags: object, user: str = "ann", password: str = "", code: int = 0, path: str = ""
) -> Result:
    env = {"PATH": f"{path}:{mirror.env['PATH']}"} if path else {}
    words = ("login", host, "--username", user, "--password-stdin", *flags)
    done = mirror(*words, stdin=password or USERS[user], code=code, env=env)
    assert not any(secret in done.out + done.err for secret in (password or USERS[user], entry(user)["auth"]))
    return done


def entry(user: str = "ann") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{USERS[user]}".encode()).decode()}


def read(path: Path) -> Any:
    return json.loads(path.read_text())


def write(path: Path, document: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


# Login


@pytest.mark.slow
def test_pull_and_push_use_the_credentials_of_login(mirror: Mirror, guarded: EmbeddedRegistry, docker: Path) -> None:
    mirror("pull", f"{guarded.host}/team/a:v1", "--all", code=1)
    done = login(mirror, guarded.host)
    assert done.out == f"{guarded.host}: logged in as ann\n"
    assert str(docker) in done.err
    assert read(docker) == {"auths": {guarded.host: entry()}}
    mirror("pull", f"{guarded.host}/team/a:v1", "--all")
    mirror("push", "layout", f"{guarded.host}/copy")
    assert guarded.tags("copy/team/a") == {"v1": IMAGE.root}


def test_login_sends_credentials_only_after_a_challenge(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    login(mirror, guarded.host)
    assert [seen.path for seen in guarded.requests if seen.path != "/token"] == ["/v2/", "/v2/"]
    assert "authorization" not in guarded.requests[0].headers


def test_refused_credentials_are_not_written(mirror: Mirror, guarded: EmbeddedRegistry, docker: Path) -> None:
    write(docker, {"auths": {guarded.host: entry()}})
    before = docker.read_bytes()
    refused = login(mirror, guarded.host, password="guessed", code=1)
    assert "401" in refused.err
    assert "Check the user name and password" in refused.err
    assert refused.out == ""
    assert docker.read_bytes() == before


@pytest.mark.parametrize("status", [404, 500])
def test_login_fails_after_an_unexpected_status(
    mirror: Mirror, basic: EmbeddedRegistry, docker: Path, status: int
) -> None:
    basic.fault(Fault(times=None, action=Status(status)))
    assert str(status) in login(mirror, basic.host, "--retries", 0, code=1).err
    assert not docker.exists()


def test_login_fails_if_the_connection_is_refused(mirror: Mirror, docker: Path) -> None:
    login(mirror, "127.0.0.1:1", "--retries", 0, code=1)
    assert not docker.parent.exists()


@pytest.mark.slow
def test_login_is_retried_after_a_503(mirror: Mirror, guarded: EmbeddedRegistry, docker: Path) -> None:
    guarded.fault(Fault(action=Status(503)))
    login(mirror, guarded.host)
    assert docker.exists()


def test_login_reports_that_the_registry_does_not_require_a_login(
    mirror: Mirror, registry: EmbeddedRegistry, docker: Path
) -> None:
    done = login(mirror, registry.host)
    assert "does not require a login" in done.err
    assert read(docker)["auths"] == {registry.host: entry()}
    assert not any("authorization" in seen.headers for seen in registry.requests)


def test_login_sends_no_credentials_to_the_target_of_a_redirect(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    """Redirects of the registry and of its token server."""
    with serving(EmbeddedRegistry(auth=Bearer(USERS))) as guarded:
        guarded.fault(Fault(path="^/token", action=Status(307, (("Location", f"{registry.url}/token"),))))
        login(mirror, guarded.host, "--retries", 0, code=1)
        guarded.fault(Fault(path="^/v2/", action=Status(307, (("Location", f"{registry.url}/v2/"),))))
        login(mirror, guarded.host)
    assert registry.requests
    assert not any("authorization" in seen.headers for seen in registry.requests)


def test_login_prints_json(mirror: Mirror, guarded: EmbeddedRegistry, docker: Path) -> None:
    assert login(mirror, guarded.host, "--json").json == {
        "schema": "mirror.login/1",
        "registry": guarded.host,
        "file": str(docker),
        "helper": None,
        "user": "ann",
        "checked": True,
    }


@pytest.mark.parametrize("form", ["https://{}/", "http://{}/v2/", "docker://{}", "{}/"])
def test_login_accepts_a_url(mirror: Mirror, basic: EmbeddedRegistry, docker: Path, form: str) -> None:
    login(mirror, form.format(basic.host))
    assert list(read(docker)["auths"]) == [basic.host]


@pytest.mark.parametrize(
    "name", ["", "/", "a b", "quay.io/Team", "quay.io/a:tag", "quay.io:99999", "user@quay.io", "ä.io"]
)
def test_invalid_registry_name_is_a_usage_error(mirror: Mirror, name: str) -> None:
    assert "is not a registry" in login(mirror, name, code=2).err
    assert "is not a registry" in mirror("logout", name, code=2).err


@pytest.mark.parametrize("user", ["a:b", "", "a\x1bb"])
def test_invalid_user_name_is_refused(mirror: Mirror, basic: EmbeddedRegistry, user: str) -> None:
    mirror("login", basic.host, "-u", user, "--password-stdin", stdin="secret", code=2)
    assert basic.requests == []


# Passwords of several lines

KEY_FILE = '{\n  "type": "service_account",\n  "private_key": "-----BEGIN PRIVATE KEY-----\\nMIIE\\n"\n}'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (KEY_FILE, KEY_FILE),
        (f"{KEY_FILE}\n", KEY_FILE),
        (f"{KEY_FILE}\n\n", f"{KEY_FILE}\n"),
        ("one\r\ntwo\r\n", "one\r\ntwo"),
        ("one\r", "one\r"),
        ("\n one\t ", "\n one\t "),
        ("пароль\n密码\x07", "пароль\n密码\x07"),
        ("long" * 9_000, "long" * 9_000),
    ],
)
@pytest.mark.parametrize("kind", [Basic, Bearer])
def test_password_may_have_several_lines(
    mirror: Mirror, docker: Path, given: str, meant: str, kind: type[Basic | Bearer]
) -> None:
    """A key file of Google's is the password of `_json_key`; one newline at the end is the shell's."""
    with serving(EmbeddedRegistry(auth=kind({"_json_key": meant}))) as registry:
        IMAGE.publish(registry, "a", "v1")
        flags = ("-u", "_json_key", "--password-stdin")
        mirror("pull", f"{registry.host}/a:v1", *flags, stdin=given)
        mirror("login", registry.host, *flags, stdin=given)
        stored = read(docker)["auths"][registry.host]["auth"]
        assert base64.b64decode(stored).decode() == f"_json_key:{meant}"
        registry.clear_log()
        mirror("pull", f"{registry.host}/a:v1", "-o", "again")
        assert f"Basic {stored}" in {seen.headers.get("authorization") for seen in registry.requests}


# Prompts


def run_at_terminal(mirror: Mirror, answers: str, *args: str) -> tuple[int, str, str]:
    """Run a command in a terminal with typed input; return its exit code, the terminal output and stdout."""
    pid, terminal = pty.fork()
    if pid == 0:  # in the terminal's session, so that a prompt finds it
        out = os.open(mirror.folder / "stdout", os.O_WRONLY | os.O_CREAT)
        os.dup2(out, 1)
        os.chdir(mirror.folder)
        command = mirror.command(*args)
        os.execvpe(command[0], command, mirror.env)
    shown = b""
    try:
        for answer in answers.splitlines(keepends=True):
            while not shown.rstrip(b" ").endswith(b":"):
                shown += os.read(terminal, 1000)
            os.write(terminal, answer.encode())
            shown += os.read(terminal, 1000)
        while data := os.read(terminal, 1000):
            shown += data
    except OSError:
        pass  # Linux raises EIO when the other end is closed
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status), shown.decode(), (mirror.folder / "stdout").read_text()


@pytest.mark.slow
def test_login_prompts_for_user_and_password_and_hides_the_password(
    mirror: Mirror, basic: EmbeddedRegistry, docker: Path
) -> None:
    code, shown, out = run_at_terminal(mirror, f"ann\n{PASSWORD}\n", "login", basic.host)
    assert code == 0, shown
    assert "Username: ann" in shown
    assert "Password of ann:" in shown
    assert PASSWORD not in shown + out
    assert out == f"{basic.host}: logged in as ann\n"
    assert read(docker)["auths"] == {basic.host: entry()}


@pytest.mark.slow
def test_pull_with_a_user_name_prompts_only_for_the_password(mirror: Mirror, basic: EmbeddedRegistry) -> None:
    IMAGE.publish(basic, "a", "v1")
    code, shown, _ = run_at_terminal(
        mirror, f"{PASSWORD}\n", "pull", f"{basic.host}/a:v1", "--all", "-u", "ann", "--no-progress"
    )
    assert code == 0, shown
    assert "Username" not in shown
    assert PASSWORD not in shown


def test_login_does_not_prompt_without_a_terminal(mirror: Mirror, basic: EmbeddedRegistry) -> None:
    assert "--password-stdin" in mirror("login", basic.host, stdin="ann\nsecret\n", code=2).err
    assert basic.requests == []


# Choice of the file


def test_authfile_option_creates_the_file(
    mirror: Mirror, basic: EmbeddedRegistry, tmp_path: Path, docker: Path
) -> None:
    login(mirror, basic.host, "--authfile", "new/auth.json")
    assert read(tmp_path / "new" / "auth.json") == {"auths": {basic.host: entry()}}
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    assert not docker.exists()


def test_authfile_of_the_environment_is_used(mirror: Mirror, basic: EmbeddedRegistry, tmp_path: Path) -> None:
    mirror(
        "login", basic.host, "-u", "ann", "--password-stdin", stdin=PASSWORD, env={"REGISTRY_AUTH_FILE": "named.json"}
    )
    assert read(tmp_path / "named.json") == {"auths": {basic.host: entry()}}


@pytest.mark.parametrize("variable", ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"])
def test_login_updates_the_file_that_already_has_the_registry(
    mirror: Mirror, basic: EmbeddedRegistry, docker: Path, variable: str
) -> None:
    podman = Path(mirror.env[variable], "containers", "auth.json")
    write(podman, {"auths": {basic.host: entry("bob"), "other.io": {"auth": "x"}}})
    assert str(podman) in login(mirror, basic.host).err
    assert read(podman) == {"auths": {basic.host: entry(), "other.io": {"auth": "x"}}}
    assert not docker.exists()


def test_login_keeps_a_file_that_has_only_other_registries(
    mirror: Mirror, basic: EmbeddedRegistry, docker: Path
) -> None:
    podman = Path(mirror.env["XDG_RUNTIME_DIR"], "containers", "auth.json")
    write(podman, {"auths": {"other.io": {"auth": "x"}}})
    login(mirror, basic.host)
    assert read(podman) == {"auths": {"other.io": {"auth": "x"}}}
    assert read(docker) == {"auths": {basic.host: entry()}}


@pytest.mark.slow
def test_path_has_its_own_credentials(mirror: Mirror, guarded: EmbeddedRegistry, docker: Path) -> None:
    login(mirror, guarded.host, user="bob")
    login(mirror, f"{guarded.host}/team", user="ann")
    assert read(docker)["auths"] == {guarded.host: entry("bob"), f"{guarded.host}/team": entry("ann")}
    mirror("logout", guarded.host)
    mirror("pull", f"{guarded.host}/team/a:v1", "--all")


# Contents of the file


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o666])
def test_only_the_owner_can_read_the_file(mirror: Mirror, basic: EmbeddedRegistry, docker: Path, mode: int) -> None:
    write(docker, {})
    docker.chmod(mode)
    login(mirror, basic.host)
    assert stat.S_IMODE(docker.stat().st_mode) == 0o600
    assert list(docker.parent.iterdir()) == [docker]


def test_login_and_logout_keep_other_settings_in_the_file(
    mirror: Mirror, basic: EmbeddedRegistry, docker: Path
) -> None:
    document = {
        "HttpHeaders": {"User-Agent": "docker"},
        "auths": {"other.io": {"auth": "x", "email": "y"}},
        "currentContext": "far away",
        "plugins": {"a": {"b": "1"}},
        "detachKeys": "ctrl-e,e",
    }
    write(docker, document)
    login(mirror, basic.host)
    mirror("logout", basic.host)
    assert read(docker) == document
    assert list(read(docker)) == list(document)


def test_new_directories_of_login_are_durable(mirror: Mirror, basic: EmbeddedRegistry, docker: Path) -> None:
    config = docker.parent / "a/b/auth.json"
    args = ("login", basic.host, "-u", "ann", "--password-stdin", "--authfile", config)
    mirror(*args, stdin=USERS["ann"], plan="trace:calls")
    calls = (mirror.folder / "calls").read_text().splitlines()
    new = [config.parent, config.parent.parent, docker.parent]
    assert [folder for folder in new if f"fsync {folder.parent}" not in calls] == []


def test_login_keeps_a_symbolic_link(mirror: Mirror, basic: EmbeddedRegistry, docker: Path, tmp_path: Path) -> None:
    write(tmp_path / "dotfiles" / "docker.json", {})
    docker.parent.mkdir()
    docker.symlink_to(tmp_path / "dotfiles" / "docker.json")
    login(mirror, basic.host)
    assert docker.is_symlink()
    assert read(tmp_path / "dotfiles" / "docker.json") == {"auths": {basic.host: entry()}}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_login_as_root_keeps_the_owner_of_the_file(mirror: Mirror, basic: EmbeddedRegistry, docker: Path) -> None:
    write(docker, {})
    os.chown(docker, 1234, 1235)
    login(mirror, basic.host)
    assert (docker.stat().st_uid, docker.stat().st_gid) == (1234, 1235)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("call", ["rename", "fchown", "fsync", "writev"])
def test_owner_of_the_directory_cannot_get_a_file_of_root(
    mirror: Mirror, basic: EmbeddedRegistry, docker: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """The owner puts a link there after a system call, again and again; the login may fail or succeed."""
    victim, real = docker.parent.parent / "victim", getattr(os, call)
    victim.write_text("{}")
    victim.chmod(0o640)
    write(docker, {})
    os.chown(docker, 1234, 1235)

    def attacked(*args: Any, **fields: Any) -> Any:
        done = real(*args, **fields)
        docker.unlink(missing_ok=True)
        docker.symlink_to(victim)
        return done

    before = victim.stat()
    with monkeypatch.context() as patch:
        patch.setattr(os, call, attacked)
        mirror.attempt("login", basic.host, "-u", "ann", "--password-stdin", stdin=USERS["ann"])
    after = victim.stat()
    assert (after.st_uid, after.st_gid, after.st_mode) == (before.st_uid, before.st_gid, before.st_mode)
    assert victim.read_text() == "{}"


@pytest.mark.slow
def test_concurrent_logins_are_all_kept(mirror: Mirror, basic: EmbeddedRegistry, docker: Path) -> None:
    names = [f"{basic.host}/team{number}" for number in range(max(4, scaled(12)))]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: login(mirror, name), names))
    assert read(docker)["auths"] == {name: entry() for name in names}
    assert list(docker.parent.iterdir()) == [docker]


@pytest.mark.parametrize("data", ["{", "[]", '{"auths":{},"auths":{}}'])
def test_invalid_file_is_unchanged(mirror: Mirror, basic: EmbeddedRegistry, docker: Path, data: str) -> None:
    docker.parent.mkdir()
    docker.write_text(data)
    assert "config.json" in login(mirror, basic.host, code=2).err
    assert docker.read_text() == data


def test_invalid_entry_is_replaced(mirror: Mirror, basic: EmbeddedRegistry, docker: Path) -> None:
    write(docker, {"auths": {basic.host: {"auth": "%"}}})
    login(mirror, basic.host)
    assert read(docker)["auths"] == {basic.host: entry()}


@pytest.mark.slow
def test_read_only_directory_is_reported(mirror: Mirror, basic: EmbeddedRegistry, docker: Path) -> None:
    docker.parent.mkdir(mode=0o500)
    words = ("login", basic.host, "-u", "ann", "--password-stdin")
    err = mirror(*words, stdin=PASSWORD, code=1, bound=True).err
    assert "Permission denied" in err
    assert "--authfile" in err
    assert list(docker.parent.iterdir()) == []


@pytest.mark.slow
def test_full_disk_leaves_the_file_unchanged(mirror: Mirror, basic: EmbeddedRegistry, docker: Path) -> None:
    write(docker, {"auths": {"other.io": entry()}})
    before = docker.read_bytes()
    words = mirror.command("login", basic.host, "-u", "ann", "--password-stdin")
    # A write beyond the size limit fails, as on a full disk.
    limited = ["bash", "-c", 'trap "" XFSZ; ulimit -f 0; "$@" 2>&1 | cat', "bash", *words]
    done = mirror.run(limited, stdin=PASSWORD, env={"PYTHONDONTWRITEBYTECODE": "1"})
    assert "File too large" in done.out
    assert docker.read_bytes() == before
    assert list(docker.parent.iterdir()) == [docker]


# Helpers


@pytest.mark.slow
@pytest.mark.parametrize("named", ["credHelpers", "credsStore"])
def test_password_is_stored_in_the_helper_and_not_in_the_file(
    mirror: Mirror, basic: EmbeddedRegistry, docker: Path, tmp_path: Path, named: str
) -> None:
    IMAGE.publish(basic, "a", "v1")
    log = install(tmp_path, "box")
    settings = {named: {basic.host: "box"} if named == "credHelpers" else "box"}
    write(docker, {"auths": {basic.host: entry("bob")}, **settings})
    done = login(mirror, basic.host, "--json", path=str(tmp_path))
    assert done.json["helper"] == "box"
    assert read(docker) == {"auths": {basic.host: {}}, **settings}
    assert [read_line["arguments"] for read_line in map(json.loads, log.read_text().splitlines())] == [["store"]]
    env = {"PATH": f"{tmp_path}:{mirror.env['PATH']}"}
    mirror("pull", f"{basic.host}/a:v1", "--all", env=env)
    out = mirror("logout", basic.host, env=env).out
    assert "docker-credential-box" in out
    assert read(docker) == {"auths": {}, **settings}
    assert read(tmp_path / "box.box") == {}
    mirror("pull", f"{basic.host}/a:v1", "--all", "-o", "other", env=env, code=1)


def test_login_fails_if_the_helper_is_missing(mirror: Mirror, basic: EmbeddedRegistry, docker: Path) -> None:
    write(docker, {"credsStore": "absent"})
    assert "docker-credential-absent" in login(mirror, basic.host, code=2).err
    assert read(docker) == {"credsStore": "absent"}


def test_credentials_of_a_path_are_stored_in_the_file_despite_a_helper(
    mirror: Mirror, basic: EmbeddedRegistry, docker: Path
) -> None:
    write(docker, {"credsStore": "absent"})
    login(mirror, f"{basic.host}/team")
    assert read(docker)["auths"] == {f"{basic.host}/team": entry()}


# Logout


def test_logout_removes_the_registry_from_all_files(mirror: Mirror, docker: Path) -> None:
    podman = Path(mirror.env["XDG_RUNTIME_DIR"], "containers", "auth.json")
    write(podman, {"auths": {"docker.io": entry(), "quay.io": entry()}})
    write(docker, {"auths": {"https://index.docker.io/v1/": entry(), "docker.io/library": entry()}})
    done = mirror("logout", "index.docker.io", "--json")
    assert done.json == {
        "schema": "mirror.logout/1",
        "removed": [
            {"registry": "docker.io", "file": str(podman), "helper": None},
            {"registry": "docker.io", "file": str(docker), "helper": None},
        ],
    }
    assert read(podman) == {"auths": {"quay.io": entry()}}
    assert read(docker) == {"auths": {"docker.io/library": entry()}}


def test_logout_with_authfile_changes_only_that_file(mirror: Mirror, docker: Path, tmp_path: Path) -> None:
    write(docker, {"auths": {"quay.io": entry()}})
    write(tmp_path / "auth.json", {"auths": {"quay.io": entry()}})
    assert mirror("logout", "quay.io", "--authfile", "auth.json").lines == ["quay.io: removed from auth.json"]
    assert read(docker) == {"auths": {"quay.io": entry()}}
    assert read(tmp_path / "auth.json") == {"auths": {}}


def test_logout_without_credentials_is_an_error(mirror: Mirror, docker: Path) -> None:
    assert "no credentials for quay.io" in mirror("logout", "quay.io", code=2).err
    write(docker, {"auths": {"quay.io/team": entry()}})
    assert str(docker) in mirror("logout", "quay.io", code=2).err
    assert read(docker) == {"auths": {"quay.io/team": entry()}}


@pytest.mark.slow
def test_logout_all_removes_all_credentials(mirror: Mirror, docker: Path, tmp_path: Path) -> None:
    podman = Path(mirror.env["XDG_CONFIG_HOME"], "containers", "auth.json")
    write(podman, {"auths": {"quay.io/team": entry()}})
    write(docker, {"auths": {"docker.io": entry(), "ghcr.io": {}}, "credHelpers": {"gcr.io": "box"}, "x": 1})
    install(tmp_path, "box")
    (tmp_path / "box.box").write_text(json.dumps({"gcr.io": {"Username": "ann", "Secret": "secret"}}))
    done = mirror("logout", "--all", env={"PATH": f"{tmp_path}:{mirror.env['PATH']}"})
    assert [line.partition(":")[0] for line in done.lines] == ["quay.io/team", "docker.io", "ghcr.io", "gcr.io"]
    assert read(podman) == {"auths": {}}
    assert read(docker) == {"auths": {}, "credHelpers": {"gcr.io": "box"}, "x": 1}
    assert mirror("logout", "--all", env={"PATH": f"{tmp_path}:{mirror.env['PATH']}"}).out == ""


@pytest.mark.parametrize("args", [[], ["quay.io", "--all"]])
def test_logout_takes_either_a_registry_or_all(mirror: Mirror, args: list[str]) -> None:
    assert "Name a registry, or all of them with --all." in mirror("logout", *args, code=2).err


@pytest.mark.slow
def test_password_is_not_accepted_on_the_command_line(mirror: Mirror) -> None:
    for command in ("login", "pull", "push", "inspect"):
        assert "--password " not in mirror(command, "--help").out
    done = subprocess.run(mirror.command("login", "quay.io", "--password", "secret"), capture_output=True, check=False)
    assert done.returncode == 2
