"""mirror push"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options, remote
from mirror.cli.help import GroupedCommand
from mirror.cli.interrupt import SEND_AGAIN
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.transfer.naming import NameMapping, PushTarget
from mirror.transfer.push import PushOptions, push_images

_HELP = """Push images of a layout or an archive to a registry; digests are preserved.

\b
  mirror push ./layout registry.internal:5000
  mirror push ./layout registry.internal:5000/hub
  mirror push ./layout registry.internal:5000 redis:4.0   one image
  mirror push ./layout registry.internal:5000 redis:4.0 --as cache/redis:v4
  mirror push ./layout registry.internal:5000 --map docker.io=hub
  mirror push ./layout docker.io/team --flatten   if its names have few levels
  mirror push ./layout registry.internal:5000 --dry-run   show the names

With the prefix hub, docker.io/library/redis:4.0 becomes registry.internal:5000/hub/library/redis:4.0. If several --map
match an image, the longest FROM is used; if none matches, --strip-prefix is used. --flatten then replaces the slashes
in the name. --as replaces all of them. The prefix is always put in front.

Blobs are pushed first, then manifests, then indexes, the tag last. Content that the registry has is skipped,
an upload that is cut is resumed if the registry has kept it, and every tag is read back and compared. Another run sends
a blob that had not arrived completely from its first byte. Before an image is pushed, its tag is read: if it points to
another image, a warning says which one (--no-overwrite: an error); if it points to this image already, only what is
missing is pushed.

If an IMAGE is not in the layout, nothing is pushed, and the exit code is 2. If an image in the middle cannot be pushed,
the command ends with the exit code of that failure. Images that were complete by then have their tags in the registry,
the rest do not. With --keep-going, the other images are pushed, and the exit code is 4.

stdout gets one line for each image, NAME:TAG@DIGEST.
"""


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("layout", metavar="DIR|FILE", type=options.Place(path_type=str))
@click.argument("target", metavar="REGISTRY[/PREFIX]")
@options.with_images
@click.option("--as", "name", metavar="NAME[:TAG]", help="Push one image under another name.")
@click.option("--prefix", metavar="PATH", default="", help="Put PATH in front of every name, as in REGISTRY/PATH.")
@click.option(
    "--strip-prefix", metavar="PATH", default="", help="Remove PATH, such as library, from the beginning of names."
)
@click.option(
    "--map",
    "maps",
    metavar="FROM=TO",
    multiple=True,
    help="Replace the beginning of names: docker.io/library=hub. NAME=TO:TAG is for a NAME in the layout that is not "
    "the name of an image. Can be repeated.",
)
@click.option(
    "--include-foreign",
    "foreign",  # not `include_foreign`, which mirror.toml sets for pull
    is_flag=True,
    help="Push the foreign layers that are there too, such as the base of Windows images.",
)
@click.option("--flatten", is_flag=True, help="Replace slashes in names: library/redis becomes library-redis.")
@options.with_referrers("Push", default=True, envvar="MIRROR_REFERRERS")
@options.with_keep_going
@options.with_no_overwrite
@click.option("--dry-run", is_flag=True, help="Show what would be pushed where; push nothing.")
@click.option(
    "--receipt",
    type=options.Place(),
    metavar="FILE",
    help="Read everything back, and write to FILE what was pushed where.",
)
@remote.with_chunks
@remote.with_jobs
@remote.with_registry
@options.with_output
@options.with_json
@options.with_config
@click.pass_context
def command(
    ctx: click.Context,
    layout: str,
    target: str,
    images: tuple[str, ...],
    name: str | None,
    prefix: str,
    strip_prefix: str,
    maps: tuple[str, ...],
    foreign: bool,
    flatten: bool,
    referrers: bool,
    keep_going: bool,
    no_overwrite: bool,
    dry_run: bool,
    receipt: Path | None,
) -> None:
    options.check_output(ctx, receipt)
    pushing = PushOptions(
        mapping=NameMapping.parse(name, prefix, strip_prefix, maps, flat=flatten),
        foreign=foreign,
        referrers=referrers,
        overwrite=not no_overwrite,
        dry_run=dry_run,
        keep_going=keep_going,
        receipt=receipt,
        retry=remote.retry_policy(),
        registries=remote.registry_options([PushTarget.parse(target).registry]),
    )
    with progress() as bars:
        report = run(push_images(layout, target, images, pushing, bars), again=None if dry_run else SEND_AGAIN)
    options.show_transfer(report)
    report.raise_failures()
