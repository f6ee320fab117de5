"""`python -m tests.install [WAY...]`: try the ways to install on docs/how-to/install.md, each in a bare environment.

The commands of a section run as they stand on the page, in a clone of the checkout and with an empty home directory.
Those below `<!-- run: offline -->` run without a network. PYTHON sets the interpreter.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mirror.version import VERSION

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "how-to" / "install.md"
WAYS = ("With pip", "With pipx", "With uv", "From a wheelhouse, without a network", "From a checkout", "Extras")

_BLOCK = re.compile(
    r"(?P<offline><!-- run: offline -->\n\n)?^```console\n(?P<commands>.*?)^```$", re.MULTILINE | re.DOTALL
)
_TOOLS = ("pipx", "uv")


class Failed(Exception):
    """A command of the page failed."""


def main() -> int:
    """Try each way, and return the exit code."""
    for way in sys.argv[1:] or WAYS:
        try:
            with tempfile.TemporaryDirectory(prefix="mirror-install-") as directory:
                try_way(way, Path(directory))
        except Failed as error:
            print(f"{way}: {error}", file=sys.stderr)
            return 1
        print(f"{way}: installed", flush=True)
    return 0


def sections() -> dict[str, str]:
    """Return the text of each section of the page."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def try_way(way: str, directory: Path) -> None:
    """Run the commands of a section. Raise `Failed` if one fails, or if `--version` prints something else."""
    clone, home, tools = directory / "clone", directory / "home", directory / "tools"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".*", "site", "dist", "__pycache__"))
    home.mkdir()
    tools.mkdir()
    (tools / "python3").symlink_to(os.environ.get("PYTHON") or shutil.which("python3") or sys.executable)
    for tool in _TOOLS:
        (tools / tool).symlink_to(ROOT / ".venv" / "bin" / tool)
    for block in _BLOCK.finditer(sections()[way]):
        for command in re.findall(r"^\$ (.+)$", block["commands"], re.MULTILINE):
            printed = run(command, clone, home, tools, offline=bool(block["offline"]))
            if command.endswith("mirror --version") and printed.split()[-1:] != [VERSION]:
                raise Failed(f"{command} printed {printed!r}")


def run(command: str, clone: Path, home: Path, tools: Path, *, offline: bool) -> str:
    """Return what a command printed on stdout. Only the settings of package indexes are taken from our environment."""
    kept = {
        name: text for name, text in os.environ.items() if name.startswith(("PIP_", "UV_", "SSL_")) or "proxy" in name
    }
    env = {**kept, "HOME": str(home), "PATH": f"{tools}:/usr/local/bin:/usr/bin:/bin"}
    words = ["unshare", "--net", "--map-root-user", "bash", "-c", command] if offline else ["bash", "-c", command]
    done = subprocess.run(words, cwd=clone, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"$ {command}\n{done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
