"""mirror prune"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.manage.prune import prune_layout
from mirror.report import text

_HELP = """Find the blobs of a layout that no image needs, and unfinished downloads; with --delete, delete them.

\b
  mirror prune ./layout            what would be deleted; only reads
  mirror prune ./layout --delete

If an image is broken, so that its blobs are not known, nothing is deleted.
"""


@click.command(help=_HELP)
@click.argument("layout", metavar="DIR", type=options.Place())
@click.option("--delete", is_flag=True, help="Delete what was found.")
@click.option("-q", "--quiet", is_flag=True, help="Print only results and errors.")
@options.with_json
def command(layout: Path, delete: bool, quiet: bool, as_json: bool) -> None:
    with progress(quiet=quiet, no_progress=True):
        report = run(prune_layout(layout, delete=delete))
    options.show_result(report, text.pruned(report), quiet=quiet, as_json=as_json)
