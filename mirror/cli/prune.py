"""mirror prune"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.help import GroupedCommand
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.manage.ls import list_images
from mirror.manage.prune import PruneOptions, prune_layout

_HELP = """Find the blobs of a layout that no image needs, and unfinished downloads; with --delete, delete them.

\b
  mirror prune                     show what would be deleted from ./layout
  mirror prune --delete
  mirror prune /media/usb/layout

Referrers of an image, such as signatures, are needed like the image, wherever they are stored. Nothing is deleted if an
image is broken, since it is not known which blobs it needs. If the layout has no images, the command asks first.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("layout", metavar="[DIR]", default=options.DEFAULT_LAYOUT, type=options.Place())
@click.option("--delete", is_flag=True, help="Delete the blobs and unfinished downloads.")
@click.option("--yes", is_flag=True, help="Delete without asking, even if the layout has no images.")
@options.with_quiet
@options.with_json
def command(layout: Path, delete: bool, yes: bool) -> None:
    with log_to_stderr():
        if delete and not yes and sys.stdin.isatty():
            yes = _confirmed(layout)
        report = run(prune_layout(layout, PruneOptions(delete, everything=yes)))
    options.show(report)


def _confirmed(layout: Path) -> bool:
    """Ask whether to delete every blob of a layout without images, and return the answer; False if it has images."""
    found = run(prune_layout(layout))
    if not found.orphans or run(list_images(layout)).images:
        return False
    return click.confirm(f"{layout} has no images. Delete all of its blobs ({len(found.orphans)})?", err=True)
