"""Tests of uploads that are redirected, refused as a whole, committed slowly, or no longer read."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import pytest

from mirror.content.stream import BlobReader
from mirror.errors import TransferError
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, RegistryOptions, Repository
from mirror.registry.blobs import upload_session
from mirror.registry.transport.rate_limit import RateLimit
from mirror.retry import RetryPolicy
from tests.support import images
from tests.support.memory import descriptor_of
from tests.support.registry import Action, Basic, Cut, EmbeddedRegistry, Fault, Header, Redirect, Slow, Status, serving
from tests.support.registry.messages import Answer, Call, answer
from tests.support.sources import in_pieces

DATA = bytes(range(256)) * 40
NODE = Descriptor("a/b", Digest.of(DATA), len(DATA))
OTHER = Descriptor("a/b", Digest.of(b"other"), 5)
IMAGE = images.image("linux/amd64")
WAYS = pytest.mark.parametrize("chunk", [None, 3000], ids=["whole", "chunked"])

pytestmark = pytest.mark.usefixtures("home", "form")


def push(host: str, options: RegistryOptions | None = None, *nodes: tuple[Descriptor, bytes], retries: int = 0) -> None:
    """Push blobs, one after the other, to the repository a."""

    async def main() -> None:
        async with Client(options or RegistryOptions()) as client:
            repository = Repository(client.registry(host), "a", push=True)
            for node, data in nodes or [(NODE, DATA)]:
                put = partial(repository.put, node, in_pieces(data))
                await RetryPolicy(retries, delay=0).run(put)
            await repository.close()

    asyncio.run(main())


def sent(registry: EmbeddedRegistry, *methods: str) -> list[tuple[str, int, int]]:
    """The method, the size of the body and the status of requests."""
    return [(one.method, one.received, one.status) for one in registry.requests if one.method in methods]


# Redirects


@dataclass(frozen=True)
class Hop(Action):
    """Redirects a request to the same URL at `origin`, once; one that has been redirected or has no token is served."""

    origin: str = ""
    code: int = 307
    guarded: bool = False

    def on_call(self, call: Call) -> Call | Answer:
        if call.param("hop") or (self.guarded and "authorization" not in call.headers):
            return call
        query = urlencode({**call.query, "hop": "1"}, doseq=True)
        return answer(self.code, Location=f"{self.origin}{call.path}?{query}")


@WAYS
@pytest.mark.parametrize("code", [307, 308])
@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT"])
def test_redirected_upload_arrives(registry: EmbeddedRegistry, method: str, code: int, chunk: int | None) -> None:
    registry.fault(Fault(method=method, times=None, action=Hop(code=code)))
    push(registry.host, RegistryOptions(chunk_size=chunk))
    assert registry.get_blob("a", NODE.digest) == DATA


@pytest.mark.slow
@pytest.mark.parametrize("chunks", [5, 20])
def test_upload_of_which_every_chunk_is_redirected_reads_the_blob_twice(
    registry: EmbeddedRegistry, chunks: int
) -> None:
    registry.fault(Fault(method="PATCH|PUT", times=None, action=Hop()))
    reads: list[int] = []

    def fetch(start: int) -> AbstractAsyncContextManager[BlobReader]:
        reads.append(start)
        return in_pieces(DATA)(start)

    async def main() -> None:
        async with Client(RegistryOptions(chunk_size=len(DATA) // chunks)) as client:
            repository = Repository(client.registry(registry.host), "a", push=True)
            await repository.put(NODE, fetch)

    asyncio.run(main())
    assert registry.get_blob("a", NODE.digest) == DATA
    assert reads == [0, 0]
    assert len(sent(registry, "PATCH")) == 2 * chunks


@pytest.mark.slow
def test_redirected_chunks_are_not_smaller_than_the_registry_wants(registry: EmbeddedRegistry) -> None:
    least = 17 * 1024 * 1024
    registry.fault(Fault(method="POST", action=Header("OCI-Chunk-Min-Length", str(least))))
    registry.fault(Fault(method="PATCH", times=None, action=Hop()))
    data = bytes(2 * least)
    push(registry.host, RegistryOptions(chunk_size=1000), (Descriptor("a/b", Digest.of(data), len(data)), data))
    assert registry.get_blob("a", Digest.of(data)) == data
    assert [received for method, received, status in sent(registry, "PATCH") if status == 202] == [least, least]


def test_redirected_manifest_arrives(registry: EmbeddedRegistry) -> None:
    registry.fault(Fault(method="PUT", times=None, action=Hop()))

    async def main() -> None:
        async with Client(RegistryOptions()) as client:
            repository = Repository(client.registry(registry.host), "a", push=True)
            await repository.tag("v1", descriptor_of(IMAGE), IMAGE.data)

    for digest, data in IMAGE.blobs.items():
        assert registry.put_blob("a", data) == digest
    asyncio.run(main())
    assert registry.tags("a") == {"v1": IMAGE.root}


@WAYS
def test_upload_that_is_redirected_to_another_server_has_no_credentials_there(
    tmp_path: Path, chunk: int | None
) -> None:
    with serving(EmbeddedRegistry(auth=Basic({"ann": "secret"}))) as front, serving(EmbeddedRegistry()) as back:
        front.fault(Fault(method="POST|HEAD", times=None, action=Hop(back.url, guarded=True)))
        auths = {"auths": {front.host: {"auth": "YW5uOnNlY3JldA=="}}}
        (tmp_path / "config.json").write_text(json.dumps(auths))
        push(front.host, RegistryOptions(chunk_size=chunk))
        assert back.get_blob("a", NODE.digest) == DATA
        assert [seen for seen in front.requests if "authorization" in seen.headers]
        assert not [seen for seen in back.requests if "authorization" in seen.headers]


@pytest.mark.parametrize("method", ["POST", "PUT"])
@pytest.mark.parametrize("url", ["file:///etc/passwd", "http://["])
def test_upload_is_not_redirected_to_an_invalid_url(registry: EmbeddedRegistry, method: str, url: str) -> None:
    registry.fault(Fault(method=method, times=None, action=Redirect(url)))
    with pytest.raises(TransferError, match="which is not an http"):
        push(registry.host)


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_endless_redirects_of_an_upload_are_an_error(registry: EmbeddedRegistry, method: str) -> None:
    registry.fault(Fault(method=method, times=None, action=Redirect("/v2/a/blobs/uploads/x")))
    with pytest.raises(TransferError, match="10"):
        push(registry.host)
    assert registry.count(method) <= 12


@pytest.mark.parametrize("code", [301, 302, 303])
def test_redirect_that_changes_the_method_is_an_error(registry: EmbeddedRegistry, code: int) -> None:
    with serving(EmbeddedRegistry()) as other:
        registry.fault(Fault(method="PUT", times=None, action=Redirect(f"{other.url}/v2/a/blobs/uploads/1", code)))
        with pytest.raises(TransferError, match=str(code)):
            push(registry.host)
        assert other.requests == []


# Bodies that are refused as a whole


@pytest.mark.parametrize("code", [400, 404, 405, 411, 415, 422, 501])
@pytest.mark.parametrize("no_status", [False, True])
def test_blob_is_sent_with_patch_if_a_put_with_a_body_is_refused(
    registry: EmbeddedRegistry, code: int, no_status: bool
) -> None:
    registry.fault(Fault(method="PUT", times=None, action=RefuseBody(code)))
    if no_status:
        registry.fault(Fault(method="GET", path="/uploads/", times=None, action=Status(404)))
    push(registry.host, None, (NODE, DATA), (OTHER, b"other"))
    assert registry.contents("a") == {NODE.digest: DATA, OTHER.digest: b"other"}
    assert sent(registry, "PATCH") == [("PATCH", len(DATA), 202), ("PATCH", 5, 202)]
    assert [status for _, _, status in sent(registry, "PUT")] == [code, 201, 201]


@dataclass(frozen=True)
class RefuseBody(Action):
    """Refuses a request with a body."""

    code: int

    def on_call(self, call: Call) -> Call | Answer:
        return call if call.headers.get("content-length") == "0" else answer(self.code)


@pytest.mark.parametrize("size", [len(DATA), len(DATA) * 2])
def test_chunk_size_applies_to_blobs_that_are_not_larger(registry: EmbeddedRegistry, size: int) -> None:
    registry.fault(Fault(method="PUT", times=None, action=RefuseBody(400)))
    push(registry.host, RegistryOptions(chunk_size=size))
    assert sent(registry, "PATCH", "PUT") == [("PATCH", len(DATA), 202), ("PUT", 0, 201)]


@pytest.mark.parametrize("code", [401, 403, 409, 412])
def test_refusal_for_other_reasons_does_not_change_the_requests(registry: EmbeddedRegistry, code: int) -> None:
    registry.fault(Fault(method="PUT", times=None, action=Status(code)))
    with pytest.raises(TransferError, match=str(code)):
        push(registry.host)
    assert registry.count("PATCH") == 0


@pytest.mark.parametrize("code", [400, 405])
def test_first_refusal_is_reported_if_patch_is_refused_too(registry: EmbeddedRegistry, code: int) -> None:
    registry.fault(Fault(method="PUT", times=None, action=Status(code, body=b"no PUT")))
    registry.fault(Fault(method="PATCH", times=None, action=Status(405, body=b"no PATCH")))
    with pytest.raises(TransferError, match=str(code)) as caught:
        push(registry.host)
    assert "--chunk-size" not in (caught.value.hint or "")


# Slow commits


SILENT = RegistryOptions(timeout=1.0)  # enough for any other request on a slow machine


@pytest.mark.slow
@WAYS
def test_slow_commit_is_awaited(registry: EmbeddedRegistry, chunk: int | None) -> None:
    registry.fault(Fault(method="PUT", action=Slow(delay=1.5)))
    push(registry.host, replace(SILENT, chunk_size=chunk))
    assert registry.count("PUT") == 1


@dataclass(frozen=True)
class GatewayTimeout(Action):
    """Answers 504 to a request that is carried out, as a proxy does that stops waiting."""

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return answer(504)


@pytest.mark.slow
@pytest.mark.parametrize("action", [Slow(delay=5), Cut(len(DATA)), GatewayTimeout()], ids=["timeout", "cut", "504"])
def test_blob_is_not_sent_again_if_it_has_arrived(
    registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch, action: Action
) -> None:
    monkeypatch.setattr(upload_session, "COMMIT_TIMEOUT", 0.3)
    registry.fault(Fault(method="PUT", action=action))
    registry.fault(Fault(method="GET", path="/uploads/", times=None, action=Status(204, (("Range", "0-0"),))))
    push(registry.host, SILENT, retries=1)
    assert registry.get_blob("a", NODE.digest) == DATA
    assert registry.count("PUT|PATCH") == 1


@pytest.mark.slow
def test_blob_that_appears_while_it_is_awaited_is_not_sent_again(
    registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_session, "COMMIT_TIMEOUT", 2.0)
    registry.fault(Fault(method="PUT", action=Slow(delay=5)))
    registry.fault(Fault(method="HEAD", times=2, action=Status(404)))
    push(registry.host, SILENT, retries=1)
    assert registry.count("PUT|PATCH|POST") == 2


@pytest.mark.slow
def test_blob_that_did_not_arrive_is_sent_again(registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upload_session, "COMMIT_TIMEOUT", 0.2)
    registry.fault(Fault(method="PUT", action=Status(504)))
    push(registry.host, SILENT, retries=1)
    assert registry.get_blob("a", NODE.digest) == DATA


# Rate limits


@pytest.mark.slow
def test_limited_upload_is_sent_in_small_pieces(registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def turns(_: RateLimit, count: int) -> Iterator[float]:
        taken.append(count)
        return iter([0.0])

    monkeypatch.setattr(RateLimit, "turns", turns)
    push(registry.host, RegistryOptions(limit_rate=1000, jobs=4))
    assert registry.get_blob("a", NODE.digest) == DATA
    assert (sum(taken), max(taken)) == (len(DATA), 500)
