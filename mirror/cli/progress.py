"""Progress bars on a terminal, and the log on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mirror.cli.console import labelled
from mirror.content.store import NoProgress, Progress


class _Log(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        self._say(labelled("warning" if record.levelno >= logging.WARNING else "info", record.getMessage()))


@contextmanager
def progress(*, quiet: bool, no_progress: bool, verbose: bool = False) -> Iterator[Progress]:
    """Show the progress and the log of a command."""
    if not sys.stderr.isatty() or quiet or no_progress:
        with _logging(lambda text: print(text, file=sys.stderr, flush=True), quiet=quiet, verbose=verbose):
            yield NoProgress()
        return
    from mirror.cli.bar import Bars  # tqdm takes 30 ms to import

    bars = Bars()
    try:
        with _logging(bars.say, quiet=quiet, verbose=verbose):
            yield bars
    finally:
        bars.close()


@contextmanager
def _logging(say: Callable[[str], None], *, quiet: bool, verbose: bool) -> Iterator[None]:
    log, handler = logging.getLogger("mirror"), _Log(say)
    before = log.level
    log.setLevel(logging.INFO if verbose else logging.ERROR if quiet else logging.WARNING)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(before)
