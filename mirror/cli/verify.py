"""mirror verify"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from mirror.cli import console, options, remote
from mirror.cli.colour import view
from mirror.cli.help import GroupedCommand
from mirror.cli.imports import cheap_imports
from mirror.cli.interrupt import RESUME
from mirror.cli.progress import progress
from mirror.cli.run import run
from mirror.content.finding import Severity
from mirror.errors import InvalidDigest
from mirror.oci.digest import Digest
from mirror.oci.reference import Reference
from mirror.report.findings import VerifyLevel, VerifyReport
from mirror.report.text import to_text
from mirror.stores.location import Location, Transport
from mirror.verify import Verification, VerifyOptions

if TYPE_CHECKING:
    from mirror.records import Record

_HELP = """Verify a layout offline: hash every byte, follow every link, and report all findings of one run.

\b
  mirror verify                              everything in ./layout
  mirror verify ./layout redis:4.0           one image
  mirror verify ./layout --level structure   quick: names and sizes only
  mirror verify ./layout --level layers      unpacked, compared with configs
  mirror verify ./layout --sample 2/7        one seventh of the blobs
  mirror verify ./layout --junit verify.xml  for CI
  mirror verify images.tar                   an archive, read in place
  mirror verify docker://redis:4.0           in its registry, nothing stored
  mirror verify ./layout --record redis.md   compared with a record
  mirror verify ./layout --expect redis:4.0=sha256:…
  mirror verify docker://registry.internal:5000/redis:4.0 --record redis.md
  mirror verify --receipt FILE               a registry, against a receipt
  mirror verify ./layout --repair --from registry.internal:5000

The output begins with the findings that affect the most images. Long lists are cut; -v shows all of them.

The layout is only read. A layout can prove only that it agrees with itself; it cannot tell you whether it is the image
you wanted. For that, pass a digest or a record that you received separately (see mirror record), or compare the printed
digests with the published ones.

Exit codes: 0 ok, 3 not ok, 1 no fault was found but something could not be checked.
"""

_RECORD_HINT = "--record takes the file of a digest record."


@click.command(cls=GroupedCommand, help=_HELP)
@click.argument("location", metavar="[DIR|FILE|docker://IMAGE]", required=False, type=options.Place(path_type=str))
@options.with_images
@click.option(
    "--receipt",
    type=options.Place(),
    metavar="FILE",
    help="Compare the registry with the receipt of a push, over the network, instead of verifying a layout.",
)
@click.option(
    "--level",
    type=click.Choice([str(level) for level in VerifyLevel]),
    default="content",
    show_default=True,
    help="Thoroughness; each level includes those before it.",
)
@click.option(
    "--sample", metavar="N/T", help="Hash only part N of T of the blobs; everything else is checked as usual."
)
@click.option(
    "--fail-on",
    type=click.Choice(["error", "warning"]),
    default="error",
    show_default=True,
    help="Lowest severity that makes the verdict not ok.",
)
@click.option("--junit", type=options.Place(dir_okay=False), metavar="FILE", help="Also write a JUnit report to FILE.")
@click.option(
    "--record",
    "files",
    type=options.Place(),
    multiple=True,
    metavar="FILE",
    help="Compare images with the digest records in FILE; repeat the option for several files.",
)
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="IMAGE=DIGEST",
    help="Digest that an image must have; repeat the option for several images.",
)
@click.option(
    "--repair",
    is_flag=True,
    help="Re-fetch damaged blobs from SOURCE, and verify again. Damaged files are moved to .mirror/quarantine.",
)
@click.option(
    "--from",
    "source",
    type=options.Place(path_type=str),
    metavar="SOURCE",
    help="A good copy for --repair: a layout, an archive, or REGISTRY[/PREFIX].",
)
@remote.jobs_option("Number of blobs to read from a registry, or to repair, at once.")
@partial(remote.with_registry, verbose="Show all findings and images; of a registry, also requests and retries.")
@options.with_output
@options.with_json
@options.with_config
@click.pass_context
def command(
    ctx: click.Context,
    location: str | None,
    images: tuple[str, ...],
    receipt: Path | None,
    level: str,
    sample: str | None,
    fail_on: str,
    junit: Path | None,
    files: tuple[Path, ...],
    expected: tuple[str, ...],
    repair: bool,
    source: str | None,
) -> None:
    location = location or ("" if receipt else str(options.DEFAULT_LAYOUT))
    in_registry = not receipt and Location.parse(location, registry=False).transport is Transport.REGISTRY
    _check_usage(ctx, in_registry=in_registry)
    options.check_file(ctx, junit, "--junit")
    checks = VerifyOptions(
        level=level,
        sample=sample,
        fail_on=fail_on,
        expect=_parse_expected(ctx, expected),
        records=_parse_records(files) if files else (),
    )
    if source:
        report = _repair(location, source, images, checks)
    elif receipt or in_registry:
        report = _verify_in_registry(location, receipt, checks)
    else:
        report = _verify_local(location, images, checks, junit)
    ctx.exit(_show(report, junit))


def _check_usage(ctx: click.Context, *, in_registry: bool) -> None:
    """Raise UsageError for options that contradict each other."""
    given = ctx.params
    receipt, repair, sample = given["receipt"], given["repair"], given["sample"] is not None
    for wrong, why in (
        (given["location"] and receipt, "Name either a layout or archive, or a receipt with --receipt."),
        (repair != bool(given["source"]), "--repair needs --from SOURCE (a good copy), and --from needs --repair."),
        (repair and (receipt or sample), "--repair cannot be combined with --receipt or --sample."),
        (
            receipt and (sample or ctx.get_parameter_source("level") is not ParameterSource.DEFAULT),
            "--level and --sample cannot be combined with --receipt, which hashes every byte.",
        ),
        (
            in_registry and (given["images"] or sample or repair or given["level"] != VerifyLevel.CONTENT),
            "docker://IMAGE is verified as a whole: no other names, --sample, --level or --repair.",
        ),
        (
            (given["files"] or given["expected"]) and (receipt or repair),
            "--record and --expect cannot be combined with --receipt or --repair; verify again after a repair.",
        ),
    ):
        if wrong:
            raise click.UsageError(why, ctx)


def _parse_expected(ctx: click.Context, texts: tuple[str, ...]) -> dict[str, str]:
    expected: dict[str, str] = {}
    for text in texts:
        name, _, digest = text.partition("=")
        try:
            Digest.parse(digest)
        except InvalidDigest as error:
            raise click.UsageError(f"--expect must be IMAGE=DIGEST, such as redis:4.0=sha256:…: {error}", ctx) from None
        if expected.setdefault(name, digest) != digest:
            raise click.UsageError(f"--expect names two digests for {name}.", ctx)
    return expected


def _parse_records(files: tuple[Path, ...]) -> list[Record]:
    from mirror.config.files import read_file
    from mirror.records import CAP, parse_records  # most verifications have no records

    return [record for file in files for record in parse_records(read_file(file, CAP, _RECORD_HINT), str(file))]


def _repair(location: str, source: str, images: tuple[str, ...], checks: VerifyOptions) -> VerifyReport:
    with cheap_imports():
        from mirror.manage.repair import RepairOptions, repair_layout  # loads the HTTP client

    repairing = RepairOptions(checks.level, remote.retry_policy(), remote.registry_options())
    with progress() as bars:
        report = run(repair_layout(location, source, images, repairing, bars), again=RESUME)
    return replace(report, fail_on=Severity(checks.fail_on))


def _verify_in_registry(location: str, receipt: Path | None, checks: VerifyOptions) -> VerifyReport:
    """Verify the images of a receipt, or the one at a location."""
    with cheap_imports():  # they load the HTTP client
        from mirror.verify.image import verify_image
        from mirror.verify.receipt import verify_receipt

    hosts = [] if receipt else [Reference.parse(location).registry]
    checks = replace(checks, retry=remote.retry_policy(), registries=remote.registry_options(hosts))
    with progress() as bars:
        return run(verify_receipt(receipt, checks, bars) if receipt else verify_image(location, checks, bars))


def _verify_local(location: str, images: tuple[str, ...], checks: VerifyOptions, junit: Path | None) -> VerifyReport:
    """Verify a layout or an archive. If that is interrupted, show what has been found."""
    remote.check_files()  # the others do so for their registries
    local: Verification | None = None
    try:
        with progress() as bars:
            local = Verification(location, images, checks, bars)
            return run(_finish(local))
    except KeyboardInterrupt:
        with suppress(BrokenPipeError):  # Ctrl-C has ended the reader of the pipe, too
            if local:
                _show(local.report, junit)
        raise


async def _finish(verification: Verification) -> VerifyReport:
    async for _ in verification:
        pass
    return verification.report


def _show(report: VerifyReport, junit: Path | None) -> int:
    """Show a report, and return the exit code."""
    text = to_text(report, view())
    options.show_result(report, text)
    console.status(text.summary)
    if junit:
        from mirror.report.junit import to_junit  # loads the XML library

        options.write_beside(junit, to_junit(report), "--junit")
    return report.exit_code
