"""A bounded memory of results, for what is needed again soon."""

from __future__ import annotations

from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """The values used last, which together take at most `limit` bytes. May be used from several threads."""

    def __init__(self, limit: int) -> None:
        self._limit, self._size = limit, 0
        self._values: dict[K, tuple[V, int]] = {}  # the one used last comes last
        self._lock = Lock()

    def get(self, key: K) -> V | None:
        with self._lock:
            found = self._values.pop(key, None)
            if found is None:
                return None
            self._values[key] = found
            return found[0]

    def add(self, key: K, value: V, size: int) -> None:
        """Keep a value of `size` bytes; nothing that is larger than a quarter of the limit."""
        if size > self._limit // 4:
            return
        with self._lock:
            _, replaced = self._values.pop(key, (None, 0))
            self._values[key] = value, size
            self._size += size - replaced
            while self._size > self._limit:
                self._size -= self._values.pop(next(iter(self._values)))[1]
