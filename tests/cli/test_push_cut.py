"""Tests of pushes that are cut at each request: the tag is put last, and the next push sends the rest."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror import MirrorError, PushOptions, RegistryOptions, RetryPolicy, TransferReport, push_images
from tests.support import images
from tests.support.command import Mirror
from tests.support.profiles import every
from tests.support.registry import Cut, EmbeddedRegistry, Fault, Quirks, Reset, Seen, Status, serving

pytestmark = pytest.mark.usefixtures("each_exchange")

IMAGE = images.multi_arch(["linux/amd64", "linux/arm64"])
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))
SIZE = len(IMAGE.blobs[LAYER])
WHOLE, CHUNKED = None, SIZE // 3 + 1
WAYS = pytest.mark.parametrize("chunk", [WHOLE, CHUNKED], ids=["whole", "chunked"])


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Configure no credentials."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stock")
    with serving(EmbeddedRegistry()) as registry:
        IMAGE.publish(registry, "a", "v1")
        Mirror(folder)("pull", f"{registry.host}/a:v1", "--all")
    return folder / "layout"


def push(layout: Path, registry: EmbeddedRegistry, chunk: int | None, retries: int = 0) -> TransferReport:
    """Push one blob after the other, so that every push makes the same requests."""
    options = PushOptions(retry=RetryPolicy(retries, delay=0), registries=RegistryOptions(jobs=1, chunk_size=chunk))
    return asyncio.run(push_images(layout, registry.host, options=options))


def requests_without_faults(layout: Path, chunk: int | None) -> list[Seen]:
    """The requests of a push that is not cut."""
    with serving(EmbeddedRegistry()) as registry:
        push(layout, registry, chunk)
        return registry.requests


def cuts(requests: list[Seen]) -> Iterator[tuple[int, int | None]]:
    """Yield each request with None (refused) and with 0, 1, n-1 and n of the bytes of its body or response (cut)."""
    for number, seen in enumerate(requests):
        size = seen.sent if seen.method == "GET" else seen.received
        yield number, None
        yield from ((number, after) for after in sorted({0, 1, size - 1, size}) if after >= 0)


def exit_code_of_push(layout: Path, registry: EmbeddedRegistry, chunk: int | None) -> int:
    """The exit code of a push; if a reused connection is cut, aiohttp repeats the request by itself."""
    try:
        push(layout, registry, chunk)
    except MirrorError as error:
        return error.exit_code
    assert_whole(registry)
    return 0


def assert_tag_is_complete(registry: EmbeddedRegistry) -> None:
    """Check that all content of the image exists if its tag exists."""
    if registry.tags("a"):
        assert registry.tags("a") == {"v1": IMAGE.root}
        assert registry.manifests("a") == set(IMAGE.manifests)
        assert registry.blobs("a") == set(IMAGE.blobs)


def assert_whole(registry: EmbeddedRegistry) -> None:
    assert registry.tags("a") == {"v1": IMAGE.root}
    assert {digest: registry.get_manifest("a", digest) for digest in IMAGE.manifests} == IMAGE.manifests
    assert {digest: registry.get_blob("a", digest) for digest in IMAGE.blobs} == IMAGE.blobs


def blob_bytes(registry: EmbeddedRegistry) -> int:
    """The number of blob bytes that the registry received."""
    return sum(seen.received for seen in registry.requests if "/blobs/" in seen.path)


@pytest.mark.slow
@WAYS
@pytest.mark.parametrize("part", range(2))
def test_next_push_completes_a_push_that_was_cut(layout: Path, chunk: int | None, part: int) -> None:
    requests = requests_without_faults(layout, chunk)
    assert len(requests) > 15
    for number, after in every(list(cuts(requests))[part::2]):
        with serving(EmbeddedRegistry()) as registry:
            registry.fault(Fault(skip=number, action=Cut(after)))
            assert exit_code_of_push(layout, registry, chunk) in (1, 0 if registry.tags("a") else 1)
            assert_tag_is_complete(registry)
            missing = sum(len(data) for digest, data in IMAGE.blobs.items() if digest not in registry.blobs("a"))
            registry.clear_log()
            push(layout, registry, chunk)
            assert_whole(registry)
            assert blob_bytes(registry) == missing


@pytest.mark.slow
@WAYS
@pytest.mark.parametrize("relative", [True, False])
def test_push_resumes_after_a_cut_connection(layout: Path, chunk: int | None, relative: bool) -> None:
    for number, after in every(cuts(requests_without_faults(layout, chunk))):
        with serving(EmbeddedRegistry(relative_locations=relative)) as registry:
            registry.fault(Fault(skip=number, action=Reset(after) if relative else Cut(after)))
            push(layout, registry, chunk, retries=1)
            assert_whole(registry)


@dataclass(frozen=True)
class CutUpload:
    """The requests that uploaded a layer, the first of them cut."""

    bodies: list[tuple[str, str | None, int]]  # method, Content-Range and Content-Length
    registry: EmbeddedRegistry


def cut_layer(layout: Path, after: int, chunk: int | None = None, quirks: Quirks | None = None) -> CutUpload:
    """Push, cut the first request body of the layer after some bytes, and check that the registry has the image."""
    with serving(EmbeddedRegistry(quirks=quirks)) as registry:
        first = requests_without_faults(layout, chunk)
        number = next(i for i, seen in enumerate(first) if seen.received)  # the largest blob comes first
        registry.fault(Fault(skip=number, action=Cut(after)))
        push(layout, registry, chunk, retries=2)
        assert_whole(registry)
        address = registry.requests[number].path.rpartition("/")[2]
        bodies = [
            (seen.method, seen.headers.get("content-range"), int(seen.headers["content-length"]))
            for seen in registry.requests
            if seen.path.endswith(address) and seen.method in ("PUT", "PATCH")
        ]
        return CutUpload(bodies, registry)


@pytest.mark.slow
@pytest.mark.parametrize("after", [2, 700, SIZE - 1])
def test_cut_upload_resumes_at_the_exact_byte(layout: Path, after: int) -> None:
    upload = cut_layer(layout, after)
    assert upload.bodies == [
        ("PUT", None, SIZE),
        ("PATCH", f"{after}-{SIZE - 1}", SIZE - after),
        ("PUT", None, 0),
    ]


@pytest.mark.slow
def test_cut_chunk_resumes_at_the_exact_byte(layout: Path) -> None:
    upload = cut_layer(layout, 10, CHUNKED)
    places = [place for _, place, _ in upload.bodies]
    assert places[:2] == [f"0-{CHUNKED - 1}", f"10-{9 + CHUNKED}"]
    assert sum(size for _, _, size in upload.bodies[1:]) == SIZE - 10


@pytest.mark.slow
def test_upload_with_a_lost_response_is_not_sent_again(layout: Path) -> None:
    upload = cut_layer(layout, SIZE)
    assert upload.bodies == [("PUT", None, SIZE)]
    assert blob_bytes(upload.registry) == sum(map(len, IMAGE.blobs.values()))


@pytest.mark.slow
@pytest.mark.parametrize("after", [700, 1])
@pytest.mark.parametrize(
    "quirks",
    [Quirks(appends=True), Quirks(no_status=True), Quirks(stuck_range=True), Quirks(appends=True, stuck_range=True)],
    ids=["appends", "no status", "stuck range", "appends and stuck range"],
)
@WAYS
def test_cut_upload_is_completed_at_registries_with_quirks(
    layout: Path, quirks: Quirks, after: int, chunk: int | None
) -> None:
    upload = cut_layer(layout, after, chunk, quirks)
    assert upload.bodies[0] == (("PUT", None, SIZE) if chunk is None else ("PATCH", f"0-{chunk - 1}", chunk))
    assert upload.registry.get_blob("a", LAYER) == IMAGE.blobs[LAYER]


@pytest.mark.parametrize("retries", [0, 1])
def test_unfinished_upload_session_is_deleted(layout: Path, retries: int) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="PUT", path=f"digest={LAYER}", times=None, action=Cut(700)))
        registry.fault(Fault(method="PATCH", times=None, action=Cut(0)))
        with pytest.raises(MirrorError):
            push(layout, registry, WHOLE, retries)
        opened = registry.count("POST", "/uploads/")
        deleted = [seen.status for seen in registry.requests if seen.method == "DELETE"]
        assert (opened, deleted) == (1, [204])


def test_push_error_is_reported_if_the_upload_session_cannot_be_deleted(layout: Path) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="PUT", path="digest=", times=None, action=Cut(700)))
        registry.fault(Fault(method="DELETE", times=None, action=Status(403)))
        with pytest.raises(MirrorError, match="the connection was cut"):
            push(layout, registry, WHOLE)
