"""Run `mirror serve` as a process."""

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LIMIT = 30  # seconds


@dataclass(frozen=True)
class Process:
    """A running server; `host` is HOST:PORT, as the command printed it."""

    host: str
    popen: "subprocess.Popen[bytes]"
    log: Path

    @property
    def lines(self) -> list[str]:
        """The lines on stderr so far."""
        return self.log.read_text().splitlines()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(_LIMIT)


@contextmanager
def serving(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Iterator[Process]:
    """Run `mirror serve …`, and yield when it listens; stderr goes to a file, because an unread pipe would fill up."""
    log = folder / "serve.log"
    with (
        log.open("wb") as err,
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, cwd=folder, env=dict(env)
        ) as popen,
    ):
        assert popen.stdout
        try:
            host = popen.stdout.readline().decode().strip()
            assert host, log.read_text()
            yield Process(host, popen, log)
        finally:
            popen.kill()
    assert "Traceback" not in log.read_text(), log.read_text()
    assert "Warning" not in log.read_text(), log.read_text()
