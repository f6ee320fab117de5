"""Tests of pulls over a slow link: what has been received is on the disk soon, and is not requested again."""

import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support import images
from tests.support.command import Mirror, assert_whole, leftovers, partials
from tests.support.registry import EmbeddedRegistry, Fault, Flip
from tests.support.slow_link import SlowLink, slow_link

pytestmark = pytest.mark.usefixtures("each_exchange")

MIB = 1024 * 1024
RATE = 500_000  # bytes per second
SPEEDUP = 1 if settings().max_examples == 100 else 4  # outside of CI, the link is faster, and the kill comes sooner
LAYERS = [images.layer(seed, size) for seed, size in enumerate([22 * MIB, 3 * MIB, MIB, 100_000])]
IMAGE = images.image("linux/amd64", *LAYERS)


@pytest.fixture
def published(registry: EmbeddedRegistry) -> EmbeddedRegistry:
    IMAGE.publish(registry, "a", "v1")
    return registry


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def kill(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.communicate()


def pull_and_kill(mirror: Mirror, link: SlowLink, received: float, *flags: str) -> int:
    """Pull until so many bytes have been received, then kill the process; return how many it received."""
    before = link.received
    process = mirror.start("pull", f"{link.host}/a:v1", "--platform", "linux/amd64", *flags)
    wait_until(lambda: link.received >= before + received or process.poll() is not None)
    kill(process)
    wait_until(lambda: not link.open)
    return link.received - before


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [20, 10, 30])
def test_pull_after_a_kill_repeats_one_second_of_traffic(
    mirror: Mirror, published: EmbeddedRegistry, tmp_path: Path, seconds: int
) -> None:
    check_repeated(mirror, published, RATE * seconds)
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
@pytest.mark.parametrize("received", [12, 1, 3, 6, 9, 15, 18, 21])
def test_pull_over_several_connections_repeats_one_second_of_traffic_too(
    mirror: Mirror, published: EmbeddedRegistry, tmp_path: Path, received: int
) -> None:
    """Bytes that arrive before those in front of them leave a hole in the file."""
    check_repeated(mirror, published, received * MIB, "--connections-per-blob", "4", "-j", "1")
    assert_whole(tmp_path / "layout")
    assert leftovers(tmp_path / "layout") == []
    assert partials(tmp_path / "layout") == {}


@pytest.mark.slow
def test_two_pulls_of_a_blob_over_several_connections_store_it_once(
    mirror: Mirror, published: EmbeddedRegistry, tmp_path: Path
) -> None:
    with slow_link(published.host, 20 * MIB) as link:
        command = ["pull", f"{link.host}/a:v1", "--platform", "linux/amd64", "--connections-per-blob", "3"]
        running = [mirror.start(*command) for _ in range(2)]
        assert [process.wait(120) for process in running] == [0, 0]
        for process in running:
            process.communicate()
    assert_whole(tmp_path / "layout")
    assert leftovers(tmp_path / "layout") == []
    assert partials(tmp_path / "layout") == {}


@pytest.mark.slow
def test_wrong_range_of_a_registry_costs_one_more_transfer(
    mirror: Mirror, published: EmbeddedRegistry, tmp_path: Path
) -> None:
    published.fault(Fault(path=LAYERS[0].digest, times=1, skip=1, action=Flip(1000)))
    with slow_link(published.host, 20 * MIB) as link:
        mirror("pull", f"{link.host}/a:v1", "--platform", "linux/amd64", "--connections-per-blob", "3", "-j", "1")
    requests = [seen for seen in published.requests if LAYERS[0].digest in seen.path]
    assert requests[-1].headers.get("range") is None
    assert_whole(tmp_path / "layout")
    assert leftovers(tmp_path / "layout") == []
    assert partials(tmp_path / "layout") == {}


def check_repeated(mirror: Mirror, published: EmbeddedRegistry, received: float, *flags: str) -> None:
    """Kill a pull after so many bytes, and check how many the next one receives again."""
    rate = RATE * SPEEDUP
    with slow_link(published.host) as link:
        mirror("pull", f"{link.host}/a:v1", "--platform", "linux/amd64", "-o", "clean")
        needed, link.received, link.most, link.rate = link.received, 0, 0, rate
        first = pull_and_kill(mirror, link, received, *flags)
        connections, link.received, link.rate = link.most, 0, None
        mirror("pull", f"{link.host}/a:v1", "--platform", "linux/amd64")
        repeated = link.received - (needed - first)
    assert repeated <= connections * MIB + rate


def bytes_on_disk(layout: Path) -> int:
    """Return the size of all content: partial files, and complete ones, since small blobs may overtake large ones."""
    found = 0
    for path in [*layout.glob(".mirror/partial/*"), *layout.glob("blobs/*/*")]:
        with suppress(FileNotFoundError):  # renamed meanwhile
            found += path.stat().st_size
    return found


@pytest.mark.slow
def test_received_bytes_are_written_while_the_link_is_silent(
    mirror: Mirror, published: EmbeddedRegistry, tmp_path: Path
) -> None:
    """With one connection per blob, since others, which a slow machine may open, leave holes."""
    flags = ("--platform", "linux/amd64", "--connections-per-blob", 1)
    with slow_link(published.host, stall_after=300_000) as link:
        process = mirror.start("pull", f"{link.host}/a:v1", *flags)
        wait_until(lambda: bytes_on_disk(tmp_path / "layout") > 290_000)
        kill(process)
    sent = {layer.digest: layer.data for layer in LAYERS}
    assert all(sent[digest].startswith(data) for digest, data in partials(tmp_path / "layout").items())
