"""mirror rm"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.manage.rm import remove_image
from mirror.report import text

_HELP = """Remove an image from a layout: its entry, its own referrers, and the blobs that no other image needs.

\b
  mirror rm ./layout redis:4.0

If another image is broken, so that its blobs are not known, nothing is removed.
"""


@click.command(help=_HELP)
@click.argument("layout", metavar="DIR", type=options.Place())
@click.argument("image", metavar="IMAGE", shell_complete=options.image_names)
@click.option("-q", "--quiet", is_flag=True, help="Print only results and errors.")
@options.with_json
def command(layout: Path, image: str, quiet: bool, as_json: bool) -> None:
    with progress(quiet=quiet, no_progress=True):
        removed = run(remove_image(layout, image))
    options.show_result(removed, text.removed_image(removed), quiet=quiet, as_json=as_json)
