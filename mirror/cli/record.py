"""mirror record"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from mirror.cli import options, remote
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.records import markdown
from mirror.records.capture import RecordOptions, record_images
from mirror.records.json import to_json
from mirror.retry import RetryPolicy

_HELP = """Record what an image consists of: a digest record, to be carried separately and compared by verify.

\b
  mirror record redis:4.0 -o redis.md   from its registry; no layers
  mirror record ./layout                every image of a layout
  mirror record ./layout redis:4.0
  mirror record images.tar              every image of an archive
  mirror verify ./layout --record redis.md

The record is a Markdown page in the format of docker-library/repo-info: the digest of the list and, for each platform,
its manifest, image ID and layers with their sizes, entrypoint, command and history. Manifests and configs are verified
before they are recorded. A layer's Last Modified is what the registry says; in a layout it is the time of the file.
"""


@click.command(help=_HELP)
@click.argument("what", metavar="IMAGE|DIR|FILE", type=options.Place(path_type=str))
@click.argument("images", metavar="[IMAGE]...", nargs=-1, shell_complete=options.image_names)
@click.option(
    "-o",
    "--output",
    "file",  # mirror.toml's `output` is a layout
    type=options.Place(dir_okay=False),
    metavar="FILE",
    help="Write the record to FILE instead of stdout.",
)
@click.option("--as", "name", metavar="NAME", help="The name of the one image in its record.")
@remote.with_registry
@options.with_json
@options.with_config
def command(
    what: str,
    images: tuple[str, ...],
    file: Path | None,
    name: str | None,
    retries: int,
    plain_http: bool,
    insecure: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    recording = RecordOptions(name, RetryPolicy(retries), remote.location_options(plain_http, insecure, what))
    with progress(quiet=False, no_progress=True, verbose=verbose):
        found = run(record_images(what, images, recording))
    text = json.dumps(to_json(found), indent=2) + "\n" if as_json else "\n".join(map(markdown, found))
    options.write_file(file, text, "--output") if file else _print(text.encode())


def _print(data: bytes) -> None:
    """Write to stdout. Markdown contains tabs, but no other control characters: records are escaped when built."""
    sys.stdout.buffer.write(data)
    sys.stdout.flush()
