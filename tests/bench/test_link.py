"""Tests of the pace of the simulated slow link."""

from math import inf

from tests.bench.link import Line


def test_pieces_leave_one_after_another_at_the_rate() -> None:
    line = Line(1000)
    assert [line.occupy(10, 500), line.occupy(10, 500), line.occupy(10.2, 100)] == [10.5, 11, 11.1]


def test_a_line_that_was_idle_does_not_catch_up() -> None:
    line = Line(1000)
    line.occupy(10, 500)
    assert line.occupy(20, 500) == 20.5


def test_a_line_without_a_limit_takes_no_time() -> None:
    assert Line(inf).occupy(10, 1_000_000) == 10
