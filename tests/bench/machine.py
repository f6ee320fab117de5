"""The machine and the versions of the tools that a measurement was made with."""

import os
import platform
import re
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

_PACKAGES = {name: name for name in ("docker-registry", "skopeo", "openssl", "nginx", "curl")} | {
    "sha256sum": "coreutils"
}


def require_tools() -> None:
    """Exit if a tool to compare with is not installed."""
    missing = [package for tool, package in _PACKAGES.items() if not shutil.which(tool)]
    if missing:
        raise SystemExit(f"Not installed: {', '.join(missing)}. On Debian: apt-get install {' '.join(missing)}")


def describe(folder: Path) -> str:
    """Return the machine in one line; `folder` is where the files were."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    parts = (
        f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        f"Linux {platform.release()}, {_output('stat', '-f', '-c', '%T', str(folder))}",
        f"Python {platform.python_version()}, aiohttp {version('aiohttp')}",
        f"skopeo {_number('skopeo', '--version')}",
        f"docker-registry {_number('docker-registry', '--version')}",
        f"openssl {_number('openssl', 'version')}",
        f"sha256sum {_number('sha256sum', '--version')}",
        f"nginx {_number('sh', '-c', 'nginx -v 2>&1')}",
        f"curl {_number('curl', '--version')}",
    )
    return "; ".join(parts)


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()


def _number(*command: str) -> str:
    found = re.search(r"\d+\.[\w.+~-]+", _output(*command))
    return found[0] if found else "?"


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
