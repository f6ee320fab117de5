"""Tests of `mirror push`: the content that it uploads, the order of requests, and errors."""

import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import images
from tests.support.certificate import self_signed
from tests.support.command import Mirror, blob_path, tree
from tests.support.registry import (
    Action,
    Basic,
    Bearer,
    Cut,
    EmbeddedRegistry,
    Fault,
    Header,
    Redirect,
    Reset,
    Status,
    serving,
)
from tests.support.registry.messages import Call

SHARED = images.layer(1, 4000)
FIRST = images.index([images.image("linux/amd64", SHARED), images.image("linux/arm64", images.layer(2, 300), SHARED)])
SECOND = images.image("linux/amd64", images.layer(3, 200, docker=True), docker=True)
THIRD = images.image("linux/amd64", images.layer(4, 500), SHARED)
LAYER = SHARED.digest
FIRST_MANIFEST = next(iter(FIRST.manifests))
CONFIG = str(json.loads(FIRST.manifests[FIRST_MANIFEST][0])["config"]["digest"])


@dataclass(frozen=True)
class Stock:
    """A layout with first:v1, team/second:v2 and third:v1, and their names in it."""

    folder: Path
    names: tuple[str, str, str]


@pytest.fixture(scope="module")
def stock(tmp_path_factory: pytest.TempPathFactory) -> Stock:
    folder = tmp_path_factory.mktemp("stock")
    with serving(EmbeddedRegistry()) as registry:
        FIRST.publish(registry, "first", "v1")
        SECOND.publish(registry, "team/second", "v2")
        THIRD.publish(registry, "third", "v1")
        names = tuple(f"{registry.host}/{name}" for name in ("first:v1", "team/second:v2", "third:v1"))
        Mirror(folder)("pull", *names, "--all")
    return Stock(folder / "layout", (names[0], names[1], names[2]))


@pytest.fixture
def layout(stock: Stock, tmp_path: Path) -> Path:
    """A copy of the stock that a test may damage."""
    shutil.copytree(stock.folder, tmp_path / "layout")
    return tmp_path / "layout"


def writes(registry: EmbeddedRegistry) -> list[str]:
    """The successful PUT requests, in order: digests of blobs, digests and tags of manifests."""
    done = [seen for seen in registry.requests if seen.method == "PUT" and seen.status == 201]
    return [seen.query["digest"][0] if "digest" in seen.query else seen.path.rpartition("/")[2] for seen in done]


def sent(registry: EmbeddedRegistry) -> int:
    """The number of blob bytes that the registry received."""
    return sum(seen.received for seen in registry.requests if "/blobs/" in seen.path)


# Content


@pytest.mark.slow
def test_all_images_are_pushed_unchanged(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    result = mirror("push", stock.folder, registry.host)
    host = registry.host
    assert sorted(result.lines) == [
        f"{host}/first:v1@{FIRST.root}",
        f"{host}/team/second:v2@{SECOND.root}",
        f"{host}/third:v1@{THIRD.root}",
    ]
    for repo, image in (("first", FIRST), ("team/second", SECOND), ("third", THIRD)):
        assert {digest: registry.get_manifest(repo, digest) for digest in image.manifests} == image.manifests
        assert {digest: registry.get_blob(repo, digest) for digest in registry.blobs(repo)} == image.blobs


def test_blobs_then_manifests_then_index_then_tag(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    mirror("push", stock.folder, registry.host, stock.names[0], "-j", 8)
    order = writes(registry)
    children = [digest for digest in FIRST.manifests if digest != FIRST.root]
    assert set(order[: len(FIRST.blobs)]) == set(FIRST.blobs)
    assert set(order[len(FIRST.blobs) : -2]) == set(children)
    assert order[-2:] == [FIRST.root, "v1"]


@pytest.mark.slow
def test_tag_is_put_after_all_blobs_of_its_image(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    mirror("push", stock.folder, registry.host)
    arrived: set[str] = set()
    for seen in registry.requests:
        repo = seen.path.removeprefix("/v2/").partition("/blobs/" if "/blobs/" in seen.path else "/manifests/")[0]
        if seen.status == 201:
            arrived |= {f"{repo} {name}" for name in (*seen.query.get("digest", ()), *seen.query.get("mount", ()))}
        if seen.method == "PUT" and "/manifests/v" in seen.path:
            image = {"first": FIRST, "team/second": SECOND, "third": THIRD}[repo]
            assert {f"{repo} {digest}" for digest in image.blobs} <= arrived


def test_push_of_one_image_pushes_only_that_image(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    assert mirror("push", stock.folder, registry.host, "v2").lines == [f"{registry.host}/team/second:v2@{SECOND.root}"]
    assert registry.blobs("first") == set()


@pytest.mark.parametrize("prefix", ["hub", "a/b"])
def test_prefix_of_the_target_precedes_the_repository(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, prefix: str
) -> None:
    mirror("push", stock.folder, f"docker://{registry.host}/{prefix}/", stock.names[1])
    assert registry.tags(f"{prefix}/team/second") == {"v2": SECOND.root}


@pytest.mark.slow
def test_image_pinned_by_digest_is_pushed_without_a_tag(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    FIRST.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a@{FIRST.root}", "--all")
    assert mirror("push", "layout", f"{registry.host}/b").lines == [f"{registry.host}/b/a@{FIRST.root}"]
    assert registry.tags("b/a") == {}
    assert registry.manifests("b/a") == set(FIRST.manifests)


@pytest.mark.slow
def test_sparse_image_is_pushed_to_a_registry_that_accepts_it(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    FIRST.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--platform", "linux/arm64", "--sparse")
    with serving(EmbeddedRegistry(strict=False)) as lax:
        mirror("push", "layout", lax.host)
        assert lax.get_manifest("a", "v1") == (FIRST.data, images.OCI_INDEX)
        assert len(lax.manifests("a")) == 2


@pytest.mark.slow
def test_sparse_image_is_refused_by_a_registry_that_needs_every_manifest(
    mirror: Mirror, registry: EmbeddedRegistry
) -> None:
    FIRST.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--platform", "linux/arm64", "--sparse")
    with serving(EmbeddedRegistry()) as strict:
        assert "MANIFEST_BLOB_UNKNOWN" in mirror("push", "layout", strict.host, code=1).err
        assert strict.tags("a") == {}


@pytest.mark.slow
def test_index_of_selected_platforms_can_be_pushed(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    images.multi_arch(["linux/amd64", "linux/arm64", "linux/s390x"]).publish(registry, "a", "v1")
    line = mirror("pull", f"{registry.host}/a:v1", "--platform", "linux/arm64,linux/amd64").out
    mirror("push", "layout", f"{registry.host}/b")
    assert registry.tags("b/a") == {"v1": line.strip().partition("@")[2]}


@pytest.mark.parametrize("relative", [True, False])
def test_relative_and_absolute_upload_locations_are_followed(mirror: Mirror, stock: Stock, relative: bool) -> None:
    with serving(EmbeddedRegistry(relative_locations=relative)) as registry:
        mirror("push", stock.folder, registry.host, stock.names[1])
        assert registry.tags("team/second") == {"v2": SECOND.root}


# Output


@pytest.mark.slow
def test_stdout_is_one_json_document(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    document = mirror("push", stock.folder, registry.host, stock.names[0], "--json").json
    assert document["schema"] == "mirror.push/1"
    assert document["images"][0]["source"] == stock.names[0]
    assert document["images"][0]["image"] == f"{registry.host}/first:v1@{FIRST.root}"
    assert document["moved"] == {"blobs": len(FIRST.blobs), "size": sum(map(len, FIRST.blobs.values()))}


@pytest.mark.slow
def test_platform_of_an_image_without_an_index_is_reported(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    images.image("linux/arm64").publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1")
    document = mirror("push", "layout", f"{registry.host}/b", "--receipt", "r.json", "--json").json
    assert document["images"][0]["platforms"] == ["linux/arm64"]
    assert json.loads((mirror.folder / "r.json").read_text())["images"][0]["platforms"] == ["linux/arm64"]


def test_quiet_prints_nothing_to_stderr(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    assert mirror("push", stock.folder, registry.host, stock.names[0], "-q").err == ""


def test_mapping_that_matches_no_image_causes_a_warning(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock
) -> None:
    mappings = ("--map", "frist=team/a", "--map", "first=team/b", "--strip-prefix", "library", "--dry-run")
    lines = mirror("push", stock.folder, registry.host, stock.names[0], *mappings).err.splitlines()
    assert lines[:-1] == [
        "warning: --map frist=team/a matched no image.",
        "warning: --strip-prefix library matched no image.",
    ]


def test_dry_run_sends_only_head_requests(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    document = mirror("push", stock.folder, registry.host, stock.names[0], "--dry-run", "--json").json
    assert document["dryRun"] is True
    assert document["moved"]["blobs"] == len(FIRST.blobs)
    assert {seen.method for seen in registry.requests} == {"HEAD"}
    assert registry.manifests("first") == set()


NOTHING = {"blobs": 0, "size": 0}


@pytest.mark.slow
@pytest.mark.parametrize(("method", "status"), [(".*", 502), ("POST|PUT|PATCH", 403)])
def test_failed_uploads_are_not_counted_as_moved(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, method: str, status: int
) -> None:
    registry.fault(Fault(method=method, times=None, action=Status(status)))
    flags = ("--retries", 0, "--keep-going")
    err = mirror("push", stock.folder, registry.host, *flags, code=1).err
    assert "Nothing was pushed; " in err
    assert "pushed 0 images" not in err
    assert mirror("push", stock.folder, registry.host, *flags, "--json", code=1).json["moved"] == NOTHING


def test_dry_run_does_not_count_blobs_of_images_that_fail(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock
) -> None:
    registry.fault(Fault(times=None, action=Status(502)))
    flags = ("--retries", 0, "--keep-going", "--dry-run", "--json")
    assert mirror("push", stock.folder, registry.host, *flags, code=1).json["moved"] == NOTHING


@pytest.mark.parametrize("flags", [(), ("--keep-going",)])
def test_each_failure_is_reported_once(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, flags: tuple[str, ...]
) -> None:
    registry.fault(Fault(method="POST", times=None, action=Status(400)))
    err = mirror("push", stock.folder, registry.host, *stock.names[:2], "-j", 1, *flags, code=1).err
    assert [err.count(f"(upload to {name})") for name in ("first", "team/second")] == [1, len(flags)]


# Unnecessary uploads


@pytest.mark.slow
def test_second_push_sends_no_blobs(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    mirror("push", stock.folder, registry.host)
    registry.clear_log()
    document = mirror("push", stock.folder, registry.host, "--json").json
    assert sent(registry) == 0
    assert registry.count("POST") == 0
    assert document["moved"] == {"blobs": 0, "size": 0}


def test_blob_that_the_registry_has_is_not_sent(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    registry.put_blob("first", SHARED.data)
    mirror("push", stock.folder, registry.host, stock.names[0])
    assert LAYER not in writes(registry)
    assert registry.tags("first") == {"v1": FIRST.root}


@pytest.mark.slow
def test_shared_blob_is_sent_once_and_mounted(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    mirror("push", stock.folder, registry.host, stock.names[0], stock.names[2])
    assert writes(registry).count(LAYER) == 1
    mounts = [seen.query["mount"][0] for seen in registry.requests if "mount" in seen.query and seen.status == 201]
    assert mounts == [LAYER]


@pytest.mark.slow
@pytest.mark.parametrize("answer", [Status(401), Status(404), Status(405), Status(202)])
def test_blob_is_uploaded_if_the_registry_cannot_mount_it(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, answer: Action
) -> None:
    if answer == Status(202):
        answer = WithoutMount()
    registry.fault(Fault(method="POST", path=r"mount=", times=None, action=answer))
    mirror("push", stock.folder, registry.host, stock.names[0], stock.names[2])
    assert writes(registry).count(LAYER) == 2
    assert registry.tags("third") == {"v1": THIRD.root}


@dataclass(frozen=True)
class WithoutMount(Action):
    """Treat a request to mount a blob as the start of an upload."""

    def on_call(self, call: Call) -> Call:
        return Call(call.method, call.path, {}, call.headers, call.origin, call.body)


@pytest.mark.slow
@pytest.mark.parametrize("status", [400, 401, 403, 405, 501])
def test_blob_is_uploaded_if_the_registry_does_not_support_head(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, status: int
) -> None:
    registry.fault(Fault(method="HEAD", path="/blobs/", times=None, action=Status(status)))
    mirror("push", stock.folder, registry.host, stock.names[1])
    assert registry.tags("team/second") == {"v2": SECOND.root}


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--chunk-size", 1000)])
def test_blob_is_uploaded_if_the_storage_refuses_head(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, flags: tuple[object, ...]
) -> None:
    """The registry redirects to a URL that is signed for GET: S3 answers 403 to HEAD."""
    with serving(EmbeddedRegistry()) as storage:
        registry.fault(Fault(method="HEAD", path="/blobs/", times=None, action=Redirect(f"{storage.url}/signed?x")))
        storage.fault(Fault(times=None, action=Status(403)))
        mirror("push", stock.folder, registry.host, stock.names[1], *flags)
        assert storage.count("HEAD") > 0
    assert registry.contents("team/second") == SECOND.blobs
    assert registry.tags("team/second") == {"v2": SECOND.root}


# Errors before the first upload


def test_two_images_with_the_same_target_are_refused(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    with serving(EmbeddedRegistry()) as other:
        THIRD.publish(other, "first", "v1")
        mirror("pull", f"{other.host}/first:v1", "--all")
    result = mirror("push", "layout", registry.host, code=2)
    assert f"{registry.host}/first:v1" in result.err
    assert registry.requests == []


@pytest.mark.slow
def test_image_with_two_names_and_one_target_is_pushed_once(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    with serving(EmbeddedRegistry()) as other:
        FIRST.publish(other, "first", "v1")
        mirror("pull", f"{other.host}/first:v1", "--all")
    assert len(mirror("push", "layout", registry.host, "--json").json["images"]) == 3
    assert writes(registry).count("v1") == 2


def rename(layout: Path, position: int, name: str) -> None:
    """Replace the annotations of an entry by a ref name, as other tools write it."""
    index = json.loads((layout / "index.json").read_bytes())
    index["manifests"][position]["annotations"] = {"org.opencontainers.image.ref.name": name}
    (layout / "index.json").write_text(json.dumps(index))


def test_bare_tag_is_pushed_to_the_repository_in_the_target(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    rename(layout, 0, "v7")
    assert mirror("push", "layout", f"{registry.host}/my/app", "v7").lines == [
        f"{registry.host}/my/app:v7@{FIRST.root}"
    ]


def test_bare_tag_without_a_repository_in_the_target_is_refused(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    rename(layout, 0, "v7")
    result = mirror("push", "layout", registry.host, "v7", code=2)
    assert "repository" in result.err
    assert registry.requests == []


def test_two_images_with_the_same_bare_tag_are_refused(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    rename(layout, 0, "v7")
    rename(layout, 2, "v7")
    mirror("push", "layout", f"{registry.host}/my/app", code=2)
    assert registry.requests == []


@pytest.mark.parametrize("target", ["", "/", "UPPER/case Space", "http://127.0.0.1", "127.0.0.1:1/A", "a b"])
def test_invalid_target_is_refused(mirror: Mirror, stock: Stock, target: str) -> None:
    assert "not a registry" in mirror("push", stock.folder, target, code=2).err


def test_error_for_an_unknown_image_lists_the_images_of_the_layout(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock
) -> None:
    assert stock.names[0] in mirror("push", stock.folder, registry.host, "nothing", code=2).err
    assert registry.requests == []


def test_missing_layout_is_refused(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    assert "There is no directory 'nowhere'." in mirror("push", "nowhere", registry.host, code=2).err
    assert registry.requests == []


def test_layout_without_images_is_refused(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    (layout / "index.json").write_text('{"schemaVersion": 2, "manifests": []}')
    assert "layout has no images." in mirror("push", "layout", registry.host, code=2).err
    assert registry.requests == []


# Damaged layouts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("node", "how"),
    [
        *((LAYER, how) for how in ("flip", "truncate", "append", "delete", "link")),
        *((CONFIG, how) for how in ("flip", "delete")),
        *((FIRST_MANIFEST, how) for how in ("flip", "append", "link")),
        *((FIRST.root, how) for how in ("flip", "truncate", "delete")),
    ],
)
def test_damaged_content_is_not_pushed(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, layout: Path, node: str, how: str
) -> None:
    damage(blob_path(layout, node), how)
    result = mirror("push", "layout", registry.host, stock.names[0], "-v", code=3)
    assert "rying again" not in result.err  # a retry does not repair a file
    advice = {"link": "mirror import - COPY", "delete": "mirror verify layout"}  # which says how to repair it
    assert advice.get(how, "mirror verify layout --repair --from SOURCE") in result.err
    assert registry.tags("first") == {}
    assert node not in registry.blobs("first") | registry.manifests("first")


def damage(path: Path, how: str) -> None:
    data = path.read_bytes()
    path.unlink()
    changed = {"flip": bytes([data[0] ^ 1]) + data[1:], "truncate": data[:-1], "append": data + b"x"}
    if how in changed:
        path.write_bytes(changed[how])
    elif how == "link":
        (path.parents[3] / "outside").write_bytes(data)
        path.symlink_to(path.parents[3] / "outside")


@pytest.mark.slow
def test_undamaged_image_of_a_damaged_layout_can_be_pushed(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, layout: Path
) -> None:
    damage(blob_path(layout, FIRST.root), "delete")
    mirror("push", "layout", registry.host, stock.names[1])
    assert registry.tags("team/second") == {"v2": SECOND.root}


@pytest.mark.slow
def test_push_does_not_change_the_layout(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    shutil.rmtree(layout / ".mirror")
    before = tree(layout)
    mirror("push", "layout", registry.host)
    assert tree(layout) == before
    assert not (layout / ".mirror").exists()


# Errors of the registry


PASSING = {
    "500": Status(500),
    "429": Status(429, (("Retry-After", "0"),)),
    "cut before": Cut(None),
    "cut in the body": Cut(1000),
    "reset in the body": Reset(100),
    "answer lost": Cut(1_000_000),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("request_line", "fault"),
    [
        *(("HEAD /blobs/", fault) for fault in ("500", "cut before")),
        *(("POST /blobs/uploads/", fault) for fault in ("429", "answer lost")),
        *((f"PUT digest={LAYER}", fault) for fault in PASSING),
        *(("PUT /manifests/", fault) for fault in ("500", "cut before", "answer lost")),
        *(("GET /manifests/v1", fault) for fault in ("500", "cut before")),
    ],
)
def test_request_is_retried_after_a_temporary_fault(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, request_line: str, fault: str
) -> None:
    method, path = request_line.split(" ")
    registry.fault(Fault(method=method, path=path, action=PASSING[fault]))
    mirror("push", stock.folder, registry.host, stock.names[0])
    assert registry.tags("first") == {"v1": FIRST.root}
    assert {digest: registry.get_blob("first", digest) for digest in registry.blobs("first")} == FIRST.blobs


@pytest.mark.slow
@pytest.mark.parametrize("path", [f"digest={LAYER}", f"/manifests/{FIRST_MANIFEST}", f"/manifests/{FIRST.root}"])
def test_tag_is_not_put_if_the_registry_refuses_content(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, path: str
) -> None:
    registry.fault(Fault(method="PUT", path=path, times=None, action=Status(400)))
    mirror("push", stock.folder, registry.host, stock.names[0], code=1)
    assert registry.tags("first") == {}


def test_html_error_page_is_not_quoted(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    page = Status(413, content_type="text/html", body=b"<html>too large</html>")
    registry.fault(Fault(method="PUT", times=None, action=page))
    result = mirror("push", stock.folder, registry.host, code=1)
    assert "413" in result.err
    assert "<" not in result.err


def test_push_to_a_read_only_registry_reports_status_405(mirror: Mirror, stock: Stock) -> None:
    with serving(EmbeddedRegistry(read_only=True)) as registry:
        assert "405" in mirror("push", stock.folder, registry.host, code=1).err


def test_upload_response_without_location_is_an_error(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    registry.fault(Fault(method="POST", times=None, action=Header("Location", None)))
    assert "answered without the URL of the next request" in mirror("push", stock.folder, registry.host, code=1).err
    assert registry.count("PUT|PATCH") == 0


@pytest.mark.slow
@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/", "http://[", "\x1b[2J"])
def test_upload_location_that_is_not_an_http_url_is_refused(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, location: str
) -> None:
    registry.fault(Fault(method="POST", times=None, action=Status(202, (("Location", location),))))
    mirror("push", stock.folder, registry.host, "--retries", 0, code=1)
    assert registry.count("PUT") == 0


# Credentials


@pytest.mark.slow
@pytest.mark.parametrize("auth", [Basic({"ann": "secret"}), Bearer({"ann": "secret"})])
@pytest.mark.parametrize("asks", ['Bearer realm="{}/token",service="x"', 'Basic realm="give"', None])
def test_credentials_are_not_sent_to_an_upload_location_at_another_origin(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, auth: Basic | Bearer, asks: str | None
) -> None:
    with serving(EmbeddedRegistry(auth=auth)) as guarded:
        login(mirror, guarded)
        location = f"{registry.url}/v2/first/blobs/uploads/1"
        guarded.fault(Fault(method="POST", times=None, skip=1, action=Status(202, (("Location", location),))))
        challenge = (("WWW-Authenticate", asks.format(registry.url)),) if asks else ()
        registry.fault(Fault(times=None, action=Status(401 if asks else 201, challenge)))
        mirror.run(mirror.command("push", stock.folder, guarded.host, stock.names[1], "--retries", 0))
    assert registry.requests
    assert not any("authorization" in seen.headers for seen in registry.requests)


def login(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": "YW5uOnNlY3JldA=="}}}))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_upload_is_not_redirected_from_https_to_http(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, tmp_path: Path, method: str
) -> None:
    with serving(EmbeddedRegistry(tls=self_signed(tmp_path / "server.pem"))) as secure:
        secure.fault(Fault(method=method, times=None, action=Redirect(f"{registry.url}/v2/first/blobs/uploads/1")))
        mirror("push", stock.folder, secure.host, "--insecure", "--retries", 0, code=1)
    assert registry.requests == []


@pytest.mark.slow
def test_upload_location_with_http_is_refused_if_the_registry_uses_https(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock, tmp_path: Path
) -> None:
    with serving(EmbeddedRegistry(tls=self_signed(tmp_path / "server.pem"))) as secure:
        location = f"{registry.url}/v2/first/blobs/uploads/1"
        secure.fault(Fault(method="POST", times=None, action=Status(202, (("Location", location),))))
        mirror("push", stock.folder, secure.host, "--insecure", "--retries", 0, code=1)
    assert registry.requests == []


@pytest.mark.slow
def test_token_for_a_mount_covers_both_repositories(mirror: Mirror, stock: Stock) -> None:
    with serving(EmbeddedRegistry(auth=Bearer({"ann": "secret"}))) as registry:
        login(mirror, registry)
        mirror("push", stock.folder, registry.host, stock.names[0], stock.names[2])
        mounted = [seen for seen in registry.requests if "mount" in seen.query and seen.status == 201]
    assert [seen.query["mount"] for seen in mounted] == [[LAYER]]
    assert writes(registry).count(LAYER) == 1


def test_push_makes_no_unnecessary_requests(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    mirror("push", stock.folder, registry.host, stock.names[0])
    methods = [seen.method for seen in registry.requests]
    blobs, manifests = len(FIRST.blobs), len(FIRST.manifests)
    assert {method: methods.count(method) for method in set(methods)} == {
        "HEAD": blobs + 1,
        "POST": blobs,
        "PUT": blobs + manifests + 1,
        "GET": 1,
    }


def test_push_of_what_is_there_asks_for_each_digest_once_and_reads_the_tag_once(
    mirror: Mirror, registry: EmbeddedRegistry, stock: Stock
) -> None:
    mirror("push", stock.folder, registry.host, stock.names[0])
    before = len(registry.requests)
    mirror("push", stock.folder, registry.host, stock.names[0])
    seen = [(seen.method, seen.path.rpartition("/")[2]) for seen in registry.requests[before:]]
    asked = [what for method, what in seen if method == "HEAD"]
    assert sorted(asked) == sorted([*FIRST.blobs, *(FIRST.manifests.keys() - {FIRST.root}), "v1"])
    assert [call for call in seen if call[0] != "HEAD"] == [("GET", "v1")]


def test_manifest_of_several_tags_is_pushed_once(mirror: Mirror, registry: EmbeddedRegistry, layout: Path) -> None:
    index = json.loads((layout / "index.json").read_bytes())
    entry = next(one for one in index["manifests"] if one["digest"] == THIRD.root)
    called = "io.containerd.image.name"
    more = [{**entry, "annotations": {called: f"127.0.0.1:1/third:v{number}"}} for number in range(9)]
    (layout / "index.json").write_text(json.dumps({**index, "manifests": more}))
    mirror("push", layout, registry.host, "--jobs", 1)
    assert writes(registry).count(THIRD.root) == 1
    assert registry.tags("third") == {f"v{number}": THIRD.root for number in range(9)}


def test_content_is_sent_with_its_type_and_length(mirror: Mirror, registry: EmbeddedRegistry, stock: Stock) -> None:
    mirror("push", stock.folder, registry.host, stock.names[1])
    for seen in registry.requests:
        if seen.method == "PUT" and "/blobs/" in seen.path:
            assert seen.headers["content-type"] == "application/octet-stream"
            assert int(seen.headers["content-length"]) == seen.received
        if seen.method == "PUT" and re.search("/manifests/", seen.path):
            assert seen.headers["content-type"] == images.DOCKER_MANIFEST
