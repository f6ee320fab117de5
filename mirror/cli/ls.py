"""mirror ls"""

from __future__ import annotations

import click

from mirror.cli import options
from mirror.cli.run import run
from mirror.manage.ls import list_images
from mirror.report import text

_HELP = """List the images of a layout or an archive: names, digests, platforms, sizes. Only manifests are read.

\b
  mirror ls ./layout
  mirror ls ./layout --json
  mirror ls images.tar
"""


@click.command(help=_HELP)
@click.argument("what", metavar="DIR|FILE", type=options.Place(path_type=str))
@click.option("-q", "--quiet", is_flag=True, help="Print only results and errors.")
@options.with_json
def command(what: str, quiet: bool, as_json: bool) -> None:
    images = run(list_images(what))
    options.show_result(images, text.image_list(images), quiet=quiet, as_json=as_json)
