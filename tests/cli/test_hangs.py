"""Tests of threads that hang in the kernel, as on a file server that is gone: the command ends nevertheless."""

import signal
import subprocess
import sys

import pytest

from tests.cli.test_crash import finish
from tests.support.command import Mirror


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
