"""mirror completion"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mirror.cli import options

_HELP = """Print a completion script for a shell: for commands, flags, directories, and the images of a layout.

\b
  mirror completion bash >> ~/.bashrc
  mirror completion zsh > "${fpath[1]}/_mirror"
  mirror completion fish > ~/.config/fish/completions/mirror.fish
"""


@click.command(help=_HELP)
@options.with_log_format
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    completion = get_completion_class(shell)
    assert completion is not None, "click supports these three"
    click.echo(completion(ctx.find_root().command, {}, "mirror", "_MIRROR_COMPLETE").source())
