"""mirror prune"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.manage.prune import PruneOptions, prune_layout

_HELP = """Find the blobs of a layout that no image needs, and unfinished downloads; with --delete, delete them.

\b
  mirror prune ./layout            show what would be deleted
  mirror prune ./layout --delete

Nothing is deleted if an image is broken, since it is not known which blobs it needs.
"""


@click.command(help=_HELP)
@click.argument("layout", metavar="DIR", type=options.Place())
@click.option("--delete", is_flag=True, help="Delete the blobs and unfinished downloads.")
@options.with_quiet
@options.with_json
def command(layout: Path, delete: bool) -> None:
    with log_to_stderr():
        report = run(prune_layout(layout, PruneOptions(delete)))
    options.show(report)
