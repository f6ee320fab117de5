"""mirror pull"""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from mirror.cli import options, remote
from mirror.cli.help import GroupedCommand
from mirror.cli.interrupt import RESUME
from mirror.cli.names import read_names, with_names
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.content.select import PlatformSelection
from mirror.errors import UsageError
from mirror.oci.reference import Reference
from mirror.transfer.pull import PullOptions, pull_images

_HELP = """Pull images from registries into an OCI image layout, and verify every byte.

\b
  mirror pull redis:4.0                   this host's platform
  mirror pull redis:4.0 --all-platforms   all, the index as published
  mirror pull redis:4.0 --platform linux/amd64,linux/arm/v7
  mirror pull quay.io/a/b:v1 ghcr.io/c/d@sha256:… -o /media/stick/layout
  mirror pull --from-file images.txt --keep-going
  mirror pull redis:4.0 --all --dry-run   show what would be transferred

An image in the layout keeps its platforms: those that you do not request are updated too, if the image has changed, and
two pulls of one index are merged. --replace drops them. An index that is named by its digest is kept, with the
requested platforms.

Run it again after an interruption, to repair damaged blobs, or to update: only missing and damaged blobs are fetched.

If an image in the middle of a list does not exist, the command ends with exit code 2. Images that were complete by then
are named in the layout, the rest are not. With --keep-going, the other images are pulled, and the exit code is 4.

stdout gets one line for each image, NAME@DIGEST.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("images", metavar="IMAGE...", nargs=-1)
@with_names
@click.option(
    "-o",
    "--output",
    type=options.Place(),
    default=Path("layout"),
    envvar="MIRROR_OUTPUT",
    metavar="DIR",
    help="Directory of the layout.  [default: ./layout]",
)
@click.option(
    "--platform",
    multiple=True,
    envvar="MIRROR_PLATFORM",
    metavar="OS/ARCH[/VARIANT][:OS.VERSION]",
    help="Platform to pull; repeat the option, or use commas. [default: this host's]",
)
@click.option(
    "-a", "--all-platforms", "--all", is_flag=True, envvar="MIRROR_ALL_PLATFORMS", help="Pull every platform."
)
@click.option(
    "--sparse",
    is_flag=True,
    envvar="MIRROR_SPARSE",
    help="With --platform: keep the published index, and record the other platforms as intentionally absent.",
)
@options.with_referrers("Pull", "with --all-platforms", default=None, envvar="MIRROR_REFERRERS")
@click.option(
    "--include-foreign",
    is_flag=True,
    envvar="MIRROR_INCLUDE_FOREIGN",
    help="Fetch foreign layers from the URLs in the manifest too, without credentials.",
)
@options.with_replace
@options.with_keep_going
@options.with_dry_run
@click.option("--digestfile", type=options.Place(), metavar="FILE", help="Write the digests to FILE too.")
@remote.with_jobs
@remote.with_connections
@remote.with_registry
@options.with_output
@options.with_json
@options.with_config
@click.pass_context
def command(
    ctx: click.Context,
    images: tuple[str, ...],
    from_file: Path | None,
    output: Path,
    platform: tuple[str, ...],
    all_platforms: bool,
    sparse: bool,
    referrers: bool | None,
    include_foreign: bool,
    replace: bool,
    keep_going: bool,
    dry_run: bool,
    digestfile: Path | None,
) -> None:
    names = [*images, *read_names(from_file)]
    if not names:
        raise click.UsageError("Name at least one image, such as redis:4.0.", ctx)
    for name in names:
        if name.startswith((".", "/", "~", "oci:", "oci-archive:", "docker-archive:")):
            hint = f"To copy it: mirror copy {shlex.quote(name)} DST"
            raise UsageError(f"pull takes names of images, not {name}.", hint=hint)
    if options.stronger(ctx, "platform", "all_platforms") == "all_platforms":
        selection = PlatformSelection(all=True, foreign=include_foreign)
    else:
        platforms = options.parse_platforms(platform)
        selection = PlatformSelection(platforms=platforms, sparse=sparse, foreign=include_foreign)
    pulling = PullOptions(
        platforms=selection,
        referrers=referrers,
        keep_going=keep_going,
        dry_run=dry_run,
        replace=replace,
        retry=remote.retry_policy(),
        registries=remote.registry_options(Reference.parse(name).registry for name in names),
    )
    options.check_file(ctx, digestfile, "--digestfile")
    with progress() as bars:
        report = run(pull_images(names, output, pulling, bars), again=None if dry_run else RESUME)
    options.show_transfer(report)
    if digestfile and not dry_run:
        digests = "".join(f"{image.digest}\n" for image in report.images if not image.error)
        options.write_beside(digestfile, digests, "--digestfile")
    report.raise_failures()
