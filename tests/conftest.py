"""Fixtures that tests share: the `mirror` command, and a registry for it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mirror as package
from mirror.concurrency import available_cpus
from mirror.text import redaction
from tests.support import profiles

pytest.register_assert_rewrite("tests.support.command", "tests.peers.programs", "tests.peers.layouts")
profiles.load_profile()  # first: decorators in the test modules use the profile

from tests.peers.programs import lacking, needed  # noqa: E402
from tests.support import debian_image  # noqa: E402
from tests.support.command import Mirror  # noqa: E402
from tests.support.images import Image  # noqa: E402
from tests.support.registry import EmbeddedRegistry, serving  # noqa: E402

_CHECKOUT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--processes", action="store_true", help="run every mirror command in a separate process")


def pytest_configure(config: pytest.Config) -> None:
    under_test = Path(package.__file__).resolve().parent.parent
    if under_test != _CHECKOUT:
        raise pytest.UsageError(f"mirror is imported from {under_test}, not from this checkout: run scripts/setup")
    Mirror.in_process = not config.getoption("--processes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if left_out := profiles.superfluous(items):
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_xdist_auto_num_workers() -> int:
    """Return three workers for two CPUs: some tests wait more than they compute."""
    return available_cpus() * 3 // 2


@pytest.fixture(autouse=True)
def secrets_of_other_tests() -> Iterator[None]:
    """Forget the secrets of a test: Hypothesis draws passwords such as `username`, a word of later messages."""
    yield
    redaction.forget()


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    """The command, run in `tmp_path`."""
    return Mirror(tmp_path)


@pytest.fixture(params=["threads", "loop"])
def each_exchange(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a test twice: with aiohttp for all requests, and with blocking sockets for all that they can carry out."""
    monkeypatch.setattr("mirror.registry.transport.route.SMALLEST", 0 if request.param == "threads" else sys.maxsize)


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    """An empty registry."""
    with serving(EmbeddedRegistry()) as running:
        yield running


@pytest.fixture
def busybox(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Image:
    """Debian's busybox for three architectures; all workers share the packages."""
    needed("apt-get")
    needed("dpkg-deb")
    folder = tmp_path_factory.getbasetemp()
    try:
        return debian_image.build((folder if worker_id == "master" else folder.parent) / "debian")
    except debian_image.Unreachable as error:
        lacking(str(error))
