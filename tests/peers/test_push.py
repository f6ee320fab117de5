"""Tests of pushes to docker-registry, read back with other programs."""

import asyncio
import json
import re
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.cli.test_foreign import windows
from tests.peers.layouts import THREE, assert_clean, copied, everything, files, part, root, stored, tree
from tests.peers.programs import DockerRegistry, Program, Request, Skopeo, needed, nginx
from tests.support.images import EMPTY, Image, artifact, attestation, image, index, layer, multi_arch
from tests.support.layouts import write

pytestmark = pytest.mark.peer

OCI = multi_arch(THREE)
DOCKER = multi_arch(THREE, docker=True)
BOTH = pytest.mark.parametrize("published", [pytest.param(OCI, id="oci"), pytest.param(DOCKER, id="docker")])
ONE_EACH = pytest.mark.parametrize(
    "published", [image("linux/amd64", layer(1, 900, docker), docker=docker) for docker in (False, True)]
)


def blobs_sent(requests: list[Request]) -> list[Request]:
    """Return the requests that upload a blob, or start an upload."""
    return [one for one in requests if one.method in ("POST", "PATCH", "PUT") and "/blobs/" in one.path]


@pytest.mark.slow
@BOTH
def test_every_platform_arrives_byte_for_byte(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path, published: Image
) -> None:
    mirror("pull", registry.publish(published, "team/app", "1"), "--all-platforms", "-o", "layout")
    pushed = mirror("push", "layout", second.host).out
    assert pushed == f"{second.host}/team/app:1@{published.root}\n"
    skopeo.copy(f"docker://{second.host}/team/app:1", "dir:copy", "--all", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(published)
    assert root(tmp_path / "copy") == published.root
    assert skopeo.raw(f"docker://{second.host}/team/app:1") == published.data


@pytest.mark.slow
@ONE_EACH
def test_an_image_without_an_index_arrives_byte_for_byte(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, published: Image
) -> None:
    mirror("pull", registry.publish(published, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    assert skopeo.raw(f"docker://{second.host}/app:1") == published.data


@pytest.mark.slow
def test_several_images_are_pushed_below_a_prefix(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo
) -> None:
    names = [registry.publish(OCI, "team/app", "1"), registry.publish(DOCKER, "team/app", "2")]
    names.append(registry.publish(OCI, "a/b/c", "1"))
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    pushed = mirror("push", "layout", f"{second.host}/hub/mirror").out.split()
    paths = {"team/app:1": OCI, "team/app:2": DOCKER, "a/b/c:1": OCI}
    assert set(pushed) == {f"{second.host}/hub/mirror/{path}@{one.root}" for path, one in paths.items()}
    for path, one in paths.items():
        assert skopeo.raw(f"docker://{second.host}/hub/mirror/{path}") == one.data


@pytest.mark.slow
def test_push_of_one_name_sends_only_that_image(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program
) -> None:
    names = [registry.publish(OCI, "team/app", tag) for tag in ("1", "2")]
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host, names[1])
    assert second.tags("team/app") == ["2"]


@pytest.mark.slow
def test_image_pulled_by_digest_is_pushed_by_digest_without_a_tag(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo
) -> None:
    registry.publish(OCI, "team/app", "1")
    mirror("pull", f"{registry.host}/team/app@{OCI.root}", "--all-platforms", "-o", "layout")
    assert mirror("push", "layout", second.host).out == f"{second.host}/team/app@{OCI.root}\n"
    assert second.tags("team/app") == []
    assert skopeo.raw(f"docker://{second.host}/team/app@{OCI.root}") == OCI.data


@pytest.mark.slow
def test_attestations_and_nested_indexes_are_pushed_unchanged(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    amd64 = part(OCI, "linux/amd64")
    whole = index([index([amd64, attestation(amd64)]), part(OCI, "linux/arm/v7")])
    mirror("pull", registry.publish(whole, "app", "1"), "--all-platforms", "-o", "layout")
    assert stored(tmp_path / "layout") == everything(whole)
    mirror("push", "layout", second.host)
    for digest, (data, _) in whole.manifests.items():
        assert skopeo.raw(f"docker://{second.host}/app@{digest}") == data


@pytest.mark.slow
def test_artifact_is_pushed_unchanged(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    chart = artifact("application/vnd.example.chart", layer(5, 700), configuration=EMPTY)
    mirror("pull", registry.publish(chart, "chart", "1"), "-o", "layout")
    assert stored(tmp_path / "layout") == everything(chart)
    mirror("push", "layout", second.host)
    assert skopeo.raw(f"docker://{second.host}/chart:1") == chart.data


@pytest.mark.slow
@BOTH
def test_a_second_push_sends_no_blob(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, published: Image
) -> None:
    mirror("pull", registry.publish(published, "team/app", "1"), "--all-platforms", "-o", "layout")
    first = mirror("push", "layout", second.host, "--json").json
    assert first["moved"]["blobs"] == len(published.blobs)
    before = len(second.requests())
    again = mirror("push", "layout", second.host, "--json").json
    assert (again["moved"]["blobs"], again["reused"]["blobs"]) == (0, len(published.blobs))
    assert again["moved"]["size"] == 0
    assert len(second.requests()) > before
    assert blobs_sent(second.requests(before)) == []


@pytest.mark.slow
def test_a_blob_is_mounted_from_another_repository(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo
) -> None:
    names = [registry.publish(OCI, repo, "1") for repo in ("one", "two/deep")]
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    sent = blobs_sent(second.requests())
    assert len([one for one in sent if one.method == "PUT"]) == len(OCI.blobs)
    mounted = [one for one in sent if "mount=" in one.path]
    assert {one.status for one in mounted} == {201}
    assert len(mounted) == len(OCI.blobs)
    for repo in ("one", "two/deep"):
        assert skopeo.raw(f"docker://{second.host}/{repo}:1") == OCI.data


@pytest.mark.slow
def test_a_blob_is_mounted_from_a_repository_of_an_earlier_push(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program
) -> None:
    names = [registry.publish(OCI, repo, "1") for repo in ("one", "two")]
    mirror("pull", *names, "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host, names[0])
    before = len(second.requests())
    mirror("push", "layout", second.host)
    sent = blobs_sent(second.requests(before))
    assert [one for one in sent if one.method == "PUT"] == []
    assert {(one.method, one.status) for one in sent} == {("POST", 201)}


@pytest.mark.slow
def test_a_dry_run_puts_nothing_into_the_registry(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program
) -> None:
    mirror("pull", registry.publish(OCI, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host, "--dry-run")
    assert {one.method for one in second.requests()} <= {"GET", "HEAD"}
    assert second.tags("app") == []


@pytest.mark.slow
def test_tag_is_written_last(registry: DockerRegistry, second: DockerRegistry, mirror: Program) -> None:
    mirror("pull", registry.publish(OCI, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    written = [one.path for one in second.requests() if one.method == "PUT"]
    kinds = ["/blobs/" in path for path in written]
    assert kinds == sorted(kinds, reverse=True)
    assert written[-1] == "/v2/app/manifests/1"
    assert written[-2] == f"/v2/app/manifests/{OCI.root}"


@pytest.mark.slow
def test_pushed_image_is_pulled_back_unchanged(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    mirror("pull", registry.publish(DOCKER, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    mirror("pull", f"{second.host}/app:1", "--all-platforms", "-o", "again")
    assert_clean(mirror, "again")
    assert stored(tmp_path / "again") == stored(tmp_path / "layout") == everything(DOCKER)


@pytest.mark.slow
def test_umoci_unpacks_a_pushed_image(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, umoci: Program, tmp_path: Path
) -> None:
    """skopeo converts the Docker image to OCI when it copies it into a layout."""
    mirror("pull", registry.publish(DOCKER, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    skopeo.copy(f"docker://{second.host}/app:1", "oci:out:1", platform="linux/arm64")
    umoci("unpack", "--rootless", "--image", "out:1", "bundle")
    assert tree(tmp_path / "bundle/rootfs") == files(part(DOCKER, "linux/arm64"))


@pytest.mark.slow
def test_layer_larger_than_a_batch_is_pushed_unchanged(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path
) -> None:
    large = image("linux/amd64", layer(1, 9_000_000), layer(2, 4 * 1024 * 1024), layer(3, 4 * 1024 * 1024 + 1))
    mirror("pull", registry.publish(large, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    skopeo.copy(f"docker://{second.host}/app:1", "dir:copy", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(large)
    assert json.loads((tmp_path / "copy/manifest.json").read_bytes())["layers"][0]["size"] == 9_000_000


@pytest.mark.slow
def test_detail_of_an_error_of_docker_registry_is_shown(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program
) -> None:
    mirror("pull", registry.publish(OCI, "app", "1"), "--platform", THREE[0], "--sparse", "-o", "layout")
    refused = mirror("push", "layout", second.host, code=1).err
    absent = [part(OCI, platform).root for platform in THREE[1:]]
    assert "MANIFEST_BLOB_UNKNOWN" in refused
    assert any(f"({digest}" in refused for digest in absent)


# Through a proxy


LARGE = image("linux/amd64", layer(1, 3_000_000), layer(2, 40_000))


@pytest.fixture
def layout(registry: DockerRegistry, mirror: Program, tmp_path: Path) -> Path:
    """A layout with an image, app:1, with layers above the default limit of nginx for bodies."""
    mirror("pull", registry.publish(LARGE, "app", "1"), "--all-platforms", "-o", "layout")
    return tmp_path / "layout"


@pytest.mark.slow
@pytest.mark.parametrize("limit", ["1m", "100k"])
def test_push_succeeds_in_spite_of_a_body_limit_of_nginx(
    second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path, layout: Path, limit: str
) -> None:
    """The default of nginx is 1m; if the limit is below 256 KiB, the user has to set --chunk-size."""
    with nginx(tmp_path / "nginx", second.host, f"client_max_body_size {limit};") as proxy:
        if limit == "100k":
            refused = mirror("push", layout, proxy.host, code=1)
            assert f"a proxy (nginx) in front of {proxy.host} answered 413" in refused.err
            assert "client_max_body_size" in refused.err
            assert second.tags("app") == []
            mirror("push", layout, proxy.host, "--chunk-size", "90k")
        else:
            mirror("push", layout, proxy.host)
    assert skopeo.raw(f"docker://{second.host}/app:1") == LARGE.data
    skopeo.copy(f"docker://{second.host}/app:1", "dir:copy", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(LARGE)


@pytest.mark.slow
def test_body_limit_of_nginx_is_detected_once(
    second: DockerRegistry, mirror: Program, tmp_path: Path, layout: Path
) -> None:
    with nginx(tmp_path / "nginx", second.host) as proxy:
        mirror("push", layout, proxy.host, "-j", 1)
        refused = [one for one in proxy.requests() if one.status == 413]
    assert len(refused) == 1
    assert second.tags("app") == ["1"]


@pytest.mark.slow
def test_blobs_are_sent_if_nginx_refuses_head(
    second: DockerRegistry, mirror: Program, tmp_path: Path, layout: Path
) -> None:
    refuse = "client_max_body_size 0; if ($request_method = HEAD) { return 403; }"
    with nginx(tmp_path / "nginx", second.host, refuse) as proxy:
        mirror("push", layout, proxy.host)
        assert {one.status for one in proxy.requests() if one.method == "HEAD"} == {403}
    assert second.tags("app") == ["1"]
    for digest in LARGE.blobs:
        assert second.blob(digest).read_bytes() == LARGE.blobs[digest]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--chunk-size", "1M")])
def test_uploads_that_nginx_redirects_arrive(
    second: DockerRegistry, mirror: Program, tmp_path: Path, layout: Path, flags: tuple[str, ...]
) -> None:
    redirect = f"if ($request_method ~ ^(POST|PUT|PATCH)$) {{ return 307 http://{second.host}$request_uri; }}"
    with nginx(tmp_path / "nginx", second.host, f"client_max_body_size 0; {redirect}") as proxy:
        mirror("push", layout, proxy.host, *flags)
        assert {one.status for one in proxy.requests() if one.method in ("POST", "PUT", "PATCH")} == {307}
    assert second.tags("app") == ["1"]
    for digest in LARGE.blobs:
        assert second.blob(digest).read_bytes() == LARGE.blobs[digest]


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--chunk-size", "10M")])
def test_blobs_are_sent_with_patch_if_nginx_refuses_a_put_with_a_blob(
    second: DockerRegistry, mirror: Program, tmp_path: Path, layout: Path, flags: tuple[str, ...]
) -> None:
    request = '"$request_method $content_length $uri"'
    refuse = f'set $sent {request}; if ($sent ~ "^PUT [1-9].*/blobs/") {{ return 405; }}'
    with nginx(tmp_path / "nginx", second.host, f"client_max_body_size 0; {refuse}") as proxy:
        mirror("push", layout, proxy.host, "-j", 1, *flags)
        refused = [one for one in proxy.requests() if one.status == 405]
        assert len(refused) == (0 if flags else 1)
    assert second.tags("app") == ["1"]
    for digest in LARGE.blobs:
        assert second.blob(digest).read_bytes() == LARGE.blobs[digest]


@pytest.mark.slow
def test_bad_gateway_is_retried_and_reported(mirror: Program, tmp_path: Path, layout: Path) -> None:
    with nginx(tmp_path / "nginx", "127.0.0.1:1") as proxy:
        refused = mirror("push", layout, proxy.host, "--retries", 1, code=1)
        tried = [one for one in proxy.requests() if one.method == "HEAD"]
    assert "502" in refused.err
    assert len({one.path for one in tried}) < len(tried)
    assert {one.status for one in tried} == {502}


@pytest.mark.slow
def test_push_is_retried_until_the_proxy_recovers(
    second: DockerRegistry, mirror: Program, tmp_path: Path, layout: Path
) -> None:
    away = tmp_path / "away"
    away.touch()
    with nginx(tmp_path / "nginx", second.host, f"if (-f {away}) {{ return 502; }} client_max_body_size 0;") as proxy:

        def recover() -> None:
            while 502 not in {one.status for one in proxy.requests()}:
                time.sleep(0.01)
            away.unlink()

        back = threading.Thread(target=recover, daemon=True)
        back.start()
        mirror("push", layout, proxy.host, "--retries", 10)
        back.join()
        assert 502 in {one.status for one in proxy.requests()}
    assert second.tags("app") == ["1"]
    for digest in LARGE.blobs:
        assert second.blob(digest).read_bytes() == LARGE.blobs[digest]


# Chunks and interrupted uploads


@pytest.mark.slow
def test_chunks_arrive_byte_for_byte(
    second: DockerRegistry, mirror: Program, skopeo: Skopeo, tmp_path: Path, layout: Path
) -> None:
    mirror("push", layout, second.host, "--chunk-size", "300k")
    chunks = [one for one in blobs_sent(second.requests()) if one.method == "PATCH"]
    assert len(chunks) >= 10
    assert {one.status for one in chunks} == {202}
    skopeo.copy(f"docker://{second.host}/app:1", "dir:copy", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(LARGE)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--chunk-size", "500k")], ids=["whole", "chunked"])
@pytest.mark.parametrize("after", [400_000, 0, 1, 700_000, 2_999_999])
def test_interrupted_upload_is_completed(
    second: DockerRegistry, mirror: Program, skopeo: Skopeo, layout: Path, flags: tuple[str, ...], after: int
) -> None:
    with interrupting_relay(second.host, after) as host:
        mirror("push", layout, host, "-j", 1, *flags)
    assert skopeo.raw(f"docker://{second.host}/app:1") == LARGE.data
    for digest in LARGE.blobs:
        assert second.blob(digest).read_bytes() == LARGE.blobs[digest]


@contextmanager
def interrupting_relay(upstream: str, after: int) -> Iterator[str]:
    """Run a relay on loopback that closes one connection after a number of bytes of uploads.

    The bytes before that reach the registry.
    """
    relay = _Relay(upstream, after)
    ready: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]] = Future()
    thread = threading.Thread(target=asyncio.run, args=(relay.run(ready),))
    thread.start()
    loop, stop, port = ready.result()
    try:
        yield f"127.0.0.1:{port}"
        assert relay.has_cut
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


class _Relay:
    def __init__(self, upstream: str, after: int) -> None:
        self._upstream, self._left = upstream.split(":"), after
        self.has_cut = False

    async def run(self, ready: "Future[tuple[asyncio.AbstractEventLoop, asyncio.Event, int]]") -> None:
        stop = asyncio.Event()
        async with await asyncio.start_server(self._handle, "127.0.0.1", 0) as server:
            ready.set_result((asyncio.get_running_loop(), stop, server.sockets[0].getsockname()[1]))
            await stop.wait()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(*self._upstream)
        both = writer, there[1]
        with suppress(ConnectionError):
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pass(reader, there[1], self._take, both))
                group.create_task(self._pass(there[0], writer, len, both))

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        take: Callable[[bytes], int],
        both: tuple[asyncio.StreamWriter, ...],
    ) -> None:
        """Forward one direction until it ends or is cut, then close both."""
        try:
            with suppress(ConnectionError):
                while data := await reader.read(65536):
                    count = take(data)
                    writer.write(data[:count])
                    await writer.drain()
                    if count < len(data):
                        return
        finally:
            for one in both:
                one.close()

    def _take(self, data: bytes) -> int:
        """Return how many of these bytes pass: all heads, and what is left of the limit of PUT and PATCH bodies."""
        head = data.index(b"\r\n\r\n") + 4 if re.match(rb"[A-Z]+ /v2/", data) else 0
        if self.has_cut or (head and not re.match(rb"P(UT|ATCH) \S+/uploads/", data)):
            return len(data)
        self.has_cut = len(data) - head > self._left
        count = min(len(data) - head, self._left)
        self._left -= count
        return head + count


# podman and receipts


@pytest.mark.slow
def test_podman_pulls_a_pushed_image(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    mirror("pull", registry.publish(OCI, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host)
    with tempfile.TemporaryDirectory() as run:  # podman limits this path to 50 characters
        stores = ["--root", str(tmp_path / "root"), "--runroot", run, "--storage-driver", "vfs"]
        podman = Program((needed("podman"), *stores), tmp_path)
        podman("pull", "--tls-verify=false", "--platform", "linux/arm64", f"{second.host}/app:1")
        found = podman("image", "inspect", "--format", "{{.Digest}}", f"{second.host}/app:1").out.strip()
    assert found in {OCI.root, part(OCI, "linux/arm64").root}


@pytest.mark.slow
def test_receipt_of_a_push_verifies_and_reveals_damage(
    registry: DockerRegistry, second: DockerRegistry, mirror: Program
) -> None:
    mirror("pull", registry.publish(DOCKER, "app", "1"), "--all-platforms", "-o", "layout")
    mirror("push", "layout", second.host, "--receipt", "receipt.json")
    assert mirror("verify", "--receipt", "receipt.json", "--json").json["verdict"] == "ok"
    changed = max(DOCKER.blobs, key=lambda digest: len(DOCKER.blobs[digest]))
    second.blob(changed).write_bytes(bytes(len(DOCKER.blobs[changed])))
    found = mirror("verify", "--receipt", "receipt.json", "--json", code=3).json["findings"]
    assert {(finding["kind"], finding["subject"]) for finding in found} == {("corrupt", changed)}


@pytest.mark.slow
def test_refusal_of_the_urls_of_foreign_layers_is_explained(
    registry: DockerRegistry, mirror: Program, tmp_path: Path
) -> None:
    write(tmp_path / "layout", windows("https://mcr.example/x"), name="quay.io/win/app:1")
    refused = mirror("push", "layout", registry.host, "--retries", 0, code=1)
    assert "500" in refused.err
    assert "validation.manifests.urls.allow" in refused.err
