"""mirror inspect"""

from __future__ import annotations

import sys

import click

from mirror.cli import console, options, remote
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.errors import UsageError
from mirror.manage.inspect import InspectOptions, inspect_images
from mirror.report import text
from mirror.report.images import InspectedImage, Inspection
from mirror.retry import RetryPolicy

_HELP = """Show what an image consists of: platforms, config and layers; in a registry, a layout or an archive.

\b
  mirror inspect redis:4.0            from its registry; no layer is fetched
  mirror inspect ./layout             every image of a layout
  mirror inspect ./layout redis:4.0
  mirror inspect images.tar           an archive, read in place
  mirror inspect redis:4.0 --digest   only the digest
  mirror inspect redis:4.0 --raw      the exact bytes of the manifest

A directory with an index.json in it is a layout, and a file is an archive. If a directory or a file has the name of
the image that you mean, write docker://IMAGE.
"""


@click.command(help=_HELP)
@click.argument("what", metavar="IMAGE|DIR|FILE", type=options.Place(path_type=str))
@click.argument("images", metavar="[IMAGE]...", nargs=-1, shell_complete=options.image_names)
@click.option("--raw", is_flag=True, help="Print the exact bytes of the root manifest or index.")
@click.option("--digest", is_flag=True, help="Print only the digest of the root manifest or index.")
@remote.with_registry
@options.with_json
@options.with_config
@click.pass_context
def command(
    ctx: click.Context,
    what: str,
    images: tuple[str, ...],
    raw: bool,
    digest: bool,
    retries: int,
    plain_http: bool,
    insecure: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    if raw + digest + as_json > 1:
        raise click.UsageError("--raw, --digest and --json exclude each other.", ctx)
    inspecting = InspectOptions(RetryPolicy(retries), remote.location_options(plain_http, insecure, what))
    with progress(quiet=False, no_progress=True, verbose=verbose):
        found = run(inspect_images(what, images, inspecting))
    if raw:
        sys.stdout.buffer.write(_only(found).raw)
        sys.stdout.flush()
    elif digest:
        console.result([_only(found).digest])
    else:
        options.show_result(Inspection(tuple(found)), text.inspection(found), quiet=False, as_json=as_json)


def _only(found: list[InspectedImage]) -> InspectedImage:
    if len(found) > 1:
        names = ", ".join(image.name for image in found)
        raise UsageError(f"There are {len(found)} images.", hint=f"Choose one: {names}")
    return found[0]
