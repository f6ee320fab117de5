"""The results as rows of a Markdown table, with the targets on request."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.measure import Cost, Pairs

MIB = 1024 * 1024
HEAD = ("what", "mirror", "other", "ratio", "target", "met")


@dataclass(frozen=True)
class Row:
    """One row of the table; `met` is None if there is no target."""

    what: str
    mirror: str
    other: str
    ratio: str
    target: str
    met: bool | None

    def cells(self) -> Sequence[str]:
        met = "" if self.met is None else "yes" if self.met else "**no**"
        return self.what, self.mirror, self.other, self.ratio, self.target, met


def wall(what: str, pairs: Pairs, most: float | None = None, plus: float = 0.0, stretch: float | None = None) -> Row:
    """Compare wall time. The target is for the ratio or, with `plus`, for mirror's seconds beyond the other's."""
    ours, other = _medians(pairs, lambda cost: cost.wall)
    ratio = _ratio(pairs, lambda cost: cost.wall)
    met = ours <= most * other + plus if most and plus else ratio <= most if most else None
    target = f"≤ {most:g}" if most else ""
    target += f" of other + {plus:g} s" if plus else ""
    target += f" (stretch {stretch:g}: {'yes' if ratio <= stretch else 'no'})" if stretch else ""
    return Row(what, _seconds(ours), _seconds(other), f"{ratio:.2f}", target, met)


def cpu(what: str, pairs: Pairs, most: float | None = None) -> Row:
    """Compare CPU time; the target is for mirror's seconds."""
    ours, other = _medians(pairs, lambda cost: cost.cpu)
    ratio = _ratio(pairs, lambda cost: cost.cpu)
    target, met = (f"≤ {most:g} s", ours <= most) if most else ("", None)
    return Row(what, _seconds(ours), _seconds(other), f"{ratio:.2f}", target, met)


def seconds(what: str, ours: Iterable[Cost], most: float) -> Row:
    """Report mirror's wall time against a target in seconds."""
    mine = median(cost.wall for cost in ours)
    return Row(what, _seconds(mine), "", "", f"≤ {most:g} s", mine <= most)


def memory(what: str, ours: Iterable[Cost], other: Iterable[Cost] = (), most: int | None = None) -> Row:
    """Compare the largest peak of all runs; the target is for mirror's."""
    mine = max(cost.memory for cost in ours)
    its = max((cost.memory for cost in other), default=None)
    target, met = (f"≤ {most / MIB:.0f} MiB", mine <= most) if most else ("", None)
    ratio = f"{mine / its:.2f}" if its else ""
    return Row(what, _mib(mine), _mib(its) if its else "", ratio, target, met)


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


def _medians(pairs: Pairs, of: Callable[[Cost], float]) -> tuple[float, float]:
    return median(of(ours) for ours, _ in pairs), median(of(other) for _, other in pairs)


def _ratio(pairs: Pairs, of: Callable[[Cost], float]) -> float:
    """Return the median of the ratios of the pairs, which does not depend on drift between the pairs."""
    return median(of(ours) / of(other) for ours, other in pairs)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value:.3f} s"


def _mib(value: int) -> str:
    return f"{value / MIB:.0f} MiB"
