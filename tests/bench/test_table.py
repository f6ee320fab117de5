"""Tests of the table of `scripts/bench`, with invented numbers."""

from functools import partial

from tests.bench.measure import Cost, pairs_of, rounds
from tests.bench.table import MIB, cpu, memory, render, verdict, wall

PAIRS = [(Cost(1, 2, 60 * MIB), Cost(4, 5, 20 * MIB)), (Cost(2, 3, 90 * MIB), Cost(4, 8, 30 * MIB))] * 3
FAST = wall("pull", PAIRS, 0.45)
SLOW = wall("push", PAIRS, 0.3)


def test_a_ratio_is_the_median_of_the_ratios_of_the_pairs() -> None:
    assert FAST.cells() == ("pull", "1.50 s", "4.00 s", "0.38", "6", "≤ 0.45", "yes")


def test_each_round_begins_with_another_command() -> None:
    order = list[str]()

    def run(name: str) -> Cost:
        order.append(name)
        return Cost("abc".index(name), 1, 0)

    found = rounds("letters", 3, *(partial(run, name) for name in "abc"))
    assert order == [*"abc", *"bca", *"cab"]
    assert pairs_of(found, 2) == [(Cost(0, 1, 0), Cost(2, 1, 0))] * 3


def test_a_missed_target_is_reported() -> None:
    assert SLOW.cells()[-1] == "**no**"
    assert verdict([FAST, SLOW]) == "1 of 2 targets are MISSED: push (0.38, ≤ 0.3)."
    assert verdict([FAST]) == "All 1 targets are met."


def test_a_row_without_a_target_is_neither_met_nor_missed() -> None:
    assert cpu("pull", PAIRS).cells()[-2:] == ("", "")
    assert verdict([FAST, cpu("pull", PAIRS)]) == "All 1 targets are met."


def test_memory_is_the_largest_peak() -> None:
    ours, other = zip(*PAIRS, strict=True)
    row = memory("pull", ours, other, 64 * MIB)
    assert row.cells() == ("pull", "90 MiB", "30 MiB", "3.00", "6", "≤ 64 MiB", "**no**")


def test_a_target_is_for_the_ratio_that_is_shown() -> None:
    assert cpu("pull", PAIRS, 0.4).cells()[1:] == ("2.50 s", "6.50 s", "0.39", "6", "≤ 0.4", "yes")
    assert not cpu("pull", PAIRS, 0.38).met


def test_the_table_is_markdown() -> None:
    lines = render([FAST, SLOW], targets=True).splitlines()
    assert lines[0] == "| what | mirror | other | ratio | runs | target | met |"
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- |"
    assert len(lines) == 4


def test_targets_are_shown_only_on_request() -> None:
    assert render([FAST]).splitlines()[-1] == "| pull | 1.50 s | 4.00 s | 0.38 | 6 |"
