"""mirror verify"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.verify import verify_layout

_HELP = """Verify a layout offline: every byte is hashed, every link is followed, all findings come out of one run.

\b
  mirror verify ./layout             all images, and what else is stored
  mirror verify ./layout redis:4.0   one image
  mirror verify ./layout --json      for a program
  mirror verify images.tar           an archive, read in place

The layout is only read. A layout can prove only that it agrees with itself: compare the digests that are printed with
those that were published. Exit codes: 0 ok, 3 not ok, 1 nothing wrong was found but something could not be checked.
"""


@click.command(help=_HELP)
@click.argument("layout", metavar="DIR|FILE", type=click.Path(path_type=Path))
@click.argument("images", metavar="[IMAGE]...", nargs=-1, shell_complete=options.image_names)
@options.with_output
@options.with_json
@options.with_config
@click.pass_context
def command(
    ctx: click.Context,
    layout: Path,
    images: tuple[str, ...],
    quiet: bool,
    no_progress: bool,
    as_json: bool,
) -> None:
    with progress(quiet=quiet, no_progress=no_progress) as bars:
        report = run(verify_layout(layout, images, progress=bars))
    options.echo_json(report.to_json()) if as_json else options.echo(report.lines())
    options.remark(report.summary(), quiet=quiet)
    ctx.exit(report.exit_code)
