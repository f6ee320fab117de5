"""mirror login"""

from __future__ import annotations

import click

from mirror.cli import options, remote
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.registry.login import log_in
from mirror.report import login_text
from mirror.retry import RetryPolicy

_HELP = """Save credentials for a registry, if it accepts them.

\b
  mirror login registry.internal:5000
  mirror login quay.io/team --username robot --password-stdin < token
  mirror login docker.io --authfile ./auth.json

The credentials are checked with the registry first. They are saved by the helper that the file names for this registry
(credHelpers, credsStore), or in the file itself, with mode 0600. The file is that of --authfile or REGISTRY_AUTH_FILE;
otherwise the first one that has the registry already; otherwise docker's config.json, which docker, podman and skopeo
read too.
"""


@click.command(help=_HELP)
@click.argument("registry", metavar="REGISTRY[/PATH]")
@remote.with_registry
@click.option("-q", "--quiet", is_flag=True, help="Print only results and errors.")
@options.with_json
@options.with_config
def command(
    registry: str, retries: int, plain_http: bool, insecure: bool, verbose: bool, quiet: bool, as_json: bool
) -> None:
    talking, who = remote.registry_options(plain_http, insecure), remote.credentials()
    with progress(quiet=quiet, no_progress=True, verbose=verbose):
        done = run(log_in(registry, who.user, who.password, talking, RetryPolicy(retries)))
    options.show_result(done, login_text.login(done), quiet=quiet, as_json=as_json)
