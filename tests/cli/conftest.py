"""Fixtures for tests of the command."""

from pathlib import Path

import pytest


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    """The layout that a pull writes by default, which does not exist yet."""
    return tmp_path / "layout"
