"""Name images in a layout until the process is killed: `python -m tests.support.naming FOLDER before|after|never N`

The process is killed instead of a rename of `index.json`, or after it, when N renames have been done before. Each
batch has as few names as possible.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from mirror.content import stream
from mirror.layout import LayoutWriter, index_writer
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from tests.support import images
from tests.support.memory import descriptor_of

IMAGES = [images.image("linux/amd64", images.layer(number, 100)) for number in range(5)]
NAMES = [f"quay.io/a/b:v{number}" for number in range(5)]


async def name_all(path: Path) -> None:
    """Store and name the images, one after the other, each name in a separate batch."""
    async with LayoutWriter.writing(path) as layout:
        for name, image in zip(NAMES, IMAGES, strict=True):
            for digest, data in image.blobs.items():
                node = Descriptor("a/b", Digest.parse(digest), len(data))
                await layout.put(node, stream.from_verified(data, "a test"))
            await layout.put(descriptor_of(image), stream.from_verified(image.data, "a test"))
            await layout.tag(name, descriptor_of(image), image.data)
            await layout.flush()


def main(folder: str, when: str, number: str) -> None:
    rename, left = os.rename, int(number)

    def dying(source: str, target: str, **folders: Any) -> None:
        nonlocal left
        left -= target == "index.json"
        dies = left < 0 and when != "never"
        if not (dies and when == "before"):
            rename(source, target, **folders)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)

    os.rename = dying  # type: ignore[assignment]
    index_writer._PAUSE = 0.0
    asyncio.run(name_all(Path(folder)))


if __name__ == "__main__":
    main(*sys.argv[1:])
