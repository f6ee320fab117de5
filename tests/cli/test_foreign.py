"""Tests of foreign layers: omitted and recorded by default, fetched without credentials with --include-foreign."""

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support import images, layouts, tools
from tests.support.command import Mirror, assert_whole, blob_path, blobs, entries, names, tree
from tests.support.images import Blob, Image
from tests.support.registry import Basic, Bearer, EmbeddedRegistry, Fault, Flip, Redirect, Status, serving

LICENSED = Blob.of(b"licensed " * 50, tools.FOREIGN_LAYER)
OWN = images.layer(1, 200, docker=True)


def windows(*urls: str) -> Image:
    """Return an image with a foreign base layer at these URLs."""
    return tools.docker_20_windows(OWN, LICENSED, *urls)


@pytest.fixture
def host() -> Iterator[EmbeddedRegistry]:
    """Run the host of the foreign layer."""
    with serving(EmbeddedRegistry()) as running:
        running.put_blob("files", LICENSED.data)
        yield running


def url(host: EmbeddedRegistry) -> str:
    return f"{host.url}/v2/files/blobs/{LICENSED.digest}"


def publish(registry: EmbeddedRegistry, *urls: str) -> str:
    windows(*urls).publish(registry, "win", "v1")
    return f"{registry.host}/win:v1"


def write_credentials(mirror: Mirror, *hosts: str) -> None:
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir()
    auth = base64.b64encode(b"me:secret").decode()
    (folder / "config.json").write_text(json.dumps({"auths": {one: {"auth": auth} for one in hosts}}))


def sent_credentials(registry: EmbeddedRegistry) -> bool:
    return any("authorization" in seen.headers for seen in registry.requests)


# Omitted


@pytest.mark.slow
def test_omitted_foreign_layer_is_recorded_and_reported(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry, layout: Path
) -> None:
    name = publish(registry, url(host))
    assert "--include-foreign" in mirror("pull", name, "--all").err
    assert entries(layout)[0]["annotations"]["dev.oci-mirror.foreign"] == LICENSED.digest
    assert LICENSED.digest not in blobs(layout)
    assert host.requests == []
    (finding,) = mirror("verify", "layout", "--json").json["findings"]
    assert (finding["kind"], finding["severity"]) == ("absent", "warning")


# Fetched


@pytest.mark.slow
def test_foreign_layer_is_fetched_from_its_url(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry, layout: Path
) -> None:
    result = mirror("pull", publish(registry, url(host)), "--all", "--include-foreign")
    assert "foreign" not in result.err
    assert blob_path(layout, LICENSED.digest).read_bytes() == LICENSED.data
    assert "dev.oci-mirror.foreign" not in entries(layout)[0]["annotations"]
    assert registry.count("GET", LICENSED.digest) == 0
    assert mirror("verify", "layout", "--json").json["findings"] == []


@pytest.mark.slow
def test_later_pull_without_include_foreign_keeps_the_layer(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry, layout: Path
) -> None:
    name = publish(registry, url(host))
    mirror("pull", name, "--all", "--include-foreign")
    before = tree(layout)
    mirror("pull", name, "--all")
    assert LICENSED.digest in blobs(layout)
    mirror("pull", name, "--all", "--include-foreign")
    assert tree(layout) == before


@pytest.mark.slow
def test_every_url_is_tried(mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry, layout: Path) -> None:
    gone = f"{host.url}/v2/files/blobs/{images.digest_of(b'gone')}"
    bad = ["ftp://127.0.0.1/x", "http://127.0.0.1:9/x", gone, "http://[", "file:///etc/passwd"]
    mirror("pull", publish(registry, *bad, url(host)), "--all", "--include-foreign", "--retries", 9)
    assert LICENSED.digest in blobs(layout)


@pytest.mark.slow
def test_corrupt_layer_is_discarded_and_the_next_url_is_tried(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry, layout: Path
) -> None:
    with serving(EmbeddedRegistry()) as corrupt:
        corrupt.put_blob("files", LICENSED.data)
        corrupt.replace_blob(LICENSED.digest, LICENSED.data[:-1] + b"?")
        name = publish(registry, url(corrupt), url(host))
        mirror("pull", name, "--all", "--include-foreign")
    assert_whole(layout)
    assert LICENSED.digest in blobs(layout)


@pytest.mark.slow
def test_layer_that_is_corrupt_at_its_only_url_is_an_error(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry, layout: Path
) -> None:
    host.fault(Fault(path=LICENSED.digest, times=None, action=Flip(0)))
    assert (
        "does not match its digest"
        in mirror("pull", publish(registry, url(host)), "--all", "--include-foreign", code=3).err
    )
    assert names(layout) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "bad", ["file:///etc/passwd", "ftp://127.0.0.1/x", "", "http://", "//x", "http://a:99999/", "\x1b"]
)
def test_invalid_url_is_refused(mirror: Mirror, registry: EmbeddedRegistry, bad: str) -> None:
    result = mirror("pull", publish(registry, bad), "--all", "--include-foreign", code=1)
    assert "is not an http(s) URL" in result.err


@pytest.mark.slow
def test_foreign_layer_without_urls_is_fetched_from_the_registry(
    mirror: Mirror, registry: EmbeddedRegistry, layout: Path
) -> None:
    name = publish(registry)
    registry.put_blob("win", LICENSED.data)
    mirror("pull", name, "--all", "--include-foreign")
    assert LICENSED.digest in blobs(layout)


# Credentials and redirects


@pytest.mark.slow
def test_host_that_responds_401_gets_no_credentials(mirror: Mirror, layout: Path) -> None:
    """CVE-2020-15157"""
    for auth in (Basic({"me": "secret"}), Bearer({"me": "secret"})):
        with (
            serving(EmbeddedRegistry(auth=Basic({"me": "secret"}))) as registry,
            serving(EmbeddedRegistry(auth=auth)) as host,
        ):
            host.put_blob("files", LICENSED.data)
            mirror.folder.joinpath("home", ".docker").mkdir(exist_ok=True)
            overwrite_credentials(mirror, registry.host, host.host)
            name = publish(registry, url(host))
            assert "401" in mirror("pull", name, "--all", "--include-foreign", code=1).err
            assert sent_credentials(registry)
            assert len(host.requests) == 1
            assert not sent_credentials(host)


def overwrite_credentials(mirror: Mirror, *hosts: str) -> None:
    auth = base64.b64encode(b"me:secret").decode()
    file = Path(mirror.env["DOCKER_CONFIG"]) / "config.json"
    file.write_text(json.dumps({"auths": {one: {"auth": auth} for one in hosts}}))


def test_url_on_the_registry_gets_no_credentials(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Basic({"me": "secret"}))) as registry:
        registry.put_blob("files", LICENSED.data)
        write_credentials(mirror, registry.host)
        name = publish(registry, url(registry))
        assert "401" in mirror("pull", name, "--all", "--include-foreign", code=1).err
        seen = [seen for seen in registry.requests if "/files/" in seen.path]
        assert [("authorization" in one.headers, one.status) for one in seen] == [(False, 401)]


@pytest.mark.slow
def test_redirect_to_the_registry_gets_no_credentials(mirror: Mirror, host: EmbeddedRegistry) -> None:
    with serving(EmbeddedRegistry(auth=Basic({"me": "secret"}))) as registry:
        registry.put_blob("files", LICENSED.data)
        write_credentials(mirror, registry.host)
        host.fault(Fault(path=LICENSED.digest, times=None, action=Redirect(url(registry))))
        assert "401" in mirror("pull", publish(registry, url(host)), "--all", "--include-foreign", code=1).err
        assert not any("authorization" in seen.headers for seen in registry.requests if "/files/" in seen.path)


@pytest.mark.slow
def test_credentials_in_a_url_are_not_sent(mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry) -> None:
    mirror("pull", publish(registry, url(host).replace("//", "//me:secret@")), "--all", "--include-foreign")
    assert not sent_credentials(host)


@pytest.mark.slow
def test_redirect_is_followed_but_not_in_a_loop_or_to_a_file(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry
) -> None:
    host.fault(Fault(path="/old", times=None, action=Redirect(url(host))))
    mirror("pull", publish(registry, f"{host.url}/old"), "--all", "--include-foreign")
    host.fault(Fault(path="/loop", times=None, action=Redirect(f"{host.url}/loop")))
    loop = publish(registry, f"{host.url}/loop")
    assert "redirects" in mirror("pull", loop, "--all", "--include-foreign", "-o", "other", code=1).err
    host.fault(Fault(path="/file", times=None, action=Redirect("file:///etc/passwd")))
    file = publish(registry, f"{host.url}/file")
    assert "is not an http(s) URL" in mirror("pull", file, "--all", "--include-foreign", "-o", "other", code=1).err


@pytest.mark.slow
def test_busy_host_is_retried(mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry, layout: Path) -> None:
    host.fault(Fault(path=LICENSED.digest, action=Status(503)))
    mirror("pull", publish(registry, url(host)), "--all", "--include-foreign")
    assert [seen.status for seen in host.requests] == [503, 200]
    assert blob_path(layout, LICENSED.digest).read_bytes() == LICENSED.data


# Push


@pytest.mark.slow
def test_fetched_foreign_layer_is_not_pushed_and_this_is_reported(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry
) -> None:
    mirror("pull", publish(registry, url(host)), "--all", "--include-foreign")
    with serving(EmbeddedRegistry()) as private:
        result = mirror("push", "layout", private.host)
        assert "1 foreign layer not pushed: such layers stay where they are stored." in result.err
        assert LICENSED.digest not in private.blobs("win")
        assert private.tags("win") == {"v1": windows(url(host)).root}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["push", "copy"])
def test_foreign_layer_is_pushed_on_request(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry, command: str
) -> None:
    name = publish(registry, url(host))
    mirror("pull", name, "--all", "--include-foreign")
    with serving(EmbeddedRegistry()) as private:
        target = private.host if command == "push" else f"docker://{private.host}/win:v1"
        without = mirror(command, "layout", target)
        assert "--include-foreign pushes those that layout has." in without.err
        assert LICENSED.digest not in private.blobs("win")
        result = mirror(command, "layout", target, "--include-foreign")
        assert "foreign" not in result.err
        assert LICENSED.digest in private.blobs("win")
        assert private.tags("win") == {"v1": windows(url(host)).root}


@pytest.mark.slow
def test_foreign_layer_is_copied_from_its_url_to_a_registry_on_request(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry
) -> None:
    name = publish(registry, url(host))
    with serving(EmbeddedRegistry()) as private:
        mirror("copy", f"docker://{name}", f"docker://{private.host}/win:v1", "--include-foreign")
        assert LICENSED.digest in private.blobs("win")


@pytest.mark.slow
def test_foreign_layer_that_the_layout_lacks_is_reported(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry
) -> None:
    mirror("pull", publish(registry, url(host)), "--all")
    with serving(EmbeddedRegistry()) as private:
        result = mirror("push", "layout", private.host, "--include-foreign")
        assert "1 foreign layer not pushed: layout does not have them. Pull the image again" in result.err
        mirror("copy", "layout", f"docker://{private.host}/win:v1", "--include-foreign")


@pytest.mark.slow
def test_image_with_foreign_layers_is_exported_for_docker_if_all_are_there(
    mirror: Mirror, registry: EmbeddedRegistry, host: EmbeddedRegistry, tmp_path: Path
) -> None:
    layered = windows_with_diff_ids(url(host))
    layered.publish(registry, "win", "v1")
    name = f"{registry.host}/win:v1"
    mirror("pull", name, "--all")
    refused = mirror("export", "layout", "a.tar", "--format", "docker-archive", code=2)
    assert "has layers that are stored elsewhere" in refused.err
    assert "Pull it again with --include-foreign" in refused.err
    mirror("pull", name, "--all", "--include-foreign")
    mirror("export", "layout", "a.tar", "--format", "docker-archive")
    assert mirror("verify", "a.tar", "--json").json["findings"] == []
    mirror("import", "a.tar", "back")
    assert LICENSED.digest in blobs(tmp_path / "back")


def windows_with_diff_ids(*urls: str) -> Image:
    """Return an image as `windows`, with a diff_id for each layer."""
    plain = windows(*urls)
    document = json.loads(plain.data)
    config = images.config("windows", "amd64", layers=[replace(LICENSED, diff_id=OWN.diff_id), OWN], docker=True)
    data = images.encode({**document, "config": config.descriptor()})
    root = images.digest_of(data)
    manifests = {root: (data, images.DOCKER_MANIFEST)}
    return Image(root, images.DOCKER_MANIFEST, manifests, {config.digest: config.data, OWN.digest: OWN.data})


@pytest.mark.slow
def test_refusal_of_foreign_urls_is_explained(mirror: Mirror, host: EmbeddedRegistry, tmp_path: Path) -> None:
    """docker-registry 2.8: UNKNOWN unknown error"""
    layouts.write(tmp_path / "layout", windows(url(host)), name="quay.io/win:v1")
    with serving(EmbeddedRegistry()) as private:
        private.fault(Fault(method="PUT", path="/manifests/", times=None, action=Status(500)))
        result = mirror("push", "layout", private.host, "--retries", 0, code=1)
        assert "validation.manifests.urls.allow" in result.err
    layouts.write(tmp_path / "other", images.image("linux/amd64", OWN), name="quay.io/win:v1")
    with serving(EmbeddedRegistry()) as private:
        private.fault(Fault(method="PUT", path="/manifests/", times=None, action=Status(500)))
        assert "urls.allow" not in mirror("push", "other", private.host, "--retries", 0, code=1).err
