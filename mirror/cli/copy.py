"""mirror copy"""

from __future__ import annotations

import click

from mirror.cli import console, options, remote
from mirror.cli.help import GroupedCommand
from mirror.cli.interrupt import RESUME, SEND_AGAIN
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.content.select import PlatformSelection
from mirror.oci.reference import Reference
from mirror.stores.location import Location, Transport
from mirror.transfer.copy import CopyOptions, copy_images

_HELP = """Copy images between registries, layouts and archives, every byte verified, digests preserved.

\b
  mirror copy docker://redis:4.0 docker://registry.internal:5000/redis:4.0
  mirror copy docker://redis:4.0 oci:./layout
  mirror copy oci:./layout oci:/media/stick/layout            all images
  mirror copy oci:./layout:redis:4.0 oci-archive:redis.tar    one image
  mirror copy docker://redis:4.0 docker-archive:- | docker load
  docker save app:v1 | mirror copy - docker://registry.internal:5000/app:v1

SRC and DST are written as in skopeo: docker://IMAGE, oci:PATH[:REF], oci-archive:PATH[:REF], docker-archive:PATH[:REF];
the path ends at the first colon. The kind of a plain name or path is guessed, and stderr shows the guess: a directory
with an index.json, or a name that looks like a path, is a layout; a file, or a name that ends in .tar, is an archive;
everything else is an image. In SRC, REF (or @N, counted from 0) selects an image; without it, all images are copied. In
DST, REF is the new tag or full name of the image, if there is only one image.

All platforms are copied, unless --platform selects some, and the referrers of an image are copied with it. A
docker-archive contains one platform of each image and no referrers.

Two layouts on the same file system share the disk space of blobs if it supports shared blocks (btrfs, XFS).
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("source", metavar="SRC", type=options.Place(path_type=str))
@click.argument("target", metavar="DST", type=options.Place(path_type=str))
@click.option(
    "--platform",
    "platforms",  # not `platform`, which mirror.toml sets for pull
    multiple=True,
    metavar="OS/ARCH[/VARIANT][:OS.VERSION]",
    help="Platform to copy; repeat the option, or use commas. [default: all; for docker-archive, this host's]",
)
@click.option("-a", "--all-platforms", "--all", "all_", is_flag=True, help="Copy every platform, the default.")
@click.option(
    "--as", "name", metavar="NAME", help="Name of the image in a layout or archive, if there is only one image."
)
@click.option(
    "--include-foreign",
    "foreign",  # not `include_foreign`, which mirror.toml sets for pull
    is_flag=True,
    help="From a registry, fetch foreign layers from their URLs too; to a registry, push them.",
)
@options.with_referrers("Copy", default=True)
@options.with_replace
@click.option(
    "--hard-links",
    is_flag=True,
    help="Between layouts: make blobs hard links to the same files. Changing one in place changes both.",
)
@options.with_no_overwrite
@options.with_dry_run
@remote.with_jobs
@remote.with_connections
@remote.with_registry
@options.with_output
@options.with_json
@options.with_config
@click.pass_context
def command(
    ctx: click.Context,
    source: str,
    target: str,
    platforms: tuple[str, ...],
    all_: bool,
    name: str | None,
    foreign: bool,
    referrers: bool,
    replace: bool,
    hard_links: bool,
    no_overwrite: bool,
    dry_run: bool,
) -> None:
    options.stronger(ctx, "platforms", "all_")
    ends = [Location.parse(source), Location.parse(target)]
    from_stdin, to_stdout = (end.where == "-" and end.transport.is_archive for end in ends)
    if from_stdin:
        options.check_stdin(ctx)
    if to_stdout:
        options.check_stdout(ctx)
    for end in ends:
        if end.remark:
            console.note(end.remark)
    hosts = [Reference.parse(end.where).registry for end in ends if end.transport is Transport.REGISTRY]
    copying = CopyOptions(
        platforms=PlatformSelection(options.parse_platforms(platforms), all=not platforms, foreign=foreign),
        name=name,
        referrers=referrers,
        overwrite=not no_overwrite,
        dry_run=dry_run,
        replace=replace,
        hard_links=hard_links,
        retry=remote.retry_policy(),
        registries=remote.registry_options(hosts),
    )
    to_registry = ends[1].transport is Transport.REGISTRY
    again: str | None = SEND_AGAIN if to_registry else RESUME
    if dry_run or from_stdin or ends[1].transport.is_archive:  # an archive is written from its start
        again = None
    with progress() as bars, ends[0].explained():
        report = run(copy_images(source, target, copying, bars), again=again)
    options.show_transfer(report, lines_to_stderr=to_stdout)
    report.raise_failures()
