"""Tests of the yardsticks: they move and hash everything, and refuse wrong content."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.bench.registry import docker_registry, make_certificate
from tests.peers.programs import needed
from tests.support.images import Remote, image, index, layer
from tests.support.layouts import write

BENCH = Path(__file__).parent
IMAGE = index([image("linux/amd64", layer(1, 3_000_001), layer(2, 500)), image("linux/arm64", layer(3, 1_048_576))])
BLOBS = IMAGE.blobs | {digest: data for digest, (data, _) in IMAGE.manifests.items()}
LAYER = next(digest for digest, data in IMAGE.blobs.items() if len(data) > 3_000_000)
CHILD = next(iter(IMAGE.manifests))


@dataclass(frozen=True)
class Served:
    """An image in a registry that is reached over HTTP and over TLS."""

    urls: dict[str, str]
    storage: Path
    certificate: Path

    def stored(self, digest: str) -> Path:
        name = digest.removeprefix("sha256:")
        return self.storage / "docker/registry/v2/blobs/sha256" / name[:2] / name / "data"

    def has(self, repo: str, digest: str) -> bool:
        """Return whether a repository has a blob."""
        links = self.storage / "docker/registry/v2/repositories" / repo / "_layers"
        return (links / digest.replace(":", "/")).exists()


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    needed("docker-registry")
    root, tls = tmp_path / "registry", tmp_path / "tls"
    make_certificate(tls)
    with ExitStack() as stack:
        plain, secure = (stack.enter_context(docker_registry(root, one)) for one in (None, tls))
        remote = Remote(plain)
        IMAGE.publish(remote, "app", "1")
        remote.close()
        yield Served({"http": f"http://{plain}", "https": f"https://{secure}"}, root / "storage", tls / "certs/ca.crt")


def run(*arguments: object, code: int = 0, script: str = "bare.py", **environment: str) -> str:
    """Run a script, check its exit code, and return what it said on stderr."""
    command = [sys.executable, str(BENCH / script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})
    assert done.returncode == code, done.stderr
    return done.stderr


def contents(layout: Path) -> dict[str, bytes]:
    return {f"sha256:{path.name}": path.read_bytes() for path in (layout / "blobs/sha256").iterdir()}


def change(path: Path) -> None:
    """Change a byte in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_image_is_pulled_and_pushed_completely(tmp_path: Path, served: Served, scheme: str) -> None:
    url, layout = served.urls[scheme], tmp_path / "layout"
    run("pull", f"{url}/app:1", layout, served.certificate)
    assert contents(layout) == BLOBS
    run("push", f"{url}/copy:2", layout, served.certificate)
    run("pull", f"{url}/copy:2", tmp_path / "again", served.certificate)
    assert contents(tmp_path / "again") == BLOBS
    assert (tmp_path / "again/index.json").read_bytes() == (layout / "index.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("digest", [LAYER, CHILD], ids=["layer", "manifest"])
def test_a_pull_of_wrong_content_fails(tmp_path: Path, served: Served, scheme: str, digest: str) -> None:
    change(served.stored(digest))
    said = run("pull", f"{served.urls[scheme]}/app:1", tmp_path / "layout", served.certificate, code=1)
    assert f"{digest} is wrong" in said
    assert digest not in contents(tmp_path / "layout")
    assert not (tmp_path / "layout/index.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_push_of_wrong_content_fails(tmp_path: Path, served: Served, scheme: str) -> None:
    write(tmp_path / "layout", IMAGE)
    change(tmp_path / "layout/blobs" / LAYER.replace(":", "/"))
    said = run("push", f"{served.urls[scheme]}/copy:2", tmp_path / "layout", served.certificate, code=1)
    assert said == f"{LAYER} is wrong\n"
    assert not served.has("copy", LAYER)


@pytest.mark.slow
def test_an_image_that_does_not_exist_is_an_error(tmp_path: Path, served: Served) -> None:
    assert "404" in run("pull", f"{served.urls['http']}/app:2", tmp_path / "layout", code=1)


def test_the_yardstick_is_small() -> None:
    assert len((BENCH / "bare.py").read_text().splitlines()) <= 150


@pytest.mark.slow
def test_wrong_content_of_a_layout_is_found(tmp_path: Path) -> None:
    write(tmp_path / "layout", IMAGE)
    run(tmp_path / "layout", script="hashes.py")
    change(tmp_path / "layout/blobs" / LAYER.replace(":", "/"))
    assert LAYER.removeprefix("sha256:") in run(tmp_path / "layout", script="hashes.py", code=1)


@pytest.mark.slow
def test_each_digest_is_requested_once(tmp_path: Path, served: Served) -> None:
    host = served.urls["http"].removeprefix("http://")
    (tmp_path / "names").write_text(f"{host}/app:1\n{host}/app:1\n")
    run(tmp_path / "names", script="heads.py")
    (tmp_path / "names").write_text(f"{host}/app:1\n{host}/app:2\n")
    assert "app:2: 404" in run(tmp_path / "names", script="heads.py", code=1)


@pytest.mark.slow
def test_the_slow_disk_counts_what_python_syncs(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(f"import os\nos.fsync(os.open({str(tmp_path)!r}, os.O_RDONLY))\n")
    counted = tmp_path / "count"
    run(script=str(tmp_path / "program.py"), PYTHONPATH=str(BENCH / "slow_disk"), FSYNCS=str(counted))
    assert counted.read_bytes() == b"."
