"""Tests of help, version, usage errors, settings, completion and output of the command line."""

import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from mirror import __version__
from mirror.cli import _COMMANDS
from tests.support import images
from tests.support.command import Mirror
from tests.support.registry import EmbeddedRegistry

COMMANDS = list(_COMMANDS)


def test_version_is_one_line(mirror: Mirror) -> None:
    assert mirror("--version").out == f"mirror {__version__}\n"


@pytest.mark.slow
def test_installed_command_prints_the_same_version(mirror: Mirror) -> None:
    script = Path(sys.executable).with_name("mirror")
    assert mirror.run([str(script), "--version"]).out == f"mirror {__version__}\n"


def test_help_lists_every_command(mirror: Mirror) -> None:
    listed = [line.split()[0] for line in mirror("--help").lines if line.startswith("  ") and line.strip()]
    assert [command for command in COMMANDS if command not in listed] == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(mirror: Mirror, command: str) -> None:
    lines = [line.strip() for line in mirror(command, "--help").lines]
    assert any(line.startswith(f"mirror {command} ") or f" mirror {command} " in line for line in lines)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("tags", "Usage: mirror tags [OPTIONS] REPOSITORY"),
        ("pull", "--authfile FILE Credentials file to read before podman's"),
        ("login", "--authfile FILE Credentials file to write to;"),
        ("logout", "--authfile FILE Credentials file to remove them from;"),
        ("pull", "--jobs N Number of blobs to transfer at once."),
        ("verify", "--jobs N Number of blobs to read from a registry, or to repair, at once."),
    ],
)
def test_help_says_what_an_option_does_in_this_command(mirror: Mirror, command: str, text: str) -> None:
    assert text in " ".join(mirror(command, "--help").out.split())


@pytest.mark.parametrize("command", ["pull", "push", "copy", "verify", "inspect", "record", "login", "tags"])
def test_many_options_are_under_headings(mirror: Mirror, command: str) -> None:
    text = mirror(command, "--help").out
    headings = [line for line in text.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings[-4:] == ["Registry:", "Transfer:", "Output:", "General:"]
    assert "--username" in text.partition("Registry:")[2].partition("Transfer:")[0]
    options = re.findall(
        r"^  (-\S+).*$", text[text.index("\nOptions:") :] if "\nOptions:" in text else text, re.MULTILINE
    )
    assert len(options) == len(set(options))


def test_few_options_have_one_heading(mirror: Mirror) -> None:
    headings = [line for line in mirror("ls", "--help").lines if line.endswith(":")]
    assert headings == ["Options:"]


@pytest.mark.parametrize(
    "args", [["frobnicate"], ["pull", "--frobnicate", "a"], ["push", "layout"], ["rm"], ["rm", "./layout"]]
)
def test_usage_error_exits_with_2(mirror: Mirror, args: list[str]) -> None:
    result = mirror(*args, code=2)
    assert result.out == ""


def test_help_is_shown_if_there_is_no_command(mirror: Mirror) -> None:
    result = mirror(code=2)
    assert (result.out, result.err) == ("", mirror("--help").out)


@pytest.mark.parametrize(
    ("typed", "meant"), [("pul", "pull"), ("verfy", "verify"), ("lss", "ls"), ("frobnicate", None)]
)
def test_misspelled_command_gets_a_suggestion(mirror: Mirror, typed: str, meant: str | None) -> None:
    said = mirror(typed, "x", code=2).err.splitlines()[0]
    assert said == f"error: No such command '{typed}'." + (f" Did you mean '{meant}'?" if meant else "")


@pytest.mark.parametrize(
    "line",
    [
        ["verify", ""],
        ["verify", "--receipt", ""],
        ["verify", "layout", "--junit", ""],
        ["pull", "127.0.0.1:9/a", "-o", ""],
        ["push", "", "127.0.0.1:9"],
        ["push", "layout", "127.0.0.1:9", "--receipt", ""],
        ["export", "", "x.tar"],
        ["export", "layout", ""],
        ["import", "", "layout"],
        ["import", "x.tar", ""],
        ["serve", "layout", ""],
        ["ls", ""],
        ["rm", "", "a"],
        ["prune", "", "--delete"],
        ["record", "layout", "-o", ""],
        ["record", ""],
        ["inspect", ""],
        ["copy", "", "oci:x"],
        ["copy", "oci:x", ""],
        ["verify", "layout", "--repair", "--from", ""],
    ],
)
def test_empty_path_is_refused(mirror: Mirror, tmp_path: Path, line: list[str]) -> None:
    Path(tmp_path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    Path(tmp_path / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    Path(tmp_path / "blobs").mkdir()
    assert "the path is empty" in mirror(*line, code=2).err


@pytest.mark.parametrize("option", ["--pull", "--verson"])
def test_unknown_option_is_not_reported_as_a_command(mirror: Mirror, option: str) -> None:
    assert f"No such option '{option}'" in mirror("--", option, code=2).err


@pytest.mark.slow
@pytest.mark.parametrize("command", ["verify", "ls", "inspect", "prune"])
def test_unreadable_directory_is_not_a_usage_error(mirror: Mirror, tmp_path: Path, command: str) -> None:
    (tmp_path / "secret").mkdir(mode=0)
    result = mirror(command, "./secret", code=1, bound=True)
    assert "Permission denied" in result.err
    assert "permissions" in result.err.splitlines()[-1]


@pytest.mark.parametrize("value", ["0", "65", "many"])
def test_invalid_number_of_jobs_is_a_usage_error(mirror: Mirror, value: str) -> None:
    err = mirror("pull", "127.0.0.1:9/a", "-j", value, code=2).err
    assert err.startswith("error: Invalid value for '-j' / '--jobs': ")
    assert value in err


@pytest.mark.slow
def test_closed_pipe_is_quiet(mirror: Mirror) -> None:
    line = f"{shlex.join(mirror.command('pull', '--help'))} | true"
    result = mirror.run(["bash", "-c", line])
    assert "BrokenPipe" not in result.err
    assert "Traceback" not in result.err


@pytest.mark.slow
@pytest.mark.parametrize("args", [["--help"], ["completion", "bash"], ["ls", "layout"], ["inspect", "layout", "--raw"]])
def test_full_stdout_is_reported(mirror: Mirror, registry: EmbeddedRegistry, args: list[str]) -> None:
    images.image("linux/amd64").publish(registry, "a", "v1")
    if "layout" in args:
        mirror("pull", f"{registry.host}/a:v1", "--all")
    result = mirror.run(["bash", "-c", f"{shlex.join(mirror.command(*args))} > /dev/full"])
    assert result.code == 1
    assert "No space left" in result.err
    assert "Traceback" not in result.err


@pytest.mark.slow
@pytest.mark.parametrize("args", ["ls layout", "verify layout", "pull NAME --all", "--version"])
def test_closed_stdout_is_reported(mirror: Mirror, registry: EmbeddedRegistry, args: str) -> None:
    images.image("linux/amd64").publish(registry, "a", "v1")
    name = f"{registry.host}/a:v1"
    mirror("pull", name, "--all")
    command = shlex.join(mirror.command(*args.replace("NAME", name).split()))
    result = mirror.run(["bash", "-c", f"{command} >&-"])
    assert (result.code, result.err) == (1, "error: stdout is closed.\n")


# Settings


def test_unknown_setting_gets_a_suggestion(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "mirror.toml").write_text("keep_goin = true\n")
    assert "keep_going" in mirror("pull", "127.0.0.1:9/a", code=2).err


@pytest.mark.parametrize("text", ["jobs = 'many'", "jobs = -1", "platform = 'linux/amd64'", "a = ", "\0"])
def test_error_in_settings_names_the_file(mirror: Mirror, tmp_path: Path, text: str) -> None:
    (tmp_path / "mirror.toml").write_text(text)
    assert "mirror.toml" in mirror("pull", "127.0.0.1:9/a", code=2).err


def test_settings_file_that_does_not_exist_gets_a_hint(mirror: Mirror) -> None:
    error, hint = mirror("pull", "127.0.0.1:9/a", "--config", "none.toml", code=2).err.splitlines()
    assert error == "error: none.toml cannot be read: No such file or directory."
    assert hint == "hint: Check --config, or MIRROR_CONFIG."


@pytest.mark.slow
def test_precedence_of_flag_environment_directory_and_home(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    images.image("linux/amd64").publish(registry, "a", "v1")
    own = Path(mirror.env["XDG_CONFIG_HOME"]) / "mirror"
    own.mkdir(parents=True)
    (own / "mirror.toml").write_text('output = "own"\nall_platforms = true\n')
    pull = ["pull", f"{registry.host}/a:v1"]
    assert str(own) in mirror(*pull).err
    (tmp_path / "mirror.toml").write_text('output = "current"\n')
    mirror(*pull)
    mirror(*pull, env={"MIRROR_OUTPUT": "environment"})
    mirror(*pull, "-o", "flag", env={"MIRROR_OUTPUT": "environment"})
    assert {"own", "current", "environment", "flag"} <= set(os.listdir(tmp_path))


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_printed(mirror: Mirror, shell: str) -> None:
    result = mirror("completion", shell)
    assert f"_MIRROR_COMPLETE={shell}_complete" in result.out
    assert result.err == ""


def test_usage_error_is_one_line(mirror: Mirror) -> None:
    """Click puts each choice on a line of its own."""
    error, hint = mirror("completion", code=2).err.splitlines()
    assert error == "error: Missing argument '{bash|zsh|fish}'. Choose from: bash, zsh, fish"
    assert hint == "hint: For usage: mirror completion --help"


def test_completion_of_an_unknown_shell_is_a_usage_error(mirror: Mirror) -> None:
    err = mirror("completion", "cmd.exe", code=2).err
    assert "'cmd.exe' is not one of 'bash', 'zsh', 'fish'" in err


def complete(mirror: Mirror, *words: str) -> list[str]:
    """Return the completions of the last word."""
    env = {
        "_MIRROR_COMPLETE": "bash_complete",
        "COMP_WORDS": "\n".join(["mirror", *words]),
        "COMP_CWORD": str(len(words)),
    }
    return [line.partition(",")[2] for line in mirror(env=env).lines if line]


def test_commands_are_completed(mirror: Mirror) -> None:
    assert complete(mirror, "v") == ["verify"]
    assert complete(mirror, "") == COMMANDS


def test_flags_are_completed(mirror: Mirror) -> None:
    assert set(complete(mirror, "pull", "--dry")) == {"--dry-run"}


@pytest.mark.slow
@pytest.mark.parametrize("before", [["verify"], ["rm"], ["inspect"], ["push"]], ids=lambda words: words[0])
def test_images_of_a_layout_are_completed(mirror: Mirror, registry: EmbeddedRegistry, before: list[str]) -> None:
    for name in ("one", "two"):
        images.image("linux/amd64").publish(registry, name, "v1")
    full = [f"{registry.host}/{name}:v1" for name in ("one", "two")]
    mirror("pull", *full, "--all")
    words = [*before, "./layout", *(["127.0.0.1:9"] if before == ["push"] else [])]
    assert complete(mirror, *words, "") == full
    assert complete(mirror, *words, f"{registry.host}/t") == full[1:]


def test_completion_prints_no_errors(mirror: Mirror) -> None:
    assert complete(mirror, "verify", "nowhere", "") == []
    complete(mirror, "pul", "")  # an unknown command; any completions are accepted


@pytest.mark.slow
def test_completion_works_in_bash(mirror: Mirror, tmp_path: Path) -> None:
    (tmp_path / "completion.bash").write_text(mirror("completion", "bash").out)
    lines = "source completion.bash; COMP_WORDS=(mirror insp); COMP_CWORD=1; _mirror_completion mirror; echo $COMPREPLY"
    path = f"{Path(sys.executable).parent}:{mirror.env['PATH']}"
    assert mirror.run(["bash", "-c", lines], env={"PATH": path}).out == "inspect\n"


@pytest.mark.slow
def test_import_of_a_command_enables_garbage_collection(mirror: Mirror) -> None:
    code = "import gc; from mirror import cli; cli.mirror.get_command(None, 'ls'); print(gc.isenabled())"
    assert mirror.run([sys.executable, "-c", code]).out == "True\n"


# Prefixes of lines


def test_error_and_hint_are_separate_lines_with_prefixes(mirror: Mirror) -> None:
    lines = mirror("verify", "missing", code=2).err.splitlines()
    assert [line.partition(" ")[0] for line in lines] == ["error:", "hint:"]


@pytest.mark.slow
def test_prefixes_are_coloured_only_on_a_terminal(mirror: Mirror) -> None:
    command = shlex.join(mirror.command("verify", "missing"))
    for variables, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        # script(1) runs the command in a terminal of its own.
        shown = mirror.run(["script", "-qec", command, "/dev/null"], env={"TERM": "xterm", **variables}).out
        assert ("\033[1;31merror:\033[0m" in shown) == coloured
    assert "\033" not in mirror("verify", "missing", code=2).err
