"""Tests of a Ctrl-C while the command is starting."""

import json
import subprocess
import sys

import pytest

from tests.support.command import Mirror

_START = """if True:
    import os, signal, sys

    class Interrupting:
        def find_spec(self, name, *_):
            for _ in range(int(times) if name == module else 0):
                os.kill(os.getpid(), signal.SIGINT)

    module, times = sys.argv.pop(1), sys.argv.pop(1)
    sys.meta_path.insert(0, Interrupting())
    from mirror.__main__ import main
    main()
"""


def interrupted(mirror: Mirror, module: str, *args: str, times: int = 1) -> tuple[int, str, str]:
    """Run a command that is interrupted when it begins to import a module; return exit code, stdout and stderr."""
    command = [sys.executable, "-c", _START, module, str(times), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=mirror.folder, env=mirror.env)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("module", ["click", "mirror.errors", "mirror.cli", "mirror.cli.pull", "aiohttp"])
def test_interrupt_during_an_import_is_reported(mirror: Mirror, module: str) -> None:
    code, out, err = interrupted(mirror, module, "pull", "registry.example/a:v1", "--json")
    assert (code, err.lstrip()) == (130, "error: interrupted.\n")
    assert json.loads(out)["error"]["code"] == "interrupted"


@pytest.mark.slow
def test_second_interrupt_during_an_import_ends_the_process(mirror: Mirror) -> None:
    assert interrupted(mirror, "click", "pull", "registry.example/a:v1", times=2) == (-2, "", "")
