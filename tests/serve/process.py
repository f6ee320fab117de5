"""The command itself, as a process that serves until it is told to end."""

import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_LIMIT = 30  # seconds


@dataclass(frozen=True)
class Process:
    """`host` is HOST:PORT, as the command has printed it."""

    host: str
    popen: "subprocess.Popen[bytes]"
    log: Path

    @property
    def lines(self) -> list[str]:
        """What it has said on stderr so far."""
        return self.log.read_text().splitlines()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.popen.send_signal(number)
        return self.popen.wait(_LIMIT)


@contextmanager
def serving(command: Sequence[str], folder: Path, env: Mapping[str, str]) -> Iterator[Process]:
    """Run `mirror serve …`, and be there when it listens. Its stderr goes to a file, or nobody would read the pipe."""
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
