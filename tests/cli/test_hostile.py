"""Tests of hostile registries: the exit code, a short error, no corrupt blobs, no leaked credentials."""

import base64
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.certificate import self_signed
from tests.support.command import Mirror, Result, assert_whole, blobs, entries, leftovers, names, tree
from tests.support.images import Image
from tests.support.registry import (
    Action,
    Basic,
    Bearer,
    Chunked,
    EmbeddedRegistry,
    Extend,
    Fault,
    Flip,
    Header,
    Redirect,
    Status,
    Truncate,
    serving,
)
from tests.support.registry.messages import Answer, Call

pytestmark = pytest.mark.usefixtures("each_exchange")

IMAGE = images.multi_arch(["linux/amd64", "linux/arm64"])
FIRST, SECOND, _ = IMAGE.manifests
LAYER = max(IMAGE.blobs, key=lambda digest: len(IMAGE.blobs[digest]))
CONFIG = str(json.loads(IMAGE.manifests[FIRST][0])["config"]["digest"])
OTHER = images.image("linux/amd64", images.layer(7, 700))
HTML = b"<html><head><title>Welcome to the hotel</title></head></html>"
USERS = {"ann": "secret"}
BASIC = "Basic " + base64.b64encode(b"ann:secret").decode()


@dataclass(frozen=True)
class Body(Action):
    """Replace the body and its length."""

    data: bytes

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return given.with_body(self.data)


@dataclass(frozen=True)
class Gzipped(Action):
    """Compress the body, as some proxies do."""

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return given.with_body(gzip.compress(given.body)).plus("Content-Encoding", "gzip")


@dataclass(frozen=True)
class Repeated(Action):
    """Repeat a header with each value."""

    name: str
    values: tuple[str, ...]

    def on_answer(self, call: Call, given: Answer) -> Answer:
        bare = given.without(self.name)
        return replace(bare, headers=(*bare.headers, *((self.name, value) for value in self.values)))


@dataclass(frozen=True)
class Scene:
    """A registry with an image, and the layout of a pull without faults."""

    registry: EmbeddedRegistry
    name: str
    clean: dict[str, bytes | str]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("clean")
    with serving(EmbeddedRegistry()) as registry:
        IMAGE.publish(registry, "a", "v1")
        OTHER.publish(registry, "a", "other")
        name = f"{registry.host}/a:v1"
        Mirror(folder)("pull", name, "--all")
        yield Scene(registry, name, tree(folder / "layout"))


@pytest.fixture
def scene(honest: Scene) -> Iterator[Scene]:
    honest.registry.clear_log()
    yield honest
    honest.registry.clear_faults()


def assert_pull_fails(mirror: Mirror, name: str, code: int, *flags: object) -> Result:
    """Assert that a pull fails with a short error, and that the layout is valid and has no image."""
    result = mirror("pull", name, "--all", "--retries", 0, *flags, code=code)
    first = result.err.splitlines()[0]
    assert first.startswith("error: ")
    assert first.endswith(".")
    assert len(result.err) < 1500
    assert result.out == ""
    layout = mirror.folder / "layout"
    if layout.exists():
        assert_whole(layout)
        assert entries(layout) == []
    return result


def assert_next_pull_succeeds(mirror: Mirror, scene: Scene) -> None:
    """Assert that a pull without faults completes the layout."""
    scene.registry.clear_faults()
    mirror("pull", scene.name, "--all")
    assert tree(mirror.folder / "layout") == scene.clean


WRONG: dict[str, tuple[Action | tuple[Action, ...], int]] = {
    "first bit": (Flip(0), 3),
    "last bit": (Flip(-1), 3),
    "one byte less": (Truncate(1), 3),
    "nothing": (Body(b""), 3),
    "one byte more": (Extend(b"x"), 3),
    "a megabyte more": (Extend(bytes(1 << 20)), 3),
    "less, chunked": ((Truncate(1), Chunked()), 3),
    "more, chunked": ((Extend(b"x"), Chunked()), 3),
    "endless, chunked": ((Extend(bytes(30 << 20)), Chunked()), 3),
    "less, no length": ((Truncate(1), Header("Content-Length", None)), 3),
    "more, no length": ((Extend(b"x"), Header("Content-Length", None)), 3),
    "length too large": (Header("Content-Length", "100000"), 3),
    "compressed": (Gzipped(), 3),
    "compressed, chunked": ((Gzipped(), Chunked()), 3),
    "a web page": (Status(200, content_type="text/html", body=HTML), 3),
    "no content": (Status(204), 1),
    "part of it": (Status(206, body=b"part"), 1),
}


FAULTY_IMAGES = {lie: images.image("linux/amd64", images.layer(seed, 3000)) for seed, lie in enumerate(WRONG, 2000)}


def layer_of(lie: str) -> str:
    return max(FAULTY_IMAGES[lie].blobs, key=lambda digest: len(FAULTY_IMAGES[lie].blobs[digest]))


@dataclass(frozen=True)
class Outcome:
    """The errors and blobs of a pull with one image per fault, and the layouts of two pulls without faults."""

    errors: dict[str, str | None]
    left: set[str]
    healed: dict[str, bytes | str]
    clean: dict[str, bytes | str]


@pytest.fixture(scope="module")
def lies(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    mirror = Mirror(tmp_path_factory.mktemp("lies"))
    with serving(EmbeddedRegistry()) as registry:
        for number, (lie, (action, _)) in enumerate(WRONG.items()):
            FAULTY_IMAGES[lie].publish(registry, f"a{number}", "v1")
            registry.fault(Fault(method="GET", path=layer_of(lie), times=None, action=action))
        pull = ["pull", *(f"{registry.host}/a{number}:v1" for number in range(len(WRONG))), "--all"]
        result = mirror(*pull, "--keep-going", "--retries", 0, "--json", code=3)
        layout = mirror.folder / "layout"
        assert_whole(layout)
        assert entries(layout) == []
        left = blobs(layout)
        registry.clear_faults()
        mirror(*pull)
        mirror(*pull, "-o", "clean")
    errors = [image["error"] for image in result.json["images"]]
    return Outcome(dict(zip(WRONG, errors, strict=True)), left, tree(layout), tree(mirror.folder / "clean"))


@pytest.mark.slow
@pytest.mark.parametrize("lie", WRONG)
def test_corrupt_layer_is_not_stored(lies: Outcome, lie: str) -> None:
    error = lies.errors[lie]
    assert error is not None
    assert error.endswith(".")
    assert layer_of(lie) not in lies.left


def test_next_pull_completes_the_layout(lies: Outcome) -> None:
    assert lies.healed == lies.clean


@pytest.mark.slow
@pytest.mark.parametrize("lie", ["last bit", "more, chunked", "compressed", "a web page", "no content", "part of it"])
def test_corrupt_layer_sets_the_exit_code(mirror: Mirror, scene: Scene, lie: str) -> None:
    action, code = WRONG[lie]
    scene.registry.fault(Fault(method="GET", path=LAYER, times=None, action=action))
    assert_pull_fails(mirror, scene.name, code)


@pytest.mark.slow
def test_too_small_content_length_is_reported_without_raw_bytes(mirror: Mirror, scene: Scene) -> None:
    scene.registry.fault(Fault(method="GET", path=LAYER, times=None, action=Header("Content-Length", "10")))
    result = mirror.run(mirror.command("pull", scene.name, "--all", "--retries", 0))
    assert result.code in (1, 3)
    assert "x1f" not in result.err
    assert "Error:" not in result.err
    assert_whole(mirror.folder / "layout")
    assert_next_pull_succeeds(mirror, scene)


@pytest.mark.slow
@pytest.mark.parametrize("lie", ["first bit", "more, chunked"])
@pytest.mark.parametrize("node", [CONFIG, SECOND, IMAGE.root], ids=["config", "manifest", "index"])
def test_corrupt_config_manifest_or_index_is_not_stored(mirror: Mirror, scene: Scene, node: str, lie: str) -> None:
    action, code = WRONG[lie]
    scene.registry.fault(Fault(method="GET", path=node, times=None, action=action))
    name = scene.name.replace(":v1", f"@{IMAGE.root}")
    assert_pull_fails(mirror, name, code)
    assert_next_pull_succeeds(mirror, scene)


@pytest.mark.slow
@pytest.mark.parametrize("lie", ["first bit", "one byte more"])
def test_retries_of_a_corrupt_layer_are_limited(mirror: Mirror, scene: Scene, lie: str) -> None:
    scene.registry.fault(Fault(method="GET", path=LAYER, times=None, action=WRONG[lie][0]))
    mirror("pull", scene.name, "--all", code=3)
    assert scene.registry.count("GET", LAYER) <= 5


TOLERATED: dict[str, tuple[str, Action | tuple[Action, ...]]] = {
    "no length of a layer": (LAYER, Chunked()),
    "no length of a manifest": ("/manifests/", Chunked()),
    "a layer that ends with its connection": (LAYER, Header("Content-Length", None)),
    "a layer of type text": (LAYER, Header("Content-Type", "text/plain; charset=utf-8")),
    "a layer without a type": (LAYER, Header("Content-Type", None)),
    "a type with parameters": ("/manifests/v1", Header("Content-Type", f"{images.OCI_INDEX}; charset=utf-8")),
    "a wrong Docker-Content-Digest": ("", Header("Docker-Content-Digest", images.digest_of(b"other"))),
    "an invalid Docker-Content-Digest": ("", Header("Docker-Content-Digest", "../../etc")),
    "an invalid Last-Modified": (LAYER, Header("Last-Modified", "yesterday")),
    "a Last-Modified in the year 9999": (LAYER, Header("Last-Modified", "Mon, 01 Jan 9999 00:00:00 GMT")),
    "a Last-Modified in the year 1": (LAYER, Header("Last-Modified", "Mon, 01 Jan 0001 00:00:00 GMT")),
}


@pytest.mark.slow
@pytest.mark.parametrize("oddity", TOLERATED)
def test_unusual_response_is_accepted(mirror: Mirror, scene: Scene, oddity: str) -> None:
    path, action = TOLERATED[oddity]
    scene.registry.fault(Fault(method="GET", path=path, times=None, action=action))
    mirror("pull", scene.name, "--all")
    assert tree(mirror.folder / "layout") == scene.clean


# Manifests


def test_wrong_manifest_for_a_pinned_digest_is_refused(mirror: Mirror, scene: Scene, layout: Path) -> None:
    path = f"/manifests/{IMAGE.root}"
    scene.registry.fault(Fault(path=path, times=None, action=Body(OTHER.data)))
    result = assert_pull_fails(mirror, scene.name.replace(":v1", f":v1@{IMAGE.root}"), 3)
    assert IMAGE.root in result.err
    assert OTHER.root in result.err
    assert not layout.exists()


def test_wrong_manifest_for_a_child_of_an_index_is_refused(mirror: Mirror, scene: Scene, layout: Path) -> None:
    scene.registry.fault(Fault(path=f"/manifests/{FIRST}", times=None, action=Body(IMAGE.manifests[SECOND][0])))
    assert FIRST in assert_pull_fails(mirror, scene.name, 3).err
    assert not layout.exists()


LAYER_NODE = {"mediaType": images.OCI_LAYER, "size": 1, "digest": images.digest_of(b"x")}
CONFIG_NODE = images.EMPTY.descriptor()


def document(**fields: Any) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": images.OCI_MANIFEST, **fields}).encode()


def image_with(**fields: Any) -> bytes:
    """Return a manifest whose only layer has these fields."""
    return document(config=CONFIG_NODE, layers=[{**LAYER_NODE, **fields}])


def index_with(**fields: Any) -> bytes:
    """Return an index whose only child has these fields."""
    child = {"mediaType": images.OCI_MANIFEST, "size": 2, "digest": images.digest_of(b"{}"), **fields}
    return json.dumps({"schemaVersion": 2, "mediaType": images.OCI_INDEX, "manifests": [child]}).encode()


def wide() -> bytes:
    """Return an index with more children than allowed."""
    children = [{**LAYER_NODE, "mediaType": images.OCI_MANIFEST, "digest": f"sha256:{n:064}"} for n in range(10_001)]
    return json.dumps({"schemaVersion": 2, "manifests": children}).encode()


BROKEN: dict[str, bytes] = {
    "nothing": b"",
    "invalid JSON": b"{",
    "a list": b"[]",
    "null": b"null",
    "an empty object": b"{}",
    "UTF-16": document(config=CONFIG_NODE, layers=[]).decode().encode("utf-16"),
    "a byte order mark": b"\xef\xbb\xbf" + document(config=CONFIG_NODE, layers=[]),
    "too deep": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "NaN": document(config=CONFIG_NODE, layers=[], x=1).replace(b'"x": 1', b'"x": NaN'),
    "a key twice": b'{"schemaVersion": 2, "schemaVersion": 2}',
    "a number of 5000 digits": document(config=CONFIG_NODE, layers=[], x=1).replace(b'"x": 1', b'"x": ' + b"1" * 5000),
    "both kinds": document(config=CONFIG_NODE, layers=[], manifests=[]),
    "a key in another case": document(config=CONFIG_NODE, layers=[], Manifests=[]),
    "layers in another case": document(config=CONFIG_NODE, Layers=[LAYER_NODE]),
    "no config": document(layers=[]),
    "layers that are not a list": document(config=CONFIG_NODE, layers={}),
    "a layer that is not an object": document(config=CONFIG_NODE, layers=["x"]),
    "a version that is true": b'{"schemaVersion": true, "manifests": []}',
    "version 3": b'{"schemaVersion": 3, "manifests": []}',
    "a path for a digest": image_with(digest="sha256:../../../../etc/passwd"),
    "dots for a digest": image_with(digest=".."),
    "a digest with a newline": image_with(digest=LAYER_NODE["digest"] + "\n"),  # type: ignore[operator]
    "a digest with a NUL": image_with(digest="sha256:" + "0" * 63 + "\0"),
    "an upper-case digest": image_with(digest="sha256:" + "A" * 64),
    "a short digest": image_with(digest="sha256:00"),
    "an unknown algorithm": image_with(digest="md5:" + "0" * 32),
    "no digest": image_with(digest=None),
    "a negative size": image_with(size=-1),
    "a size of 2^63": image_with(size=2**63),
    "a size that is a float": image_with(size=1.0),
    "a size that is true": image_with(size=True),
    "a size that is text": image_with(size="1"),
    "no size": image_with(size=None),
    "annotations that are a list": image_with(annotations=[]),
    "urls that are text": image_with(urls="http://127.0.0.1:9/"),
    "a platform that is text": index_with(platform="linux/amd64"),
    "a child of 2^62 bytes": index_with(size=2**62),
    "ten thousand children": wide(),
    "a type with a control character": json.dumps({"schemaVersion": 2, "mediaType": "\x1b[2J"}).encode(),
    "a digest with a control character": image_with(digest="sha256:\x1b[2J\x9b31m\u202e"),
    "two sizes for one digest": document(config=CONFIG_NODE, layers=[LAYER_NODE, {**LAYER_NODE, "size": 2}]),
}


@dataclass(frozen=True)
class Refusals:
    """The errors of one pull of all broken manifests, and the blobs that it requested."""

    errors: dict[str, str | None]
    fetched: list[str]
    layout: Path


@pytest.fixture(scope="module")
def refusals(tmp_path_factory: pytest.TempPathFactory) -> Refusals:
    folder = tmp_path_factory.mktemp("broken")
    with serving(EmbeddedRegistry()) as registry:
        registry.put_blob("a", images.EMPTY.data)
        for number, data in enumerate(BROKEN.values()):
            registry.put_manifest("a", f"v{number}", data, "application/octet-stream")
        names = [f"{registry.host}/a:v{number}" for number in range(len(BROKEN))]
        result = Mirror(folder)("pull", *names, "--all", "--keep-going", "--json", code=3)
    errors = [image["error"] for image in result.json["images"]]
    fetched = [seen.path for seen in registry.requests if "/blobs/" in seen.path]
    return Refusals(dict(zip(BROKEN, errors, strict=True)), fetched, folder / "layout")


@pytest.mark.slow
@pytest.mark.parametrize("flaw", BROKEN)
def test_invalid_manifest_is_refused_with_a_short_error(refusals: Refusals, flaw: str) -> None:
    error = refusals.errors[flaw]
    assert error is not None
    assert error.endswith(".")
    assert len(error) < 500


def test_no_blob_of_an_invalid_manifest_is_fetched(refusals: Refusals) -> None:
    assert refusals.fetched == []
    assert not refusals.layout.exists()


def test_layer_that_is_larger_than_the_disk_is_refused(mirror: Mirror, scene: Scene) -> None:
    page = Status(200, content_type=images.OCI_MANIFEST, body=image_with(size=2**62))
    scene.registry.fault(Fault(path="/manifests/v1", times=None, action=page))
    assert "free" in assert_pull_fails(mirror, scene.name, 1).err


@pytest.mark.parametrize("action", [Chunked(), Header("X-Fine", "1")], ids=["chunked", "with length"])
def test_huge_manifest_is_refused_before_it_is_read_completely(
    mirror: Mirror, scene: Scene, layout: Path, action: Action
) -> None:
    huge = Body(b" " * (40 << 20))
    scene.registry.fault(Fault(path="/manifests/v1", times=None, action=(huge, action)))
    result = mirror("pull", scene.name, "--all", "--retries", 0, code=3)
    assert "4194304" in result.err
    assert not layout.exists()
    assert scene.registry.requests[0].sent < 30 << 20


@pytest.mark.parametrize("wanted", [images.OCI_MANIFEST, images.DOCKER_LIST, images.DOCKER_MANIFEST])
def test_manifest_with_a_wrong_content_type_is_refused(mirror: Mirror, scene: Scene, wanted: str) -> None:
    scene.registry.fault(Fault(path="/manifests/v1", times=None, action=Header("Content-Type", wanted)))
    assert_pull_fails(mirror, scene.name, 3)


@pytest.mark.slow
def test_wrong_content_type_of_a_child_manifest_is_ignored(mirror: Mirror, scene: Scene) -> None:
    wrong = Header("Content-Type", images.DOCKER_LIST)
    scene.registry.fault(Fault(path=f"/manifests/{FIRST}", times=None, action=wrong))
    mirror("pull", scene.name, "--all")
    assert tree(mirror.folder / "layout") == scene.clean


def nested_index(levels: int) -> Image:
    """Return an image in nested indexes."""
    found = images.image("linux/amd64")
    for _ in range(levels):
        found = images.index([found])
    return found


def test_deeply_nested_index_is_refused(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    nested_index(40).publish(registry, "deep", "v1")
    assert "deep" in assert_pull_fails(mirror, f"{registry.host}/deep:v1", 3).err


# Redirects


@pytest.fixture
def elsewhere() -> Iterator[EmbeddedRegistry]:
    """Run another registry that has the blobs."""
    with serving(EmbeddedRegistry()) as registry:
        for data in IMAGE.blobs.values():
            registry.put_blob("store", data)
        yield registry


def redirect(registry: EmbeddedRegistry, url: str, code: int = 307, path: str = LAYER) -> None:
    registry.fault(Fault(method="GET", path=path, times=None, action=Redirect(url, code)))


@pytest.mark.slow
@pytest.mark.parametrize("code", [302, 303, 307])
def test_redirect_is_followed(mirror: Mirror, scene: Scene, elsewhere: EmbeddedRegistry, code: int) -> None:
    redirect(scene.registry, f"{elsewhere.url}/v2/store/blobs/{LAYER}?sig=a%2Fb%3D%20c", code)
    mirror("pull", scene.name, "--all")
    assert tree(mirror.folder / "layout") == scene.clean
    assert elsewhere.requests[0].target.endswith("?sig=a%2Fb%3D%20c")


@pytest.mark.slow
@pytest.mark.parametrize(
    "target",
    ["file:///etc/passwd", "ftp://127.0.0.1/x", "//", "http://[::1", "", "\x1b[31m"],
)
def test_redirect_to_an_invalid_url_is_refused(mirror: Mirror, scene: Scene, target: str) -> None:
    redirect(scene.registry, target)
    assert_pull_fails(mirror, scene.name, 1)


@pytest.mark.slow
def test_redirect_loop_ends(mirror: Mirror, scene: Scene) -> None:
    redirect(scene.registry, f"/v2/a/blobs/{LAYER}")
    assert "redirects" in assert_pull_fails(mirror, scene.name, 1).err
    assert scene.registry.count("GET", LAYER) <= 11


@pytest.mark.slow
def test_corrupt_layer_of_a_redirect_is_not_stored(mirror: Mirror, scene: Scene, elsewhere: EmbeddedRegistry) -> None:
    elsewhere.replace_blob(LAYER, b"?" * len(IMAGE.blobs[LAYER]))
    redirect(scene.registry, f"{elsewhere.url}/v2/store/blobs/{LAYER}")
    assert_pull_fails(mirror, scene.name, 3)


@pytest.mark.slow
def test_redirect_to_plain_http_is_refused(mirror: Mirror, elsewhere: EmbeddedRegistry, tmp_path: Path) -> None:
    with serving(EmbeddedRegistry(tls=self_signed(tmp_path / "server.pem"))) as registry:
        IMAGE.publish(registry, "a", "v1")
        redirect(registry, f"{elsewhere.url}/v2/store/blobs/{LAYER}")
        result = assert_pull_fails(mirror, f"{registry.host}/a:v1", 1, "--insecure")
    assert "to unencrypted http" in result.err
    assert elsewhere.requests == []


# Credential leaks: the tests assert which headers the other server received


def login(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    auth = BASIC.removeprefix("Basic ")
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": auth}}}))


@pytest.fixture(params=["basic", "bearer"])
def guarded(request: pytest.FixtureRequest) -> Iterator[EmbeddedRegistry]:
    auth = Basic(USERS) if request.param == "basic" else Bearer(USERS)
    with serving(EmbeddedRegistry(auth=auth)) as registry:
        IMAGE.publish(registry, "a", "v1")
        yield registry


def received_credentials(registry: EmbeddedRegistry) -> list[str]:
    names = ("authorization", "cookie", "proxy-authorization")
    return [seen.headers[name] for seen in registry.requests for name in names if name in seen.headers]


@pytest.mark.slow
def test_redirect_to_another_host_gets_no_credentials(
    mirror: Mirror, guarded: EmbeddedRegistry, elsewhere: EmbeddedRegistry
) -> None:
    login(mirror, guarded)
    redirect(guarded, f"{elsewhere.url}/v2/store/blobs/{LAYER}")
    mirror("pull", f"{guarded.host}/a:v1", "--all")
    assert len(elsewhere.requests) == 1
    assert received_credentials(elsewhere) == []


@pytest.mark.slow
def test_redirect_to_another_name_of_the_host_gets_no_credentials(mirror: Mirror, guarded: EmbeddedRegistry) -> None:
    login(mirror, guarded)
    redirect(guarded, f"http://localhost:{guarded.host.partition(':')[2]}/v2/a/blobs/{LAYER}")
    mirror("pull", f"{guarded.host}/a:v1", "--all", "--retries", 0, code=1)
    asked = [seen for seen in guarded.requests if seen.headers["host"].startswith("localhost")]
    assert asked
    assert not any("authorization" in seen.headers for seen in asked)


@pytest.mark.parametrize("challenge", ['Basic realm="give"', 'Bearer realm="{}/token",service="x"'])
def test_redirect_target_with_a_challenge_gets_no_credentials(
    mirror: Mirror, guarded: EmbeddedRegistry, elsewhere: EmbeddedRegistry, challenge: str
) -> None:
    login(mirror, guarded)
    redirect(guarded, f"{elsewhere.url}/v2/store/blobs/{LAYER}")
    asks = Status(401, (("WWW-Authenticate", challenge.format(elsewhere.url)),))
    elsewhere.fault(Fault(times=None, action=asks))
    mirror("pull", f"{guarded.host}/a:v1", "--all", "--retries", 0, code=1)
    assert elsewhere.requests
    assert received_credentials(elsewhere) == []


def test_redirect_of_a_token_server_gets_no_credentials(
    mirror: Mirror, guarded: EmbeddedRegistry, elsewhere: EmbeddedRegistry
) -> None:
    login(mirror, guarded)
    redirect(guarded, f"{elsewhere.url}/token", path="^/token")
    guarded.fault(
        Fault(
            path="^/v2/",
            times=None,
            action=Status(401, (("WWW-Authenticate", f'Bearer realm="{guarded.url}/token"'),)),
        )
    )
    mirror("pull", f"{guarded.host}/a:v1", "--all", "--retries", 0, code=1)
    assert received_credentials(elsewhere) == []


@pytest.mark.parametrize("realm", ["file:///etc/passwd", "", "http://[", "\x1b]0;x\x07"])
def test_realm_with_an_invalid_url_is_refused(mirror: Mirror, scene: Scene, realm: str) -> None:
    asks = Status(401, (("WWW-Authenticate", f'Bearer realm="{realm}"'),))
    scene.registry.fault(Fault(times=None, action=asks))
    assert_pull_fails(mirror, scene.name, 1)


def test_http_realm_of_an_https_registry_is_refused(
    mirror: Mirror, elsewhere: EmbeddedRegistry, tmp_path: Path
) -> None:
    auth = Bearer(USERS, token_realm=f"{elsewhere.url}/token")
    with serving(EmbeddedRegistry(auth=auth, tls=self_signed(tmp_path / "server.pem"))) as registry:
        login(mirror, registry)
        assert "encrypted" in assert_pull_fails(mirror, f"{registry.host}/a:v1", 1, "--insecure").err
    assert elsewhere.requests == []


TOKENS: dict[str, bytes] = {
    "a web page": HTML,
    "a list": b"[]",
    "an empty token": b'{"token": ""}',
    "a token with a newline": b'{"token": "a\\r\\nX-Evil: 1"}',
    "a token that is a number": b'{"token": 7}',
    "two megabytes": b'{"token": "' + b"x" * (2 << 20) + b'"}',
}


@pytest.mark.parametrize("flaw", TOKENS)
def test_invalid_token_is_refused(mirror: Mirror, flaw: str) -> None:
    with serving(EmbeddedRegistry(auth=Bearer(anonymous_pull=True))) as registry:
        IMAGE.publish(registry, "a", "v1")
        page = Status(200, content_type="application/json", body=TOKENS[flaw])
        registry.fault(Fault(path="^/token", times=None, action=page))
        assert_pull_fails(mirror, f"{registry.host}/a:v1", 1)


@pytest.mark.slow
@pytest.mark.parametrize("lifetime", [b"-5", b'"soon"', b"1e9", b"[]"])
def test_invalid_lifetime_of_a_token_is_ignored(mirror: Mirror, lifetime: bytes) -> None:
    auth = Bearer(anonymous_pull=True)
    with serving(EmbeddedRegistry(auth=auth)) as registry:
        IMAGE.publish(registry, "a", "v1")
        registry.fault(Fault(path="^/token", times=None, action=Lifetime(lifetime)))
        mirror("pull", f"{registry.host}/a:v1", "--all")
    assert registry.count("GET", "^/token") == 1


@dataclass(frozen=True)
class Lifetime(Action):
    """Replace `expires_in` of a token."""

    text: bytes

    def on_answer(self, call: Call, given: Answer) -> Answer:
        return given.with_body(given.body.replace(b'"expires_in": 300', b'"expires_in": ' + self.text))


def test_pull_stops_after_repeated_401_responses(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Bearer(USERS))) as registry:
        login(mirror, registry)
        asks = Status(401, (("WWW-Authenticate", f'Bearer realm="{registry.url}/token"'),))
        registry.fault(Fault(path="^/v2/", times=None, action=asks))
        assert_pull_fails(mirror, f"{registry.host}/a:v1", 1)
    assert len(registry.requests) < 10


def test_missing_token_server_is_not_reported_as_a_missing_image(mirror: Mirror, scene: Scene) -> None:
    asks = Status(401, (("WWW-Authenticate", f'Bearer realm="{scene.registry.url}/token"'),))
    scene.registry.fault(Fault(path="^/v2/", times=None, action=asks))
    assert "There is no image" not in assert_pull_fails(mirror, scene.name, 1).err


# Output on a terminal


def says(message: Any) -> Status:
    body = json.dumps({"errors": [{"code": "DENIED", "message": message}]}).encode()
    return Status(403, content_type="application/json", body=body)


@pytest.mark.slow
@pytest.mark.parametrize(
    "action",
    [
        says("\x1b[2J\x1b]0;owned\x07 \x9b31m \u202egnp.exe"),
        says("x\nmirror: all is well\r\n"),
        says("long " * 100_000),
        says({"a": 1}),
        Status(403, content_type="application/json", body=b'{"errors": "\x1b[2J"}'),
        Status(403, content_type="application/json", body=b'{"errors": [[], 7, null, {"code": []}]}'),
        Status(403, content_type="application/json", body=b"[" * 100_000),
        Status(500, content_type="text/html", body=HTML),
        Status(404, content_type="text/html", body=HTML),
        Status(418, body=b"\x1b[2J"),
    ],
)
def test_error_body_of_a_registry_is_printed_safely(mirror: Mirror, scene: Scene, action: Status) -> None:
    scene.registry.fault(Fault(path=LAYER, times=None, action=action))
    result = assert_pull_fails(mirror, scene.name, 1)
    assert str(action.code) in result.err
    assert "hotel" not in result.err
    assert "\nmirror: all is well" not in result.err


def test_404_with_an_html_body_is_a_missing_image(mirror: Mirror, scene: Scene) -> None:
    page = Status(404, content_type="text/html", body=HTML)
    scene.registry.fault(Fault(path="/manifests/", times=None, action=page))
    assert "hotel" not in assert_pull_fails(mirror, scene.name, 2).err


@pytest.mark.slow
def test_escape_sequences_in_a_layout_are_not_printed(mirror: Mirror, scene: Scene, layout: Path) -> None:
    mirror("pull", scene.name, "--all")
    document = json.loads((layout / "index.json").read_bytes())
    document["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "\x1b[2Jx", "a\x1b[2J": "\x9b1m"}
    (layout / "index.json").write_text(json.dumps(document))
    for command, code in (("ls", 0), ("inspect", 0), ("verify", 3)):
        assert "\x1b" not in mirror(command, "layout", code=code).out
    mirror("rm", "layout", "nothing", code=2)
    assert "\x1b" not in mirror("rm", "layout", IMAGE.root).out


# Malformed HTTP

MANGLED: dict[str, Action] = {
    "two lengths": Repeated("Content-Length", ("5", "6")),
    "a negative length": Header("Content-Length", "-1"),
    "a length that is not a number": Header("Content-Length", "many"),
    "a huge header": Header("X-Huge", "x" * 100_000),
    "a thousand headers": Repeated("X-Many", tuple("x" * 100 for _ in range(1000))),
    "an unknown transfer coding": Header("Transfer-Encoding", "chunked, sparkling"),
}


@pytest.mark.slow
@pytest.mark.parametrize("answer", MANGLED)
def test_malformed_response_is_an_error_or_harmless(mirror: Mirror, scene: Scene, answer: str) -> None:
    scene.registry.fault(Fault(method="GET", path=LAYER, times=None, action=MANGLED[answer]))
    result = mirror.run(mirror.command("pull", scene.name, "--all", "--retries", 0))
    assert result.code in (0, 1, 3)
    assert "Traceback" not in result.err
    assert len(result.err) < 1500
    layout = mirror.folder / "layout"
    assert_whole(layout)
    assert names(layout) == ([scene.name] if result.code == 0 else [])
    assert leftovers(layout) == []
