"""Fixtures for tests of the registry client."""

import sys
from pathlib import Path

import pytest

from mirror.registry.transport import route
from tests.support import sources


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty home directory, which is `tmp_path`."""
    for name in ("XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


@pytest.fixture(params=["threads", "loop", "chunks"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Send every body by sockets, or by aiohttp; or all sources are such that only the event loop can read them."""
    monkeypatch.setattr(route, "SMALLEST", 0 if request.param == "threads" else sys.maxsize)
    monkeypatch.setattr(sources, "fills", request.param != "chunks")
    return str(request.param)
