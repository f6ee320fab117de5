"""mirror ls"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.run import run
from mirror.manage.ls import list_layout
from mirror.report import text

_HELP = """List the images of a layout: names, digests, platforms, sizes. Only manifests are read.

\b
  mirror ls ./layout
  mirror ls ./layout --json
"""


@click.command(help=_HELP)
@click.argument("layout", metavar="DIR", type=options.Place())
@click.option("-q", "--quiet", is_flag=True, help="Nothing but results and errors.")
@options.with_json
def command(layout: Path, quiet: bool, as_json: bool) -> None:
    images = run(list_layout(layout))
    options.show_result(images, text.image_list(images), quiet=quiet, as_json=as_json)
