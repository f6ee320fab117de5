"""Tests of the names and examples in docs/how-to/library.md."""

import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import images, layouts

DOCS = Path(__file__).parents[1] / "docs" / "how-to" / "library.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)


def test_every_name_in_the_guide_exists() -> None:
    names = set(re.findall(r"`(mirror(?:\.\w+)+)`", DOCS.read_text()))
    assert len(names) >= 3
    assert {name for name in names if not _exists(name)} == set()


def _exists(name: str) -> bool:
    module, _, rest = name.rpartition(".")
    return hasattr(import_module(module), rest) or find_spec(name) is not None


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(tmp_path: Path, example: str) -> None:
    layouts.write(tmp_path / "layout", images.multi_arch(), name="docker.io/library/redis:4.0")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "ok" in done.stdout
