"""Tests of pushes to registries that deviate from the specification, and to proxies."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror
from tests.support.registry import (
    Action,
    Bearer,
    Chunked,
    EmbeddedRegistry,
    Fault,
    Header,
    Quirks,
    Seen,
    Stall,
    Status,
    serving,
)

pytestmark = pytest.mark.usefixtures("each_exchange")

MIB = 1024 * 1024
LARGE = images.layer(1, 6 * MIB)
IMAGE = images.index([images.image("linux/amd64", LARGE), images.image("linux/arm64", images.layer(2, 300), LARGE)])
DOCKER = images.image("linux/amd64", images.layer(3, 200, docker=True), docker=True)
MIXED = images.index([images.image("linux/amd64", images.layer(3, 200, docker=True), docker=True)])
CHART = images.artifact("application/vnd.example.chart", images.layer(5, 700))


class StoredImage:
    """A layout with one image, `a:v1`."""

    def __init__(self, folder: Path, image: images.Image) -> None:
        self.mirror, self.image = Mirror(folder), image
        with serving(EmbeddedRegistry()) as registry:
            image.publish(registry, "a", "v1")
            self.mirror("pull", f"{registry.host}/a:v1", "--all")
        self.layout = folder / "layout"


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> StoredImage:
    return StoredImage(tmp_path_factory.mktemp("large"), IMAGE)


@contextmanager
def registry_with(**quirks: object) -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(quirks=Quirks(**quirks))) as registry:  # type: ignore[arg-type]
        yield registry


def assert_whole(registry: EmbeddedRegistry, image: images.Image, repo: str = "a") -> None:
    assert registry.tags(repo) == {"v1": image.root}
    assert {digest: registry.get_manifest(repo, digest) for digest in image.manifests} == image.manifests
    assert {digest: registry.get_blob(repo, digest) for digest in image.blobs} == image.blobs


def patches(registry: EmbeddedRegistry) -> list[Seen]:
    return [seen for seen in registry.requests if seen.method == "PATCH"]


def accepted_sizes(registry: EmbeddedRegistry) -> list[int]:
    """The sizes of the blob bodies that the registry accepted."""
    return [
        seen.received
        for seen in registry.requests
        if "/blobs/" in seen.path and seen.method in ("PATCH", "PUT") and 200 <= seen.status < 300
    ]


# Amazon ECR


@pytest.mark.slow
def test_chunks_are_sent_once_if_the_range_header_stays_at_the_first_chunk(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(stuck_range=True) as registry:
        mirror("push", large.layout, registry.host, "--chunk-size", MIB, "-j", 1)
        assert_whole(registry, IMAGE)
        assert [seen.headers["content-range"].partition("-")[0] for seen in patches(registry)[:6]] == [
            str(number * MIB) for number in range(6)
        ]
        assert sum(accepted_sizes(registry)) == sum(map(len, IMAGE.blobs.values()))


def test_error_for_a_missing_repository_says_to_create_it(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(only_existing=True) as registry:
        result = mirror("push", large.layout, registry.host, code=1)
        assert "NAME_UNKNOWN" in result.err
        assert "Create a there" in result.err


# GitHub's registry


@pytest.mark.slow
def test_chunk_above_the_limit_of_ghcr_is_sent_in_smaller_chunks(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(patch_limit=4 * MIB) as registry:
        mirror("push", large.layout, registry.host, "--chunk-size", "5.5M")
        assert_whole(registry, IMAGE)
        large_ones = [seen for seen in patches(registry) if int(seen.headers["content-length"]) > MIB]
        assert [seen.status for seen in large_ones] == [416, 202, 202]
        assert max(accepted_sizes(registry)) == 4 * MIB


@pytest.mark.slow
def test_blob_above_the_chunk_limit_of_ghcr_is_sent_in_one_put(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(patch_limit=4 * MIB) as registry:
        mirror("push", large.layout, registry.host)
        assert_whole(registry, IMAGE)
        assert patches(registry) == []


# Quay


@pytest.mark.slow
def test_quay_error_for_an_index_of_docker_images_has_a_hint(mirror: Mirror, tmp_path: Path) -> None:
    stored = StoredImage(tmp_path, MIXED)
    with registry_with(uniform_index=True) as registry:
        result = mirror("push", stored.layout, registry.host, code=1)
        assert registry.tags("a") == {}
    assert "MANIFEST_INVALID" in result.err
    assert "Quay" in result.err
    assert "--platform" in result.err


@pytest.mark.slow
def test_quay_error_for_an_artifact_type_has_a_hint(mirror: Mirror, tmp_path: Path) -> None:
    stored = StoredImage(tmp_path, CHART)
    with registry_with(config_types=frozenset({images.OCI_CONFIG})) as registry:
        result = mirror("push", stored.layout, registry.host, code=1)
        assert registry.tags("a") == {}
    kind = json.loads(CHART.data)["config"]["mediaType"]
    assert kind in result.err
    assert "ALLOWED_OCI_ARTIFACT_TYPES" in result.err


@pytest.mark.slow
def test_refused_manifest_is_never_changed(mirror: Mirror, tmp_path: Path) -> None:
    stored = StoredImage(tmp_path, MIXED)
    with registry_with(uniform_index=True) as registry:
        mirror("push", stored.layout, registry.host, code=1)
        puts = [seen for seen in registry.requests if seen.method == "PUT" and "/manifests/" in seen.path]
    assert {seen.path.rpartition("/")[2] for seen in puts} <= set(MIXED.manifests)


@pytest.mark.slow
def test_mount_request_names_the_source_repository(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(mount_wants_from=True) as registry:
        push_twice(mirror, large, registry)
        mounts = [seen for seen in registry.requests if "mount" in seen.query]
        assert mounts
        assert {seen.status for seen in mounts} == {201}


# Mounts that are refused


def push_twice(mirror: Mirror, stored: StoredImage, registry: EmbeddedRegistry) -> None:
    """Push to two repositories in one run, so that the second can mount blobs of the first. Check both."""
    both = stored.mirror.folder / "both"
    if not both.exists():
        with serving(EmbeddedRegistry()) as source:
            for repo in ("a", "b"):
                stored.image.publish(source, repo, "v1")
            stored.mirror("pull", f"{source.host}/a:v1", f"{source.host}/b:v1", "--all", "-o", both)
    mirror("push", both, registry.host, "-j", 1)
    for repo in ("a", "b"):
        assert_whole(registry, stored.image, repo)


@pytest.mark.slow
@pytest.mark.parametrize("status", [401, 404, 405, 202])
def test_blob_is_uploaded_after_a_refused_mount(mirror: Mirror, large: StoredImage, status: int) -> None:
    with registry_with(mount_refusal=status) as registry:
        push_twice(mirror, large, registry)
        mounts = [seen for seen in registry.requests if "mount" in seen.query]
        posts = registry.count("POST", "/b/blobs/uploads/")
        assert {seen.status for seen in mounts} == {status}
        assert posts == len(IMAGE.blobs) * (1 if status == 202 else 2)  # a 202 has already started the upload


# Artifactory


@pytest.mark.slow
def test_blobs_are_uploaded_if_head_wrongly_finds_them(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(lying_head=True) as registry:
        result = mirror("push", large.layout, registry.host, "--json")
        assert_whole(registry, IMAGE)
        assert "rying again" not in result.err
        refused = [seen for seen in registry.requests if seen.method == "PUT" and seen.status == 400]
        assert len(refused) == 2  # each manifest once
        assert registry.count("PUT", "/manifests/v1") == 1


@pytest.mark.slow
def test_blobs_are_uploaded_if_head_and_mount_wrongly_find_them(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(lying_head=True) as registry:
        push_twice(mirror, large, registry)
        assert sum(accepted_sizes(registry)) == 2 * sum(map(len, IMAGE.blobs.values()))


@pytest.mark.slow
def test_blobs_are_sent_at_most_twice_if_the_manifest_is_always_refused(mirror: Mirror, large: StoredImage) -> None:
    lacking = json.dumps({"errors": [{"code": "MANIFEST_INVALID", "message": "blob unknown"}]}).encode()
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="PUT", path="/manifests/sha", times=None, action=Status(404, body=lacking)))
        result = mirror("push", large.layout, registry.host, "-j", 1, code=1)
        assert registry.tags("a") == {}
        assert len(accepted_sizes(registry)) <= 2 * len(IMAGE.blobs)
    assert "MANIFEST_INVALID" in result.err


# distribution


@pytest.mark.slow
def test_each_chunk_goes_to_the_latest_relative_location(mirror: Mirror, large: StoredImage) -> None:
    with serving(EmbeddedRegistry(relative_locations=True)) as registry:
        mirror("push", large.layout, registry.host, "--chunk-size", "2M")
        assert_whole(registry, IMAGE)
        states = [seen.query["_state"][0] for seen in patches(registry)]
        assert len(states) == len(set(states))  # always the latest


@pytest.mark.slow
def test_error_for_a_sparse_index_has_a_hint(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    IMAGE.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--platform", "linux/arm64", "--sparse")
    with serving(EmbeddedRegistry()) as strict:
        result = mirror("push", "layout", strict.host, code=1)
        assert len([seen for seen in strict.requests if seen.method == "PUT" and "/blobs/" in seen.path]) == 3
    assert "sparse" in result.err
    assert "--all-platforms" in result.err
    assert "mirror copy oci:LAYOUT:NAME docker://TARGET --platform linux/amd64" in result.err


@pytest.mark.slow
def test_one_platform_of_a_sparse_image_can_be_copied(mirror: Mirror, registry: EmbeddedRegistry) -> None:
    IMAGE.publish(registry, "a", "v1")
    mirror("pull", f"{registry.host}/a:v1", "--platform", "linux/arm64", "--sparse")
    with serving(EmbeddedRegistry()) as strict:
        source = f"oci:layout:{registry.host}/a:v1"
        mirror("copy", source, f"docker://{strict.host}/a:v1", "--platform", "linux/arm64")
        assert strict.tags("a")["v1"] in IMAGE.manifests.keys() - {IMAGE.root}


# Old registries, and registries with fewer features


@pytest.mark.slow
def test_status_204_is_accepted_instead_of_201(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(old_created=True) as registry:
        mirror("push", large.layout, registry.host)
        assert_whole(registry, IMAGE)


def test_post_request_that_starts_an_upload_has_no_body(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(no_single_post=True) as registry:
        mirror("push", large.layout, registry.host)
        posts = [seen for seen in registry.requests if seen.method == "POST"]
        assert {seen.headers["content-length"] for seen in posts} == {"0"}
        assert_whole(registry, IMAGE)


def test_status_201_before_any_content_was_sent_is_an_error(mirror: Mirror, large: StoredImage) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="POST", times=None, action=Status(201)))
        mirror("push", large.layout, registry.host, code=1)
        assert registry.tags("a") == {}


@pytest.mark.slow
def test_chunks_have_the_minimum_length_of_the_registry(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(least_chunk=2 * MIB) as registry:
        mirror("push", large.layout, registry.host, "--chunk-size", "64K")
        assert_whole(registry, IMAGE)
        assert [seen.received for seen in patches(registry) if seen.received > 1000] == [2 * MIB] * 3


@pytest.mark.parametrize("size", ["0", "-1", "8X", "x", "0.1", "٣"])
def test_invalid_chunk_size_is_refused(mirror: Mirror, large: StoredImage, size: str) -> None:
    assert "not a size" in mirror("push", large.layout, "127.0.0.1:1", "--chunk-size", size, code=2).err


# Proxies


@pytest.mark.slow
@pytest.mark.parametrize("limit", [MIB, 4 * MIB, MIB // 2])
def test_smaller_bodies_are_sent_if_a_proxy_refuses_large_ones(mirror: Mirror, large: StoredImage, limit: int) -> None:
    with registry_with(body_limit=limit) as registry:
        mirror("push", large.layout, registry.host)
        assert_whole(registry, IMAGE)
        assert sum(accepted_sizes(registry)) == sum(map(len, IMAGE.blobs.values()))
        assert max(accepted_sizes(registry)) <= limit


@pytest.mark.slow
def test_smaller_bodies_are_sent_if_the_registry_has_no_upload_status(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(body_limit=MIB, no_status=True) as registry:
        mirror("push", large.layout, registry.host)
        assert_whole(registry, IMAGE)


@pytest.mark.slow
def test_error_names_the_proxy_that_refuses_every_body(mirror: Mirror, large: StoredImage) -> None:
    with registry_with(body_limit=1000) as registry:
        result = mirror("push", large.layout, registry.host, code=1)
        assert registry.tags("a") == {}
        assert f"a proxy (nginx) in front of {registry.host} answered 413" in result.err
    assert "client_max_body_size" in result.err
    assert "<" not in result.err


@pytest.mark.parametrize("server", ["nginx/1.2", "cloudflare", "\x1b[2Jnginx", "unheard/1", ""])
def test_proxy_is_named_only_if_it_is_known(mirror: Mirror, large: StoredImage, server: str) -> None:
    page = Status(403, content_type="text/html", body=b"<html><h1>\x1b[31mForbidden</h1></html>")
    with serving(EmbeddedRegistry()) as registry:
        header = () if not server else (Header("Server", server.replace("\x1b", "\\x1b")),)
        registry.fault(Fault(method="POST", times=None, action=(page, *header)))
        result = mirror("push", large.layout, registry.host, code=1)
    known = server.partition("/")[0] if server in ("nginx/1.2", "cloudflare") else ""
    assert f"a proxy{f' ({known})' if known else ''} in front of" in result.err
    assert "unheard" not in result.err


PAGE = Status(200, content_type="text/html", body=b"<html><body>Welcome</body></html>")


@pytest.mark.parametrize(("method", "action"), [("POST", PAGE), ("HEAD", PAGE), ("HEAD", (PAGE, Chunked()))])
def test_error_explains_a_web_page_from_a_proxy(
    mirror: Mirror, large: StoredImage, method: str, action: Action | tuple[Action, ...]
) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method=method, times=None, action=action))
        result = mirror("push", large.layout, registry.host, code=1)
        assert f"a proxy in front of {registry.host} answered 200 OK with a web page (" in result.err
    assert "NO_PROXY" in result.err


@pytest.mark.parametrize("status", [502, 503, 504])
def test_gateway_error_has_a_hint_to_run_the_command_again_later(
    mirror: Mirror, large: StoredImage, status: int
) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(times=None, action=Status(status)))
        result = mirror("push", large.layout, registry.host, "--retries", 0, code=1)
    assert "run the command again later" in result.err


@pytest.mark.parametrize(("body", "said"), [(b"", True), (b'{"errors": [{"code": "UNKNOWN"}]}', False)])
def test_hint_to_the_log_is_given_only_for_an_empty_error_response(
    mirror: Mirror, large: StoredImage, body: bytes, said: bool
) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="POST", times=None, action=Status(500, body=body)))
        result = mirror("push", large.layout, registry.host, "--retries", 0, code=1)
    assert ("log" in result.err) is said


@pytest.mark.slow
@pytest.mark.usefixtures("each_exchange")
def test_registry_that_stops_reading_is_an_error(
    mirror: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mirror.registry.blobs.upload_session.MIN_RATE", MIB * 100)
    stored = StoredImage(tmp_path, images.image("linux/amd64", images.layer(1, 24 * MIB)))  # more than sockets buffer
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="PUT", path="/uploads/", times=None, action=Stall(1000)))
        result = mirror("push", stored.layout, registry.host, "--timeout", 0.3, "--retries", 0, "-j", 1, code=1)
        assert f"{registry.host} stopped answering" in result.err


def test_error_for_refused_chunks_says_to_remove_chunk_size(mirror: Mirror, large: StoredImage) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="PATCH", times=None, action=Status(405)))
        result = mirror("push", large.layout, registry.host, "--chunk-size", MIB, code=1)
    assert "remove --chunk-size" in result.err


def test_refused_connection_has_a_hint_to_check_the_address(mirror: Mirror, large: StoredImage) -> None:
    result = mirror("push", large.layout, "127.0.0.1:1", "--retries", 0, code=1)
    assert "Is it running, and is the address right?" in result.err
    assert "--plain-http" not in result.err  # which would go to the same port


# Missing permissions


@pytest.mark.slow
@pytest.mark.parametrize(("status", "said"), [(401, "as a user who may push: mirror login"), (403, "may not push to")])
@pytest.mark.parametrize(("method", "path"), [("HEAD|POST", "/blobs/"), ("PUT", "digest="), ("PUT", "/manifests/")])
def test_error_for_missing_push_permission_has_no_hint_about_pulls(
    mirror: Mirror, large: StoredImage, method: str, path: str, status: int, said: str
) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method=method, path=path, times=None, action=Status(status)))
        result = mirror("push", large.layout, registry.host, "-j", 1, code=1)
    assert said in result.err
    assert "image does not exist" not in result.err


@pytest.mark.slow
def test_forbidden_chunk_is_reported_as_missing_push_permission(mirror: Mirror, large: StoredImage) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="PATCH", times=None, action=Status(403)))
        assert "may not push to" in mirror("push", large.layout, registry.host, "--chunk-size", MIB, code=1).err


@pytest.mark.slow
def test_forbidden_source_is_not_reported_as_missing_push_permission(
    mirror: Mirror, registry: EmbeddedRegistry
) -> None:
    IMAGE.publish(registry, "a", "v1")
    registry.fault(Fault(method="GET", path="/blobs/", times=None, action=Status(403)))
    with serving(EmbeddedRegistry()) as target:
        result = mirror("copy", f"docker://{registry.host}/a:v1", f"docker://{target.host}/a:v1", code=1)
    assert "may not push" not in result.err


def test_refused_token_is_reported_as_missing_push_permission(mirror: Mirror, large: StoredImage) -> None:
    with serving(EmbeddedRegistry(auth=Bearer({"ann": "secret"}))) as registry:
        registry.fault(Fault(path="/token", times=None, action=Status(403)))
        result = mirror("push", large.layout, registry.host, code=1)
        assert f"may not push to {registry.host}/a," in result.err


@pytest.mark.slow
@pytest.mark.parametrize("image", [IMAGE, CHART], ids=["image", "artifact"])
@pytest.mark.parametrize("there", [True, False])
def test_error_says_that_the_registry_takes_no_pushes(
    mirror: Mirror, tmp_path: Path, image: images.Image, there: bool
) -> None:
    stored = StoredImage(tmp_path, image)
    with serving(EmbeddedRegistry(read_only=True)) as registry:
        if there:
            image.publish(registry, "a", "v0")
        result = mirror("push", stored.layout, registry.host, code=1)
        assert f"{registry.host} takes no pushes: it is read-only, or a cache" in result.err
    assert "ALLOWED_OCI_ARTIFACT_TYPES" not in result.err
    assert ".." not in result.err


@pytest.mark.slow
def test_405_for_a_referrer_does_not_mean_that_the_registry_is_read_only(mirror: Mirror, tmp_path: Path) -> None:
    stored, referrer = StoredImage(tmp_path, DOCKER), images.signature(DOCKER)
    with serving(EmbeddedRegistry(referrers=True)) as source:
        DOCKER.publish(source, "a", "v2")
        referrer.publish(source, "a", None)
        stored.mirror("pull", f"{source.host}/a:v2", "--all")
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="PUT", path=f"/manifests/{referrer.root}", times=None, action=Status(405)))
        result = mirror("push", stored.layout, registry.host, code=4)
    assert "accepts images, but not referrers. To push without them: --no-referrers" in result.err
    assert "read-only" not in result.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "body", "said", "hint"),
    [
        (403, b'{"message": "quota \x1b[2J exceeded"}', r": quota \x1b[2J exceeded.", "storage quota is used up"),
        (403, b"denied by policy 7", ": denied by policy 7.", "policy of the registry"),
        (400, b'{"details": "no such project"}', ": no such project.", ""),
    ],
)
def test_text_of_a_refused_push_is_quoted(
    mirror: Mirror, large: StoredImage, status: int, body: bytes, said: str, hint: str
) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="POST", times=None, action=Status(status, body=body)))
        result = mirror("push", large.layout, registry.host, code=1)
    assert said in result.err
    assert hint in result.err
    assert "mirror login" not in result.err


# Tokens


@pytest.mark.slow
def test_token_that_expires_before_an_upload_is_renewed(mirror: Mirror, large: StoredImage) -> None:
    auth = Bearer({"ann": "secret"})
    with serving(EmbeddedRegistry(auth=auth)) as registry:
        folder = Path(mirror.env["DOCKER_CONFIG"])
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"auths": {registry.host: {"auth": "YW5uOnNlY3JldA=="}}}))
        challenge = f'Bearer realm="{registry.url}/token",service="embedded"'
        expired = Status(401, (("WWW-Authenticate", challenge),))
        registry.fault(Fault(method="PUT", path=f"digest={LARGE.digest}", action=expired))
        registry.fault(Fault(method="GET", path="/uploads/", action=expired))
        mirror("push", large.layout, registry.host, "-j", 1)
        assert_whole(registry, IMAGE)
        assert [seen.status for seen in registry.requests if LARGE.digest in seen.target and seen.method == "PUT"] == [
            401,
            201,
        ]


@pytest.mark.slow
def test_upload_ends_after_repeated_401_responses(mirror: Mirror, large: StoredImage) -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.fault(Fault(method="PUT", path="digest=", times=None, action=Status(401)))
        mirror("push", large.layout, registry.host, "-j", 1, code=1)
        assert registry.count("PUT") <= 3
