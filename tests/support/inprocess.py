"""Run the `mirror` command inside the test process, as a process of its own would run it.

A call costs a tenth of an interpreter start. The state of a new process is swapped in for the call, and the old state
restored after it: file descriptors 0 to 2, environment, working directory, `sys.argv`, warning filters, logging, signal
handlers, secrets, the limit of open files and the objects that the garbage collector sees. `os._exit` ends the call,
not the test process.
"""

import contextvars
import gc
import logging
import os
import resource
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TextIO

from mirror.cli import main
from mirror.text import redaction

# Every warning is an error, except for open connections at exit: the command does not wait for the end of TLS.
WARNINGS = "error,ignore:unclosed <s:ResourceWarning,ignore:unclosed transport:ResourceWarning"

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FLUSH_FAILED = 120  # the exit code of an interpreter that cannot flush stdout at its end


class _Exited(SystemExit):
    """`os._exit` was called. A SystemExit, because asyncio's loop does not catch it."""


def run(args: Sequence[str], *, cwd: Path, env: Mapping[str, str], stdin: bytes) -> tuple[int, bytes, bytes]:
    """Run `mirror ARGS` to its end and return its exit code, stdout and stderr.

    Args:
        args: the command line without the program's name.
        cwd: the working directory.
        env: the whole environment.
        stdin: what the command reads, through a pipe.
    """
    with ExitStack() as stack:
        for swapped in (_collector(), _directory(cwd), _environment(env), _process_state()):
            stack.enter_context(swapped)
        out, err = _Collected(), _Collected()
        with (
            _Fed(stdin) as source,
            out as out_fd,
            err as err_fd,
            _descriptors(source, out_fd, err_fd),
            _streams(args),
            _logging(),
            _warnings(),
        ):
            code = contextvars.copy_context().run(_main)
        return code, bytes(out.data), bytes(err.data)


def _main() -> int:
    """Run it as `python -m mirror` does, with garbage collection at the end, and return the exit code."""
    try:
        main()
    except _Exited as exited:
        return int(str(exited.code))  # without flushing and garbage collection
    except SystemExit as exited:
        code = exited.code
    except BaseException:  # the interpreter prints it and exits as usual
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    gc.collect()  # warns about unclosed resources
    return (code or 0) if _flushed() else _FLUSH_FAILED


def _flushed() -> bool:
    try:
        sys.stdout.flush()
    except (OSError, ValueError) as error:
        print(f"Exception ignored while flushing sys.stdout: {error}", file=sys.stderr)
        return False
    return True


# The state of a process


@contextmanager
def _collector() -> Iterator[None]:
    """Let the garbage collector see only the objects of the command: it is quick, and finds no garbage of the test."""
    gc.freeze()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()


@contextmanager
def _directory(cwd: Path) -> Iterator[None]:
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.chdir(cwd)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


@contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    try:
        _replace(env)
        yield
    finally:
        _replace(before)


def _replace(env: Mapping[str, str]) -> None:
    for name in os.environ.keys() - env.keys():
        del os.environ[name]
    os.environ.update(env)


@contextmanager
def _process_state() -> Iterator[None]:
    """Swap signal handlers, the limit of open files, `os._exit`, and the hooks by which pytest catches stray errors."""
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    hooks = os._exit, sys.unraisablehook, threading.excepthook, sys.excepthook
    os._exit = _exit
    sys.unraisablehook = sys.__unraisablehook__
    threading.excepthook = threading.__excepthook__
    try:
        yield
    finally:
        os._exit, sys.unraisablehook, threading.excepthook, sys.excepthook = hooks
        redaction.forget()
        if resource.getrlimit(resource.RLIMIT_NOFILE) != limit:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _exit(status: int) -> NoReturn:
    raise _Exited(status)


@contextmanager
def _logging() -> Iterator[None]:
    """Send the logs of libraries to stderr, as in a process without handlers, and reset the log of `mirror`."""
    root, log = logging.getLogger(), logging.getLogger("mirror")
    before = log.handlers[:], log.level
    last_resort = logging.StreamHandler(sys.stderr)
    last_resort.setLevel(logging.WARNING)
    last_resort.addFilter(_is_of_the_command)
    root.addHandler(last_resort)
    try:
        yield
    finally:
        root.removeHandler(last_resort)
        log.handlers[:], level = before
        log.setLevel(level)


def _is_of_the_command(record: logging.LogRecord) -> bool:
    """Exclude servers of the test, which log in other threads, and the log of `mirror`, which has handlers."""
    return record.thread == threading.main_thread().ident and record.name.partition(".")[0] != "mirror"


# File descriptors and streams


class _Fed:
    """A pipe from which `data` can be read."""

    def __init__(self, data: bytes) -> None:
        self._source, self._target = os.pipe()
        self._data = data
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> int:
        self._thread.start()
        return self._source

    def __exit__(self, *_: object) -> None:
        os.close(self._source)  # breaks the pipe if the command has not read everything
        self._thread.join()

    def _write(self) -> None:
        with suppress(BrokenPipeError), open(self._target, "wb") as file:
            file.write(self._data)


class _Collected:
    """A pipe for writing; afterwards `data` has everything that was written."""

    def __init__(self) -> None:
        self.data = bytearray()
        self._source, self._target = os.pipe()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> int:
        self._thread.start()
        return self._target

    def __exit__(self, *_: object) -> None:
        os.close(self._target)
        self._thread.join()

    def _read(self) -> None:
        with open(self._source, "rb", buffering=0) as file:
            while chunk := file.read(64 * 1024):
                self.data += chunk


@contextmanager
def _descriptors(*fds: int) -> Iterator[None]:
    """Replace the file descriptors 0, 1 and 2 by these."""
    before = [os.dup(number) for number in range(len(fds))]
    try:
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        yield
    finally:
        for number, fd in enumerate(before):
            os.dup2(fd, number)
            os.close(fd)


@contextmanager
def _streams(args: Sequence[str]) -> Iterator[None]:
    """Set `sys.argv`, and text streams over the file descriptors as Python opens them if LANG is C.UTF-8."""
    before = sys.argv, sys.stdin, sys.stdout, sys.stderr
    sys.argv = ["mirror", *args]
    sys.stdin = _text(0, "r", "surrogateescape")
    sys.stdout = _text(1, "w", "surrogateescape")
    sys.stderr = _text(2, "w", "backslashreplace", buffering=1)
    try:
        yield
    finally:
        for stream in (sys.stdin, sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.close()
        sys.argv, sys.stdin, sys.stdout, sys.stderr = before


def _text(fd: int, mode: str, errors: str, buffering: int = -1) -> TextIO:
    opened: Callable[..., Any] = open
    stream: TextIO = opened(fd, mode, buffering, encoding="utf-8", errors=errors, closefd=False)
    return stream


@contextmanager
def _warnings() -> Iterator[None]:
    """Set the filters of WARNINGS, with the function by which Python reads PYTHONWARNINGS at its start."""
    before = sys.warnoptions
    sys.warnoptions = WARNINGS.split(",")
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            warnings._processoptions(sys.warnoptions)  # type: ignore[attr-defined]
            yield
    finally:
        sys.warnoptions = before
