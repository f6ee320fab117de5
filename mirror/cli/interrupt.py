"""The texts for an interrupted command, and the removal of its progress bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

MESSAGE = "interrupted."
RESUME = "Run the same command again to resume."
# Of a command that ends at a registry, which forgets upload sessions (docs/adr/0013)
SEND_AGAIN = "Run the same command again: blobs that have arrived completely are not sent again."

_erasers: list[Callable[[], None]] = []  # what removes progress bars if the process ends at once


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM ended a command; `hint` says what the same command would do, run again, if that is useful."""

    def __init__(self, *, hint: str | None) -> None:
        super().__init__()
        self.hint = hint


@contextmanager
def erased_at_exit(erase: Callable[[], None]) -> Iterator[None]:
    """Have something removed from the terminal if the process ends at once; `erase` is called by any thread."""
    _erasers.append(erase)
    try:
        yield
    finally:
        _erasers.remove(erase)


def erase() -> None:
    """Remove progress bars from the terminal. The process must end afterwards: no thread can draw them any more."""
    for each in list(_erasers):
        each()
