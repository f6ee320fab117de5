"""Pull quotas, from the `ratelimit-*` headers of Docker Hub and registries like it.

`100;w=21600` means 100 pulls in six hours (https://docs.docker.com/docker-hub/usage/pulls/).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_AMOUNT = re.compile(r"([0-9]{1,9})(?:\s*;\s*w=([0-9]{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Quota:
    """A quota of `limit` pulls in `window` seconds (None: not specified); `remaining` of them are left."""

    limit: int
    remaining: int
    window: int | None = None

    @classmethod
    def from_headers(cls, headers: Mapping[str, str]) -> Quota | None:
        """Return the quota in the headers of a response; None if they are absent or malformed."""
        limit = _AMOUNT.fullmatch(headers.get("ratelimit-limit", ""))
        remaining = _AMOUNT.fullmatch(headers.get("ratelimit-remaining", ""))
        if not limit or not remaining:
            return None
        return cls(int(limit[1]), int(remaining[1]), int(limit[2]) if limit[2] else None)

    def __str__(self) -> str:
        hours = f" in {self.window / 3600:g} h" if self.window else ""
        return f"{self.remaining} of {self.limit} pulls{hours} are left"


@dataclass(frozen=True, slots=True)
class QuotaUsage:
    """A command's use of a registry's quota.

    `cost` is the number of manifests fetched, an upper bound: some registries do not count all of them.
    """

    registry: str
    cost: int
    quota: Quota
