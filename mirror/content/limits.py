"""The limits of every walk over an image, so that hostile content cannot exhaust memory or time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from mirror.errors import LimitExceeded
from mirror.oci.descriptor import Descriptor

# The largest genuine images have a few hundred manifests, in two levels.
MOST_MANIFESTS = 10_000
MOST_BYTES = 64 * 1024 * 1024  # of all manifests of one image, which are held in memory
DEEPEST = 32  # levels, including the root

# Walks from many roots of one store, or one per platform, may follow a link several times. If indexes share their
# children, the number of paths can grow exponentially; the indexes of genuine images share few.
FREE_LINKS = 1_000_000  # links that may be followed in any case
SHARED = 20  # and how often each link may be followed, on average


class Limits(NamedTuple):
    """The limits of one walk; `size` is the total bytes of manifests, as their descriptors declare them."""

    manifests: int = MOST_MANIFESTS
    size: int = MOST_BYTES
    levels: int = DEEPEST


class Budget:
    """The part of its limits that a walk has used. Errors call the root `what`, and count so many of `noun`."""

    def __init__(self, what: str, limits: Limits | None = None, noun: str = "manifest") -> None:
        self._what, self._limits, self._noun = what, limits or Limits(), noun
        self._count = self._size = 0
        self._level = 1

    def take(self, size: int) -> None:
        """Count one manifest of `size` bytes before it is read, or raise LimitExceeded; the read checks the size."""
        if self._count >= self._limits.manifests:
            raise LimitExceeded(f"{self._what}: more than {self._limits.manifests} {self._noun}s.")
        if self._size + size > self._limits.size:
            raise LimitExceeded(f"{self._what}: more than {self._limits.size} bytes of {self._noun}s.")
        self._count += 1
        self._size += size

    def descend(self) -> None:
        """Count one more level, or raise LimitExceeded."""
        self._level += 1
        if self._level > self._limits.levels:
            raise LimitExceeded(f"{self._what}: {self._noun}s nest more than {self._limits.levels} levels deep.")

    def ascend(self) -> None:
        """Return to the first level."""
        self._level = 1


def affordable(nodes: Iterable[Descriptor], size: int = MOST_BYTES) -> list[Descriptor]:
    """Return the first of some small blobs, such as configs, that fit into `size` bytes together."""
    return [node for node in nodes if (size := size - node.size) >= 0]
