"""Measure, and print a Markdown table: `python -m tests.bench`. With `--targets`, report missed targets."""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.cases import CASES, Bench
from tests.bench.machine import describe, require_tools
from tests.bench.measure import say
from tests.bench.registry import docker_registry
from tests.bench.table import render, verdict

_ABOUT = (
    "1.2 GB in 24 blobs over four platforms, docker-registry on loopback. Seconds are medians of {pairs} pairs, run in"
    " turn; a ratio is the median of the ratios of the pairs; memory is the largest peak. Files are in the page cache"
    " before they are read; everything written is on the disk before the next run starts."
)


def main() -> None:
    options = _options()
    require_tools()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unlike a kill, this ends the registries
    with _folder(options.keep) as folder, docker_registry(folder / "registry") as host:
        bench = Bench(folder, options.pairs, host)
        rows = [row for name in options.only for row in CASES[name].measure(bench)]
        where = describe(folder)
    commands = dict.fromkeys(command for name in options.only for command in CASES[name].commands)
    shown = "\n".join(("```sh", *commands, "```"))
    targets = [verdict(rows)] if options.targets else []
    table = render(rows, targets=options.targets)
    print("\n\n".join((table, *targets, _ABOUT.format(pairs=options.pairs), f"{where}.", shown)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/bench", description="Measure mirror against other tools.")
    parser.add_argument("--pairs", type=_positive, default=5, help="how many pairs of runs (default: 5)")
    parser.add_argument(
        "--only", type=_names, default=list(CASES), metavar="NAME,…", help=f"some of: {', '.join(CASES)}"
    )
    parser.add_argument("--targets", action="store_true", help="compare the results with the project's targets")
    parser.add_argument("--keep", action="store_true", help="keep the directory with the registry and the layout")
    return parser.parse_args()


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least one pair")
    return number


def _names(text: str) -> Sequence[str]:
    names = text.split(",")
    if unknown := set(names) - set(CASES):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: choose from {', '.join(CASES)}")
    return names


@contextmanager
def _folder(keep: bool) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mirror-bench-"))
    try:
        yield folder
    finally:
        if keep:
            say(f"kept: {folder}")
        else:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
