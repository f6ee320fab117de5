"""mirror inspect"""

from __future__ import annotations

import sys

import click

from mirror.cli import console, options, remote
from mirror.cli.context import kept
from mirror.cli.help import GroupedCommand
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.errors import UsageError
from mirror.manage.inspect import InspectOptions, inspect_images
from mirror.report.images import InspectedImage, Inspection

_HELP = """Show what an image consists of: platforms, config and layers; in a registry, a layout or an archive.

\b
  mirror inspect redis:4.0            from its registry; no layer is fetched
  mirror inspect                      every image of ./layout
  mirror inspect ./layout redis:4.0
  mirror inspect images.tar           an archive, read in place
  mirror inspect redis:4.0 --digest   only the digest
  mirror inspect redis:4.0 --raw      the exact bytes of the manifest

A directory with an index.json in it is a layout, and a file is an archive. If an image has the same name as a directory
or file, write docker://IMAGE.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument(
    "location", metavar="[IMAGE|DIR|FILE]", default=f"./{options.DEFAULT_LAYOUT}", type=options.Place(path_type=str)
)
@options.with_images
@click.option("--raw", is_flag=True, help="Print the exact bytes of the image's manifest or index.")
@click.option("--digest", is_flag=True, help="Print only the digest of the image's manifest or index.")
@remote.with_registry
@options.with_json
@options.with_config
@click.pass_context
def command(ctx: click.Context, location: str, images: tuple[str, ...], raw: bool, digest: bool) -> None:
    if raw + digest + kept("as_json") > 1:
        raise click.UsageError("--raw, --digest and --json cannot be combined.", ctx)
    inspecting = InspectOptions(remote.retry_policy(), remote.location_options(location))
    with log_to_stderr():
        found = run(inspect_images(location, images, inspecting))
    if raw:
        sys.stdout.buffer.write(_only(found).raw)
        sys.stdout.flush()
    elif digest:
        console.result([_only(found).digest])
    else:
        options.show(Inspection(tuple(found)))


def _only(found: list[InspectedImage]) -> InspectedImage:
    if len(found) > 1:
        names = ", ".join(image.name for image in found)
        raise UsageError(f"There are {len(found)} images.", hint=f"Choose one: {names}")
    return found[0]
