"""mirror push"""

from __future__ import annotations

from pathlib import Path

import click

from mirror.cli import options, remote
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.push import PushOptions, Target, push_layout
from mirror.retry import Retry

_HELP = """Push a layout to a registry, digests preserved.

\b
  mirror push ./layout registry.internal:5000
  mirror push ./layout registry.internal:5000/hub
  mirror push ./layout registry.internal:5000 redis:4.0   one image
  mirror push ./layout registry.internal:5000 --dry-run   what would move

docker.io/library/redis:4.0 becomes registry.internal:5000/hub/library/redis:4.0.

Blobs go first, then manifests, then indexes, the tag last; what the registry has is skipped; every tag is read back and
compared. stdout gets one line for each image, NAME:TAG@DIGEST.
"""


@click.command(help=_HELP)
@click.argument("layout", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("target", metavar="REGISTRY[/PREFIX]")
@click.argument("images", metavar="[IMAGE]...", nargs=-1, shell_complete=options.image_names)
@click.option(
    "--referrers/--no-referrers",
    default=True,
    envvar="MIRROR_REFERRERS",
    help="Push what refers to the images too: signatures, attestations. [default: referrers]",
)
@click.option("--dry-run", is_flag=True, help="Say what would move; push nothing.")
@remote.with_jobs
@remote.with_registry
@options.with_output
@options.with_json
@options.with_config
def command(
    layout: Path,
    target: str,
    images: tuple[str, ...],
    referrers: bool,
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
    pushing = PushOptions(
        referrers=referrers,
        dry_run=dry_run,
        retry=Retry(retries),
        registries=remote.registry_options(plain_http, insecure, jobs, [Target.parse(target).registry]),
    )
    with progress(quiet=quiet, verbose=verbose, no_progress=no_progress) as bars:
        report = run(push_layout(layout, target, images, pushing, bars))
    options.show(report, quiet=quiet, as_json=as_json)
    report.raise_failures()
