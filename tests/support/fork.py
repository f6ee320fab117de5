"""Run a function in a fork of this process, where it may exit or leave the machine's network."""

import multiprocessing
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Generic, TypeVar

T = TypeVar("T")

_LIMIT = 120  # seconds until it counts as hanging


@dataclass(frozen=True)
class Ended(Generic[T]):
    """The result of a fork: the value of the function, the traceback of its exception, or the signal that killed it."""

    value: T | None = None
    error: str = ""
    signal: int = 0


def run_in_fork(action: Callable[[], T]) -> Ended[T]:
    """Run a function in a fork, which has a single thread, and wait for its end."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(action, there))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the other threads are idle and hold no locks
        child.start()
    there.close()
    try:
        assert here.poll(_LIMIT), "the fork does not end"
        ended: Ended[T] = here.recv()
    except EOFError:
        child.join()
        ended = Ended(signal=-(child.exitcode or 0))
    finally:
        here.close()
        child.kill()
        child.join()
        child.close()
    return ended


def _child(action: Callable[[], T], result: Connection) -> None:
    try:
        ended = Ended(action())
    except BaseException:
        ended = Ended(error=traceback.format_exc())
    result.send(ended)
