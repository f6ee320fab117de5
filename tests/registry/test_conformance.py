"""Tests of the client against two registries: the embedded one of all other tests, and Debian's docker-registry.

Other tests may rely on the behaviour that both have in common. Every test has its own repository, so one registry of
each kind is enough.
"""

import asyncio
import http.client
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import bcrypt
import pytest

from mirror.content import stream
from mirror.content.stream import BlobReader
from mirror.errors import DigestMismatch, MirrorError, NotFound, TransferError, Unauthorized
from mirror.oci.descriptor import Descriptor
from mirror.oci.digest import Digest
from mirror.registry import Client, Credentials, RegistryOptions, Repository
from mirror.registry.listing import list_tags
from tests.peers.programs import docker_registry
from tests.support import images
from tests.support.command import Mirror, blobs
from tests.support.images import Image, Remote
from tests.support.memory import descriptor_of, node_of
from tests.support.registry import Basic, EmbeddedRegistry, serving
from tests.support.sources import in_one_piece
from tests.support.strategies import digest_by

T = TypeVar("T")
LAYER = images.layer(1, 70_000)
NODE = node_of(LAYER)
IMAGE = images.image("linux/amd64", LAYER)
MULTI = images.multi_arch()
DOCKER = images.multi_arch(docker=True)
UNKNOWN = "sha256:" + "0" * 64
ANN = Credentials("ann", "secret")

pytestmark = pytest.mark.usefixtures("home")

_numbers = itertools.count()


@dataclass(frozen=True)
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])


@dataclass(frozen=True)
class Peer:
    """A repository of a running registry."""

    host: str
    repo: str

    def publish(self, image: Image, *tags: str) -> None:
        """Upload an image without the client under test."""
        with closing(Remote(self.host)) as remote:
            for tag in tags:
                image.publish(remote, self.repo, tag)

    def put_blob(self, data: bytes) -> Descriptor:
        with closing(Remote(self.host)) as remote:
            return Descriptor("a/b", Digest.parse(remote.put_blob(self.repo, data)), len(data))

    def sibling(self) -> "Peer":
        """Another repository of the same registry."""
        return Peer(self.host, f"{self.repo}/sibling")

    def ask(self, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
        """Make one request on a new connection; `Content_Type="…"` is the header Content-Type."""
        with closing(http.client.HTTPConnection(self.host, timeout=5)) as connection:
            parts = urlsplit(target)
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            connection.request(method, path, body, {name.replace("_", "-"): of for name, of in headers.items()})
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())

    def using(self, action: Callable[[Repository], Awaitable[T]], options: RegistryOptions | None = None) -> T:
        """Run an action on the client's view of the repository."""

        async def main() -> T:
            async with Client(options or RegistryOptions()) as client:
                return await action(Repository(client.registry(self.host), self.repo, push=True))

        return asyncio.run(main())

    def get(self, node: Descriptor, start: int = 0) -> bytes:
        async def read(repository: Repository) -> bytes:
            async with repository.open_blob(node, start) as body:
                assert body.start == start
                return b"".join([chunk async for chunk in body.chunks])

        return self.using(read)

    def put(self, node: Descriptor, data: bytes, options: RegistryOptions | None = None) -> None:
        self.using(lambda repository: repository.put(node, in_one_piece(data)), options)

    def has(self, node: Descriptor) -> bool:
        return self.using(lambda repository: repository.has(node))

    def resolve(self, name: str) -> Descriptor:
        return self.using(lambda repository: repository.resolve(name))

    def tags(self) -> list[str]:
        return self.using(lambda repository: list_tags(repository.registry, self.repo, f"repository:{self.repo}:pull"))


@pytest.fixture(scope="module", params=["embedded", pytest.param("docker-registry", marks=pytest.mark.peer)])
def host(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an empty registry of each kind."""
    folder = tmp_path_factory.mktemp("peer")
    with serving(EmbeddedRegistry(page=3)) if request.param == "embedded" else docker_registry(folder) as running:
        yield running.host


@pytest.fixture(scope="module", params=["embedded", pytest.param("docker-registry", marks=pytest.mark.peer)])
def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a registry with HTTP Basic whose only user is ann."""
    folder = tmp_path_factory.mktemp("guarded")
    users = folder / "htpasswd"
    users.write_bytes(b"ann:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)))
    auth = {"htpasswd": {"realm": "vault", "path": str(users)}}
    embedded = request.param == "embedded"
    with (
        serving(EmbeddedRegistry(auth=Basic({"ann": "secret"})))
        if embedded
        else docker_registry(folder, auth=auth) as running
    ):
        yield running.host


@pytest.fixture
def peer(host: str) -> Peer:
    """An empty repository."""
    return Peer(host, f"team/number-{next(_numbers)}")


# Blobs


@pytest.mark.slow
@pytest.mark.parametrize("data", [b"", b"x", LAYER.data, bytes(3_000_000)], ids=len)
def test_stored_blob_is_downloaded(peer: Peer, data: bytes) -> None:
    node = peer.put_blob(data)
    assert peer.has(node)
    assert peer.get(node) == data


@pytest.mark.parametrize("start", [0, 1, 69_999])
def test_download_starts_at_any_offset(peer: Peer, start: int) -> None:
    assert peer.get(peer.put_blob(LAYER.data), start) == LAYER.data[start:]


def test_missing_blob_is_unknown(peer: Peer) -> None:
    node = peer.put_blob(LAYER.data)
    for other in (Descriptor("a/b", Digest.parse(UNKNOWN), 7), replace(node, size=node.size + 1)):
        assert not peer.has(other)
        with pytest.raises(MirrorError):
            peer.get(other)
    assert not peer.sibling().has(node)
    with pytest.raises(TransferError, match="404"):
        peer.sibling().get(node)


@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("10-", 10, 69_999), ("10-19", 10, 19), ("-5", 69_995, 69_999), ("69990-80000", 69_990, 69_999)],
)
def test_response_has_the_requested_range(peer: Peer, wanted: str, first: int, last: int) -> None:
    node = peer.put_blob(LAYER.data)
    reply = peer.ask("GET", f"/v2/{peer.repo}/blobs/{node.digest}", Range=f"bytes={wanted}")
    assert (reply.status, reply.headers["Content-Range"]) == (206, f"bytes {first}-{last}/70000")
    assert reply.body == LAYER.data[first : last + 1]


def test_head_response_has_size_and_digest(peer: Peer) -> None:
    node = peer.put_blob(LAYER.data)
    reply = peer.ask("HEAD", f"/v2/{peer.repo}/blobs/{node.digest}")
    assert (reply.status, reply.headers["Content-Length"], reply.body) == (200, "70000", b"")
    assert reply.headers["Docker-Content-Digest"] == node.digest
    assert reply.headers["Accept-Ranges"] == "bytes"


# Uploads


@pytest.mark.slow
@pytest.mark.parametrize("chunk", [None, 70_000, 69_999, 20_000], ids=str)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_is_uploaded_whole_and_in_chunks(peer: Peer, chunk: int | None, algorithm: str) -> None:
    node = replace(NODE, digest=Digest.parse(digest_by(algorithm, LAYER.data)))
    peer.put(node, LAYER.data, RegistryOptions(chunk_size=chunk))
    assert peer.has(node)
    assert peer.get(node) == LAYER.data


@pytest.mark.parametrize("chunk", [None, 20_000], ids=str)
def test_wrong_content_is_not_stored(peer: Peer, chunk: int | None) -> None:
    with pytest.raises(DigestMismatch):
        peer.put(NODE, LAYER.data[:-1] + b"x", RegistryOptions(chunk_size=chunk))
    assert not peer.has(NODE)


def test_registry_refuses_wrong_content(peer: Peer) -> None:
    started = peer.ask("POST", f"/v2/{peer.repo}/blobs/uploads/")
    assert started.status == 202
    reply = peer.ask("PUT", f"{started.headers['Location']}&digest={NODE.digest}", b"other")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")
    assert not peer.has(NODE)


def test_upload_reports_its_progress_and_can_be_cancelled(peer: Peer) -> None:
    location = peer.ask("POST", f"/v2/{peer.repo}/blobs/uploads/").headers["Location"]
    sent = peer.ask("PATCH", location, b"abc", Content_Type="application/octet-stream", Content_Range="0-2")
    assert (sent.status, sent.headers["Range"]) == (202, "0-2")
    asked = peer.ask("GET", sent.headers["Location"])
    assert (asked.status, asked.headers["Range"]) == (204, "0-2")
    assert peer.ask("DELETE", asked.headers["Location"]).status == 204
    assert peer.ask("GET", asked.headers["Location"]).code == "BLOB_UPLOAD_UNKNOWN"


def test_a_blob_of_another_repository_is_mounted(peer: Peer) -> None:
    node = peer.sibling().put_blob(LAYER.data)

    async def put(repository: Repository) -> None:
        repository.registry.blob_repositories[node.digest] = peer.sibling().repo
        await repository.put(node, unwanted)

    peer.using(put)
    assert peer.get(node) == LAYER.data


def test_blob_that_cannot_be_mounted_is_uploaded(peer: Peer) -> None:
    async def put(repository: Repository) -> None:
        repository.registry.blob_repositories[NODE.digest] = peer.sibling().repo
        await repository.put(NODE, stream.from_verified(LAYER.data, "a test"))

    peer.using(put)
    assert peer.get(NODE) == LAYER.data


@asynccontextmanager
async def unwanted(start: int) -> AsyncIterator[BlobReader]:
    raise AssertionError("the content was requested")
    yield


# Manifests and tags


@pytest.mark.slow
@pytest.mark.parametrize("image", [IMAGE, MULTI, DOCKER], ids=["one platform", "an index", "docker's types"])
def test_an_image_is_found_by_tag_and_digest(peer: Peer, image: Image) -> None:
    peer.publish(image, "v1")
    for name in ("v1", image.root):
        found = peer.resolve(name)
        assert (found.digest, found.media_type, found.data) == (image.root, image.root_media_type, image.data)
    assert peer.get(descriptor_of(image)) == image.data
    peeked = peer.using(lambda repository: repository.peek("v1"))
    assert peeked
    assert (peeked.digest, peeked.size, peeked.media_type) == (image.root, len(image.data), image.root_media_type)


@pytest.mark.slow
def test_an_image_is_pushed(peer: Peer) -> None:
    async def push(repository: Repository) -> None:
        for digest, data in MULTI.blobs.items():
            node = Descriptor("a/b", Digest.parse(digest), len(data))
            await repository.put(node, stream.from_verified(data, "a test"))
        for digest, (data, media_type) in MULTI.manifests.items():
            node = Descriptor(media_type, Digest.parse(digest), len(data))
            await repository.put(node, stream.from_verified(data, "a test"))
        await repository.tag("v1", descriptor_of(MULTI), MULTI.data)

    peer.using(push)
    assert peer.resolve("v1").data == MULTI.data
    assert peer.tags() == ["v1"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["v2", UNKNOWN])
def test_missing_image_is_not_found(peer: Peer, name: str) -> None:
    peer.publish(IMAGE, "v1")
    for place in (peer, peer.sibling()):
        with pytest.raises(NotFound) as caught:
            place.resolve(name)
        assert "UNKNOWN" in (caught.value.hint or "")
        assert place.using(lambda repository: repository.peek(name)) is None


@pytest.mark.parametrize("image", [IMAGE, MULTI], ids=["layers", "children"])
def test_manifest_is_refused_before_its_content_is_uploaded(peer: Peer, image: Image) -> None:
    with pytest.raises(TransferError, match="MANIFEST_BLOB_UNKNOWN"):
        peer.put(descriptor_of(image), image.data)
    with pytest.raises(NotFound):
        peer.resolve(image.root)


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff"])
def test_invalid_manifest_is_refused(peer: Peer, data: bytes) -> None:
    reply = peer.ask("PUT", f"/v2/{peer.repo}/manifests/v1", data, Content_Type=images.OCI_MANIFEST)
    assert (reply.status, reply.code) == (400, "MANIFEST_INVALID")


def test_manifest_with_a_wrong_digest_is_refused(peer: Peer) -> None:
    peer.publish(IMAGE, "v1")
    target = f"/v2/{peer.repo}/manifests/{UNKNOWN}"
    reply = peer.ask("PUT", target, IMAGE.data, Content_Type=images.OCI_MANIFEST)
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


@pytest.mark.slow
def test_tag_can_move_to_another_image(peer: Peer) -> None:
    peer.publish(MULTI, "v1")
    peer.publish(IMAGE, "v1")
    assert peer.resolve("v1").digest == IMAGE.root
    assert peer.resolve(MULTI.root).data == MULTI.data


@pytest.mark.slow
def test_tags_of_all_pages_are_listed(peer: Peer) -> None:
    names = [f"v{number}" for number in range(8)]
    peer.publish(IMAGE, *names)
    assert sorted(peer.tags()) == names


def test_tags_of_a_missing_repository_are_not_found(peer: Peer) -> None:
    with pytest.raises(NotFound, match="no repository"):
        peer.tags()


@pytest.mark.slow
def test_deleted_manifest_and_blob_are_not_found(peer: Peer) -> None:
    peer.publish(IMAGE, "v1", "v2")
    assert peer.ask("DELETE", f"/v2/{peer.repo}/manifests/{IMAGE.root}").status == 202
    assert peer.ask("DELETE", f"/v2/{peer.repo}/blobs/{NODE.digest}").status == 202
    assert not peer.has(NODE)
    for name in ("v1", "v2", IMAGE.root):
        with pytest.raises(NotFound):
            peer.resolve(name)


# Referrers


@pytest.mark.slow
def test_referrers_are_listed_under_a_tag_without_the_referrers_api(peer: Peer, mirror: Mirror, tmp_path: Path) -> None:
    note = images.artifact("application/vnd.example.note", images.layer(9, 100), subject=IMAGE.descriptor())
    with serving(EmbeddedRegistry(referrers=True)) as source:
        IMAGE.publish(source, "a", "v1")
        note.publish(source, "a", None)
        mirror("copy", f"docker://{source.host}/a:v1", f"docker://{peer.host}/{peer.repo}:v1", "--all-platforms")
    assert peer.ask("GET", f"/v2/{peer.repo}/referrers/{IMAGE.root}").status == 404
    listed = json.loads(peer.resolve(IMAGE.root.replace(":", "-")).data or b"")
    assert [node["digest"] for node in listed["manifests"]] == [note.root]
    mirror("pull", f"{peer.host}/{peer.repo}:v1", "--all-platforms")
    assert {*IMAGE.manifests, *note.manifests} <= blobs(tmp_path / "layout")


# Access


@pytest.mark.slow
def test_access_without_the_password_is_refused(guarded: str) -> None:
    locked = Peer(guarded, "team/app")
    wrong = RegistryOptions(credentials={guarded: Credentials("ann", "guessed")})
    for options in (RegistryOptions(), wrong):
        with pytest.raises(Unauthorized):
            locked.using(lambda repository: repository.resolve("v1"), options)
        with pytest.raises(Unauthorized):
            locked.put(NODE, LAYER.data, options)


@pytest.mark.slow
def test_access_with_the_password_is_granted(guarded: str) -> None:
    locked, options = Peer(guarded, "team/app"), RegistryOptions(credentials={guarded: ANN})
    locked.put(NODE, LAYER.data, options)
    assert locked.using(lambda repository: repository.has(NODE), options)
    with pytest.raises(NotFound):
        locked.using(lambda repository: repository.resolve("v1"), options)
