"""mirror import"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.help import GroupedCommand
from mirror.cli.interrupt import RESUME
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.transfer.import_ import ImportOptions, import_archive

_HELP = """Read images from an archive into a layout, every byte verified.

\b
  mirror import images.tar                          all images, into ./layout
  mirror import images.tar ./layout redis:4.0       one image
  mirror import app.tar ./layout --as registry.internal/team/app:v1
  docker save redis:4.0 | mirror import - ./layout
  zcat images.tar.gz | mirror import - ./layout

It reads the archives of docker save (old and new), podman save, skopeo, nerdctl, ctr and mirror: a layout in a tar
archive, or docker's own format. An archive is read in place and never unpacked; input from a pipe is stored temporarily
next to the layout. Referrers of an image, such as signatures, are imported with it. Run the command again to continue
after an interruption.

stdout gets one line for each image, NAME@DIGEST.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("archive", metavar="FILE|-", type=options.Place(allow_dash=True, path_type=str))
@click.argument("layout", metavar="[DIR]", default=options.DEFAULT_LAYOUT, type=options.Place())
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("--as", "name", metavar="NAME", help="Name of the image in the layout, if there is only one image.")
@options.with_replace
@options.with_output
@options.with_json
@click.pass_context
def command(
    ctx: click.Context, archive: str, layout: Path, images: tuple[str, ...], name: str | None, replace: bool
) -> None:
    if archive == "-":
        options.check_stdin(ctx)
    with progress() as bars:
        importing = import_archive(archive, layout, images, ImportOptions(name, replace), bars)
        report = run(importing, again=None if archive == "-" else RESUME)
    options.show_transfer(report)
    report.raise_failures()
