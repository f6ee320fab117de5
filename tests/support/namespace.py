"""Networks that are nobody's: a test that runs in a network namespace of its own, with whatever addresses and names.

The test starts itself again there, under `unshare`, with the same pytest: so registries and command find themselves on
addresses that look private or public, and nothing that they try can leave the machine.
"""

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.peers.programs import lacking

_INSIDE = "MIRROR_TEST_NAMESPACE"
_LIMIT = 120  # seconds
_UNSHARE = ("unshare", "--map-root-user", "--net", "--mount")


def isolated(*addresses: str, names: Mapping[str, str] | None = None) -> Callable[[Callable[..., None]], Any]:
    """Run a test in a namespace of its own that has these addresses besides 127.0.0.1, and knows these names."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            if os.environ.get(_INSIDE):
                _furnish(addresses, names or {}, fixtures["tmp_path"])
                test(**fixtures)
            else:
                _again(os.environ["PYTEST_CURRENT_TEST"].rpartition(" ")[0], fixtures["tmp_path"] / "inside")

        return run

    return decorate


def _again(test: str, folder: Path) -> None:
    if not shutil.which("unshare") or not shutil.which("ip"):
        lacking("unshare or ip is not installed")
    if subprocess.run([*_UNSHARE, "true"], capture_output=True, check=False).returncode:
        lacking("this machine gives out no network namespaces")
    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"--basetemp={folder}")  # and in nobody's way
    command = [*_UNSHARE, sys.executable, "-m", "pytest", *quiet, test]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=_LIMIT, check=False, env={**os.environ, _INSIDE: "1"}
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _furnish(addresses: Iterable[str], names: Mapping[str, str], folder: Path) -> None:
    hosts = folder / "hosts"
    lines = [f"{address} {name}" for name, address in names.items()]
    hosts.write_text("\n".join(["127.0.0.1 localhost localhost.", *lines, ""]))
    commands = ["ip link set lo up", *(f"ip address add {address} dev lo" for address in addresses)]
    commands.append(f"mount --bind {hosts} /etc/hosts")
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True)
