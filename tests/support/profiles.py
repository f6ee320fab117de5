"""The amount of testing: everything in CI, less elsewhere.

`HYPOTHESIS_PROFILE=ci`, or `CI` in the environment, chooses the profile `ci`; the default is `dev`. `examples` sets how
many examples Hypothesis draws; `every` and `scaled` are for tests that try all cases of a kind, or a large number;
`superfluous` finds the variants of slow tests that only CI tries.
"""

import os
from collections.abc import Iterable
from typing import Any, TypeVar

import pytest
from hypothesis import settings

T = TypeVar("T")

settings.register_profile("ci", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("dev", max_examples=10, deadline=None)


def load_profile() -> None:
    """Load the profile that the environment asks for."""
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def examples(count: int, **others: Any) -> settings:
    """Return settings for a test that draws `count` examples in CI; `others` are more of Hypothesis' settings."""
    return settings(max_examples=max(2, count * settings().max_examples // 100), **others)


def every(cases: Iterable[T]) -> list[T]:
    """Return all cases in CI, and each tenth elsewhere: for tests that try whatever can happen."""
    return list(cases)[:: 100 // settings().max_examples]


def scaled(count: int) -> int:
    """Return a large number for CI, and a tenth of it elsewhere."""
    return count * settings().max_examples // 100


def superfluous(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """Return the variants of slow tests that are left out: none in CI; elsewhere, all but the first."""
    if settings().max_examples == 100:
        return set()
    kept: dict[str, pytest.Item] = {}
    slow = [item for item in items if item.get_closest_marker("slow")]
    return {item for item in slow if kept.setdefault(item.nodeid.partition("[")[0], item) is not item}
