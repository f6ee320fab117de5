"""Show the main task: the real `mirror` moves a sample image from one registry to another and back.

`python -m tests.demo`, or `scripts/demo`, which sets everything up first. It removes everything that it creates.
"""

import filecmp
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from mirror.text import size
from tests.support.images import Image, seed_image
from tests.support.registry import EmbeddedRegistry, serving

REPOSITORY, TAG = "redis", "4.0"
BOLD, DIM, GREEN, RED = "1", "2", "32", "31"

_PAUSE = 1.0  # seconds to read the next command
_PATIENCE = 2.0  # seconds that an interrupted command has to end


class Unexpected(Exception):
    """A step with another result than expected."""


@dataclass
class Stage:
    """The directory in which the commands run, and the terminal that shows them."""

    folder: Path
    env: dict[str, str]
    live: bool = field(default_factory=sys.stdout.isatty)
    steps: int = 0

    def title(self, text: str) -> None:
        self.steps += 1
        self.say()
        self.say(f"{self.steps}. {text}", BOLD)

    def say(self, text: str = "", colour: str | None = None) -> None:
        coloured = colour and self.live and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        print(f"\033[{colour}m{text}\033[0m" if coloured else text, flush=True)

    def mirror(self, *args: str, code: int = 0) -> None:
        """Run the command with its output on the terminal, and check that it exits with `code`.

        Raises:
            Unexpected: it exits with another code.
        """
        command = ["mirror", *args]
        self.say(f"$ {shlex.join(command)}", GREEN)
        if self.live:
            time.sleep(_PAUSE)
        found = self._run(command)
        if found != code:
            raise Unexpected(f"step {self.steps} failed, with {found} in place of {code}: {shlex.join(command)}")
        if code:
            self.say(f"(exit code {code})", DIM)

    def _run(self, command: list[str]) -> int:
        with subprocess.Popen(command, cwd=self.folder, env=self.env) as process:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # A terminal interrupts the command too; kill interrupts only us.
                _end(process)
                raise


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.terminate()


def main() -> NoReturn:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        play()
    except KeyboardInterrupt:
        sys.exit(_farewell("interrupted.", 130))
    except Unexpected as error:
        sys.exit(_farewell(str(error), 1))
    except OSError as error:  # a full disk, or a closed stdout
        sys.exit(_farewell(str(error), 1))
    sys.exit(0)


def _farewell(text: str, code: int) -> int:
    """Print why the demo ends. If stderr is closed, the flush at the exit of Python must not fail either."""
    try:
        sys.stdout.flush()
        print(f"\ndemo: {text}\n      All that it made is removed.", file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return code


def play() -> None:
    """Run everything in a temporary directory, and remove it afterwards.

    Raises:
        Unexpected: a step has another result than expected.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirror-demo-")))
        public = stack.enter_context(serving(EmbeddedRegistry()))
        private = stack.enter_context(serving(EmbeddedRegistry()))
        stack.callback(_ignore_signals)  # entered last, so it is called first
        stage = Stage(folder, _environment(folder))
        image = seed_image()
        image.publish(public, REPOSITORY, TAG)
        _welcome(stage, image, public, private)
        _carry(stage, public, private)
        _compare(stage, private)
        _damage_and_heal(stage, public)
        _goodbye(stage)


def _ignore_signals() -> None:
    """Ignore signals while the temporary directory is removed."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _environment(folder: Path) -> dict[str, str]:
    """Return an environment with `mirror` on the PATH, and without the user's settings, credentials and proxies."""
    env = {name: text for name, text in os.environ.items() if not name.startswith("MIRROR_")}
    own = {name: str(folder / "home") for name in ("XDG_CONFIG_HOME", "DOCKER_CONFIG")}
    path = os.pathsep.join([str(Path(sys.executable).parent), env.get("PATH", os.defpath)])
    return {**env, **own, "PATH": path, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}


# Steps


def _welcome(stage: Stage, image: Image, public: EmbeddedRegistry, private: EmbeddedRegistry) -> None:
    total = sum(map(len, image.blobs.values()))
    stage.say("mirror carries container images across an air gap, and proves that what")
    stage.say("arrived is what was published.")
    stage.say()
    stage.say(f"  {public.host}  a public registry, with a sample in the shape of redis:{TAG}:")
    stage.say(f"  {' ' * len(public.host)}  linux/amd64 and linux/arm/v7, {len(image.blobs)} blobs, {size(total)}")
    stage.say(f"  {private.host}  your private registry, empty")


def _carry(stage: Stage, public: EmbeddedRegistry, private: EmbeddedRegistry) -> None:
    stage.title("Pull every platform into a directory; each byte is checked against its digest")
    stage.mirror("pull", f"{public.host}/{REPOSITORY}:{TAG}", "--all-platforms")
    stage.title("What is in the directory?")
    stage.mirror("ls", "./layout")
    stage.title("Carry it over the gap, and prove there, offline, that nothing changed")
    stage.mirror("verify", "./layout")
    stage.title("Push it to the private registry")
    stage.mirror("push", "./layout", private.host)


def _compare(stage: Stage, private: EmbeddedRegistry) -> None:
    stage.title("Pull it back from there: is it still the same image, byte for byte?")
    stage.mirror("pull", f"{private.host}/{REPOSITORY}:{TAG}", "--all-platforms", "-o", "./returned")
    stage.say(compare(stage.folder / "layout", stage.folder / "returned"))


def compare(layout: Path, other: Path) -> str:
    """Check that two layouts have the same image and the same blobs.

    Raises:
        Unexpected: they differ.
    """
    roots = [root_digest(folder) for folder in (layout, other)]
    names = [sorted(path.name for path in blob_folder(folder).iterdir()) for folder in (layout, other)]
    same, _, _ = filecmp.cmpfiles(blob_folder(layout), blob_folder(other), names[0], shallow=False)
    if roots[0] != roots[1] or not names[0] == names[1] == sorted(same):
        raise Unexpected(f"{layout.name} and {other.name} differ")
    total = sum((blob_folder(layout) / name).stat().st_size for name in same)
    return f"Compared {len(same)} of {len(names[0])} blobs, {size(total)}: identical, and so is the root digest."


def root_digest(layout: Path) -> str:
    """Return the digest of the only image."""
    (entry,) = json.loads((layout / "index.json").read_bytes())["manifests"]
    return str(entry["digest"])


def blob_folder(layout: Path) -> Path:
    return layout / "blobs" / "sha256"


def _damage_and_heal(stage: Stage, public: EmbeddedRegistry) -> None:
    stage.title("Media go bad: one bit flips, in the middle of one layer")
    stage.say(flip_a_bit(stage.folder / "layout"))
    stage.mirror("verify", "./layout", code=3)
    stage.title("Pull again: what is damaged is fetched again, and nothing else")
    stage.mirror("pull", f"{public.host}/{REPOSITORY}:{TAG}", "--all-platforms")
    stage.title("And all is well")
    stage.mirror("verify", "./layout")


def flip_a_bit(layout: Path) -> str:
    """Damage the largest layer, and return a sentence that says where."""
    blob = max(blob_folder(layout).iterdir(), key=lambda path: path.stat().st_size)
    middle = blob.stat().st_size // 2
    with blob.open("r+b") as file:
        file.seek(middle)
        before = file.read(1)[0]
        file.seek(middle)
        file.write(bytes([before ^ 1]))
    return f"Byte {middle:,} of sha256:{blob.name[:12]}… was {before:08b}, and is now {before ^ 1:08b}."


def _goodbye(stage: Stage) -> None:
    stage.say()
    stage.say("Now the real thing, from Docker Hub into ./layout:", BOLD)
    stage.say(f"$ mirror pull redis:{TAG} --all-platforms", GREEN)
    stage.say("(mirror is in .venv/bin; `source .venv/bin/activate` puts it on your PATH)", DIM)


if __name__ == "__main__":
    main()
