"""mirror logout"""

from __future__ import annotations

import click

from mirror.cli import options, remote
from mirror.cli.help import GroupedCommand
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.registry import RegistryOptions
from mirror.registry.login import LoginOptions, log_out
from mirror.report import login_text

_HELP = """Remove credentials for a registry, or for a path in it.

\b
  mirror logout registry.internal:5000
  mirror logout --all --authfile ./auth.json

They are removed from the file given with --authfile or REGISTRY_AUTH_FILE; if neither is set, from all files that
credentials are read from. Credential helpers are told to erase them.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("registry", metavar="[REGISTRY[/PATH]]", required=False)
@click.option("-a", "--all", "all_registries", is_flag=True, help="Remove the credentials of all registries.")
@remote.authfile_option("Credentials file to remove them from; no other is changed.")
@options.with_quiet
@options.with_json
@options.with_config
@click.pass_context
def command(ctx: click.Context, registry: str | None, all_registries: bool) -> None:
    if (registry is None) is not all_registries:
        raise click.UsageError("Name a registry, or all of them with --all.", ctx)
    with log_to_stderr():
        logout = run(log_out(registry, LoginOptions(registries=RegistryOptions(authfile=remote.authfile()))))
    options.show(logout, login_text.logout(logout))
