"""Isolated networks: a test runs in its own network namespace, with any addresses and names.

The test runs in a fork of this process that has left the machine's network. Registries and the command can have any
private or public addresses, and no packet can leave the machine.
"""

import ctypes
import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.peers.programs import lacking
from tests.support.fork import run_in_fork

_NEW_MOUNTS, _NEW_USERS, _NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000  # CLONE_NEWNS, _NEWUSER and _NEWNET


def isolated(*addresses: str, names: Mapping[str, str] | None = None) -> Callable[[Callable[..., None]], Any]:
    """Run a test in its own network namespace with 127.0.0.1 and these addresses, where these names resolve."""

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def run(**fixtures: Any) -> None:
            if not shutil.which("ip"):
                lacking("ip is not installed")

            def inside() -> str:
                try:
                    _leave()
                except OSError as error:
                    return f"this machine does not allow network namespaces: {error}"
                _furnish(addresses, names or {}, fixtures["tmp_path"])
                test(**fixtures)
                return ""

            ended = run_in_fork(inside)  # only a process with a single thread may enter a user namespace
            assert ended.value is not None, ended
            if ended.value:
                lacking(ended.value)

        return run

    return decorate


def _leave() -> None:
    """Enter new namespaces as their root user."""
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_USERS | _NEW_MOUNTS | _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _furnish(addresses: Iterable[str], names: Mapping[str, str], folder: Path) -> None:
    hosts = folder / "hosts"
    lines = [f"{address} {name}" for name, address in names.items()]
    hosts.write_text("\n".join(["127.0.0.1 localhost localhost.", *lines, ""]))
    commands = ["ip link set lo up", *(f"ip address add {address} dev lo" for address in addresses)]
    commands.append(f"mount --bind {hosts} /etc/hosts")
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True)
