"""mirror copy"""

from __future__ import annotations

import click

from mirror.cli import console, options, remote
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.oci.descriptor import Platform
from mirror.oci.reference import Reference
from mirror.retry import RetryPolicy
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
with an index.json, or what looks like a path, is a layout; a file, or what ends in .tar, is an archive; everything else
is an image. In SRC, REF (or @N, counted from 0) selects an image; without it, all images are copied. In DST, REF is the
new name of the one image: its tag, or its full name.

All platforms are copied, unless --platform selects some, and the referrers of an image are copied with it. A
docker-archive holds one platform of each image and no referrers.

Layouts on one file system that can share blocks (btrfs, XFS) share the blobs' disk space.
"""


@click.command(help=_HELP)
@click.argument("source", metavar="SRC", type=options.Place(path_type=str))
@click.argument("target", metavar="DST", type=options.Place(path_type=str))
@click.option(
    "--platform",
    "some",
    multiple=True,
    metavar="OS/ARCH[/VARIANT][:OS.VERSION]",
    help="A platform to copy; repeat it, or use commas. [default: all; for docker-archive, this host's]",
)
@click.option("-a", "--all-platforms", "--all", "everything", is_flag=True, help="Copy every platform, the default.")
@click.option("--as", "name", metavar="NAME", help="The name of the one image in a layout or archive.")
@click.option(
    "--referrers/--no-referrers",
    default=True,
    help="Copy the referrers of the images too: signatures, attestations. [default: referrers]",
)
@click.option(
    "--hard-links",
    is_flag=True,
    help="Between layouts: make blobs hard links to the same files. A change of one in place changes both.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be transferred; write nothing.")
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
    some: tuple[str, ...],
    everything: bool,
    name: str | None,
    referrers: bool,
    hard_links: bool,
    dry_run: bool,
    jobs: int,
    retries: int,
    plain_http: bool,
    insecure: bool,
    quiet: bool,
    verbose: bool,
    no_progress: bool,
    as_json: bool,
) -> None:
    options.stronger(ctx, "some", "everything")
    ends = [Location.parse(source), Location.parse(target)]
    if _piped(ends[0]):
        options.check_stdin(ctx)
    if _piped(ends[1]):
        options.check_stdout(ctx, as_json=as_json)
    for end in ends:
        if end.remark:
            console.note(end.remark, quiet=quiet)
    names = [one.strip() for text in some for one in text.split(",")]
    hosts = [Reference.parse(end.where).registry for end in ends if end.transport is Transport.REGISTRY]
    copying = CopyOptions(
        platforms=tuple(map(Platform.parse, names)),
        name=name,
        referrers=referrers,
        dry_run=dry_run,
        hard_links=hard_links,
        retry=RetryPolicy(retries),
        registries=remote.registry_options(plain_http, insecure, jobs, hosts),
    )
    with progress(quiet=quiet, verbose=verbose, no_progress=no_progress) as bars:
        report = run(copy_images(source, target, copying, bars))
    if _piped(ends[1]):
        options.show_beside(report, quiet=quiet)
    else:
        options.show(report, quiet=quiet, as_json=as_json)
    report.raise_failures()


def _piped(end: Location) -> bool:
    return end.where == "-" and end.transport.is_archive
