"""Tests that the work for one more image, or one more referrer, does not depend on how many there are."""

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

from mirror import list_images, remove_images
from tests.support import images, layouts
from tests.support.images import Image

pytestmark = pytest.mark.slow

_SOURCES = os.path.join("mirror", "")
SIZES = (20, 40, 80)
Count = Callable[[CodeType], bool]


def calls(code: CodeType) -> bool:
    """Count the functions of mirror that are called."""
    return _SOURCES in code.co_filename


def comparisons(code: CodeType) -> bool:
    """Count the comparisons of entries and other values."""
    return code.co_name == "__eq__"


def effort(work: Coroutine[Any, Any, Any], counts: Count) -> int:
    """Run a coroutine, and count calls on the event loop."""
    found = 0

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal found
        found += event == "call" and counts(frame.f_code)

    sys.setprofile(profile)
    try:
        asyncio.run(work)
    finally:
        sys.setprofile(None)
    return found


def assert_linear(work: Callable[[int], Coroutine[Any, Any, Any]], counts: Count = calls) -> None:
    few, some, many = (effort(work(size), counts) for size in SIZES)
    assert many - some < 2.5 * (some - few) + 20  # twice as many more are twice as much more, not four times


def signed(layout: Path, image: Image, length: int) -> Path:
    """Write a layout with an image, its signature, the signature of that, and so on."""
    chain = [image]
    for number in range(length):
        chain.append(images.signature(chain[-1], number))
    layouts.write(layout, *chain)
    layouts.write(layout, image, name="a.b/c:1")
    return layout


@pytest.mark.parametrize("counts", [calls, comparisons])
def test_effort_of_rm_grows_with_the_number_of_images(tmp_path: Path, counts: Count) -> None:
    def remove(number: int) -> Coroutine[Any, Any, Any]:
        each = [images.image("linux/amd64", images.layer(seed, 300)) for seed in range(number + 1)]
        layout, names = tmp_path / str(number), [f"a.b/c{seed}:1" for seed in range(number + 1)]
        layouts.write(layout, *each)
        entries = zip(each, names, strict=True)
        layouts.write_index(
            layout,
            [{**image.descriptor(), "annotations": {"io.containerd.image.name": name}} for image, name in entries],
        )
        return remove_images(layout, names[1:])

    assert_linear(remove, counts)


def test_effort_of_rm_grows_with_the_length_of_a_chain_of_referrers(tmp_path: Path) -> None:
    image = images.image("linux/amd64", images.layer(1, 300))
    assert_linear(lambda number: remove_images(signed(tmp_path / str(number), image, number), ["a.b/c:1"]))


def test_effort_of_ls_grows_with_the_length_of_a_chain_of_referrers(tmp_path: Path) -> None:
    image = images.image("linux/amd64", images.layer(1, 300))
    assert_linear(lambda number: list_images(signed(tmp_path / str(number), image, number)))
