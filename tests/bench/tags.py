"""Write a layout with many names of one small image: `python -m tests.bench.tags DIR NUMBER REPOSITORY LIST`.

The names are written to LIST, one per line.
"""

import sys
from pathlib import Path

from tests.support import images
from tests.support.layouts import write_index


def write(layout: Path, number: int, repository: str, names: Path) -> None:
    image = images.image("linux/amd64", images.layer(1, 1000))
    folder = layout / "blobs" / "sha256"
    folder.mkdir(parents=True)
    for digest, data in [*image.blobs.items(), *((key, data) for key, (data, _) in image.manifests.items())]:
        (folder / digest.removeprefix("sha256:")).write_bytes(data)
    tags = [f"{repository}:v{one:06}" for one in range(number)]
    called = "io.containerd.image.name"
    write_index(layout, [{**image.descriptor(), "annotations": {called: name}} for name in tags])
    names.write_text("\n".join(tags) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
