"""Tests of pulls from `mirror serve` with other programs and with mirror itself."""

import json
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.peers.layouts import THREE, assert_clean, copied, everything, listed, root, stored
from tests.peers.programs import DockerRegistry, Program, Skopeo, docker_registry, needed
from tests.serve.process import Process, serving
from tests.serve.running import make_layout
from tests.support.images import OCI_LAYER, Blob, Image, artifact, image, layer, multi_arch

pytestmark = pytest.mark.peer

OCI = multi_arch(THREE)
DOCKER = multi_arch(THREE, docker=True)
DATA = bytes(range(256)) * 4096
LARGE = Blob.of(DATA, OCI_LAYER)
BOTH = pytest.mark.parametrize("published", [pytest.param(DOCKER, id="docker"), pytest.param(OCI, id="oci")])
PATHS = {OCI.root: "team/app:oci", DOCKER.root: "team/app:docker"}


@contextmanager
def served(folder: Path, *arguments: object) -> Iterator[Process]:
    command = [str(Path(sysconfig.get_path("scripts"), "mirror")), "serve", *map(str, arguments)]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LANG": "C.UTF-8"}
    with serving([*command, "--listen", "127.0.0.1:0"], folder, environment) as process:
        yield process
        assert process.end() == 0


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    names = {
        "docker.io/team/app:oci": OCI,
        "docker.io/team/app:docker": DOCKER,
        "docker.io/team/large:1": image("linux/amd64", LARGE),
    }
    return make_layout(tmp_path / "served", names)


@pytest.fixture
def host(layout: Path, tmp_path: Path) -> Iterator[str]:
    with served(tmp_path, layout) as process:
        yield process.host


# skopeo


@pytest.mark.slow
@BOTH
def test_skopeo_copies_every_platform_byte_for_byte(
    host: str, skopeo: Skopeo, tmp_path: Path, published: Image
) -> None:
    skopeo.copy(f"docker://{host}/{PATHS[published.root]}", "dir:copy", "--all", "--preserve-digests")
    assert copied(tmp_path / "copy") == everything(published)
    assert root(tmp_path / "copy") == published.root


@pytest.mark.slow
def test_skopeo_inspects_and_lists(host: str, skopeo: Skopeo) -> None:
    assert skopeo("list-tags", "--tls-verify=false", f"docker://{host}/team/app").json["Tags"] == ["docker", "oci"]
    assert skopeo.raw(f"docker://{host}/team/app@{OCI.root}") == OCI.data
    seen = skopeo("inspect", "--tls-verify=false", f"docker://{host}/team/app:oci").json
    assert seen["Digest"] == OCI.root
    assert seen["Architecture"] == "amd64"


@pytest.mark.slow
def test_skopeo_copies_by_full_name(host: str, skopeo: Skopeo, tmp_path: Path) -> None:
    skopeo.copy(f"docker://{host}/docker.io/team/app:oci", "dir:copy", "--all", "--preserve-digests")
    assert root(tmp_path / "copy") == OCI.root


@pytest.mark.slow
def test_push_by_skopeo_is_refused(host: str, skopeo: Skopeo) -> None:
    command = ("copy", "--src-tls-verify=false", "--dest-tls-verify=false")
    source, target = f"docker://{host}/team/app:oci", f"docker://{host}/team/new:1"
    refused = skopeo("--insecure-policy", *command, source, target, code=1)
    assert "405" in refused.err or "read-only" in refused.err


@pytest.mark.slow
def test_layout_of_skopeo_is_served_under_its_directory_name(
    registry: DockerRegistry, skopeo: Skopeo, tmp_path: Path
) -> None:
    registry.publish(OCI, "app", "1")
    skopeo.copy(f"docker://{registry.host}/app:1", "oci:redis:4.0", "--all")
    with served(tmp_path, "redis") as process:
        assert skopeo.raw(f"docker://{process.host}/redis:4.0") == OCI.data


# podman and buildah


@pytest.fixture
def runroot() -> Iterator[str]:
    """A short path, because podman allows at most 50 characters."""
    with tempfile.TemporaryDirectory(prefix="run-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("name", ["podman", "buildah"])
def test_podman_and_buildah_pull(host: str, tmp_path: Path, runroot: str, name: str) -> None:
    flags = ("--root", tmp_path / "root", "--runroot", runroot, "--storage-driver", "vfs")
    engine = Program((needed(name),), tmp_path)
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    pull = ("pull", "--tls-verify=false", "--signature-policy", policy)
    try:
        pulled = engine(*flags, *pull, f"{host}/team/app:oci")
    except AssertionError as error:
        if any(text in str(error) for text in ("operation not permitted", "cannot clone", "namespace")):
            pytest.skip(f"the kernel does not let {name} run here")
        raise
    inspected = engine(*flags, "inspect", "--type", "image", f"{host}/team/app:oci").json
    amd64 = next(child for child in json.loads(OCI.data)["manifests"] if child["platform"]["architecture"] == "amd64")
    configuration = json.loads(OCI.manifests[amd64["digest"]][0])["config"]["digest"]
    assert pulled.out.strip().splitlines()[-1] == configuration.removeprefix("sha256:")
    assert OCI.root in json.dumps(inspected) or amd64["digest"] in json.dumps(inspected)


# docker-registry as a pull-through cache


@pytest.fixture
def cache(host: str, tmp_path: Path) -> Iterator[DockerRegistry]:
    with docker_registry(tmp_path / "cache", proxy={"remoteurl": f"http://{host}"}) as running:
        yield running


@pytest.mark.slow
@BOTH
def test_docker_registry_caches_served_images(
    cache: DockerRegistry, skopeo: Skopeo, tmp_path: Path, published: Image
) -> None:
    for folder in ("first", "second"):
        skopeo.copy(f"docker://{cache.host}/{PATHS[published.root]}", f"dir:{folder}", "--all", "--preserve-digests")
        assert copied(tmp_path / folder) == everything(published)


# curl


@pytest.fixture
def curl(tmp_path: Path) -> Program:
    return Program((needed("curl"), "-sS"), tmp_path)


@pytest.mark.slow
def test_curl_fetches_ranges(host: str, curl: Program) -> None:
    url = f"http://{host}/v2/team/large/blobs/{LARGE.digest}"
    assert curl("-f", url).raw == DATA
    assert curl("-f", "-r", "100-199", url).raw == DATA[100:200]
    assert curl("-f", "-r", "-100", url).raw == DATA[-100:]
    assert curl("-f", "-r", "0-9,20-29", url).raw == DATA
    assert curl("-o", "/dev/null", "-w", "%{http_code}", "-r", f"{len(DATA)}-", url).out == "416"


@pytest.mark.slow
def test_curl_resumes(host: str, curl: Program, tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(DATA[:500_000])
    curl("-f", "-C", "-", "-o", "part", f"http://{host}/v2/team/large/blobs/{LARGE.digest}")
    assert (tmp_path / "part").read_bytes() == DATA


# mirror


@pytest.mark.slow
@BOTH
def test_mirror_pulls_what_it_serves(host: str, mirror: Program, tmp_path: Path, published: Image) -> None:
    mirror("pull", f"{host}/{PATHS[published.root]}", "--all-platforms", "-o", "again")
    assert_clean(mirror, "again")
    assert stored(tmp_path / "again") == everything(published)
    assert listed(mirror, "again") == {f"{host}/{PATHS[published.root]}": published.root}


@pytest.mark.slow
def test_mirror_pulls_over_tls_with_a_password(mirror: Program, layout: Path, tmp_path: Path) -> None:
    from tests.support.certificate import self_signed

    self_signed(tmp_path / "server.pem", "localhost")
    htpasswd = Program((needed("htpasswd"),), tmp_path)
    (tmp_path / "users").write_bytes(htpasswd("-Bbn", "ann", "secret").raw)
    with served(tmp_path, layout, "--cert", "server.pem", "--htpasswd", "users") as process:
        auths = {"auths": {process.host: {"auth": "YW5uOnNlY3JldA=="}}}
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker/config.json").write_text(json.dumps(auths))
        env = {"DOCKER_CONFIG": str(tmp_path / "docker"), "SSL_CERT_FILE": "server.pem"}
        pull = ("pull", f"{process.host}/team/app:oci", "--all-platforms", "-o", "again")
        mirror(*pull, env={"SSL_CERT_FILE": "server.pem"}, code=1)
        mirror(*pull, env=env)
    assert stored(tmp_path / "again") == everything(OCI)


@pytest.mark.slow
def test_artifacts_are_served_to_skopeo(skopeo: Skopeo, tmp_path: Path) -> None:
    chart = artifact("application/vnd.cncf.helm.chart", layer(1, 500))
    with served(tmp_path, make_layout(tmp_path / "served", {"docker.io/team/chart:1": chart})) as process:
        assert skopeo.raw(f"docker://{process.host}/team/chart:1") == chart.data
