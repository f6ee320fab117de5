"""Tests of broken connections, busy registries and limits: the requests and bytes of a pull, counted by the server."""

import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror, assert_whole, blob_path, partials, tree
from tests.support.registry import (
    Action,
    Cut,
    EmbeddedRegistry,
    Fault,
    Header,
    RequestHeader,
    Reset,
    Seen,
    Slow,
    Stall,
    Status,
    serving,
)

pytestmark = pytest.mark.usefixtures("each_exchange")

MB = 1_000_000
MIDDLE = images.Blob.of(random.Random(5).randbytes(3 * MB), images.OCI_LAYER, images.digest_of(b"y"))
IMAGE = images.image("linux/amd64", MIDDLE)
MULTI = images.multi_arch()


@cache
def large(size: int) -> images.Blob:
    """Return a blob of `size` megabytes."""
    data = b"".join(random.Random(number).randbytes(MB) for number in range(size))
    return images.Blob.of(data, images.OCI_LAYER, images.digest_of(b"x"))


def blob_requests(registry: EmbeddedRegistry, digest: str) -> list[Seen]:
    return [seen for seen in registry.requests if seen.path.endswith(f"/blobs/{digest}") and seen.method == "GET"]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timeout"
        time.sleep(0.02)


# Cut connections


@pytest.mark.slow
@pytest.mark.parametrize("cut", [Cut, Reset])
def test_retry_after_a_cut_fetches_only_the_rest(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path, cut: type[Action]
) -> None:
    IMAGE.publish(registry, "a", "v1")
    registry.fault(Fault(path=MIDDLE.digest, times=1, action=Cut(after=2 * MB) if cut is Cut else Reset(after=2 * MB)))
    mirror("pull", f"{registry.host}/a:v1", "--all")
    first, second = blob_requests(registry, MIDDLE.digest)
    assert second.headers["range"].startswith("bytes=")
    assert second.sent < 3 * MB
    if cut is Cut:  # a reset may discard bytes that were sent
        assert first.sent + second.sent == 3 * MB
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
def test_pull_succeeds_over_a_connection_that_is_cut_repeatedly(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    layer = large(20)
    images.image("linux/amd64", layer).publish(registry, "a", "v1")
    registry.fault(Fault(path=layer.digest, times=12, action=Cut(after=3 * MB // 2)))
    mirror("pull", f"{registry.host}/a:v1", "--all", "--retries", 1)
    assert len(blob_requests(registry, layer.digest)) > 10
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
def test_failed_pull_resumes_from_its_partial_file(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    IMAGE.publish(registry, "a", "v1")
    registry.fault(Fault(path=MIDDLE.digest, times=1, action=Cut(after=2 * MB)))
    mirror("pull", f"{registry.host}/a:v1", "--all", "--retries", 0, code=1)
    assert len(partials(tmp_path / "layout")[MIDDLE.digest]) == 2 * MB
    result = mirror("pull", f"{registry.host}/a:v1", "--all", "--json")
    assert result.json["resumed"] >= 2 * MB  # the config may be complete, but not yet renamed
    assert blob_requests(registry, MIDDLE.digest)[1].sent == MB
    assert partials(tmp_path / "layout") == {}
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
def test_a_corrupt_partial_file_is_fetched_again_once(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    IMAGE.publish(registry, "a", "v1")
    registry.fault(Fault(path=MIDDLE.digest, times=1, action=Cut(after=2 * MB)))
    mirror("pull", f"{registry.host}/a:v1", "--all", "--retries", 0, code=1)
    (tmp_path / "layout/.mirror/partial" / MIDDLE.digest.replace(":", "-")).write_bytes(bytes(2 * MB))
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert [seen.sent for seen in blob_requests(registry, MIDDLE.digest)] == [2 * MB, MB, 3 * MB]
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
def test_server_without_range_support_sends_the_whole_blob_again(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    IMAGE.publish(registry, "a", "v1")
    registry.fault(Fault(path=MIDDLE.digest, times=1, action=Cut(after=2 * MB)))
    registry.fault(Fault(path=MIDDLE.digest, times=None, action=RequestHeader("Range")))
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert [seen.sent for seen in blob_requests(registry, MIDDLE.digest)] == [2 * MB, 3 * MB]
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
def test_pull_resumes_after_kill(mirror: Mirror, tmp_path: Path) -> None:
    """Stall a blob of 200 MB after 180 MB, kill the pull, and count the bytes of the next pull."""
    layer = large(200)
    with serving(EmbeddedRegistry()) as registry:
        images.image("linux/amd64", layer).publish(registry, "a", "v1")
        registry.fault(Fault(path=layer.digest, times=1, action=Stall(after=180 * MB)))
        process = mirror.start("pull", f"{registry.host}/a:v1", "--all", "--connections-per-blob", 1)
        wait_for(lambda: [seen.sent for seen in blob_requests(registry, layer.digest)] == [180 * MB])
        partial = tmp_path / "layout/.mirror/partial" / layer.digest.replace(":", "-")
        wait_for(lambda: partial.stat().st_size >= 180 * MB - 2**20)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        result = mirror("pull", f"{registry.host}/a:v1", "--all", "--json")
        again = sum(seen.sent for seen in blob_requests(registry, layer.digest)[1:])
    assert again <= 20 * MB + 2**20
    assert result.json["resumed"] == 200 * MB - again
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
def test_interrupted_pull_resumes_from_its_partial_file(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    layer = large(20)
    images.image("linux/amd64", layer).publish(registry, "a", "v1")
    registry.fault(Fault(path=layer.digest, times=1, action=Stall(after=15 * MB)))
    process = mirror.start("pull", f"{registry.host}/a:v1", "--all")
    partial = tmp_path / "layout/.mirror/partial" / layer.digest.replace(":", "-")
    wait_for(lambda: partial.exists() and partial.stat().st_size > 8 * MB)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 130
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert blob_requests(registry, layer.digest)[1].sent < 12 * MB
    assert_whole(tmp_path / "layout")


# Several connections


@pytest.mark.slow
def test_blob_fetched_over_several_connections_is_correct(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    layer = large(40)
    images.image("linux/amd64", layer).publish(registry, "a", "v1")
    registry.fault(Fault(path=layer.digest, times=None, action=Slow(delay=0.01, rate=20 * MB)))
    mirror("pull", f"{registry.host}/a:v1", "--all", "--connections-per-blob", 4)
    assert len(blob_requests(registry, layer.digest)) > 2
    assert blob_path(tmp_path / "layout", layer.digest).read_bytes() == layer.data


@pytest.mark.slow
def test_cuts_of_several_connections_fetch_less_than_twice_the_blob(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    layer = large(40)
    images.image("linux/amd64", layer).publish(registry, "a", "v1")
    registry.fault(Fault(path=layer.digest, times=None, action=Slow(rate=40 * MB)))
    registry.fault(Fault(path=layer.digest, times=3, skip=5, action=Cut(after=MB)))
    mirror("pull", f"{registry.host}/a:v1", "--all", "--connections-per-blob", 4)
    assert sum(seen.sent for seen in blob_requests(registry, layer.digest)) < 80 * MB
    assert_whole(tmp_path / "layout")


# Busy registries


@pytest.mark.slow
def test_concurrent_pull_succeeds_after_a_429(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    many = images.image("linux/amd64", *(images.layer(number, 1000) for number in range(24)))
    many.publish(registry, "a", "v1")
    registry.fault(Fault(path="/blobs/", times=1, skip=8, action=Status(429, (("Retry-After", "2"),))))
    mirror("pull", f"{registry.host}/a:v1", "--all", "-j", 8)
    refused = [seen for seen in registry.requests if seen.status == 429]
    assert len(refused) == 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["seconds", "date"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_accepted_as_seconds_and_as_a_date(
    mirror: Mirror, registry: EmbeddedRegistry, form: str, status: int
) -> None:
    MULTI.publish(registry, "a", "v1")
    text = "1" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=1), usegmt=True)
    registry.fault(Fault(path="/manifests/", times=1, action=Status(status, (("Retry-After", text),))))
    result = mirror("pull", f"{registry.host}/a:v1", "--all", "-v")
    assert "asked to slow down; pausing requests" in result.err


@pytest.mark.parametrize("status", [400, 403, 404, 405, 410, 501])
def test_permanent_error_is_not_retried(mirror: Mirror, registry: EmbeddedRegistry, status: int) -> None:
    IMAGE.publish(registry, "a", "v1")
    registry.fault(Fault(path=MIDDLE.digest, times=None, action=Status(status)))
    mirror("pull", f"{registry.host}/a:v1", "--all", code=1)
    assert len(blob_requests(registry, MIDDLE.digest)) == 1


@pytest.mark.slow
def test_stalled_download_is_resumed_after_the_timeout(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    IMAGE.publish(registry, "a", "v1")
    registry.fault(Fault(path=MIDDLE.digest, times=1, action=Stall(after=2 * MB)))
    mirror("pull", f"{registry.host}/a:v1", "--all", "--timeout", 0.5)
    assert blob_requests(registry, MIDDLE.digest)[1].sent <= MB
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
def test_very_slow_response_is_an_error(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    MULTI.publish(registry, "a", "v1")
    registry.fault(Fault(path="/manifests/", times=None, action=Slow(rate=50)))
    result = mirror("pull", f"{registry.host}/a:v1", "--all", "--timeout", 2, "--retries", 0, code=1)
    assert "bytes per second" in result.err
    assert registry.host in result.err


# Limits


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "1Q", "", "1e9", "٣"])
def test_invalid_rate_is_refused(mirror: Mirror, rate: str) -> None:
    assert "rate" in mirror("pull", "a:v1", "--limit-rate", rate, code=2).err


@pytest.mark.slow
def test_a_rate_limit_holds(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    IMAGE.publish(registry, "a", "v1")
    began = time.monotonic()
    mirror("pull", f"{registry.host}/a:v1", "--all", "--limit-rate", "2MB")
    assert time.monotonic() - began > 1.2  # a lower bound: 3 MB at 2 MB/s


HUB = (Header("ratelimit-limit", "100;w=21600"), Header("ratelimit-remaining", "76;w=21600"))


@pytest.mark.slow
def test_pull_quota_is_reported_with_the_cost_of_a_dry_run(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    MULTI.publish(registry, "a", "v1")
    registry.fault(Fault(path="/manifests/", times=None, action=HUB))
    dry = mirror("pull", f"{registry.host}/a:v1", "--all", "--dry-run")
    pulls = registry.count("GET", "/manifests/")
    assert f"this pull uses at most {pulls}" in dry.err
    assert "76 of 100 pulls in 6 h are left" in dry.err
    result = mirror("pull", f"{registry.host}/a:v1", "--all", "-v")
    assert "76 of 100 pulls in 6 h are left" in result.err
    quota = {"registry": registry.host, "cost": pulls, "limit": 100, "remaining": 76, "window": 21600}
    assert mirror("pull", f"{registry.host}/a:v1", "--all", "--dry-run", "--json").json["quotas"][0] == {
        **quota,
        "cost": 0,
    }


@pytest.mark.slow
def test_pull_of_an_unchanged_tag_fetches_no_manifests_or_blobs(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    MULTI.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    before = tree(tmp_path / "layout")
    registry.clear_log()
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert registry.count("GET", "/manifests/|/blobs/") == 0
    assert registry.count("HEAD", "/manifests/v1") == 1
    assert tree(tmp_path / "layout") == before


@pytest.mark.slow
def test_pull_reports_a_moved_tag(mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path) -> None:
    MULTI.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    IMAGE.publish(registry, "a", "v1")
    assert "now stands for" in mirror("pull", f"{registry.host}/a:v1", "--all").err
    assert_whole(tmp_path / "layout")


@pytest.mark.slow
@pytest.mark.parametrize(
    "lie",
    [
        Status(405),
        Status(401),
        Header("Docker-Content-Digest", None),
        Header("Docker-Content-Digest", "sha256:../../etc"),
        Header("Docker-Content-Digest", "sha256:" + "0" * 64),
        Header("Content-Length", None),
        Header("Content-Type", "text/html"),
    ],
)
def test_unusable_head_response_is_followed_by_a_get(
    mirror: Mirror, registry: EmbeddedRegistry, tmp_path: Path, lie: Action
) -> None:
    MULTI.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--all")
    registry.clear_log()
    registry.fault(Fault(method="HEAD", times=None, action=lie))
    mirror("pull", f"{registry.host}/a:v1", "--all")
    assert registry.count("GET", "/manifests/v1") == 1
    assert_whole(tmp_path / "layout")
