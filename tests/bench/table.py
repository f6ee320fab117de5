"""The results: rows with a verdict, and the Markdown table that they make."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from tests.bench.measure import Cost, Pairs

MIB = 1024 * 1024
HEAD = ("what", "mirror", "other", "ratio", "target", "met")


@dataclass(frozen=True)
class Row:
    """One line; `met` is None where there is no target."""

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
    """Seconds on the wall. The target is for the ratio; with `plus`, for what mirror may take beside the other."""
    ours, other = _medians(pairs, lambda cost: cost.wall)
    ratio = _ratio(pairs, lambda cost: cost.wall)
    met = ours <= most * other + plus if most and plus else ratio <= most if most else None
    target = f"≤ {most:g}" if most else ""
    target += f" of other + {plus:g} s" if plus else ""
    target += f" (stretch {stretch:g}: {'yes' if ratio <= stretch else 'no'})" if stretch else ""
    return Row(what, _seconds(ours), _seconds(other), f"{ratio:.2f}", target, met)


def cpu(what: str, pairs: Pairs, most: float | None = None) -> Row:
    """Seconds of CPU; the target is for mirror's own."""
    ours, other = _medians(pairs, lambda cost: cost.cpu)
    ratio = _ratio(pairs, lambda cost: cost.cpu)
    target, met = (f"≤ {most:g} s", ours <= most) if most else ("", None)
    return Row(what, _seconds(ours), _seconds(other), f"{ratio:.2f}", target, met)


def seconds(what: str, ours: Iterable[Cost], most: float) -> Row:
    """Seconds on the wall, with a target of their own."""
    mine = median(cost.wall for cost in ours)
    return Row(what, _seconds(mine), "", "", f"≤ {most:g} s", mine <= most)


def memory(what: str, ours: Iterable[Cost], other: Iterable[Cost] = (), most: int | None = None) -> Row:
    """The largest peak of all runs; the target is for mirror's own."""
    mine = max(cost.memory for cost in ours)
    its = max((cost.memory for cost in other), default=None)
    target, met = (f"≤ {most / MIB:.0f} MiB", mine <= most) if most else ("", None)
    ratio = f"{mine / its:.2f}" if its else ""
    return Row(what, _mib(mine), _mib(its) if its else "", ratio, target, met)


def render(rows: Iterable[Row]) -> str:
    """A Markdown table."""
    lines = [HEAD, tuple("---" for _ in HEAD), *(row.cells() for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def verdict(rows: Iterable[Row]) -> str:
    """One sentence that says plainly which targets are missed."""
    aimed = [row for row in rows if row.met is not None]
    missed = [row for row in aimed if not row.met]
    if not missed:
        return f"All {len(aimed)} targets are met."
    names = "; ".join(f"{row.what} ({row.ratio or row.mirror}, {row.target})" for row in missed)
    return f"{len(missed)} of {len(aimed)} targets are MISSED: {names}."


def _medians(pairs: Pairs, of: Callable[[Cost], float]) -> tuple[float, float]:
    return median(of(ours) for ours, _ in pairs), median(of(other) for _, other in pairs)


def _ratio(pairs: Pairs, of: Callable[[Cost], float]) -> float:
    """The median of the pairs' own ratios, which drift between the pairs leaves alone."""
    return median(of(ours) / of(other) for ours, other in pairs)


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{value:.3f} s"


def _mib(value: int) -> str:
    return f"{value / MIB:.0f} MiB"
