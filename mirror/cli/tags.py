"""mirror tags"""

from __future__ import annotations

import click

from mirror.cli import options, remote
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.manage.tags import list_tags
from mirror.report import text
from mirror.retry import RetryPolicy

_HELP = """List the tags of a repository in a registry, one per line, in the registry's order.

\b
  mirror tags redis
  mirror tags registry.internal:5000/team/app --json
"""


@click.command(help=_HELP)
@click.argument("name", metavar="IMAGE")
@click.option("-q", "--quiet", is_flag=True, help="Print only results and errors.")
@remote.with_registry
@options.with_json
@options.with_config
def command(
    name: str, quiet: bool, retries: int, plain_http: bool, insecure: bool, verbose: bool, as_json: bool
) -> None:
    with progress(quiet=quiet, no_progress=True, verbose=verbose):
        tags = run(list_tags(name, remote.image_options(plain_http, insecure, name), RetryPolicy(retries)))
    options.show_result(tags, text.tag_list(tags), quiet=quiet, as_json=as_json)
