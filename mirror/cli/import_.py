"""mirror import"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.transfer.import_ import ImportOptions, import_archive

_HELP = """Read images from an archive into a layout, every byte verified.

\b
  mirror import images.tar ./layout                 all images
  mirror import images.tar ./layout redis:4.0       one image
  mirror import app.tar ./layout --as registry.internal/team/app:v1
  docker save redis:4.0 | mirror import - ./layout
  zcat images.tar.gz | mirror import - ./layout

It reads what docker save (old and new), podman save, skopeo, nerdctl, ctr and this tool write: a layout in a tar
archive, or docker's own format. The archive is read in place and never unpacked; input from a pipe is kept beside the
layout in the meantime. The referrers of an image, such as signatures, are imported with it. Run it again to continue
after an interruption.

stdout gets one line for each image, NAME@DIGEST.
"""


@click.command(help=_HELP)
@click.argument("archive", metavar="FILE|-", type=options.Place(allow_dash=True, path_type=str))
@click.argument("layout", metavar="DIR", type=options.Place())
@click.argument("images", metavar="[IMAGE]...", nargs=-1)
@click.option("--as", "name", metavar="NAME", help="The name of the one image.")
@options.with_output
@options.with_json
@click.pass_context
def command(
    ctx: click.Context,
    archive: str,
    layout: Path,
    images: tuple[str, ...],
    name: str | None,
    quiet: bool,
    no_progress: bool,
    as_json: bool,
) -> None:
    if archive == "-":
        options.check_stdin(ctx)
    with progress(quiet=quiet, no_progress=no_progress) as bars:
        report = run(import_archive(archive, layout, images, ImportOptions(name), bars))
    options.show(report, quiet=quiet, as_json=as_json)
    report.raise_failures()
