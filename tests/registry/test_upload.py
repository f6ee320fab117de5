"""Tests of uploads: locations, progress, resuming, wrong content, and errors of pushes."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirror.concurrency import to_thread
from mirror.content import stream
from mirror.content.stream import BlobReader
from mirror.errors import BlobsUnknown, ContentError, DigestMismatch, TransferError
from mirror.oci import manifest
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, RegistryOptions, Repository, push_errors
from tests.support import images
from tests.support.registry import Basic, Cut, EmbeddedRegistry, Fault, Header, Seen, Stall, Status, serving
from tests.support.registry.quirks import Quirks
from tests.support.sources import in_pieces
from tests.support.strategies import QUICK, nasty_text

T = TypeVar("T")
DATA = bytes(range(256)) * 40
SIZE = len(DATA)
NODE = Descriptor("a/b", Digest.of(DATA), SIZE)
WRONG = bytes(SIZE)
EMPTY = Descriptor("a/b", Digest.of(b""), 0)
WAYS = pytest.mark.parametrize("chunk", [None, 3000], ids=["whole", "chunked"])

pytestmark = pytest.mark.usefixtures("home", "form")


def using(registry: EmbeddedRegistry, action: Callable[[Repository], Awaitable[T]], chunk: int | None = None) -> T:
    async def main() -> T:
        async with Client(RegistryOptions(chunk_size=chunk)) as client:
            return await action(Repository(client.registry(registry.host), "a", push=True))

    return asyncio.run(main())


def put(
    registry: EmbeddedRegistry, data: bytes = DATA, node: Descriptor = NODE, chunk: int | None = None, times: int = 1
) -> None:
    """Upload a blob in at most `times` attempts, and close the repository."""

    async def attempts(repository: Repository) -> None:
        try:
            for _ in range(times - 1):
                with suppress(TransferError):
                    return await repository.put(node, in_pieces(data))
            await repository.put(node, in_pieces(data))
        finally:
            await repository.close()

    using(registry, attempts, chunk)


def seen(registry: EmbeddedRegistry, methods: str = "PUT PATCH") -> list[Seen]:
    return [one for one in registry.requests if one.method in methods.split()]


# Locations


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/up/1", f"/up/1?digest={NODE.digest}"),
        ("/up/1?", f"/up/1?digest={NODE.digest}"),
        ("/up/1?a=%2F&b=+", f"/up/1?a=%2F&b=+&digest={NODE.digest}"),
        ("/up/%7E1?_state=a%3D%3D", f"/up/%7E1?_state=a%3D%3D&digest={NODE.digest}"),
        ("1?x", f"/v2/a/blobs/uploads/1?x&digest={NODE.digest}"),
        ("../1?x=/", f"/v2/a/blobs/1?x=/&digest={NODE.digest}"),
        ("?x=1", f"/v2/a/blobs/uploads/?x=1&digest={NODE.digest}"),
    ],
)
def test_location_is_kept_and_gets_the_digest(registry: EmbeddedRegistry, location: str, target: str) -> None:
    registry.fault(Fault(method="POST", action=Status(202, (("Location", location),))))
    registry.fault(Fault(method="PUT", action=Status(201)))
    put(registry)
    assert [one.target for one in seen(registry)] == [target]


def test_next_request_is_sent_to_the_latest_location(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(method="POST", action=Status(202, (("Location", "/1"),))))
    for number in range(1, 5):
        registry.fault(
            Fault(method="PATCH", path=f"^/{number}$", action=Status(202, (("Location", f"/{number + 1}"),)))
        )
    registry.fault(Fault(method="PUT", action=Status(201)))
    registry.fault(Fault(method="HEAD", action=Status(405)))
    put(registry, chunk=3000)
    assert [one.target for one in seen(registry, "PATCH")] == ["/1", "/2", "/3", "/4"]
    assert [one.path for one in seen(registry, "PUT")] == ["/5"]


def test_response_without_location_keeps_the_previous_one(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(method="POST", action=Status(202, (("Location", "/1"),))))
    registry.fault(Fault(method="PATCH", times=None, action=Status(202)))
    registry.fault(Fault(method="PUT", action=Status(201)))
    registry.fault(Fault(method="HEAD", action=Status(405)))
    put(registry, chunk=3000)
    assert {one.path for one in seen(registry)} == {"/1"}


@WAYS
@pytest.mark.parametrize("cut", [False, True])
def test_credentials_are_not_sent_to_another_origin(
    tmp_path: Path, registry: EmbeddedRegistry, chunk: int | None, cut: bool
) -> None:
    """Requests for the content, the progress and the deletion have no Authorization header."""
    with serving(EmbeddedRegistry(auth=Basic({"ann": "secret"}))) as guarded:
        auths = {guarded.host: {"auth": "YW5uOnNlY3JldA=="}}
        (tmp_path / "config.json").write_text(json.dumps({"auths": auths}))
        location = f"{registry.url}/v2/a/blobs/uploads/1"
        guarded.fault(Fault(method="POST", times=None, action=Status(202, (("Location", location),))))
        challenge = (("WWW-Authenticate", 'Basic realm="give"'),)
        registry.fault(Fault(times=None, action=Cut(0) if cut else Status(401, challenge)))
        with pytest.raises(TransferError):
            put(guarded, chunk=chunk, times=2)
        assert any("authorization" in one.headers for one in guarded.requests)
    assert {"GET", "DELETE"} <= {one.method for one in registry.requests}
    assert not any("authorization" in one.headers for one in registry.requests)


# Progress


def cut_at(registry: EmbeddedRegistry, after: int, *answer: Header) -> list[tuple[str, str | None]]:
    """Cut the first body, change the response about the progress, and return the requests with a body.

    Check that the registry has the right content in the end.
    """
    registry.fault(Fault(method="PUT", path="digest", action=Cut(after)))
    if answer:
        registry.fault(Fault(method="GET", path="/uploads/", action=answer))
    put(registry, times=3)
    assert registry.get_blob("a", NODE.digest) == DATA
    return [(one.method, one.headers.get("content-range")) for one in seen(registry)]


def test_received_bytes_are_not_sent_again(registry: EmbeddedRegistry) -> None:
    assert cut_at(registry, 4000) == [("PUT", None), ("PATCH", f"4000-{SIZE - 1}"), ("PUT", None)]


@pytest.mark.parametrize("text", ["0-3999", "bytes=0-3999"])
def test_range_is_parsed_in_both_forms(registry: EmbeddedRegistry, text: str) -> None:
    assert cut_at(registry, 4000, Header("Range", text))[1] == ("PATCH", f"4000-{SIZE - 1}")


@pytest.mark.parametrize(
    "text", [None, "", "0-0", "4000", "1-3999", "0-3999,", "0- 3999", "0-٣", "0-1_0", "0-" + "9" * 30, "-3999", "0--1"]
)
def test_invalid_range_restarts_the_upload(registry: EmbeddedRegistry, text: str | None) -> None:
    """The session has 4000 bytes: the whole blob is appended, refused because of its digest, and sent again."""
    encoded = None if text is None else text.encode().decode("latin-1")
    assert cut_at(registry, 4000, Header("Range", encoded))[-1] == ("PUT", None)


@pytest.mark.parametrize("text", [f"0-{SIZE}", "0-9999999999"])
def test_range_beyond_the_blob_starts_another_session(registry: EmbeddedRegistry, text: str) -> None:
    assert cut_at(registry, 4000, Header("Range", text)) == [("PUT", None), ("PUT", None)]
    assert registry.count("POST") == 2


@pytest.mark.parametrize(("text", "place"), [("0-99", 100), ("0-8000", 8001)])
def test_wrong_range_is_detected_by_the_digest(registry: EmbeddedRegistry, text: str, place: int) -> None:
    first, second, *_, last = cut_at(registry, 4000, Header("Range", text))
    assert [first, second, last] == [("PUT", None), ("PATCH", f"{place}-{SIZE - 1}"), ("PUT", None)]


@pytest.mark.slow
@QUICK
@given(text=nasty_text)
def test_blob_is_stored_correctly_after_any_range(text: str) -> None:
    value = "".join(char for char in text if char.isprintable() and ord(char) < 256).strip()
    with serving(EmbeddedRegistry()) as registry:
        assert cut_at(registry, 4000, Header("Range", value))[-1][0] == "PUT"


# Wrong content


@WAYS
@pytest.mark.parametrize("data", [WRONG, DATA[:-1] + b"x", DATA[:-1], DATA + b"x"])
def test_upload_of_wrong_content_is_not_completed(registry: EmbeddedRegistry, data: bytes, chunk: int | None) -> None:
    with pytest.raises(ContentError):
        put(registry, data, chunk=chunk)
    assert registry.blobs("a") == set()
    assert not any(one.status == 201 for one in seen(registry))
    assert registry.count("DELETE") == 1


@pytest.mark.parametrize(("chunk", "after"), [(None, 100), (None, 9000), (3000, 100), (3000, 9000), (3000, SIZE)])
def test_resumed_upload_of_changed_content_is_not_completed(
    registry: EmbeddedRegistry, chunk: int | None, after: int
) -> None:
    """Not even if all bytes have arrived, and only the last request is missing."""
    registry.fault(Fault(method="PUT|PATCH", path="/uploads/", action=Cut(min(after, chunk or after))))

    async def attempts(repository: Repository) -> None:
        with pytest.raises(TransferError):
            await repository.put(NODE, in_pieces(DATA))
        registry.clear_log()
        with pytest.raises(DigestMismatch):
            await repository.put(NODE, in_pieces(DATA[:-1] + b"x"))

    using(registry, attempts, chunk)
    assert [one for one in seen(registry, "PUT") if one.status == 201] == []
    assert registry.blobs("a") == set()


def test_an_empty_blob_is_checked_before_it_is_completed(registry: EmbeddedRegistry) -> None:
    put(registry, b"", EMPTY)
    assert registry.get_blob("a", EMPTY.digest) == b""
    registry.clear_log()
    with pytest.raises(DigestMismatch):
        put(registry, b"", Descriptor("a/b", NODE.digest, 0))
    assert seen(registry) == []


def test_chunked_upload_is_an_error_if_the_blob_is_missing_afterwards(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(method="HEAD", times=None, action=Status(404)))
    with pytest.raises(TransferError, match="not there after its upload") as caught:
        put(registry, chunk=3000)
    assert caught.value.transient


@pytest.mark.parametrize("status", [401, 403, 405])
def test_chunked_upload_succeeds_if_head_is_not_supported(registry: EmbeddedRegistry, status: int) -> None:
    registry.fault(Fault(method="HEAD", times=None, action=Status(status)))
    put(registry, chunk=3000)
    assert registry.get_blob("a", NODE.digest) == DATA


# End of sessions


def test_a_cancelled_upload_is_deleted(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(method="PUT", action=Stall(100)))

    async def cancel(repository: Repository) -> None:
        task = asyncio.ensure_future(repository.put(NODE, in_pieces(DATA)))
        while not registry.count("PUT"):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    using(registry, cancel)
    assert [one.status for one in seen(registry, "DELETE")] == [204]


def test_cancellation_ends_a_source_that_is_blocked(registry: EmbeddedRegistry) -> None:
    """A source may be another registry, from which a thread reads."""
    entered, ended = threading.Event(), threading.Event()

    def fill(_: memoryview) -> int:
        entered.set()
        assert ended.wait(30)
        raise TransferError("interrupted")

    @asynccontextmanager
    async def fetch(start: int) -> AsyncIterator[BlobReader]:
        yield BlobReader(stream.single_chunk(b""), "a test", start=start, fill=fill, interrupt=ended.set)

    async def cancel(repository: Repository) -> None:
        task = asyncio.ensure_future(repository.put(NODE, fetch))
        await to_thread(entered.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended.is_set()

    using(registry, cancel)
    assert registry.count("DELETE") == 1


def test_abandoned_upload_is_deleted_when_the_repository_is_closed(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(method="PUT", times=None, action=Cut(100)))

    async def give_up(repository: Repository) -> None:
        with pytest.raises(TransferError):
            await repository.put(NODE, in_pieces(DATA))
        assert registry.count("DELETE") == 0
        await repository.close()
        await repository.close()

    using(registry, give_up)
    assert registry.count("DELETE") == 1


@pytest.mark.parametrize("fault", [Status(405), Status(500), Cut(None)])
def test_failed_deletion_does_not_hide_the_error(registry: EmbeddedRegistry, fault: Status | Cut) -> None:
    registry.fault(Fault(method="DELETE", times=None, action=fault))
    with pytest.raises(DigestMismatch):
        put(registry, WRONG)


# Sizes of bodies


@pytest.mark.slow
def test_concurrent_uploads_find_the_same_chunk_size() -> None:
    large = [bytes([number]) * 2_000_000 for number in range(4)]
    nodes = [Descriptor("a/b", Digest.of(data), len(data)) for data in large]

    async def all_at_once(repository: Repository) -> None:
        async with asyncio.TaskGroup() as group:
            for node, data in zip(nodes, large, strict=True):
                group.create_task(repository.put(node, in_pieces(data)))

    with serving(EmbeddedRegistry(quirks=Quirks(body_limit=1_100_000))) as registry:
        using(registry, all_at_once)
        assert {one.received for one in seen(registry, "PATCH")} == {1024 * 1024, 2_000_000 - 1024 * 1024}
        assert registry.blobs("a") == {node.digest for node in nodes}


# Explanation of push errors


@pytest.mark.parametrize(
    ("host", "status", "said", "helped"),
    [
        ("r.example", 404, "NAME_UNKNOWN no such repository", True),
        ("123.dkr.ecr.eu-west-1.amazonaws.com", 404, "NAME_UNKNOWN no such repository", True),
        ("123.dkr.ecr.eu-west-1.amazonaws.com", None, "", True),
        ("123.dkr.ecr-fips.us-gov-west-1.amazonaws.com", None, "", True),
        ("r.example", None, "", False),
        ("r.example", 403, "DENIED", False),
    ],
)
def test_hint_of_a_missing_repository_is_to_create_it(host: str, status: int | None, said: str, helped: bool) -> None:
    with pytest.raises(TransferError) as caught, push_errors.explain_no_session(host, "team/app"):
        raise TransferError("no", status=status, said=said)
    assert ("Create team/app there" in (caught.value.hint or "")) is helped
    assert ("aws ecr create-repository" in (caught.value.hint or "")) is (helped and "amazonaws" in host)


IMAGE = images.image("linux/amd64", images.layer(1, 100))
DOCUMENT = manifest.parse(IMAGE.data, images.OCI_MANIFEST, "an image")
INDEX = manifest.parse(images.index([IMAGE]).data, images.OCI_INDEX, "an index")


@pytest.mark.parametrize(
    ("said", "lacking"),
    [
        ("MANIFEST_BLOB_UNKNOWN blob unknown to registry", True),
        ("BLOB_UNKNOWN", True),
        ("MANIFEST_INVALID blob unknown", True),
        ("MANIFEST_INVALID layers are missing", True),
        ("MANIFEST_INVALID manifest invalid", False),
        ("MANIFEST_UNVERIFIED blobs", False),
        ("DENIED", False),
        ("", False),
    ],
)
def test_missing_blobs_are_distinguished_from_other_push_errors(said: str, lacking: bool) -> None:
    found = push_errors.explain_manifest(TransferError("no", status=400, said=said), DOCUMENT, set())
    assert isinstance(found, BlobsUnknown) is lacking
    assert (str(found), found.status, found.said) == ("no", 400, said)
    of_index = push_errors.explain_manifest(
        TransferError("no", status=400, said=said), INDEX, {Digest.parse(IMAGE.root)}
    )
    assert not isinstance(of_index, BlobsUnknown)


@pytest.mark.parametrize("status", [None, 401, 403, 413, 429, 500])
def test_other_statuses_are_not_explained(status: int | None) -> None:
    found = push_errors.explain_manifest(TransferError("no", status=status, said="MANIFEST_BLOB_UNKNOWN"), INDEX, set())
    assert found.hint is None


@given(said=st.text())
@example(said="BLOB_UNKNOWN")
def test_any_error_text_can_be_explained(said: str) -> None:
    found = push_errors.explain_manifest(TransferError("no", status=400, said=said), DOCUMENT, set())
    assert (str(found), found.status, found.said) == ("no", 400, said)
