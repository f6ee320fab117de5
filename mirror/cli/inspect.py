"""mirror inspect"""

from __future__ import annotations

import sys

import click

from mirror.cli import options, remote
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.errors import UsageError
from mirror.manage.inspect import inspect_image, inspect_layout
from mirror.report import text
from mirror.report.images import InspectedImage, Inspection
from mirror.retry import RetryPolicy

_HELP = """Show what an image is: its platforms, config and layers; in a registry, or in a layout.

\b
  mirror inspect redis:4.0            from its registry; no layer is fetched
  mirror inspect ./layout             every image of a layout
  mirror inspect ./layout redis:4.0
  mirror inspect redis:4.0 --digest   the digest alone
  mirror inspect redis:4.0 --raw      the exact bytes of the manifest

A folder with an index.json in it is a layout; put docker:// in front of an image whose name is also a folder's.
"""


@click.command(help=_HELP)
@click.argument("what", metavar="IMAGE|DIR", type=options.Place(path_type=str))
@click.argument("images", metavar="[IMAGE]...", nargs=-1, shell_complete=options.image_names)
@click.option("--raw", is_flag=True, help="Print the exact bytes of the root manifest or index.")
@click.option("--digest", is_flag=True, help="Print the digest of the root manifest or index alone.")
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
    if remote.is_layout(ctx, what, images):
        found = run(inspect_layout(what, images))
    else:
        with progress(quiet=False, no_progress=True, verbose=verbose):
            registries = remote.image_options(plain_http, insecure, what)
            found = [run(inspect_image(what, registries, RetryPolicy(retries)))]
    if raw:
        sys.stdout.buffer.write(_only(found).raw)
        sys.stdout.flush()
    elif digest:
        options.echo([_only(found).digest])
    else:
        options.show_result(Inspection(tuple(found)), text.inspection(found), quiet=False, as_json=as_json)


def _only(found: list[InspectedImage]) -> InspectedImage:
    if len(found) > 1:
        names = ", ".join(image.name for image in found)
        raise UsageError(f"The layout contains {len(found)} images.", hint=f"Choose one: {names}")
    return found[0]
