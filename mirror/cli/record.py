"""mirror record"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mirror.cli import console, options, remote
from mirror.cli.context import kept
from mirror.cli.help import GroupedCommand
from mirror.cli.names import read_names, with_names
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.oci.reference import Reference
from mirror.records import markdown
from mirror.records.capture import RecordOptions, record_images
from mirror.records.json import to_json
from mirror.report.transfers import pinned
from mirror.stores.location import Location, Transport
from mirror.text import count, size

_HELP = """Record what images consist of: a digest record, to be carried separately and compared by verify.

\b
  mirror record redis:4.0 -o redis.md   from its registry; no layer is fetched
  mirror record redis:4.0 nginx:1 --from-file images.txt -o images.md
  mirror record                         every image of ./layout
  mirror record ./layout redis:4.0
  mirror record images.tar              every image of an archive
  mirror verify ./layout --record redis.md

A record is a Markdown page in the format of docker-library/repo-info: the digest of the index and, for each platform,
its manifest, image ID, entrypoint, command, history, and layers with their sizes. Manifests and configs are verified
before they are recorded. The Last Modified of a layer comes from the registry; in a layout, it is the time of the file.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("location", metavar="[IMAGE|DIR|FILE]", required=False, type=options.Place(path_type=str))
@options.with_images
@with_names
@click.option(
    "-o",
    "--output",
    "file",  # not `output`, for which mirror.toml names a layout
    type=options.Place(dir_okay=False),
    metavar="FILE",
    help="Write the records to FILE instead of stdout, and print NAME@DIGEST for each.",
)
@click.option("--as", "name", metavar="NAME", help="Name of the image in the record, if there is only one image.")
@remote.with_registry
@options.with_quiet
@options.with_json
@options.with_config
@click.pass_context
def command(
    ctx: click.Context,
    location: str | None,
    images: tuple[str, ...],
    from_file: Path | None,
    file: Path | None,
    name: str | None,
) -> None:
    options.check_output(ctx, file)
    what, names = _images(ctx, location, images, from_file)
    in_registry = Location.parse(what).transport is Transport.REGISTRY
    registries = [Reference.parse(one).registry for one in (Location.parse(what).where, *names)] if in_registry else ()
    recording = RecordOptions(name, remote.retry_policy(), remote.registry_options(registries))
    with log_to_stderr():
        found = run(record_images(what, names, recording))
    text = json.dumps(to_json(found), indent=2) + "\n" if kept("as_json") else "\n".join(map(markdown, found))
    if file:
        options.write_file(file, text, "--output")
        console.result([] if kept("as_json") else [pinned(record.name, record.digest) for record in found])
        console.status(f"recorded {count(len(found), 'image')} in {file} ({size(len(text.encode()))}).")
    else:  # as it is: it contains tabs, but no other control characters, which records escape
        sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()


def _images(
    ctx: click.Context, location: str | None, images: tuple[str, ...], from_file: Path | None
) -> tuple[str, list[str]]:
    """Return the location to record from, and names of images there, or of more images in registries."""
    is_local = location is not None and Location.parse(location).transport is not Transport.REGISTRY
    names = [*images, *read_names(from_file, registry=not is_local)]
    if location is not None:
        return location, names
    if from_file is None:
        return f"./{options.DEFAULT_LAYOUT}", []
    if not names:
        raise click.UsageError("There is no image name in the file.", ctx)
    return f"docker://{names[0]}", names[1:]
