"""mirror record"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mirror.cli import options, remote
from mirror.cli.context import kept
from mirror.cli.help import GroupedCommand
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.records import markdown
from mirror.records.capture import RecordOptions, record_images
from mirror.records.json import to_json

_HELP = """Record what an image consists of: a digest record, to be carried separately and compared by verify.

\b
  mirror record redis:4.0 -o redis.md   from its registry; no layer is fetched
  mirror record ./layout                every image of a layout
  mirror record ./layout redis:4.0
  mirror record images.tar              every image of an archive
  mirror verify ./layout --record redis.md

The record is a Markdown page in the format of docker-library/repo-info: the digest of the index and, for each platform,
its manifest, image ID, entrypoint, command, history, and layers with their sizes. Manifests and configs are verified
before they are recorded. The Last Modified of a layer comes from the registry; in a layout, it is the time of the file.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("location", metavar="IMAGE|DIR|FILE", type=options.Place(path_type=str))
@options.with_images
@click.option(
    "-o",
    "--output",
    "file",  # not `output`, for which mirror.toml names a layout
    type=options.Place(dir_okay=False),
    metavar="FILE",
    help="Write the record to FILE instead of stdout.",
)
@click.option("--as", "name", metavar="NAME", help="Name of the image in the record, if there is only one image.")
@remote.with_registry
@options.with_json
@options.with_config
@click.pass_context
def command(ctx: click.Context, location: str, images: tuple[str, ...], file: Path | None, name: str | None) -> None:
    options.check_output(ctx, file)
    recording = RecordOptions(name, remote.retry_policy(), remote.location_options(location))
    with log_to_stderr():
        found = run(record_images(location, images, recording))
    text = json.dumps(to_json(found), indent=2) + "\n" if kept("as_json") else "\n".join(map(markdown, found))
    if file:
        options.write_file(file, text, "--output")
    else:  # as it is: it contains tabs, but no other control characters, which records escape
        sys.stdout.buffer.write(text.encode())
        sys.stdout.flush()
