"""The number of examples that Hypothesis draws: few by default, all of them in CI.

`HYPOTHESIS_PROFILE=ci`, or `CI` in the environment, chooses the profile `ci`. A test states with `examples` how many it
needs there; the profile `dev` draws a fifth of them.
"""

import os
from typing import Any

from hypothesis import settings

settings.register_profile("ci", max_examples=100, deadline=None, print_blob=True)
settings.register_profile("dev", max_examples=20, deadline=None)


def load_profile() -> None:
    """Load the profile that the environment asks for."""
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def examples(count: int, **others: Any) -> settings:
    """Return settings for a test that draws `count` examples in CI; `others` are more of Hypothesis' settings."""
    return settings(max_examples=max(2, count * settings().max_examples // 100), **others)
