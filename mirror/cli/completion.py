"""mirror completion"""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mirror.cli import options

_HELP = """Print the completion script for a shell: commands, flags, folders, and the images of a layout.

\b
  bash   mirror completion bash > ~/.local/share/bash-completion/completions/mirror
  zsh    mirror completion zsh > "${fpath[1]}/_mirror"
  fish   mirror completion fish > ~/.config/fish/completions/mirror.fish
"""


@click.command(help=_HELP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    kind = get_completion_class(shell)
    assert kind is not None, "click knows these three"
    options.echo([kind(ctx.find_root().command, {}, "mirror", "_MIRROR_COMPLETE").source()])
