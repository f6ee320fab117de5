"""Progress bars on a terminal, and the log on stderr."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from mirror.cli import console
from mirror.cli.colour import can_draw
from mirror.cli.context import kept
from mirror.cli.interrupt import erased_at_exit
from mirror.content.store import NoProgress, Progress

ACCESS_LOG = "mirror.serve.access"  # its lines have a format of their own


@contextmanager
def progress() -> Iterator[Progress]:
    """Show the log of a command and, on a terminal, progress bars; follow --quiet, --verbose and --no-progress.

    A JSON log has no bars, and a terminal that cannot move its cursor has none either.
    """
    if not can_draw(sys.stderr) or kept("quiet") or kept("no_progress") or console.is_json_log():
        with log_to_stderr():
            yield Results()
        return
    from mirror.cli.bar import Bars  # tqdm takes 30 ms to import

    with closing(Bars()) as bars, erased_at_exit(bars.erase), log_to_stderr(bars.write):
        yield bars


class Results(NoProgress):
    """Progress that shows nothing but the result lines."""

    def result(self, line: str) -> None:
        console.early_result(line)


@contextmanager
def log_to_stderr(write: Callable[[str], None] = console.write) -> Iterator[None]:
    """Show the log of a command, for those without progress bars; follow --quiet and --verbose."""
    logger, handler = logging.getLogger("mirror"), _LogHandler(write)
    before = logger.level
    logger.setLevel(logging.INFO if kept("verbose") else logging.ERROR if kept("quiet") else logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _LogHandler(logging.Handler):
    def __init__(self, write: Callable[[str], None]) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == ACCESS_LOG and console.is_json_log():
            self._write(console.json_line("request", **getattr(record, "request", {})))
        elif record.name == ACCESS_LOG:
            self._write(console.safe(record.getMessage()))
        else:
            kind = "warning" if record.levelno >= logging.WARNING else "info"
            self._write(console.labelled(kind, record.getMessage()))
