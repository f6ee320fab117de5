"""The `mirror` command, with one module for each subcommand. Only this package prints, draws bars and exits.

A subcommand is imported when it is called: `mirror --version` loads none, and `mirror verify` no HTTP client.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from keyword import iskeyword
from typing import NoReturn

import click

from mirror import __version__
from mirror.cli import console, interrupt
from mirror.cli.imports import cheap_imports
from mirror.errors import MirrorError, UsageError

_COMMANDS = {
    "pull": "Pull images from registries into a layout, and verify every byte.",
    "verify": "Verify a layout offline: every byte and every link.",
    "push": "Push a layout or an archive to a registry; digests are preserved.",
    "login": "Save credentials for a registry, if it accepts them.",
    "logout": "Remove credentials for a registry.",
    "export": "Write images of a layout to an archive, for docker, podman, skopeo, containerd.",
    "import": "Read images from an archive of docker, podman, skopeo, containerd, nerdctl.",
    "copy": "Copy images between registries, layouts and archives.",
    "serve": "Serve layouts in place as a read-only registry.",
    "ls": "List the images of a layout or an archive.",
    "inspect": "Show what an image consists of: platforms, config, layers.",
    "record": "Record what images consist of, to be carried separately and compared by verify.",
    "prune": "Find blobs that no image of a layout needs; with --delete, delete them.",
    "tags": "List the tags of a repository in a registry.",
    "rm": "Remove images from a layout, and the blobs that no other image needs.",
    "completion": "Print the shell completion for bash, zsh or fish.",
}

_HELP = """Carry container images across an air gap, and prove that what arrived is what was published.

\b
  mirror pull redis:4.0 --all-platforms      from any registry to ./layout
  mirror verify ./layout                     offline: every byte, every link
  mirror push ./layout registry.internal:5000

Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure (verify: could not check), 2 wrong
usage or no such image, 3 wrong content, 4 some images failed, 130 interrupted.
"""


class _Commands(click.Group):
    """The group of subcommands, which are imported when they are called; after that, the context's `obj` is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        with cheap_imports():
            command: click.Command = import_module(f"mirror.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in _COMMANDS or name.startswith("-") or ctx.resilient_parsing:  # completion must not print anything
            found = super().resolve_command(ctx, args)
            if ctx.obj:
                ctx.obj()
            return found
        from difflib import get_close_matches

        suggestion = "".join(f" Did you mean {near!r}?" for near in get_close_matches(name, _COMMANDS, 1))
        raise click.UsageError(f"No such command {name!r}.{suggestion}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(
    cls=_Commands,
    help=_HELP,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="mirror", message="%(prog)s %(version)s")
@click.pass_context
def mirror(ctx: click.Context) -> None:
    """Print the help if there is no command; the commands do the rest."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(UsageError.exit_code)


def main(imported: Callable[[], None] | None = None) -> NoReturn:
    """Run the command line and exit; `imported` is called after the imports, and may raise KeyboardInterrupt."""
    console.prepare()
    if sys.stdout is None:  # closed by the parent process
        console.error("stdout is closed.")
        os._exit(1)
    code = _run(imported)
    if not sys.warnoptions:  # with warnings enabled, the last garbage collection reports what was left open
        gc.freeze()  # it takes 15 ms
    sys.exit(code)


def _run(imported: Callable[[], None] | None = None) -> int:
    try:
        return console.exit_code(int(mirror.main(prog_name="mirror", standalone_mode=False, obj=imported) or 0))
    except click.ClickException as error:
        context = error.ctx if isinstance(error, click.UsageError) else None
        message = " ".join(line.strip() for line in error.format_message().splitlines())  # click lists choices in lines
        hint = f"For usage: {context.command_path} --help" if context else None
        return _fail(UsageError.code, message, hint, UsageError.exit_code)
    except (click.Abort, KeyboardInterrupt) as error:
        cause = error.__cause__  # click raises Abort from it
        hint = cause.hint if isinstance(cause, interrupt.Interrupted) else None
        _fail("interrupted", interrupt.MESSAGE, hint, 130)
        with suppress(OSError):  # Ctrl-C has ended the reader of a pipe, too
            sys.stdout.flush()
        os._exit(130)  # without waiting for threads (see mirror.cli.run)
    except MirrorError as error:
        return _fail(error.code, str(error), error.hint, error.exit_code)
    except OSError as error:  # from writing the result: the library raises its own errors
        console.unwritten(error)
        return 1


def _fail(code: str, message: str, hint: str | None, exit_code: int) -> int:
    """Report why the command failed, with --json on stdout too, unless the result is there. Return the exit code."""
    console.error(message, hint, code=code, exitCode=exit_code)
    arguments = sys.argv[1:]
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in options and not console.has_json.get():  # click may have failed before it came to the flag
        from mirror.report.json import failure

        command = next((word for word in arguments if not word.startswith("-")), None)
        console.result_json(failure(command if command in _COMMANDS else None, code, message, hint, exit_code))
    return exit_code
