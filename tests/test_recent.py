"""Tests of the bounded memory of results."""

from mirror.recent import Recent


def test_values_used_last_are_kept() -> None:
    recent = Recent[str, int](100)
    for number, name in enumerate("abcd"):
        recent.add(name, number, 25)
    assert recent.get("a") == 0
    recent.add("e", 4, 25)
    assert [recent.get(name) for name in "abcde"] == [0, None, 2, 3, 4]


def test_values_that_take_a_large_part_of_the_limit_are_not_kept() -> None:
    recent = Recent[str, int](100)
    recent.add("small", 1, 25)
    recent.add("large", 2, 26)
    assert (recent.get("small"), recent.get("large")) == (1, None)


def test_replaced_value_does_not_count() -> None:
    recent = Recent[str, int](100)
    for name in "abc":
        recent.add(name, 1, 25)
    for number in range(10):
        recent.add("c", number, 25)
    assert [recent.get(name) for name in "abc"] == [1, 1, 9]
