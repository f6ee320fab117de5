"""mirror tags"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options, remote
from mirror.cli.help import GroupedCommand
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.errors import NotFound, TransferError
from mirror.manage.tags import TagOptions, list_tags
from mirror.oci.reference import Reference

_HELP = """List the tags of a repository in a registry, one per line, in the registry's order.

\b
  mirror tags redis
  mirror tags registry.internal:5000/team/app --json
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("name", metavar="REPOSITORY")
@options.with_quiet
@remote.with_registry
@options.with_json
@options.with_config
def command(name: str) -> None:
    tag_options = TagOptions(remote.retry_policy(), remote.registry_options([Reference.parse(name).registry]))
    try:
        with log_to_stderr():
            tags = run(list_tags(name, tag_options))
    except (TransferError, NotFound) as error:
        if Path(name).is_dir():
            read_as = f"{name!r} was read as {Reference.parse(name).name}"
            listed = f"{read_as}; for the images of the directory: mirror ls ./{name}."
            error.hint = " ".join(filter(None, (listed, error.hint)))
        raise
    options.show(tags)
