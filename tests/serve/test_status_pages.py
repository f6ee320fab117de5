"""Tests of /healthz and /metrics."""

import math
import re
from base64 import b64encode
from pathlib import Path

import bcrypt
import pytest

from tests.serve.running import Server, blob_path, make_layout, replace_file, running
from tests.support.images import OCI_LAYER, Blob, image

LARGE, SMALL = Blob.of(bytes(200_000), OCI_LAYER), Blob.of(b"small", OCI_LAYER)


@pytest.fixture
def layout(tmp_path: Path) -> Path:
    return make_layout(tmp_path / "layout", {"docker.io/a/b:1": image("linux/amd64", LARGE, SMALL)})


def metrics(server: Server) -> dict[str, int]:
    reply = server.get("/metrics")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    lines = reply.body.decode().splitlines()
    assert reply.body.endswith(b"\n")
    return {name: int(number) for name, _, number in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_metrics_count_requests_bytes_hashed_blobs_and_refusals(layout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirror.fs.filestate._COARSEST", math.inf)  # each request hashes the blob
    with running(layout) as server:
        assert metrics(server) == {"mirror_serve_sent_bytes_total": 0}
        first = len(server.get("/metrics").body)
        for _ in range(2):
            server.get(f"/v2/a/b/blobs/{SMALL.digest}")
            server.get(f"/v2/a/b/blobs/{SMALL.digest}", "HEAD")
        server.get("/v2/a/b/manifests/nowhere")
        server.get("/v2/", "PUT")
        replace_file(blob_path(layout, SMALL.digest), b"wrong")
        server.get(f"/v2/a/b/blobs/{SMALL.digest}")
        found = metrics(server)
    assert found['mirror_serve_requests_total{method="GET",status="200"}'] == 4
    assert found['mirror_serve_requests_total{method="HEAD",status="200"}'] == 2
    assert found['mirror_serve_requests_total{method="other",status="405"}'] == 1
    assert found['mirror_serve_blobs_hashed_total{result="ok"}'] == 4
    assert found['mirror_serve_blobs_hashed_total{result="corrupt"}'] == 1
    reasons = {name: number for name, number in found.items() if "refusals" in name}
    assert reasons == {
        f'mirror_serve_refusals_total{{reason="{one}"}}': 1 for one in ("unknown", "read_only", "bad_content")
    }
    assert found["mirror_serve_sent_bytes_total"] >= first + 2 * SMALL.size


@pytest.mark.parametrize(("coarsest", "hashed"), [(0.0, 1), (math.inf, 3)])
def test_a_blob_that_is_served_again_is_hashed_again_only_if_its_file_is_recent(
    layout: Path, monkeypatch: pytest.MonkeyPatch, coarsest: float, hashed: int
) -> None:
    monkeypatch.setattr("mirror.fs.filestate._COARSEST", coarsest)
    with running(layout) as server:
        for _ in range(3):
            assert server.get(f"/v2/a/b/blobs/{LARGE.digest}").body == LARGE.data
        assert metrics(server)['mirror_serve_blobs_hashed_total{result="ok"}'] == hashed


def test_every_metric_is_described(layout: Path) -> None:
    with running(layout) as server:
        text = server.get("/metrics").body.decode()
    families = re.findall(r"^# TYPE (\S+) counter$", text, re.MULTILINE)
    assert families == re.findall(r"^# HELP (\S+) \S.*\.$", text, re.MULTILINE)
    assert len(families) == 4


def test_clients_cannot_add_labels(layout: Path) -> None:
    with running(layout) as server:
        before = metrics(server).keys()
        for method in ("PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
            server.get("/v2/", method)
        added = {name.rpartition("{")[2] for name in metrics(server).keys() - before if "requests" in name}
    assert added == {'method="GET",status="200"}', 'method="other",status="405"}'}


def test_health_follows_index_json(layout: Path) -> None:
    with running(layout) as server:
        assert (server.get("/healthz").status, server.get("/healthz", "HEAD").status) == (200, 200)
        whole = (layout / "index.json").read_bytes()
        replace_file(layout / "index.json", b"{")
        assert server.get("/healthz").status == 503
        replace_file(layout / "index.json", whole)
        assert server.get("/healthz?probe=1").body == b"ok\n"


def test_metrics_need_the_password_and_health_does_not(layout: Path, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_bytes(b"ann:" + bcrypt.hashpw(b"password", bcrypt.gensalt(4)) + b"\n")
    with running(layout, htpasswd=users) as server:
        assert server.get("/healthz").status == 200
        assert server.get("/metrics").status == 401
        login = "Basic " + b64encode(b"ann:password").decode()
        reply = server.get("/metrics", Authorization=login)
        assert b'refusals_total{reason="unauthorized"} 1\n' in reply.body


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_status_pages_accept_only_reads_and_are_not_repositories(layout: Path, path: str) -> None:
    with running(layout) as server:
        assert server.get(path, "POST").status == 404
        assert server.get(f"{path}/").status == 404
        assert server.get(f"/v2{path}").status == 404
