"""Tests of a repository as a source and a sink, over a real connection."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from mirror.content import stream
from mirror.content.stream import Fetch
from mirror.errors import (
    ContentError,
    DigestMismatch,
    InvalidContent,
    MirrorError,
    NotFound,
    SizeMismatch,
    TransferError,
    Unauthorized,
)
from mirror.oci.descriptor import MANIFEST_CAP, Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, RegistryOptions, Repository
from mirror.registry.blobs.download import last_modified
from tests.registry.test_errors import answer
from tests.support import images
from tests.support.memory import descriptor_of
from tests.support.registry import (
    Action,
    Bearer,
    Chunked,
    EmbeddedRegistry,
    Extend,
    Fault,
    Flip,
    Header,
    Seen,
    Status,
    Truncate,
    serving,
)
from tests.support.strategies import QUICK, nasty_text

T = TypeVar("T")
DATA = b"content" * 1000
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
IMAGE = images.image("linux/amd64", images.layer(1, 100))
ROOT = descriptor_of(IMAGE)

pytestmark = pytest.mark.usefixtures("home", "each_exchange")


@pytest.fixture
def registry(registry: EmbeddedRegistry) -> EmbeddedRegistry:
    """A registry that holds one image and one more blob."""
    IMAGE.publish(registry, "a", "v1")
    registry.put_blob("a", DATA)
    return registry


def using(registry: EmbeddedRegistry, action: Callable[[Repository], Awaitable[T]], repo: str = "a") -> T:
    async def main() -> T:
        async with Client(RegistryOptions(user_agent="tester/1")) as client:
            return await action(Repository(client.registry(registry.host), repo, push=True))

    return asyncio.run(main())


def resolve(registry: EmbeddedRegistry, name: str = "v1") -> Descriptor:
    return using(registry, lambda repository: repository.resolve(name))


async def read(repository: Repository, node: Descriptor = NODE) -> bytes:
    async with repository.open_blob(node) as body:
        return await stream.read(body, node)


def fetch(registry: EmbeddedRegistry, node: Descriptor = NODE) -> bytes:
    return using(registry, lambda repository: read(repository, node))


def body() -> Fetch:
    return stream.from_verified(DATA, "a test")


def fault(registry: EmbeddedRegistry, method: str, path: str, *action: Action, times: int | None = None) -> None:
    registry.fault(Fault(method=method, path=path, times=times, action=action))


def seen(registry: EmbeddedRegistry, method: str, path: str = "") -> list[Seen]:
    return [one for one in registry.requests if one.method == method and path in one.path]


# Requests


def test_request_accepts_all_manifest_types_without_compression(registry: EmbeddedRegistry) -> None:
    resolve(registry)
    headers = seen(registry, "GET", "/manifests/")[0].headers
    accepted = headers["accept"].split(", ")
    assert {images.OCI_INDEX, images.OCI_MANIFEST, images.DOCKER_LIST, images.DOCKER_MANIFEST} <= set(accepted)
    assert not any("manifest.v1" in kind and "docker" in kind for kind in accepted)
    assert headers["accept-encoding"] == "identity"
    assert headers["user-agent"] == "tester/1"
    assert "authorization" not in headers


def test_manifest_by_digest_is_fetched_from_the_manifest_endpoint(registry: EmbeddedRegistry) -> None:
    assert fetch(registry, ROOT) == IMAGE.data
    assert [one.path for one in seen(registry, "GET", "/v2/a/")] == [f"/v2/a/manifests/{IMAGE.root}"]


# Manifests


@pytest.mark.parametrize("name", ["v1", IMAGE.root])
def test_resolved_descriptor_has_the_bytes_of_the_manifest(registry: EmbeddedRegistry, name: str) -> None:
    found = resolve(registry, name)
    assert (found.digest, found.size, found.media_type) == (ROOT.digest, ROOT.size, ROOT.media_type)
    assert found.data == IMAGE.data


@pytest.mark.parametrize("name", ["v2", "sha256:" + "0" * 64])
def test_missing_image_is_not_found(registry: EmbeddedRegistry, name: str) -> None:
    with pytest.raises(NotFound, match="There is no image") as caught:
        resolve(registry, name)
    assert caught.value.exit_code == 2
    assert "MANIFEST_UNKNOWN" in (caught.value.hint or "")
    advice = "Check the name." if ":" in name else f"List the tags: mirror tags {registry.host}/a"
    assert (caught.value.hint or "").endswith(advice)


@pytest.mark.parametrize(
    "action",
    [
        Header("Content-Type", f"{images.OCI_MANIFEST}; charset=utf-8"),
        Header("Content-Type", images.OCI_MANIFEST.upper()),
        Header("Content-Type", "application/json"),
        Header("Content-Type", None),
        Header("Docker-Content-Digest", "sha256:" + "0" * 64),
        Header("Docker-Content-Digest", "nonsense"),
        Header("Docker-Content-Digest", None),
        Chunked(),
    ],
)
def test_wrong_or_missing_manifest_headers_are_tolerated(registry: EmbeddedRegistry, action: Action) -> None:
    fault(registry, "GET", "/manifests/", action)
    assert resolve(registry).digest == IMAGE.root


@pytest.mark.parametrize(
    "action",
    [
        Header("Content-Type", images.OCI_INDEX),
        Header("Content-Type", images.DOCKER_MANIFEST),
        Header("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
        Header("Content-Encoding", "gzip"),
        Status(200, body=b"<html>", content_type="text/html"),
        Status(200, body=b"", content_type=images.OCI_MANIFEST),
        Status(200, body=b"{}", content_type=images.OCI_MANIFEST),
        Extend(b"{}"),
        Truncate(1),
    ],
)
def test_invalid_manifest_response_is_refused(registry: EmbeddedRegistry, action: Action) -> None:
    fault(registry, "GET", "/manifests/", action)
    with pytest.raises(InvalidContent):
        resolve(registry)


@pytest.mark.parametrize("name", ["v1", IMAGE.root])
def test_web_page_in_place_of_a_manifest_is_reported(registry: EmbeddedRegistry, name: str) -> None:
    fault(registry, "GET", "/manifests/", Status(200, body=b" <!DOCTYPE html>Log in", content_type="text/html"))
    with pytest.raises(InvalidContent, match=rf"{registry.host} answered 200 with a web page \(manifest a.{name}\)"):
        resolve(registry, name)


def test_manifest_with_a_wrong_digest_is_refused(registry: EmbeddedRegistry) -> None:
    other = images.image("linux/arm64", images.layer(2, 100))
    registry.replace_blob(IMAGE.root, other.data)
    with pytest.raises(DigestMismatch) as caught:
        resolve(registry, IMAGE.root)
    assert (caught.value.want, caught.value.got) == (IMAGE.root, other.root)


@pytest.mark.parametrize("extra", [(), (Chunked(),)])
def test_manifest_over_the_size_limit_is_refused(registry: EmbeddedRegistry, extra: tuple[Action, ...]) -> None:
    fault(registry, "GET", "/manifests/", Status(200, body=bytes(MANIFEST_CAP + 1)), *extra)
    with pytest.raises(InvalidContent, match="more than 4194304 bytes"):
        resolve(registry)


@pytest.mark.parametrize(("status", "error"), [(401, Unauthorized), (403, Unauthorized), (500, TransferError)])
def test_refused_request_is_not_reported_as_a_missing_image(
    registry: EmbeddedRegistry, status: int, error: type[MirrorError]
) -> None:
    fault(registry, "GET", "/manifests/", Status(status))
    with pytest.raises(error, match=str(status)):
        resolve(registry)


# Blobs


@pytest.mark.parametrize("action", [Chunked(), Header("Content-Length", None), Header("Content-Type", "text/html")])
def test_missing_content_length_is_tolerated(registry: EmbeddedRegistry, action: Action) -> None:
    fault(registry, "GET", "/blobs/", action)
    assert fetch(registry) == DATA


@pytest.mark.parametrize("action", [Extend(b"x"), Truncate(1), Header("Content-Length", str(2**62))])
def test_wrong_content_length_is_a_size_mismatch(registry: EmbeddedRegistry, action: Action) -> None:
    fault(registry, "GET", "/blobs/", action)
    with pytest.raises(SizeMismatch):
        fetch(registry)


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ((Extend(b"x"), Chunked()), SizeMismatch),
        ((Truncate(1), Chunked()), SizeMismatch),
        ((Flip(-1),), DigestMismatch),
    ],
)
def test_wrong_blob_content_is_refused(
    registry: EmbeddedRegistry, action: tuple[Action, ...], error: type[MirrorError]
) -> None:
    fault(registry, "GET", "/blobs/", *action)
    with pytest.raises(error):
        fetch(registry)


def test_content_encoding_is_not_decoded(registry: EmbeddedRegistry) -> None:
    packed = gzip.compress(DATA)
    node = Descriptor("a/b", Digest.of(packed), len(packed))
    registry.put_blob("a", packed)
    fault(registry, "GET", "/blobs/", Header("Content-Encoding", "gzip"))
    assert fetch(registry, node) == packed


def test_missing_blob_is_an_error(registry: EmbeddedRegistry) -> None:
    with pytest.raises(TransferError, match="404") as caught:
        fetch(registry, Descriptor("a/b", Digest.of(b"absent"), 6))
    assert not caught.value.transient


def test_modification_time_is_read_from_last_modified(registry: EmbeddedRegistry) -> None:
    async def modified(repository: Repository) -> float | None:
        async with repository.open_blob(NODE) as opened:
            return opened.modified

    fault(registry, "GET", "/blobs/", Header("Last-Modified", "Fri, 14 Jul 2017 02:40:00 GMT"))
    assert using(registry, modified) == 1_500_000_000


@pytest.mark.parametrize(
    ("action", "time"),
    [
        ((Header("Last-Modified", "Fri, 14 Jul 2017 02:40:00 GMT"),), 1_500_000_000),
        ((), None),
        ((Header("Last-Modified", "yesterday"),), None),
        ((Status(401),), None),
        ((Status(403),), None),  # the storage to which a registry redirects may refuse HEAD
        ((Status(405),), None),
    ],
)
def test_modification_time_is_available_without_the_content(
    registry: EmbeddedRegistry, action: tuple[Action, ...], time: float | None
) -> None:
    registry.put_blob("a", DATA)
    fault(registry, "HEAD", "/blobs/", *action)
    assert using(registry, lambda repository: repository.modified(NODE)) == time
    assert registry.count("GET", "/blobs/") == 0


def test_modification_time_of_a_missing_blob_is_an_error(registry: EmbeddedRegistry) -> None:
    with pytest.raises(TransferError, match="404"):
        using(registry, lambda repository: repository.modified(Descriptor("a/b", Digest.of(b"absent"), 6)))


@given(nasty_text | st.text("0123456789 :,+-GMTWedOct", max_size=40))
@QUICK
def test_any_last_modified_can_be_parsed(text: str) -> None:
    found = last_modified(answer(200, Last_Modified=text))
    assert found is None or found >= 0


# Existence of blobs


@pytest.mark.parametrize(
    ("action", "there"),
    [
        ((), True),
        ((Header("Content-Length", None),), True),
        ((Header("Content-Length", "1"),), False),
        ((Status(404),), False),
        *(((Status(code),), False) for code in (400, 401, 403, 405, 412, 501)),
    ],
)
def test_head_response_shows_whether_a_blob_exists(
    registry: EmbeddedRegistry, action: tuple[Action, ...], there: bool
) -> None:
    fault(registry, "HEAD", "/blobs/", *action)
    assert using(registry, lambda repository: repository.has(NODE)) is there


@pytest.mark.parametrize("status", [407, 408, 429, 500, 503])
def test_other_statuses_of_head_are_errors(registry: EmbeddedRegistry, status: int) -> None:
    fault(registry, "HEAD", "/blobs/", Status(status))
    with pytest.raises(TransferError):
        using(registry, lambda repository: repository.has(NODE))


# Uploads


@pytest.mark.parametrize("relative", [False, True])
def test_blob_is_sent_in_one_request_to_the_upload_location(relative: bool) -> None:
    with serving(EmbeddedRegistry(relative_locations=relative)) as target:
        using(target, lambda repository: repository.put(NODE, body()))
        assert target.get_blob("a", NODE.digest) == DATA
        put = seen(target, "PUT")[0]
        assert (put.received, put.query["digest"]) == (len(DATA), [NODE.digest])
        assert len(put.query) > 1  # the query of the location is kept


def test_manifest_is_sent_with_its_media_type(registry: EmbeddedRegistry) -> None:
    index = images.index([IMAGE], docker=True)
    root = descriptor_of(index)

    async def push(repository: Repository) -> None:
        await repository.put(root, stream.from_verified(index.data, "a test"))
        await repository.tag("v2", root, index.data)

    using(registry, push)
    assert registry.get_manifest("a", "v2") == (index.data, images.DOCKER_LIST)
    assert {one.headers["content-type"] for one in seen(registry, "PUT")} == {images.DOCKER_LIST}


def test_tagging_with_a_digest_sends_no_request(registry: EmbeddedRegistry) -> None:
    using(registry, lambda repository: repository.tag(IMAGE.root, ROOT, IMAGE.data))
    assert registry.requests == []


def test_blob_cannot_be_tagged(registry: EmbeddedRegistry) -> None:
    with pytest.raises(ContentError, match="is not a manifest"):
        using(registry, lambda repository: repository.tag("v2", NODE, DATA))
    assert "v2" not in registry.tags("a")


@pytest.mark.parametrize("status", [413, 500])
def test_error_of_a_refused_upload_has_its_status(registry: EmbeddedRegistry, status: int) -> None:
    fault(registry, "PUT", "/blobs/", Status(status, body=b"<html>nginx</html>", content_type="text/html"))
    with pytest.raises(TransferError, match=str(status)) as caught:
        using(registry, lambda repository: repository.put(NODE, body()))
    assert "nginx" not in str(caught.value)
    assert caught.value.transient is (status == 500)


@pytest.mark.parametrize("code", [200, 202, 404])
def test_upload_response_without_location_is_an_error(registry: EmbeddedRegistry, code: int) -> None:
    fault(registry, "POST", "/uploads/", Status(code))
    with pytest.raises(TransferError):
        using(registry, lambda repository: repository.put(NODE, body()))


# Mounting


def to_two_repositories(registry: EmbeddedRegistry) -> None:
    """Upload the same blob to two repositories of a registry."""

    async def main() -> None:
        async with Client(RegistryOptions()) as client:
            for name in ("one", "other"):
                repository = Repository(client.registry(registry.host), name, push=True)
                await repository.put(NODE, body())

    asyncio.run(main())


def test_blob_is_sent_once_and_mounted_in_another_repository(registry: EmbeddedRegistry) -> None:
    to_two_repositories(registry)
    assert registry.get_blob("other", NODE.digest) == DATA
    assert len(seen(registry, "PUT")) == 1
    assert seen(registry, "POST", "/other/")[0].query == {"mount": [NODE.digest], "from": ["one"]}


@pytest.mark.parametrize("status", [401, 403, 404, 405, 400])
def test_blob_is_sent_again_if_the_registry_cannot_mount_it(registry: EmbeddedRegistry, status: int) -> None:
    registry.fault(Fault(method="POST", path="mount=", times=None, action=Status(status)))
    to_two_repositories(registry)
    assert registry.get_blob("other", NODE.digest) == DATA
    assert len(seen(registry, "PUT")) == 2


def test_mount_that_starts_a_session_becomes_an_upload(registry: EmbeddedRegistry) -> None:
    async def main() -> None:
        async with Client(RegistryOptions()) as client:
            known = client.registry(registry.host)
            known.blob_repositories[NODE.digest] = "gone"  # the blob has been deleted from there
            await Repository(known, "other", push=True).put(NODE, body())

    asyncio.run(main())
    assert registry.get_blob("other", NODE.digest) == DATA


def test_503_response_to_a_mount_is_a_transient_error(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(method="POST", path="mount=", times=None, action=Status(503)))
    with pytest.raises(TransferError) as caught:
        to_two_repositories(registry)
    assert caught.value.transient


# Tokens


@pytest.fixture
def guarded() -> Iterator[EmbeddedRegistry]:
    """A registry that gives anonymous tokens for pulling."""
    auth = Bearer(anonymous_pull=True)
    with serving(EmbeddedRegistry(auth=auth)) as running:
        IMAGE.publish(running, "a", "v1")
        running.put_blob("a", DATA)
        yield running


@pytest.mark.slow
def test_fifty_concurrent_requests_fetch_one_token(guarded: EmbeddedRegistry) -> None:
    async def fifty(client: Client) -> list[bytes]:
        repository = Repository(client.registry(guarded.host), "a")
        return await asyncio.gather(*(read(repository) for _ in range(50)))

    async def main() -> list[bytes]:
        async with Client(RegistryOptions()) as client:
            return await fifty(client)

    assert asyncio.run(main()) == [DATA] * 50
    assert guarded.count("GET", "/token") == 1


def test_insufficient_anonymous_token_is_not_requested_endlessly(guarded: EmbeddedRegistry) -> None:
    with pytest.raises(Unauthorized):
        using(guarded, lambda repository: repository.put(NODE, body()), repo="b")
    assert len(guarded.requests) < 8


def test_huge_token_response_is_an_error(guarded: EmbeddedRegistry) -> None:
    fault(guarded, "GET", "/token", Status(200, body=b'{"token":"' + b"x" * 2_000_000 + b'"}'))
    with pytest.raises(TransferError, match="more than"):
        resolve(guarded)


def test_error_of_the_token_server_names_the_token_request(guarded: EmbeddedRegistry) -> None:
    fault(guarded, "GET", "/token", Status(500, body=json.dumps({"errors": [{"code": "BROKEN"}]}).encode()))
    with pytest.raises(TransferError, match=r"answered 500 .*token request.*BROKEN"):
        resolve(guarded)


# Connections


def test_loopback_registry_may_use_plain_http_without_a_flag(registry: EmbeddedRegistry) -> None:
    assert resolve(registry).digest == IMAGE.root


@pytest.mark.slow
def test_error_names_the_unreachable_registry() -> None:
    async def main() -> None:
        async with Client(RegistryOptions()) as client:
            await Repository(client.registry("127.0.0.1:1"), "a").resolve("v1")

    with pytest.raises(TransferError, match=r"Cannot connect to 127\.0\.0\.1:1"):
        asyncio.run(main())


def test_client_that_is_not_open_is_a_programming_error() -> None:
    with pytest.raises(RuntimeError):
        Client(RegistryOptions()).registry("quay.io")


def test_use_of_tls_is_probed_once_for_all_waiting_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    probed: list[URL] = []

    async def nobody_answers(url: URL) -> None:
        probed.append(url)
        await asyncio.sleep(0)

    monkeypatch.setattr("mirror.registry.http.speaks_plain_http", nobody_answers)

    async def main() -> None:
        async with Client(RegistryOptions()) as client:
            registry = client.registry("127.0.0.1:1")

            async def ask() -> None:
                with pytest.raises(TransferError, match="Cannot connect to 127"):
                    async with registry.send("GET", "", scope=None):
                        pass

            await asyncio.gather(*(ask() for _ in range(16)))
            assert len(probed) == 1
            await ask()
            assert len(probed) == 2

    asyncio.run(main())
