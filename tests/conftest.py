"""What tests share: the real command, and a registry for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.command", "tests.peers.programs", "tests.peers.layouts")

from tests.command import Mirror  # noqa: E402
from tests.registry import EmbeddedRegistry, serving  # noqa: E402


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    """The command, run in `tmp_path`."""
    return Mirror(tmp_path)


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    """An empty registry."""
    with serving(EmbeddedRegistry()) as running:
        yield running
