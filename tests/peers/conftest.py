"""Fixtures for the peers: tests whose peer is not installed are skipped, or fail in CI."""

import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.peers.programs import DockerRegistry, InProcessMirror, Program, Skopeo, docker_registry, needed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests in this directory as slow, because starting a peer takes time."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def mirror(tmp_path: Path, request: pytest.FixtureRequest) -> Program:
    """The `mirror` command, run in this process; with --processes, the installed command."""
    installed = (str(Path(sysconfig.get_path("scripts"), "mirror")),)
    return (Program if request.config.getoption("--processes") else InProcessMirror)(installed, tmp_path)


@pytest.fixture
def skopeo(tmp_path: Path) -> Skopeo:
    return Skopeo((needed("skopeo"),), tmp_path)


@pytest.fixture
def umoci(tmp_path: Path) -> Program:
    return Program((needed("umoci"),), tmp_path)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[DockerRegistry]:
    """An empty docker-registry."""
    with docker_registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def second(tmp_path: Path) -> Iterator[DockerRegistry]:
    """A second empty docker-registry."""
    with docker_registry(tmp_path / "second") as running:
        yield running


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[Program]:
    """podman with a separate store, for which it only has to run as root."""
    with tempfile.TemporaryDirectory(prefix="podman-") as run:  # podman limits this path to 50 characters
        store = (f"--root={tmp_path / 'store'}", f"--runroot={run}", "--storage-driver=vfs")
        yield Program((needed("podman"), *store, "--cgroup-manager=cgroupfs", "--events-backend=none"), tmp_path)
