"""`python -m tests.smoke WHEEL BIN`: try a wheel, and the `mirror` that was installed from it in the directory BIN."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from mirror.version import VERSION
from tests.support import images
from tests.support.registry import EmbeddedRegistry, serving

_LIBRARY = """
from importlib import metadata, resources, util
import mirror
assert metadata.version("oci-mirror") == mirror.__version__
assert set(mirror.__all__) < set(dir(mirror)) and all(getattr(mirror, name).__doc__ for name in mirror.__all__)
assert resources.files("mirror").joinpath("py.typed").is_file()
assert not any(map(util.find_spec, ["pytest", "mypy", "tests", "cryptography", "bcrypt"])), "not a bare environment"
"""


class Failed(Exception):
    """A check of the package failed."""


def main(arguments: list[str]) -> int:
    """Run all checks, and return the exit code."""
    wheel, binaries = map(Path, arguments)
    try:
        check_content(wheel)
        run(binaries / "python", "-I", "-c", _LIBRARY)
        if (printed := run(binaries / "mirror", "--version").split()[-1]) != VERSION:
            raise Failed(f"mirror --version prints {printed}, not {VERSION}")
        check_round_trip(binaries / "mirror")
    except Failed as error:
        print(f"{wheel.name}: {error}", file=sys.stderr)
        return 1
    print(f"{wheel.name}: installed in a bare environment, and pulled, verified and pushed an image")
    return 0


def check_content(wheel: Path) -> None:
    """Raise `Failed` if the wheel has anything besides the package and its metadata."""
    roots = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    if strange := roots - {"mirror", f"oci_mirror-{VERSION}.dist-info"}:
        raise Failed(f"unexpected in the wheel: {', '.join(sorted(strange))}")


def check_round_trip(mirror: Path) -> None:
    """Move an image from one registry to another, through a layout."""
    image = images.multi_arch()
    with (
        tempfile.TemporaryDirectory(prefix="mirror-smoke-") as directory,
        serving(EmbeddedRegistry()) as near,
        serving(EmbeddedRegistry()) as far,
    ):
        image.publish(near, "library/redis", "4.0")
        layout = Path(directory, "layout")
        run(mirror, "pull", f"{near.host}/library/redis:4.0", "--all-platforms", "--output", layout)
        run(mirror, "verify", layout)
        run(mirror, "push", layout, far.host)
        if far.tags("library/redis") != {"4.0": image.root}:
            raise Failed(f"the far registry has {far.tags('library/redis')}")


def run(*command: object) -> str:
    """Return what a command prints on stdout. Only PATH and the home directory are in its environment.

    Raises:
        Failed: it did not exit with 0.
    """
    words = [str(word) for word in command]
    env = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(words)}\n{done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
