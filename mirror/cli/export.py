"""mirror export"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.oci.descriptor import Platform
from mirror.transfer.export import ArchiveFormat, ExportOptions, export_layout

_HELP = """Write images of a layout to an archive, and verify every byte.

\b
  mirror export ./layout images.tar              all images and platforms
  mirror export ./layout redis.tar redis:4.0     one image
  mirror export ./layout images.tar --format docker-archive
  mirror export ./layout - redis:4.0 --format docker-archive | docker load

An oci-archive is a layout in a tar archive, for podman, skopeo, containerd and mirror; digests are preserved. A
docker-archive holds one platform of each image, for `docker load` and the others. The same images make the same
archive, byte for byte. The referrers of an image, such as signatures, are exported with it into an oci-archive. podman
and skopeo load only an archive with one entry: for them, export one image with --no-referrers.

FILE appears when it is complete. stdout gets one line for each image, NAME@DIGEST; if FILE is -, it gets the archive.
"""


@click.command(help=_HELP)
@click.argument("layout", metavar="DIR", type=options.Place())
@click.argument("archive", metavar="FILE|-", type=options.Place(allow_dash=True, path_type=str))
@click.argument("images", metavar="[IMAGE]...", nargs=-1, shell_complete=options.image_names)
@click.option(
    "--format",
    "form",
    type=click.Choice([str(form) for form in ArchiveFormat]),
    default=str(ArchiveFormat.OCI),
    show_default=True,
    help="The kind of archive.",
)
@click.option(
    "--platform",
    metavar="OS/ARCH[/VARIANT][:OS.VERSION]",
    help="The platform for a docker-archive. [default: this host's]",
)
@click.option(
    "--referrers/--no-referrers",
    default=True,
    help="Export the referrers of the images too: signatures, attestations. [default: referrers]",
)
@click.option("--as", "name", metavar="NAME", help="The name of the one image.")
@options.with_output
@options.with_json
@click.pass_context
def command(
    ctx: click.Context,
    layout: Path,
    archive: str,
    images: tuple[str, ...],
    form: str,
    platform: str | None,
    name: str | None,
    referrers: bool,
    quiet: bool,
    no_progress: bool,
    as_json: bool,
) -> None:
    if platform and form != ArchiveFormat.DOCKER:
        raise click.UsageError("--platform is for docker-archive; an oci-archive keeps every platform.", ctx)
    if archive == "-":
        options.check_stdout(ctx, as_json=as_json)
    exporting = ExportOptions(ArchiveFormat(form), Platform.parse(platform) if platform else None, name, referrers)
    with progress(quiet=quiet, no_progress=no_progress) as bars:
        report = run(export_layout(layout, archive, images, exporting, bars))
    if archive == "-":
        options.show_beside(report, quiet=quiet)
    else:
        options.show(report, quiet=quiet, as_json=as_json)
    report.raise_failures()
