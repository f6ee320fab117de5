"""Tests of streams that cannot take the output of a command: the exit code stays that of the verdict."""

import shlex
from pathlib import Path

import pytest

from tests.support import images, layouts
from tests.support.command import Mirror, Result
from tests.support.registry import EmbeddedRegistry

IMAGE = images.image("linux/amd64")
ASCII = {"PYTHONIOENCODING": "ascii:strict"}


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return layouts.write(tmp_path / "layout", IMAGE, name="registry.example/a:v1")


def damage(layout: Path) -> None:
    """Make a blob of the layout corrupt, so that `mirror verify` exits with 3."""
    digest, data = next(iter(IMAGE.blobs.items()))
    layouts.add(layout, digest, bytes(len(data)))


def shell(mirror: Mirror, redirect: str, *args: str) -> Result:
    """Run a command with redirected output."""
    return mirror.run(["bash", "-o", "pipefail", "-c", f"{shlex.join(mirror.command(*args))} {redirect}"])


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii:strict", "latin-1:strict", "utf-8:strict"])
@pytest.mark.parametrize("command", ["ls", "inspect", "verify", "prune"])
def test_output_in_another_encoding_is_escaped(mirror: Mirror, tmp_path: Path, command: str, encoding: str) -> None:
    layouts.write(tmp_path / "layout", IMAGE, name="registry.example/ünï→\udc80:v1")
    env = {"PYTHONIOENCODING": encoding}
    expected = mirror.run(mirror.command(command, "layout"))
    result = mirror.run(mirror.command(command, "layout"), env=env)
    assert (result.code, result.err.count("\n")) == (expected.code, expected.err.count("\n"))
    assert len(result.raw.splitlines()) == len(expected.raw.splitlines())
    assert "Traceback" not in result.err
    if encoding == "ascii:strict" and command in ("ls", "verify"):
        assert b"\\xfcn\\xef\\u2192" in result.raw


@pytest.mark.slow
@pytest.mark.parametrize(
    "redirect", ["2> /dev/full", "2>&-", "> /dev/full", "> /dev/full 2>&1", "| true", "2>&- | true"]
)
@pytest.mark.parametrize("flags", [(), ("--json",), ("-q",)])
def test_verdict_of_a_damaged_layout_is_kept(
    mirror: Mirror, layout: Path, redirect: str, flags: tuple[str, ...]
) -> None:
    damage(layout)
    assert shell(mirror, redirect, "verify", "layout", *flags).code == 3


@pytest.mark.slow
@pytest.mark.parametrize(("redirect", "code"), [("2> /dev/full", 0), ("2>&-", 0), ("> /dev/full", 1)])
@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_verdict_of_an_intact_layout_is_kept_unless_it_cannot_be_written(
    mirror: Mirror, layout: Path, redirect: str, code: int, flags: tuple[str, ...]
) -> None:
    result = shell(mirror, redirect, "verify", "layout", *flags)
    assert result.code == code
    assert ("the result could not be written: No space left on device." in result.err) == (code == 1)


@pytest.mark.slow
def test_transfer_with_stderr_on_a_full_disk_succeeds(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    IMAGE.publish(registry, "a", "v1")
    result = shell(mirror, "2> /dev/full", "pull", f"{registry.host}/a:v1", "--all", "-v")
    assert (result.code, result.lines) == (0, [f"{registry.host}/a:v1@{IMAGE.root}"])
    failed = shell(
        mirror, "2> /dev/full", "pull", f"{registry.host}/a:v1", f"{registry.host}/b:v1", "-a", "--keep-going"
    )
    assert failed.code == 4


@pytest.mark.slow
def test_usage_error_with_stderr_on_a_full_disk_keeps_its_code(mirror: Mirror) -> None:
    assert shell(mirror, "2> /dev/full", "verify").code == 2
    assert shell(mirror, "2> /dev/full", "ls", "nowhere").code == 2


@pytest.mark.slow
def test_failures_of_a_transfer_are_kept_if_its_result_cannot_be_written(
    mirror: Mirror, registry: EmbeddedRegistry
) -> None:
    IMAGE.publish(registry, "a", "v1")
    names = [f"{registry.host}/{name}:v1" for name in "ab"]
    result = shell(mirror, "> /dev/full", "pull", *names, "--all", "--keep-going")
    assert result.code == 4
    assert "the result could not be written" in result.err


# Files beside the result


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_verdict_is_shown_and_kept_if_the_junit_report_cannot_be_written(
    mirror: Mirror, layout: Path, flags: tuple[str, ...]
) -> None:
    command = ["verify", "layout", "--junit", "verify.xml", *flags]
    intact = mirror(*command, code=1, plan="ENOSPC:0")
    assert intact.out == mirror(*command).out or flags  # the JSON has a time
    damage(layout)
    result = mirror(*command, code=3, plan="ENOSPC:0")
    for one in (intact, result):
        assert "No space left on device.\nhint: The disk is full." in one.err
    assert result.json["verdict"] == "not ok" if flags else result.lines[0].startswith("error: corrupt")


def test_directory_of_a_junit_report_is_checked_before_anything_is_hashed(mirror: Mirror, layout: Path) -> None:
    result = mirror("verify", "layout", "--junit", "nowhere/verify.xml", code=1)
    assert result.err == "error: nowhere/verify.xml cannot be written.\nhint: Name another file with --junit.\n"
    assert result.out == ""


def test_failures_of_a_pull_are_kept_if_the_digests_cannot_be_written(
    mirror: Mirror, registry: EmbeddedRegistry
) -> None:
    IMAGE.publish(registry, "a", "v1")
    (mirror.folder / "taken").mkdir()
    names = [f"{registry.host}/{name}:v1" for name in "ab"]
    result = mirror("pull", *names, "--all", "--keep-going", "--digestfile", "taken", code=4)
    assert "taken is a directory.\nhint: Name a file in it.\n" in result.err
    assert "1 of 2 images failed" in result.err
