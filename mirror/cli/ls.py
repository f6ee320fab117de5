"""mirror ls"""

from __future__ import annotations

import click

from mirror.cli import options
from mirror.cli.run import run
from mirror.manage.ls import list_images

_HELP = """List the images of a layout or an archive: names, digests, platforms, sizes. Only manifests are read.

\b
  mirror ls ./layout
  mirror ls ./layout --json
  mirror ls images.tar
"""


@click.command(help=_HELP)
@click.argument("location", metavar="DIR|FILE", type=options.Place(path_type=str))
@options.with_quiet
@options.with_json
def command(location: str) -> None:
    images = run(list_images(location))
    options.show(images)
