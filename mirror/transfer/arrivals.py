"""The images that have arrived, told to the progress in the order of the list."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from mirror.content.store import Progress, image_progress
from mirror.transfer.image import ImageTransfer


class Arrivals:
    """Tells `progress` about images. A result line waits for those of the images before it."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = image_progress(progress)
        self._waiting: deque[ImageTransfer] = deque()
        self._ended: set[ImageTransfer] = set()
        self._lines: dict[ImageTransfer, str | None] = {}

    def expect(self, images: Sequence[ImageTransfer]) -> None:
        self._waiting.extend(images)
        self._progress.expect_images(len(images))

    def end(self, image: ImageTransfer) -> None:
        """End an image that has its name, or has failed."""
        if image not in self._ended:
            self._ended.add(image)
            self._progress.end_image()
        if image.failure:
            self.settle(image, None)

    def settle(self, image: ImageTransfer, line: str | None) -> None:
        """Pass on the result line of an image, None if it has failed, when those before it are known."""
        self._lines[image] = line
        while self._waiting and self._waiting[0] in self._lines:
            first = self._lines.pop(self._waiting.popleft())
            if first is not None:
                self._progress.result(first)
