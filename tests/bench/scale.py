"""Measure whether the cost per image depends on their number: lists of three lengths of one small image."""

import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench.measure import Cost, Shell, say
from tests.bench.registry import docker_registry, free_port
from tests.bench.servers import mirror_serve
from tests.bench.table import MIB, Row, memory

STEPS = {
    "pull": "mirror pull --from-file $NAMES --all-platforms -o $FRESH",
    "pull again": "mirror pull --from-file $NAMES --all-platforms -o $FRESH",
    "ls": "mirror ls $FRESH",
    "verify": "mirror verify $FRESH",
    "push": "mirror push $FRESH $HOST",
    "export": "mirror export $FRESH $ARCHIVE",
    "import": "mirror import $ARCHIVE $OTHER",
}
_BOUNDED = ("pull", "push", "export", "import")
_MOST_MEMORY = 128 * MIB
_MOST_RATIO = 1.3


def measure(folder: Path, sizes: Sequence[int]) -> list[Row]:
    """Run every step once at every size."""
    costs = {size: _costs(folder / f"scale-{size}", size) for size in sizes}
    return [*_ratios(costs), *_memory(costs)]


def _costs(folder: Path, size: int) -> dict[str, Cost]:
    folder.mkdir()
    port = free_port()
    served, names = folder / "served", folder / "names"
    make = [sys.executable, "-m", "tests.bench.tags", str(served), str(size), f"127.0.0.1:{port}/app", str(names)]
    subprocess.run(make, check=True)
    shell, found = Shell(folder), dict[str, Cost]()
    where = {"NAMES": names, "FRESH": folder / "layout", "ARCHIVE": folder / "x.tar", "OTHER": folder / "other"}
    with mirror_serve(served, port), docker_registry(folder / "registry") as host:
        for step, command in STEPS.items():
            say(f"scale, {size} images, {step}")
            found[step] = shell.run(command, HOST=host, **where)
    shutil.rmtree(folder)
    return found


def _ratios(costs: Mapping[int, Mapping[str, Cost]]) -> list[Row]:
    """Compare the time per image of the two longest lists."""
    rows, (few, many, more) = list[Row](), costs
    for step in STEPS:
        each = {size: cost[step].wall / size * 1000 for size, cost in costs.items()}
        ratio = each[more] / each[many]
        small, middle, large = (f"{value:.2f} ms" for value in each.values())
        what = f"{step}, an image of {more:,} / one of {many:,} (of {few:,}: {small})"
        rows.append(Row(what, large, middle, f"{ratio:.2f}", 1, f"≤ {_MOST_RATIO:g}", ratio <= _MOST_RATIO))
    return rows


def _memory(costs: Mapping[int, Mapping[str, Cost]]) -> list[Row]:
    longest = max(costs)
    return [
        memory(f"{step} of {longest:,} images, peak memory", [costs[longest][step]], most=_MOST_MEMORY)
        for step in _BOUNDED
    ]
