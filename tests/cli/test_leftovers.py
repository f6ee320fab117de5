"""Tests of files that a kill leaves beside outputs: the next command deletes them, and no password stays behind."""

import os
import signal
from pathlib import Path

import pytest

from tests.support import images, layouts
from tests.support.command import Mirror
from tests.support.profiles import every
from tests.support.registry import Basic, EmbeddedRegistry, serving

IMAGE = images.image("linux/amd64", images.layer(1, 300))
COMMANDS = {
    "export": "export layout out/file",
    "docker-archive": "export layout out/file --format docker-archive --platform linux/amd64",
    "copy": "copy oci:layout oci-archive:out/file",
    "record": "record layout -o out/file",
    "junit": "verify layout --junit out/file",
    "receipt": "push layout {host} --receipt out/file",
    "digestfile": "pull {host}/team/app:v1 -o pulled -a --digestfile out/file",
}


@pytest.fixture(params=["without a name", "with a name"])
def temporary(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make temporary files in one of the two ways: `with a name` as on file systems without O_TMPFILE."""
    if request.param == "with a name":
        monkeypatch.setattr("mirror.fs.temporary.open_nameless", lambda *_: None)
    return str(request.param)


def calls_in(mirror: Mirror, folder: Path, *args: object, stdin: str = "") -> list[int]:
    """Return the numbers of a repeated command's calls that concern files of this directory."""
    mirror(*args, stdin=stdin)
    mirror(*args, stdin=stdin, plan="trace:calls")
    lines = (mirror.folder / "calls").read_text().splitlines()
    (mirror.folder / "calls").unlink()
    return [number for number, line in enumerate(lines) if str(folder) in line]


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_killed_command_leaves_nothing_beside_its_output(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path, temporary: str, command: str
) -> None:
    IMAGE.publish(registry, "team/app", "v1")
    layouts.write(tmp_path / "layout", IMAGE, name=f"{registry.host}/team/app:v1", ref="v1")
    out = tmp_path / "out"
    out.mkdir()
    args = COMMANDS[command].format(host=registry.host).split()
    numbers = calls_in(mirror, out, *args)
    assert len(numbers) >= 2
    whole = (out / "file").read_bytes()
    for plan in every(f"{how}:{number}" for number in numbers for how in ("before", "after")):
        mirror(*args, plan=plan, code=-signal.SIGKILL)
        assert (out / "file").exists()
        mirror("record", "layout", "-o", "out/other")  # any output in the directory
        assert sorted(os.listdir(out)) == ["file", "other"], plan
        mirror(*args)
        assert len((out / "file").read_bytes()) == len(whole)


@pytest.mark.slow
def test_killed_login_leaves_no_password(mirror: Mirror, temporary: str) -> None:
    config = Path(mirror.env["DOCKER_CONFIG"], "config.json")
    with serving(EmbeddedRegistry(auth=Basic({"ann": "secret"}))) as registry:
        args = ("login", registry.host, "-u", "ann", "--password-stdin")
        numbers = calls_in(mirror, config.parent, *args, stdin="secret")
        for plan in every(f"{how}:{number}" for number in numbers for how in ("before", "after")):
            config.write_text("{}")
            mirror(*args, stdin="secret", plan=plan, code=-signal.SIGKILL)
            mirror("login", registry.host, "-u", "ann", "--password-stdin", "--authfile", config, stdin="secret")
            assert os.listdir(config.parent) == ["config.json"], plan


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has files without names")
def test_login_that_is_killed_while_it_writes_leaves_nothing_at_all(mirror: Mirror) -> None:
    config = Path(mirror.env["DOCKER_CONFIG"], "config.json")
    with serving(EmbeddedRegistry(auth=Basic({"ann": "secret"}))) as registry:
        args = ("login", registry.host, "-u", "ann", "--password-stdin")
        first = calls_in(mirror, config.parent, *args, stdin="secret")[0]
        config.write_text("{}")
        mirror(*args, stdin="secret", plan=f"before:{first}", code=-signal.SIGKILL)
        assert os.listdir(config.parent) == ["config.json"]
