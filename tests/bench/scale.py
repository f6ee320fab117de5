"""Measure whether the cost per image depends on their number: 10², 10³ and 10⁴ names of one small image."""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import Cost, Shell, say
from tests.bench.registry import docker_registry, free_port
from tests.bench.servers import mirror_serve
from tests.bench.table import MIB, Row

SIZES = (100, 1_000, 10_000)
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


def measure(folder: Path) -> list[Row]:
    """Run every step once at every size."""
    costs = [_costs(folder / f"scale-{size}", size) for size in SIZES]
    return [*_ratios(costs), *_memory(costs[-1])]


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


def _ratios(costs: Sequence[dict[str, Cost]]) -> list[Row]:
    rows = []
    for step in STEPS:
        each = [cost[step].wall / size * 1000 for cost, size in zip(costs, SIZES, strict=True)]
        ratio = each[-1] / each[-2]
        small, middle, large = (f"{value:.2f} ms" for value in each)
        what = f"{step}, an image of {SIZES[-1]:,} / one of {SIZES[-2]:,} (of {SIZES[0]}: {small})"
        rows.append(Row(what, large, middle, f"{ratio:.2f}", f"≤ {_MOST_RATIO:g}", ratio <= _MOST_RATIO))
    return rows


def _memory(costs: dict[str, Cost]) -> list[Row]:
    rows = []
    for step in _BOUNDED:
        memory = costs[step].memory
        what = f"{step} of {SIZES[-1]:,} images, peak memory"
        target = f"≤ {_MOST_MEMORY / MIB:.0f} MiB"
        rows.append(Row(what, f"{memory / MIB:.0f} MiB", "", "", target, memory <= _MOST_MEMORY))
    return rows
