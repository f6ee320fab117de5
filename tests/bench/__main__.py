"""Measure, and print a Markdown table: `python -m tests.bench`. With `--targets`, report missed targets."""

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from tests.bench import page, table
from tests.bench.cases import CASES
from tests.bench.machine import describe, require_tools
from tests.bench.measure import say
from tests.bench.results import Results
from tests.bench.rig import Rig
from tests.bench.workload import FULL, QUICK

SAVED = Path(__file__).parents[2] / "build/bench.json"


def main() -> None:
    options = _options()
    require_tools()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unlike a kill, this ends the registries
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    workload = QUICK if options.quick else FULL
    with _folder(options.keep) as folder, ExitStack() as stack:
        rig = Rig(folder, replace(workload, pairs=options.pairs or workload.pairs), stack)
        machine = describe(folder)
        results = Results(SAVED.with_stem("bench-quick") if options.quick else SAVED, day, machine)
        for name in options.only:
            if not (options.resume and name in results.rows):
                results.save(name, CASES[name].measure(rig))
    shown = [name for name in CASES if name in (results.rows if options.write else options.only)]
    rows = [row for name in shown for row in results.rows[name]]
    commands = dict.fromkeys(command for name in shown for command in CASES[name].commands)
    about = f"Measured on {day}. {machine}."
    text = "\n\n".join((table.render(rows), about, "\n".join(("```sh", *commands, "```"))))
    if options.write:
        page.write(page.PAGE, text)
        if missing := [name for name in CASES if name not in shown]:
            say(f"not measured today, and now missing on the page: {', '.join(missing)} (--resume measures them)")
    print(text.replace(table.render(rows), table.render(rows, targets=True)) if options.targets else text)
    if options.targets:
        print(f"\n{table.verdict(rows)}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/bench", description="Measure mirror against other tools.")
    parser.add_argument("--quick", action="store_true", help="measure a small workload once, in three minutes")
    parser.add_argument("--pairs", type=_positive, help="how many runs of each command (default: 5; with --quick: 1)")
    parser.add_argument(
        "--only", type=_names, default=list(CASES), metavar="NAME,…", help=f"some of: {', '.join(CASES)}"
    )
    parser.add_argument("--resume", action="store_true", help="measure only what was not measured today")
    parser.add_argument("--targets", action="store_true", help="compare the results with the project's targets")
    parser.add_argument("--write", action="store_true", help="write all results of today to the documentation")
    parser.add_argument("--keep", action="store_true", help="keep the directory with the registry and the layouts")
    options = parser.parse_args()
    if options.quick and options.write:
        parser.error("the documentation gets full measurements only: use --write without --quick")
    return options


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError("at least one run")
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
