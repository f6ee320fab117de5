"""Tests of `tests.readme`, which compares the documentation with the commands, and of the help texts."""

import re
from pathlib import Path

import pytest

from tests import readme
from tests.support.command import Mirror

NAMES = list(readme.commands())


def block(*lines: str, kind: str = "console") -> str:
    return "\n".join(["Text.", "", f"```{kind}", *lines, "```", "", "More text.", ""])


# Command lines


@pytest.mark.parametrize(
    "line",
    [
        "mirror pull redis:4.0 --all-platforms",
        "mirror pull redis:4.0 -o /media/stick/layout -j 8 # a comment with --unknown",
        "mirror pull --from-file - --keep-going < images.txt",
        "mirror verify ./layout --json > report.json && echo --fine",
        "mirror completion bash",
        "mirror push ./layout registry.internal:5000/hub redis:4.0",
        "mirror --version",
        "mirror rm --help",
    ],
)
def test_valid_command_line_is_accepted(line: str) -> None:
    assert readme.wrong_lines(block(f"$ {line}")) == []


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("mirror pull redis:4.0 --everything", "No such option '--everything'"),
        ("mirror pull redis:4.0 -Z", "No such option '-Z'"),
        ("mirror fetch redis:4.0", "No such command 'fetch'"),
        ("mirror pull redis:4.0 --output", "requires an argument"),
        ("mirror pull redis:4.0 --jobs many", "Invalid value for '-j'"),
        ("mirror completion tcsh", "Invalid value"),
        ("mirror export", "Missing argument 'DIR'"),
        ("mirror ls ./layout redis:4.0", "unexpected extra argument"),
        ("mirror", "No command"),
        ('mirror ls "./layout', "No closing quotation"),
    ],
)
def test_invalid_command_line_is_found(line: str, why: str) -> None:
    (found,) = readme.wrong_lines(block(f"$ {line} "))
    assert found.startswith(line)
    assert why in found


def test_output_is_not_read_as_a_command_line() -> None:
    assert list(readme.command_lines(block("$ mirror ls ./layout", "mirror nonsense --here"))) == ["mirror ls ./layout"]


def test_line_without_a_prompt_is_a_command_line() -> None:
    assert readme.wrong_lines(block("cd somewhere", "mirror pull --nonsense x", kind="sh")) != []


def test_continuation_line_belongs_to_the_command_line() -> None:
    assert readme.wrong_lines(block("$ mirror pull redis:4.0 \\", "    --nonsense")) != []


def test_command_in_running_text_is_checked() -> None:
    assert readme.wrong_lines("`mirror sync` is not there, nor is `mirror pull IMAGE... --nonsense`.") != []
    assert readme.wrong_lines("`mirror push DIR REGISTRY[/PREFIX]` and `mirror verify --json` and mirror.toml.") == []


# Pages


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / readme.REFERENCE).parent.mkdir(parents=True)
    (tmp_path / "docs" / "other.md").write_text("# Other\n\n## How fast, and why?\n")
    return tmp_path / "README.md"


@pytest.mark.parametrize(
    "link",
    [
        "[text](docs/other.md)",
        "[text](docs/other.md#how-fast-and-why)",
        "[text](https://example.org/nowhere)",
        '![text](<docs/other.md> "title")',
        "[text]: docs/other.md",
        "`[code](nowhere.md)`",
        "```\n[code](nowhere.md)\n```",
        "# Here\n\n[text](#here)",
    ],
)
def test_valid_link_is_accepted(page: Path, link: str) -> None:
    page.write_text(f"{link}\n")
    assert readme.broken_links(page, page.parent) == []


@pytest.mark.parametrize(
    "target", ["nowhere.md", "docs/nowhere.md#other", "docs/other.md#nowhere", "#nowhere", "../outside.md"]
)
def test_broken_link_is_found(page: Path, target: str) -> None:
    (page.parent.parent / "outside.md").touch()
    page.write_text(f"See [this]({target}).\n")
    assert readme.broken_links(page, page.parent) == [f"the link {target} leads nowhere"]


def test_missing_or_not_executable_script_is_found(tmp_path: Path) -> None:
    script = tmp_path / "scripts" / "demo"
    assert readme.missing_scripts("Type `scripts/demo`.", tmp_path) == ["scripts/demo is not an executable script"]
    script.parent.mkdir()
    script.touch(mode=0o644)
    assert readme.missing_scripts("Type `scripts/demo`.", tmp_path) != []
    script.chmod(0o755)
    assert readme.missing_scripts("Type `scripts/demo`.", tmp_path) == []


def test_unmentioned_command_is_found() -> None:
    assert "mirror inspect is mentioned nowhere" in readme.unmentioned(["mirror pull", "mirror inspection"])


def test_longer_flag_does_not_count_as_a_mention() -> None:
    assert "mirror pull --all is mentioned nowhere" in readme.unmentioned(["--all-platforms"])
    assert "mirror pull --all is mentioned nowhere" not in readme.unmentioned(["`--all`"])


@pytest.mark.slow
def test_reference_mentions_everything() -> None:
    assert readme.unmentioned([readme.reference()]) == []


@pytest.mark.slow
def test_every_disagreement_names_its_page(page: Path) -> None:
    page.write_text(block("$ mirror pull redis:4.0 --nonsense"))
    (page.parent / readme.REFERENCE).write_text(readme.reference().replace("COMMAND", "COMAND"))
    found = readme.disagreements(page.parent)
    assert [line.partition(": ")[0] for line in found] == ["README.md", "docs/reference/commands.md"]


@pytest.mark.slow
def test_changelog_may_name_a_removed_flag(page: Path) -> None:
    page.write_text("")
    (page.parent / readme.REFERENCE).write_text(readme.reference())
    (page.parent / "CHANGELOG.md").write_text("`mirror pull --old` is gone.\n")
    assert readme.disagreements(page.parent) == []


# The help texts


@pytest.mark.parametrize("name", [None, *NAMES])
def test_reference_has_the_output_of_help(mirror: Mirror, name: str | None) -> None:
    shown = mirror(*([name] if name else []), "--help", env={"COLUMNS": "100"}).out
    assert f"```text\n{shown}```" in readme.reference()


def examples(name: str | None) -> list[str]:
    """Return the command lines in a help text, without the comments beside them."""
    found = re.findall(r"\b(mirror [a-z].*)$", readme.help_text(name).partition("Options:")[0], re.MULTILINE)
    return [re.split(r"\s{2,}", line)[0] for line in found if not line.startswith("mirror [")]


@pytest.mark.parametrize("name", NAMES)
def test_help_has_an_example(name: str) -> None:
    shown = [line for line in examples(name) if line.startswith(f"mirror {name} ") and "[OPTIONS]" not in line]
    assert shown


@pytest.mark.parametrize("name", [None, *NAMES])
def test_every_example_is_a_valid_command_line(name: str | None) -> None:
    shown = [line for line in examples(name) if "[OPTIONS]" not in line]
    assert {line: why for line in shown if (why := readme.complaint(line))} == {}


@pytest.mark.parametrize("name", [None, *NAMES])
def test_help_fits_a_terminal_of_80_columns(name: str | None) -> None:
    assert [line for line in readme.help_text(name, width=78).splitlines() if len(line) > 80] == []
