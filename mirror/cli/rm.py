"""mirror rm"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from mirror.cli import options
from mirror.cli.help import GroupedCommand
from mirror.cli.progress import log_to_stderr
from mirror.cli.run import run
from mirror.errors import NotFound
from mirror.manage.rm import remove_images

_HELP = """Remove images from a layout: their entries, and the referrers and blobs that no other image needs.

\b
  mirror rm redis:4.0 nginx:1                from ./layout
  mirror rm /media/usb/layout redis:4.0
  mirror rm ./layout dbc6a7ed5f21            the digest as ls shows it

The first argument is the layout if there is such a directory, or if it begins with a dot or a slash. Either all of the
images are removed or none. Nothing is removed if another image is broken, since it is not known which blobs it needs.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("words", metavar="[DIR] IMAGE...", nargs=-1, shell_complete=options.image_names)
@options.with_quiet
@options.with_json
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> None:
    if words and not words[0]:
        raise click.UsageError("the path is empty; is a variable not set?", ctx)
    layout, images = options.layout_and_images(words)
    if not images:
        raise click.UsageError("Name at least one image, such as redis:4.0.", ctx)
    with log_to_stderr(), _explained(words[0], is_image=images == words):
        removed = run(remove_images(layout, images))
    options.show(removed)


@contextmanager
def _explained(first: str, *, is_image: bool) -> Iterator[None]:
    """Say how the first argument was read, if something does not exist: it may be a mistyped directory."""
    try:
        yield
    except NotFound as error:
        if is_image:
            read_as = f"{first!r} was read as an image of ./{options.DEFAULT_LAYOUT}; for a directory, write ./{first}."
            error.hint = " ".join(filter(None, (read_as, error.hint)))
        raise
