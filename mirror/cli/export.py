"""mirror export"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options
from mirror.cli.help import GroupedCommand
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.content.select import PlatformSelection
from mirror.oci.descriptor import Platform
from mirror.transfer.export import ArchiveFormat, ExportOptions, export_layout

_HELP = """Write images of a layout to an archive, and verify every byte.

\b
  mirror export ./layout images.tar              all images and platforms
  mirror export ./layout redis.tar redis:4.0     one image
  mirror export ./layout images.tar --format docker-archive
  mirror export ./layout - redis:4.0 --format docker-archive | docker load

An oci-archive is a layout in a tar archive, for podman, skopeo, containerd and mirror; digests are preserved. A
docker-archive contains one platform of each image, for `docker load` and the other tools. The same images produce the
same archive, byte for byte. Referrers of an image, such as signatures, are exported to an oci-archive only. podman and
skopeo load only an archive with one entry: for them, export one image with --no-referrers.

FILE appears when it is complete. stdout gets one line for each image, NAME@DIGEST; if FILE is -, it gets the archive.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("layout", metavar="DIR", type=options.Place())
@click.argument("archive", metavar="FILE|-", type=options.Place(allow_dash=True, path_type=str))
@options.with_images
@click.option(
    "--format",
    "form",
    type=click.Choice([str(form) for form in ArchiveFormat]),
    default=str(ArchiveFormat.OCI),
    show_default=True,
    help="Format of the archive.",
)
@click.option(
    "--platform", metavar="OS/ARCH[/VARIANT][:OS.VERSION]", help="Platform for a docker-archive. [default: this host's]"
)
@options.with_referrers("Export", default=True)
@click.option("--as", "name", metavar="NAME", help="Name of the image in the archive, if there is only one image.")
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
) -> None:
    if platform and form != ArchiveFormat.DOCKER:
        raise click.UsageError("--platform is for docker-archive; an oci-archive keeps every platform.", ctx)
    if archive == "-":
        options.check_stdout(ctx)
    wanted = PlatformSelection((Platform.parse(platform),) if platform else (), all=not platform)
    exporting = ExportOptions(ArchiveFormat(form), wanted, name, referrers)
    with progress() as bars:
        report = run(export_layout(layout, archive, images, exporting, bars))
    options.show_transfer(report, lines_to_stderr=archive == "-")
    report.raise_failures()
