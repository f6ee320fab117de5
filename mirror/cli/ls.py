"""mirror ls"""

from __future__ import annotations

import click

from mirror.cli import console, options
from mirror.cli.colour import view
from mirror.cli.context import kept, kept_option
from mirror.cli.help import GroupedCommand
from mirror.cli.run import run
from mirror.manage.ls import list_images
from mirror.report.text import to_text

_HELP = """List the images of a layout or an archive: names, digests, platforms, sizes. Only manifests are read.

\b
  mirror ls                    the images of ./layout
  mirror ls /media/usb/layout
  mirror ls images.tar
  mirror ls -q                 only the names, one per line
  mirror ls -v                 complete digests, all platforms
  mirror ls --json

On a terminal, the table fits its width: long names lose their beginning.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument(
    "location", metavar="[DIR|FILE]", default=str(options.DEFAULT_LAYOUT), type=options.Place(path_type=str)
)
@kept_option("-q", "--quiet", is_flag=True, help="Print only the names.")
@kept_option("-v", "--verbose", is_flag=True, help="Show complete digests and all platforms.")
@options.with_json
def command(location: str) -> None:
    images = run(list_images(location))
    if kept("quiet") and not kept("as_json"):
        console.result([image.name for image in images.images])
    else:
        options.show(images, to_text(images, view()))
