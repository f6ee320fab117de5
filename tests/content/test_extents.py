"""Tests of extents, against sets of single offsets."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mirror.content.extents import Extents
from tests.support.strategies import QUICK

parts = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=8)


@QUICK
@given(parts, st.integers(0, 35))
def test_extents_behave_like_a_set_of_offsets(found: list[tuple[int, int]], size: int) -> None:
    extents, offsets = Extents(found), {at for start, end in found for at in range(start, end)}
    assert {at for start, end in extents for at in range(start, end)} == offsets
    assert extents.total == len(offsets)
    ordered = list(extents)
    assert all(end < start for (_, end), (start, _) in pairwise(ordered))
    assert {at for start, end in extents.gaps(size) for at in range(start, end)} == set(range(size)) - offsets
    end = extents.end_of(size)
    assert set(range(size, end)) <= offsets
    assert end not in offsets
