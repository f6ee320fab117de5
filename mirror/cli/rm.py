"""mirror rm"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.manage.rm import remove_image

_HELP = """Remove an image from a layout: its entry, and the referrers and blobs that no other image needs.

\b
  mirror rm ./layout redis:4.0

Nothing is removed if another image is broken, since it is not known which blobs that image needs.
"""


@click.command(help=_HELP)
@click.argument("layout", metavar="DIR", type=options.Place())
@click.argument("image", metavar="IMAGE", shell_complete=options.image_names)
@options.with_quiet
@options.with_json
def command(layout: Path, image: str) -> None:
    with log_to_stderr():
        removed = run(remove_image(layout, image))
    options.show(removed)
