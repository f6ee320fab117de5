"""A layout of 25 images on a drive that has gone bad: 14 faults, one of them in a base layer that 19 images share."""

import json
from dataclasses import dataclass
from pathlib import Path

from tests.support import images, layouts
from tests.support.command import blob_path
from tests.support.images import Blob, Image

REPOSITORY = "registry.example:5000/team"
BASE = images.layer(1, 900)


@dataclass(frozen=True)
class Damaged:
    """The layout: the names of its images, those that need the bad base layer, and the digest of each damaged blob."""

    folder: Path
    names: tuple[str, ...]
    on_base: tuple[str, ...]
    faults: dict[str, str]


def damaged_layout(folder: Path) -> Damaged:
    """Write the layout. `faults` has one digest for each damaged blob of an image, by what was done to it.

    19 images share the base layer, which is corrupt. Five of the other six images have damage of their own, and one is
    intact. Two orphans below a corrupt manifest, a stray file and a leftover make 14 faults: 10 errors and 4 warnings.
    """
    apps = {f"{REPOSITORY}/app-{number:02}:v1": _app(number) for number in range(19)}
    others = {f"{REPOSITORY}/tool-{number}:v1": _tool(number) for number in range(6)}
    layouts.write(folder, *apps.values(), *others.values())
    named = [(name, image.descriptor()) for name, image in (apps | others).items()]
    layouts.write_index(folder, [node | {"annotations": {"io.containerd.image.name": name}} for name, node in named])
    faults = _damage(folder, list(others.values()))
    (folder / "blobs/sha256/notes.txt").write_text("do not lose this drive\n")
    (folder / ".mirror/tmp").mkdir(parents=True)
    (folder / ".mirror/tmp/half").write_text("half")
    return Damaged(folder, tuple(name for name, _ in named), tuple(apps), faults)


def _app(number: int) -> Image:
    return images.image("linux/amd64", BASE, images.layer(100 + number, 300))


def _tool(number: int) -> Image:
    arm = images.image("linux/arm64", _layer(number, 2))
    return images.index([images.image("linux/amd64", _layer(number, 0), _layer(number, 1)), arm])


def _layer(number: int, position: int) -> Blob:
    return images.layer(1000 + 10 * number + position, 400)


def _damage(folder: Path, tools: list[Image]) -> dict[str, str]:
    """Damage the base layer, and nine blobs of the first five tools."""
    arm = list(tools[4].manifests)[1]
    faults = {
        "corrupt base": BASE.digest,
        "missing layer": _layer(0, 0).digest,
        "second missing layer": _layer(0, 1).digest,
        "shortened layer": _layer(1, 0).digest,
        "lengthened layer": _layer(1, 1).digest,
        "missing config": _config(tools[2], 0),
        "corrupt config": _config(tools[2], 1),
        "link": _layer(3, 0).digest,
        "corrupt manifest": arm,
        "missing layer of one platform": _layer(3, 2).digest,
    }
    for what, digest in faults.items():
        path = blob_path(folder, digest)
        if what.startswith(("missing", "second")):
            path.unlink()
        elif what == "link":
            path.rename(folder / "elsewhere")
            path.symlink_to(folder / "elsewhere")
        else:
            data = path.read_bytes()
            changed = {"shortened layer": data[:-100], "lengthened layer": data + b"\0"}
            path.write_bytes(changed.get(what, bytes([data[0] ^ 1]) + data[1:]))
    return faults


def _config(image: Image, child: int) -> str:
    document = json.loads(list(image.manifests.values())[child][0])
    return str(document["config"]["digest"])
