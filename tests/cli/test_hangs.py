"""Tests of threads that hang in the kernel, as on a file server that is gone: the command ends nevertheless."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from mirror.registry.transport import route
from tests.cli.test_crash import finish
from tests.support import images
from tests.support.command import Mirror, assert_whole, partials
from tests.support.registry import EmbeddedRegistry, Fault, Later, Stall, Status

GOOD, LOST = images.layer(1, 3000), images.layer(2, 4000)
IMAGE = images.image("linux/amd64", GOOD, LOST)
OTHER = images.image("linux/amd64", images.layer(3, 100))
RANGED = {f"mirror.registry.blobs.{name}.MIN_REMAINING": 1000 for name in ("download", "parallel")}


def start(
    mirror: Mirror, call: str, *args: object, settings: Mapping[str, int] = MappingProxyType({})
) -> "subprocess.Popen[bytes]":
    """Start a command in which a system call hangs, with the exchange of this test; see `tests.support.hang`."""
    values = {"mirror.registry.transport.route.SMALLEST": route.SMALLEST, **settings}
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.hang", call, "began", json.dumps(values), *map(str, args)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=mirror.folder,
        env={**mirror.env, "PYTHONPATH": str(Path(__file__).parents[2])},
    )


@pytest.mark.slow
@pytest.mark.usefixtures("each_exchange")
@pytest.mark.parametrize(
    ("call", "settings"),
    [("fsync", {}), ("writev", {}), ("pwritev", RANGED)],
    ids=["fsync", "write", "write_to_offset"],
)
def test_pull_whose_blob_fails_ends_while_another_one_hangs(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, call: str, settings: dict[str, int]
) -> None:
    IMAGE.publish(registry, "app", "v1")
    OTHER.publish(registry, "other", "v1")
    mirror("pull", f"{registry.host}/other:v1", "--all")  # creates the directories
    began = mirror.folder / "began"
    registry.fault(Fault(path=f"/blobs/{LOST.digest}", times=None, action=(Status(404), Later(began.exists))))
    running = start(mirror, call, "pull", f"{registry.host}/app:v1", "--all", settings=settings)
    result = finish(running)
    assert result.code == 1
    assert LOST.digest in result.err
    assert began.exists()
    assert_whole(layout)


@pytest.mark.slow
@pytest.mark.usefixtures("each_exchange")
@pytest.mark.parametrize("settings", [{}, RANGED], ids=["one_connection", "ranges"])
def test_interrupt_ends_a_pull_from_a_server_that_is_silent(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path, settings: dict[str, int]
) -> None:
    IMAGE.publish(registry, "app", "v1")
    registry.fault(Fault(path=f"/blobs/{LOST.digest}", times=None, action=Stall(1000)))
    running = start(mirror, "", "pull", f"{registry.host}/app:v1", "--all", settings=settings)
    while partials(layout).get(LOST.digest, b"") != LOST.data[:1000]:
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(signal.SIGINT)
    result = finish(running)
    assert result.code == 130
    assert result.err.lstrip() == "error: interrupted.\nhint: Run the same command again to resume.\n"
    assert_whole(layout)


HANGING = """if True:
    import sys
    import time
    from mirror import cli
    from mirror.cli.run import run

    async def hang():
        print("now", flush=True)
        time.sleep(3600)

    def command(*args, **options):
        run(hang(), again="Run the same command again to resume.")

    cli.mirror.main = command
    sys.modules["mirror.cli.run"]._CLEANUP_TIME = float(sys.argv[1])
    cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("repeated", [False, True])
def test_interrupt_ends_a_command_whose_event_loop_hangs(
    mirror: Mirror, number: signal.Signals, repeated: bool
) -> None:
    """After the time for the cleanup, or at once if the signal is repeated."""
    command = [sys.executable, "-c", HANGING, "3600" if repeated else "0.1"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=mirror.env)
    assert running.stdout
    assert running.stdout.readline() == b"now\n"
    running.send_signal(number)
    while repeated and running.poll() is None:
        time.sleep(0.05)
        running.send_signal(number)
    result = finish(running)
    assert (result.code, result.err) == (130, "error: interrupted.\nhint: Run the same command again to resume.\n")
