"""mirror login"""

from __future__ import annotations

import click

from mirror.cli import options, remote
from mirror.cli.help import GroupedCommand
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.registry.login import LoginOptions, log_in
from mirror.report import login_text

_HELP = """Save credentials for a registry, if it accepts them.

\b
  mirror login registry.internal:5000
  mirror login quay.io/team --username robot --password-stdin < token
  mirror login docker.io --authfile ./auth.json

The credentials are checked with the registry first. They are saved by the credential helper that the file sets for this
registry (credHelpers, credsStore), or in the file itself, with mode 0600. The file is the one given with --authfile or
REGISTRY_AUTH_FILE; otherwise the first one with an entry for the registry; otherwise docker's config.json, which
podman and skopeo read too.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("registry", metavar="REGISTRY[/PATH]")
@remote.with_login
@options.with_quiet
@options.with_json
@options.with_config
def command(registry: str) -> None:
    registries = remote.registry_options(writes_authfile=True)
    login_options, credentials = LoginOptions(remote.retry_policy(), registries), remote.credentials()
    with log_to_stderr():
        login = run(log_in(registry, credentials.user, credentials.password, login_options))
    options.show(login, login_text.login(login))
