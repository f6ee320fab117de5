"""The results as rows of a Markdown table, with the targets on request."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.measure import Cost, Pairs

MIB = 1024 * 1024
HEAD = ("what", "mirror", "other", "ratio", "runs", "target", "met")


@dataclass(frozen=True)
class Row:
    """One row of the table, from so many runs of each command; `met` is None if there is no target."""

    what: str
    mirror: str
    other: str
    ratio: str
    runs: int
    target: str = ""
    met: bool | None = None

    def cells(self) -> Sequence[str]:
        met = "" if self.met is None else "yes" if self.met else "**no**"
        return self.what, self.mirror, self.other, self.ratio, str(self.runs), self.target, met


def wall(what: str, pairs: Pairs, most: float | None = None) -> Row:
    """Compare wall time; the target is for the ratio."""
    return _compare(what, pairs, lambda cost: cost.wall, most)


def cpu(what: str, pairs: Pairs, most: float | None = None) -> Row:
    """Compare CPU time; the target is for the ratio."""
    return _compare(what, pairs, lambda cost: cost.cpu, most)


def seconds(what: str, ours: Sequence[Cost], most: float) -> Row:
    """Report mirror's wall time against a target in seconds."""
    mine = median(cost.wall for cost in ours)
    return Row(what, _seconds(mine), "", "", len(ours), f"≤ {most:g} s", mine <= most)


def memory(what: str, ours: Sequence[Cost], other: Sequence[Cost] = (), most: int | None = None) -> Row:
    """Compare the largest peak of all runs; the target is for mirror's."""
    mine = max(cost.memory for cost in ours)
    its = max((cost.memory for cost in other), default=None)
    target, met = (f"≤ {most / MIB:.0f} MiB", mine <= most) if most else ("", None)
    ratio = f"{mine / its:.2f}" if its else ""
    return Row(what, _mib(mine), _mib(its) if its else "", ratio, len(ours), target, met)


def render(rows: Iterable[Row], *, targets: bool = False) -> str:
    """Return a Markdown table; with `targets`, two more columns say what was aimed at and whether it was met."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(row.cells() for row in rows)]
    shown = len(HEAD) if targets else HEAD.index("target")
    return "\n".join(f"| {' | '.join(cells[:shown])} |" for cells in lines)


def verdict(rows: Iterable[Row]) -> str:
    """Return a sentence that names the missed targets."""
    aimed = [row for row in rows if row.met is not None]
    missed = [row for row in aimed if not row.met]
    if not missed:
        return f"All {len(aimed)} targets are met."
    names = "; ".join(f"{row.what} ({row.ratio or row.mirror}, {row.target})" for row in missed)
    return f"{len(missed)} of {len(aimed)} targets are MISSED: {names}."


def _compare(what: str, pairs: Pairs, of: Callable[[Cost], float], most: float | None) -> Row:
    """Compare medians. The ratio is the median of the pairs' ratios, which drift between pairs does not affect."""
    ours, other = median(of(ours) for ours, _ in pairs), median(of(other) for _, other in pairs)
    ratio = median(of(ours) / of(other) for ours, other in pairs)
    target, met = (f"≤ {most:g}", round(ratio, 3) <= most) if most else ("", None)
    return Row(what, _seconds(ours), _seconds(other), f"{ratio:.2f}", len(pairs), target, met)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value:.3f} s"


def _mib(value: int) -> str:
    return f"{value / MIB:.0f} MiB"
