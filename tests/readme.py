"""Compare README.md and docs/ with the command, and print each disagreement: `python -m tests.readme`.

With `--write`, regenerate docs/reference/commands.md from the help texts.
"""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from mirror.cli import mirror

ROOT = Path(__file__).parent.parent
REFERENCE = Path("docs", "reference", "commands.md")

_WIDTH = int(mirror.context_settings.get("max_content_width", 80)) - 2  # columns of --help on a wide terminal
_INTRODUCTION = """# Commands

The output of `mirror --help`, and of `--help` for each command. `python -m tests.readme --write` generates this page.
"""
_FENCE = re.compile(r"^(`{3,}|~{3,})[^\n]*\n(.*?)^\1`*\s*$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(<?([^)<>\s]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s+(\S+)", re.MULTILINE)
_SCRIPT = re.compile(r"(?<![\w/.])scripts/[\w-]+")
_OPERATORS = frozenset({"|", "||", "&", "&&", ";", "<", ">", ">>"})


# Commands


def commands() -> dict[str, click.Command]:
    """Return the commands by name."""
    root = _context(mirror, None, "mirror", _WIDTH)
    found = {name: mirror.get_command(root, name) for name in mirror.list_commands(root)}
    return {name: command for name, command in found.items() if command}


def help_text(name: str | None = None, width: int = _WIDTH) -> str:
    """Return the output of `mirror --help`, or of `mirror NAME --help`."""
    return context_of(name, width).get_help() + "\n"


def flags(name: str) -> set[str]:
    """Return the long flags of a command."""
    return {flag for flag in _options(context_of(name)) if flag.startswith("--")}


def context_of(name: str | None, width: int = _WIDTH) -> click.Context:
    """Return the context in which click runs a command, always below that of `mirror`, which affects --help."""
    root = _context(mirror, None, "mirror", width)
    return _context(commands()[name], root, name, width) if name else root


def _context(command: click.Command, parent: click.Context | None, name: str, width: int) -> click.Context:
    return click.Context(command, parent, name, **{**command.context_settings, "terminal_width": width})


def _options(context: click.Context) -> set[str]:
    return {flag for parameter in context.command.get_params(context) for flag in parameter.opts}


def reference() -> str:
    """Return docs/reference/commands.md as it should be."""
    blocks = [("mirror", help_text()), *((f"mirror {name}", help_text(name)) for name in commands())]
    return _INTRODUCTION + "".join(f"\n## {title}\n\n```text\n{text}```\n" for title, text in blocks)


# Command lines


def command_lines(text: str) -> Iterator[str]:
    """Yield the `mirror …` lines in the fenced blocks of a page: those after a prompt, or all if there is no prompt."""
    for _, block in _FENCE.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        prompted = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        yield from (line for line in prompted or lines if line.startswith("mirror "))


def spans(text: str) -> Iterator[str]:
    """Yield the `mirror …` spans in running text."""
    yield from (span for span in _SPAN.findall(_FENCE.sub("", text)) if span.startswith("mirror "))


def wrong_lines(text: str) -> list[str]:
    """Return the command lines that the real command would reject."""
    whole = [(line, complaint(line)) for line in command_lines(text)]
    parts = [(span, complaint(span, whole=False)) for span in spans(text)]
    return [f"{line}: {why}" for line, why in (*whole, *parts) if why]


def complaint(line: str, *, whole: bool = True) -> str | None:
    """Return why a command line is wrong, if it is; unless it is `whole`, only its command and flags are checked."""
    try:
        _parse(_words(line)[1:], whole=whole)
    except click.UsageError as error:
        return error.format_message()
    except ValueError as error:
        return str(error)
    return None


def _words(line: str) -> list[str]:
    """Return the words that a shell would pass to the first program of a line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in _OPERATORS:
            break
        words.append(word)
    return words


def _parse(words: list[str], *, whole: bool) -> None:
    """Read the words after `mirror` as click does, and run nothing.

    Raises:
        click.UsageError: click would reject them.
    """
    asked, rest, _ = mirror.make_parser(context_of(None)).parse_args(list(words))
    if rest:
        name, *rest = rest
        if name not in commands():
            raise click.UsageError(f"No such command {name!r}.")
        (_check_words if whole else _check_flags)(context_of(name), rest)
    elif whole and not asked:
        raise click.UsageError("No command.")


def _check_flags(context: click.Context, words: list[str]) -> None:
    for word in words:
        flag = word.partition("=")[0]
        if flag.startswith("-") and flag != "-" and flag not in _options(context):
            raise click.UsageError(f"No such option {flag!r}.")


def _check_words(context: click.Context, words: list[str]) -> None:
    given, extra, _ = context.command.make_parser(context).parse_args(list(words))
    if extra:
        raise click.UsageError(f"Got unexpected extra arguments: {' '.join(extra)}")
    if set(words).isdisjoint(context.help_option_names):
        _check_values(context, given)


def _check_values(context: click.Context, given: Mapping[str, object]) -> None:
    """Check that required values are given, and that values have their types; files are not opened."""
    for parameter in context.command.get_params(context):
        value = given.get(parameter.name or "")
        if parameter.value_is_missing(value):
            if parameter.required:
                raise click.MissingParameter(ctx=context, param=parameter)
        elif not isinstance(parameter.type, click.File | click.Path):
            parameter.type_cast_value(context, value)


# Pages


def unmentioned(pages: Iterable[str]) -> list[str]:
    """Return the commands and long flags that no page mentions."""
    text = "\n".join(pages)
    found = []
    for name in commands():
        if not re.search(rf"\bmirror {name}\b", text):
            found.append(f"mirror {name} is mentioned nowhere")
        missing = [flag for flag in sorted(flags(name)) if not re.search(rf"(?<![\w-]){flag}(?![\w-])", text)]
        found.extend(f"mirror {name} {flag} is mentioned nowhere" for flag in missing)
    return found


def broken_links(page: Path, root: Path) -> list[str]:
    """Return the relative links of a page to files or headings that do not exist."""
    prose = _SPAN.sub("", _FENCE.sub("", page.read_text()))
    targets = [inline or named for inline, named in _LINK.findall(prose)]
    return [f"the link {target} leads nowhere" for target in targets if not _leads(page, target, root)]


def _leads(page: Path, target: str, root: Path) -> bool:
    if re.match(r"[a-z][a-z0-9+.-]*:", target, re.IGNORECASE):
        return True  # another site, which is not checked
    path, _, heading = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.is_relative_to(root.resolve()) or not file.exists():
        return False
    return not heading or file.suffix != ".md" or heading in headings(file.read_text())


def headings(text: str) -> set[str]:
    """Return the anchors of a page, as GitHub makes them."""
    titles = re.findall(r"^#+ +(.+?) *#*$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def missing_scripts(text: str, root: Path) -> list[str]:
    """Return the scripts that a page names and that do not exist or are not executable."""
    names = sorted(set(_SCRIPT.findall(text)))
    return [f"{name} is not an executable script" for name in names if not _runs(root / name)]


def _runs(script: Path) -> bool:
    return script.is_file() and os.access(script, os.X_OK)


def disagreements(root: Path = ROOT) -> list[str]:
    """Return all disagreements, one line each."""
    found = []
    for page in pages(root):
        text = page.read_text()
        wrong = broken_links(page, root)
        if page.name != "CHANGELOG.md" and page.parent.name != "adr":  # these also describe earlier versions
            wrong += [*wrong_lines(text), *missing_scripts(text, root)]
        found += [f"{page.relative_to(root)}: {why}" for why in wrong]
    path = root / REFERENCE
    written = path.read_text() if path.exists() else ""
    if written != reference():
        found.append(f"{REFERENCE}: differs from --help; update it with: python -m tests.readme --write")
    return found + unmentioned([(root / "README.md").read_text(), written])


def pages(root: Path) -> list[Path]:
    """Return the pages at the top of the repository, and all of docs/."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def main(arguments: list[str]) -> int:
    if arguments == ["--write"]:
        (ROOT / REFERENCE).write_text(reference())
    elif arguments:
        print("usage: python -m tests.readme [--write]", file=sys.stderr)
        return 2
    found = disagreements()
    print("\n".join(found) or "README.md and docs/ agree with the commands.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
