"""Tests of threads that hang in the kernel, as on a file server that is gone: the command ends nevertheless."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_crash import Gate, finish
from tests.support import images
from tests.support.command import Mirror, assert_whole
from tests.support.registry import EmbeddedRegistry, Fault, Status

GOOD, LOST = images.layer(1, 3000), images.layer(2, 4000)
IMAGE = images.image("linux/amd64", GOOD, LOST)
OTHER = images.image("linux/amd64", images.layer(3, 100))
HOUR = 3600


def is_complete(folder: Path) -> bool:
    """Return whether a partial file has all bytes of its blob."""
    files = {path.name.replace("-", ":", 1): path.stat().st_size for path in folder.iterdir()}
    return any(files.get(digest) == len(data) for digest, data in IMAGE.blobs.items())


def slow(mirror: Mirror, seconds: float, *args: object) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.slow_fsync", str(seconds), *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=mirror.folder,
        env={**mirror.env, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.slow
def test_pull_whose_blob_fails_ends_while_the_disk_hangs(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    IMAGE.publish(registry, "app", "v1")
    OTHER.publish(registry, "other", "v1")
    mirror("pull", f"{registry.host}/other:v1", "--all")  # creates the directories
    gate = Gate(1000)
    registry.fault(Fault(path=f"/blobs/{LOST.digest}", action=(gate, Status(404))))
    running = slow(mirror, HOUR, "pull", f"{registry.host}/app:v1", "--all", "--retries", 1)
    while not is_complete(layout / ".mirror/partial"):
        assert running.poll() is None
        time.sleep(0.01)
    time.sleep(0.5)  # until its fsync hangs; sooner would test less
    gate.opened.set()
    result = finish(running)
    assert result.code == 1
    assert LOST.digest in result.err
    assert_whole(layout)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_a_command_whose_event_loop_hangs(mirror: Mirror, number: signal.Signals) -> None:
    code = """if True:
        import time
        from mirror import cli
        from mirror.cli.run import run

        async def hang():
            print("now", flush=True)
            time.sleep(3600)

        def command(*args, **options):
            run(hang(), resumable=True)

        cli.mirror.main = command
        cli.main()
    """
    running = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=mirror.env
    )
    assert running.stdout
    assert running.stdout.readline() == b"now\n"
    running.send_signal(number)
    result = finish(running)
    assert (result.code, result.err) == (130, "error: interrupted.\nhint: Run the same command again to resume.\n")
