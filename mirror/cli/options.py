"""Options that several commands share, and what their values mean."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from mirror.cli import console
from mirror.errors import MirrorError, StorageError
from mirror.fs.atomic import write_output
from mirror.report.json import to_json
from mirror.report.text import Text
from mirror.report.transfers import TransferReport

F = TypeVar("F", bound=Callable[..., Any])


class Place(click.Path):
    """A path. An empty one is refused, since it is probably an unset variable, not the current directory.

    Whether it can be read is left to the library, whose errors have the right exit code.
    """

    def __init__(self, *, dir_okay: bool = True, allow_dash: bool = False, path_type: type[Path | str] = Path) -> None:
        super().__init__(dir_okay=dir_okay, allow_dash=allow_dash, path_type=path_type, readable=False)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if value == "":
            self.fail("the path is empty; is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


def amount(text: str) -> int:
    """Parse bytes with curl's units (`k`, `M`, `G`), as powers of 1000; 0 if the text is not a size."""
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)([kKmMgG]?)B?", text, re.ASCII)
    return int(float(found[1]) * 1000 ** " kmg".index(found[2].lower() or " ")) if found else 0


def _load(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the settings files the defaults of all other options."""
    if ctx.resilient_parsing:
        return  # shell completion wants names, not settings
    from mirror.config import settings as config  # for those commands that have settings

    settings = config.load(path)
    ctx.obj = settings
    ctx.default_map = dict(settings.values)
    for text in settings.ignored:
        console.warning(text)
    if settings.files:
        console.note(f"settings from {', '.join(settings.files)}")


def with_config(command: F) -> F:
    return click.option(
        "--config",
        type=Place(dir_okay=False),
        envvar="MIRROR_CONFIG",
        is_eager=True,
        expose_value=False,
        callback=_load,
        metavar="FILE",
        help="Settings file to use instead of ./mirror.toml and ~/.config/mirror/mirror.toml.",
    )(command)


def with_json(command: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of result lines.")(
        command
    )


def with_each(command: F, *decorators: Callable[[F], F]) -> F:
    """Decorate a command with several options; --help lists the last one first."""
    for decorator in decorators:
        command = decorator(command)
    return command


def with_output(command: F) -> F:
    """Options for stderr."""
    return with_each(
        command,
        click.option(
            "--no-progress", is_flag=True, envvar="MIRROR_NO_PROGRESS", help="Show no progress bar, even on a terminal."
        ),
        click.option("-q", "--quiet", is_flag=True, help="Print only results and errors."),
    )


def stronger(ctx: click.Context, first: str, second: str) -> str | None:
    """Return which of two conflicting options was set with higher precedence; None if neither was.

    Raises:
        click.UsageError: both were set in the same place.
    """
    order = [ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP]
    sources = {name: ctx.get_parameter_source(name) for name in (first, second) if ctx.params.get(name)}
    for source in order:
        found = [name for name, where in sources.items() if where is source]
        if len(found) > 1:
            flags = " and ".join("--" + name.replace("_", "-") for name in found)
            raise click.UsageError(f"{flags} cannot be combined.", ctx)
        if found:
            return found[0]
    return None


def image_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of the images in the layout on the command line."""
    import asyncio

    from mirror.manage.ls import list_images

    folder = ctx.params.get("layout") or ctx.params.get("what")
    try:
        images = asyncio.run(list_images(folder)).images if folder else ()
    except MirrorError:
        return []  # a completion cannot show errors
    return [image.name for image in images if image.name.startswith(incomplete)]


def show_result(result: object, text: Text, *, quiet: bool, as_json: bool) -> None:
    """Write a result to stdout, as lines or as one JSON object, and the rest of its text to stderr."""
    console.result_json(to_json(result)) if as_json else console.result(text.lines)
    for warning in text.warnings:
        console.warning(warning, quiet=quiet)
    if text.summary:
        console.status(text.summary, quiet=quiet or as_json)


def show(report: TransferReport, *, quiet: bool, as_json: bool) -> None:
    """Show the result of a transfer, and what failed in it."""
    console.result_json(report.to_json()) if as_json else console.result(report.lines())
    _show_besides(report, quiet=quiet)


def show_beside(report: TransferReport, *, quiet: bool) -> None:
    """Show the same on stderr, since the archive goes to stdout."""
    for line in report.lines():
        console.status(line, quiet=quiet)
    _show_besides(report, quiet=quiet)


def _show_besides(report: TransferReport, *, quiet: bool) -> None:
    for text, hint in report.complaints():
        console.error(text, hint)
    for text in report.remarks():
        console.warning(text, quiet=quiet)
    console.status(report.summary(), quiet=quiet)


def write_file(path: Path, text: str, option: str) -> None:
    """Write the file that the user named with an option.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        write_output(path, text.encode())
    except StorageError as error:
        raise StorageError(str(error), hint=error.hint or f"Name another file with {option}.") from None


def check_stdin(ctx: click.Context) -> None:
    """Refuse to read an archive from a terminal.

    Raises:
        click.UsageError: stdin is one.
    """
    if sys.stdin.isatty():
        raise click.UsageError(
            "Refusing to read an archive from a terminal: name a file, or pipe an archive into it.", ctx
        )


def check_stdout(ctx: click.Context, *, as_json: bool) -> None:
    """Refuse to write an archive where it cannot go.

    Raises:
        click.UsageError: stdout is a terminal, or is needed for JSON.
    """
    if as_json:
        raise click.UsageError("--json and an archive cannot both go to stdout.", ctx)
    if sys.stdout.isatty():
        raise click.UsageError("Refusing to write an archive to a terminal: name a file, or redirect stdout.", ctx)
