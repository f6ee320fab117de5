"""Options that several commands share, and how results are shown. `remote` has those about registries."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from mirror.cli import console
from mirror.cli.context import kept, kept_option
from mirror.errors import MirrorError, StorageError, UsageError
from mirror.report.text import ResultText, to_text

if TYPE_CHECKING:
    from mirror.oci.descriptor import Platform
    from mirror.report.transfers import TransferReport

F = TypeVar("F", bound=Callable[..., Any])


DEFAULT_LAYOUT = Path("layout")  # of every command that works on one layout


class Place(click.Path):
    """A path. An empty one is refused: it is more likely an unset variable than the current directory.

    Only the library opens it, so that its errors have the right exit codes.
    """

    def __init__(self, *, dir_okay: bool = True, allow_dash: bool = False, path_type: type[Path | str] = Path) -> None:
        super().__init__(dir_okay=dir_okay, allow_dash=allow_dash, path_type=path_type, readable=False)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if value == "":
            self.fail("the path is empty; is a variable not set?", param, ctx)
        return super().convert(value, param, ctx)


def amount(kind: str, examples: str) -> Callable[[str], int]:
    """Return a parser of bytes with curl's units (`k`, `M`, `G`), as powers of 1000; it raises click.BadParameter."""

    def parse(text: str) -> int:
        found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]{1,3})?)([kKmMgG]?)B?", text, re.ASCII)
        size = int(float(found[1]) * 1000 ** " kmg".index(found[2].lower() or " ")) if found else 0
        if size < 1:
            raise click.BadParameter(f"not a {kind}: {text!r}; {kind}s look like {examples}.")
        return size

    return parse


def with_each(command: F, *decorators: Callable[[F], F]) -> F:
    """Decorate a command with several options; --help lists the last one first."""
    for decorator in decorators:
        command = decorator(command)
    return command


def _load(ctx: click.Context, _: click.Parameter, path: Path | None) -> None:
    """Make the settings files the defaults of all other options."""
    if ctx.resilient_parsing:
        return  # completion needs no settings
    from mirror.config import settings as config  # only for commands that have settings

    settings = config.load(path)
    ctx.obj = settings
    ctx.default_map = dict(settings.values)
    if console.log_format.get() is None:  # before the notes and warnings below
        console.log_format.set(settings.values.get("log_format"))
    for text in settings.ignored:
        console.warning(text)
    if settings.files:
        console.note(f"settings from {', '.join(settings.files)}")


def image_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Complete the names of the images in the layout on the command line."""
    import asyncio

    from mirror.manage.ls import list_images

    layout = (
        ctx.params.get("layout") or ctx.params.get("location") or layout_and_images(ctx.params.get("words") or ())[0]
    )
    try:
        images = asyncio.run(list_images(layout)).images
    except MirrorError:
        return []  # a completion cannot show errors
    return [image.name for image in images if image.name.startswith(incomplete)]


def layout_and_images(words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Split the arguments of `[DIR] IMAGE...`: the first one is the layout if it is a directory, or written as one."""
    first = words[0] if words else ""
    if first.startswith((".", "/", "~", "oci:")) or os.path.lexists(os.path.expanduser(first)):
        return first, words[1:]
    return str(DEFAULT_LAYOUT), words


with_config = click.option(
    "--config",
    type=Place(),
    envvar="MIRROR_CONFIG",
    is_eager=True,
    expose_value=False,
    callback=_load,
    metavar="FILE",
    help="Settings file to use instead of ./mirror.toml and ~/.config/mirror/mirror.toml.",
)
with_keep_going = click.option(
    "--keep-going",
    is_flag=True,
    envvar="MIRROR_KEEP_GOING",
    help="If an image fails, continue with the others; exit code 4.",
)
with_no_overwrite = click.option(
    "--no-overwrite", is_flag=True, help="Leave tags of the registry alone that point to other images: they are errors."
)
with_images = click.argument("images", metavar="[IMAGE]...", nargs=-1, shell_complete=image_names)
with_dry_run = click.option("--dry-run", is_flag=True, help="Show what would be transferred; write nothing.")
with_replace = click.option(
    "--replace",
    is_flag=True,
    help="Drop the platforms and signatures that the layout has of an image, and that are not transferred.",
)


def _set_log_format(_: click.Context, __: click.Parameter, value: str) -> None:
    console.log_format.set(value)


with_log_format = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    envvar="MIRROR_LOG_FORMAT",
    expose_value=False,
    callback=_set_log_format,
    help="Format of the messages on stderr: lines of text, or JSON objects, one per line.",
)


def with_json(command: F) -> F:
    """Add the options for machine-readable output."""
    as_json = kept_option("--json", "as_json", is_flag=True, help="Print one JSON object instead of result lines.")
    return with_each(command, with_log_format, as_json)


with_quiet = kept_option("-q", "--quiet", is_flag=True, help="Print only results and errors.")


def with_referrers(verb: str, shown_default: str = "referrers", **attributes: Any) -> Callable[[F], F]:
    """Return a decorator that adds --referrers to a command that transfers images."""
    help_text = f"{verb} the referrers of the images too: signatures, attestations. [default: {shown_default}]"
    return click.option("--referrers/--no-referrers", help=help_text, **attributes)


def with_output(command: F) -> F:
    """Add the options for stderr of commands with progress bars."""
    no_progress = kept_option(
        "--no-progress", is_flag=True, envvar="MIRROR_NO_PROGRESS", help="Show no progress bar, even on a terminal."
    )
    return with_each(command, no_progress, with_quiet)


def parse_platforms(texts: tuple[str, ...]) -> tuple[Platform, ...]:
    """Parse the values of --platform; each may be a list with commas."""
    from mirror.oci.descriptor import Platform  # only for commands that select platforms

    return tuple(Platform.parse(name.strip()) for text in texts for name in text.split(","))


def stronger(ctx: click.Context, first: str, second: str) -> str | None:
    """Return which of two conflicting options was set with higher precedence; None if neither was set.

    It is an error if both were set in the same place.
    """
    sources = {name: ctx.get_parameter_source(name) for name in (first, second) if ctx.params.get(name)}
    for source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT, ParameterSource.DEFAULT_MAP):
        found = [name for name, where in sources.items() if where is source]
        if len(found) > 1:
            flags = [max(option.opts, key=len) for option in ctx.command.params if option.name in found]
            raise click.UsageError(f"{' and '.join(flags)} cannot be combined.", ctx)
        if found:
            return found[0]
    return None


def show(result: object, text: ResultText | None = None) -> None:
    """Write a result to stdout, as lines or as one JSON object, and the rest of its text to stderr."""
    text = text or to_text(result)
    show_result(result, text)
    if text.summary and not kept("as_json"):
        console.status(text.summary)


def show_result(result: object, text: ResultText) -> None:
    """As `show`, without the summary."""
    if kept("as_json"):
        _show_json(result)
    else:
        console.result(text.lines)
    _show_problems(text)


def _show_json(result: object) -> None:
    from mirror.report.json import to_json  # not needed by most runs

    console.result_json(to_json(result))


def _show_problems(text: ResultText) -> None:
    """Write the errors of a result to stderr, each with its hint, and its warnings."""
    for error, hint in text.errors:
        console.error(error, hint)
    for warning in text.warnings:
        console.warning(warning)


def show_transfer(report: TransferReport, *, lines_to_stderr: bool = False) -> None:
    """Show the result of a transfer and its failures. If the archive goes to stdout, the lines go to stderr."""
    text = to_text(report)
    if lines_to_stderr:
        for line in text.lines:
            console.status(line, "result")
    elif kept("as_json"):
        _show_json(report)
    else:
        console.later_results(text.lines)
    _show_problems(text)
    if text.summary:
        console.status(text.summary)


def check_output(ctx: click.Context, output: Path | None) -> None:
    """Refuse an output file in a layout, or onto a file that the command reads: any other path that it was given."""
    if output is None:
        return
    from mirror.stores.outputs import refuse_overwrite

    read = [Path(file) for file in getattr(ctx.obj, "files", ())]
    for option in ctx.command.params:
        given = ctx.params.get(option.name or "") or kept(option.name or "")
        for value in given if isinstance(given, tuple) else (given,):
            if isinstance(option.type, Place) and value and value is not output:
                read.append(_path_of(value))
    refuse_overwrite(output, read)


def check_file(ctx: click.Context, path: Path | None, option: str) -> None:
    """As `check_output`, for a file beside the result, which is written after what may be hours of work."""
    check_output(ctx, path)
    if path and not os.access(path.parent, os.W_OK):
        raise StorageError(f"{path} cannot be written.", hint=f"Name another file with {option}.")


def _path_of(value: Path | str) -> Path:
    """Return the path in the value of an option: a path, or the text of a location."""
    if isinstance(value, Path):
        return value
    from mirror.stores.location import Location

    try:
        return Path(Location.parse(value, registry=False).where)
    except UsageError:
        return Path(value)


def write_file(path: Path, text: str, option: str) -> None:
    """Write the file that the user named with `option`."""
    from mirror.cli.progress import log_to_stderr  # most runs write no such file
    from mirror.fs.atomic import write_output

    try:
        with log_to_stderr():
            write_output(path, text.encode())
    except StorageError as error:
        raise StorageError(str(error), hint=error.hint or f"Name another file with {option}.") from None


def write_beside(path: Path, text: str, option: str) -> None:
    """Write a file beside a result that has been shown; if that fails, the verdict stays (`console.exit_code`)."""
    try:
        write_file(path, text, option)
    except StorageError as error:
        console.unwritten_file(error)


def check_stdin(ctx: click.Context) -> None:
    """Refuse to read an archive from a terminal."""
    if sys.stdin.isatty():
        text = "Refusing to read an archive from a terminal: name a file, or pipe an archive into it."
        raise click.UsageError(text, ctx)


def check_stdout(ctx: click.Context) -> None:
    """Refuse to write an archive to stdout if that is a terminal, or is needed for JSON."""
    if kept("as_json"):
        raise click.UsageError("--json and an archive cannot both go to stdout.", ctx)
    if sys.stdout.isatty():
        raise click.UsageError("Refusing to write an archive to a terminal: name a file, or redirect stdout.", ctx)
