"""Tests of each endpoint for pulls in the OCI distribution specification."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.serve.running import Reply, Server, make_layout, put, running
from tests.support.images import OCI_INDEX, OCI_LAYER, Blob, Image, artifact, config, image, index, manifest, multi_arch

DATA = bytes(range(256)) * 1024
LARGE = Blob.of(DATA, OCI_LAYER)  # sent in units
SMALL = Blob.of(b"small enough to be kept in memory", OCI_LAYER)
EMPTY_FILE = Blob.of(b"", OCI_LAYER)
APP = image("linux/amd64", LARGE, SMALL, EMPTY_FILE)
MULTI = multi_arch()
DOCKER = multi_arch(docker=True)
OTHER = image("linux/arm64", Blob.of(b"of another repository", OCI_LAYER))
NOWHERE = "sha256:" + "0" * 64


def referrer_of(subject: Image, kind: str, text: bytes, **fields: Any) -> Image:
    """An artifact that refers to an image."""
    return artifact(kind, Blob.of(text, "text/plain"), subject=subject.descriptor(), **fields)


SBOM = referrer_of(MULTI, "application/spdx+json", b"sbom", annotations={"made": "today"})
SIGNATURE = referrer_of(MULTI, "application/sig", b"signature")
SBOM_SIGNATURE = referrer_of(SBOM, "application/sig", b"signature of the sbom")
LISTED = index([SBOM, SIGNATURE])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    names = {
        "docker.io/team/app:v1": APP,
        "docker.io/team/multi:v1": MULTI,
        "docker.io/team/docker:v1": DOCKER,
        "docker.io/team/other:v1": OTHER,
        f"docker.io/team/multi:{MULTI.root.replace(':', '-')}": LISTED,
        "docker.io/team/multi:sbom-signature": SBOM_SIGNATURE,
    }
    names |= {f"docker.io/team/tags:{tag}": OTHER for tag in ("b", "A", "a", "B", "1.0", "_x")}
    with running(make_layout(tmp_path_factory.mktemp("serve") / "layout", names)) as found:
        yield found


def blob(server: Server, node: Blob = LARGE, method: str = "GET", **headers: str) -> Reply:
    return server.get(f"/v2/team/app/blobs/{node.digest}", method, **headers)


# The base


@pytest.mark.parametrize("path", ["/v2/", "/v2"])
def test_base_endpoint_is_served(server: Server, path: str) -> None:
    reply = server.get(path)
    assert (reply.status, reply.json) == (200, {})
    assert reply.headers["Docker-Distribution-Api-Version"] == "registry/2.0"


def test_absolute_request_target_is_accepted(server: Server) -> None:
    """RFC 9112, 3.2.2: clients send absolute targets to proxies."""
    assert server.get(f"http://{server.host}/v2/team/app/tags/list").json["tags"] == ["v1"]


# Manifests


@pytest.mark.parametrize("published", [MULTI, DOCKER], ids=["oci", "docker"])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_manifest_is_served_byte_for_byte(server: Server, published: Image, by: str) -> None:
    name = "team/multi" if published is MULTI else "team/docker"
    reply = server.get(f"/v2/{name}/manifests/{'v1' if by == 'tag' else published.root}")
    assert reply.body == published.data
    assert reply.headers["Content-Type"] == published.root_media_type
    assert reply.headers["Docker-Content-Digest"] == published.root
    assert reply.headers["Content-Length"] == str(len(published.data))


def test_children_of_an_index_are_served_by_digest(server: Server) -> None:
    for digest, (data, media_type) in MULTI.manifests.items():
        reply = server.get(f"/v2/team/multi/manifests/{digest}")
        assert (reply.body, reply.headers["Content-Type"]) == (data, media_type)


def test_digest_may_be_percent_encoded(server: Server) -> None:
    assert server.get(f"/v2/team/multi/manifests/{quote(MULTI.root, safe='')}").body == MULTI.data


@pytest.mark.parametrize("reference", ["v1", MULTI.root])
def test_head_of_a_manifest_has_the_headers_of_its_get(server: Server, reference: str) -> None:
    get, head = (server.get(f"/v2/team/multi/manifests/{reference}", method) for method in ("GET", "HEAD"))
    assert (head.status, head.body) == (200, b"")
    assert without_date(head) == without_date(get)


def without_date(reply: Reply) -> dict[str, str]:
    return {name: value for name, value in reply.headers.items() if name != "Date"}


@pytest.mark.parametrize("reference", ["v2", NOWHERE, ".INVALID", "sha512:" + "0" * 128, APP.root, LARGE.digest])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_unknown_manifest_is_404(server: Server, reference: str, method: str) -> None:
    reply = server.get(f"/v2/team/multi/manifests/{reference}", method)
    assert reply.status == 404
    assert method == "HEAD" or reply.code == "MANIFEST_UNKNOWN"


def test_layer_is_not_served_as_a_manifest(server: Server) -> None:
    assert server.get(f"/v2/team/app/manifests/{LARGE.digest}").code == "MANIFEST_UNKNOWN"


@pytest.mark.parametrize("kind", ["manifests", "blobs", "referrers"])
@pytest.mark.parametrize("digest", ["sha256:baddigeststring", "sha256:" + "A" * 64, "sha256:", ":x"])
def test_malformed_digest_is_400(server: Server, kind: str, digest: str) -> None:
    reply = server.get(f"/v2/team/multi/{kind}/{digest}")
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("rest", ["manifests/v1", f"blobs/{NOWHERE}", "tags/list", f"referrers/{NOWHERE}"])
def test_unknown_repository_is_404(server: Server, rest: str) -> None:
    reply = server.get(f"/v2/team/none/{rest}")
    assert (reply.status, reply.code) == (404, "NAME_UNKNOWN")


# Blobs


@pytest.mark.parametrize("node", [LARGE, SMALL, EMPTY_FILE], ids=["large", "small", "empty"])
def test_blob_is_served_byte_for_byte(server: Server, node: Blob) -> None:
    reply = blob(server, node)
    assert (reply.status, reply.body) == (200, node.data)
    assert reply.headers["Docker-Content-Digest"] == node.digest
    assert reply.headers["Content-Type"] == "application/octet-stream"
    assert reply.headers["Content-Length"] == str(node.size)
    assert reply.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("node", [LARGE, SMALL, EMPTY_FILE], ids=["large", "small", "empty"])
def test_head_of_a_blob_has_the_headers_of_its_get(server: Server, node: Blob) -> None:
    head = blob(server, node, "HEAD")
    assert head.body == b""
    assert without_date(head) == without_date(blob(server, node))


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_unknown_blob_is_404(server: Server, method: str) -> None:
    reply = server.get(f"/v2/team/app/blobs/{NOWHERE}", method)
    assert reply.status == 404
    assert method == "HEAD" or reply.code == "BLOB_UNKNOWN"


def test_blob_of_another_repository_is_404(server: Server) -> None:
    digest = next(digest for digest, data in OTHER.blobs.items() if data == b"of another repository")
    assert server.get(f"/v2/team/other/blobs/{digest}").status == 200
    assert server.get(f"/v2/team/app/blobs/{digest}").status == 404


# Ranges

RANGES = {
    "bytes=0-0": (0, 1),
    "bytes=500-1499": (500, 1500),
    "bytes=500-": (500, None),
    "bytes=-500": (-500, None),
    "bytes=0-99999999999999999999": (0, None),
    "bytes=-99999999999999999999": (0, None),
    "Bytes= 5-9": (5, 10),
    f"bytes={len(DATA) - 1}-": (len(DATA) - 1, None),
}


@pytest.mark.parametrize("header", RANGES)
def test_range_is_served(server: Server, header: str) -> None:
    start, end, _ = slice(*RANGES[header]).indices(len(DATA))
    reply = blob(server, Range=header)
    assert (reply.status, reply.body) == (206, DATA[start:end])
    assert reply.headers["Content-Range"] == f"bytes {start}-{end - 1}/{len(DATA)}"
    assert reply.headers["Content-Length"] == str(end - start)
    assert reply.headers["Docker-Content-Digest"] == LARGE.digest


def test_range_of_small_content_is_served(server: Server) -> None:
    assert blob(server, SMALL, Range="bytes=6-11").body == SMALL.data[6:12]


@pytest.mark.parametrize("header", ["bytes=500-0", f"bytes={len(DATA)}-", "bytes=99999999999999999999-", "bytes=-0"])
def test_range_outside_of_the_blob_is_416(server: Server, header: str) -> None:
    reply = blob(server, Range=header)
    assert reply.status == 416
    assert reply.headers["Content-Range"] == f"bytes */{len(DATA)}"


def test_range_of_an_empty_blob_is_416(server: Server) -> None:
    assert blob(server, EMPTY_FILE, Range="bytes=0-").status == 416


@pytest.mark.parametrize(
    "header",
    ["bytes=0-1,5-6", "lines=1-2", "bytes=a-b", "bytes=--5", "bytes=-", "bytes", "bytes=1_0-2_0", "bytes=\u00b2-"],
)
def test_invalid_or_multiple_range_is_ignored(server: Server, header: str) -> None:
    reply = blob(server, Range=header)
    assert (reply.status, reply.body) == (200, DATA)


def test_range_of_a_head_request_is_ignored(server: Server) -> None:
    reply = blob(server, LARGE, "HEAD", Range="bytes=0-0")
    assert (reply.status, reply.headers["Content-Length"]) == (200, str(len(DATA)))


def test_range_is_ignored_unless_if_range_matches(server: Server) -> None:
    tag = f'"{LARGE.digest}"'
    assert blob(server, Range="bytes=0-0", If_Range=tag).status == 206
    for other in ('"sha256:other"', f"W/{tag}", "Wed, 25 Nov 2026 18:57:00 GMT"):
        assert blob(server, Range="bytes=0-0", If_Range=other).status == 200


def test_matching_if_none_match_is_304(server: Server) -> None:
    for header in (f'"{LARGE.digest}"', f'W/"{LARGE.digest}"', f'"x", "{LARGE.digest}"', "*"):
        reply = blob(server, If_None_Match=header)
        assert (reply.status, reply.body) == (304, b"")
        assert reply.headers["ETag"] == f'"{LARGE.digest}"'
    assert blob(server, If_None_Match='"x"').status == 200
    assert server.get("/v2/team/multi/manifests/v1", If_None_Match=f'"{MULTI.root}"').status == 304


# Tags and the catalog

TAGS = ["1.0", "A", "B", "_x", "a", "b"]
NAMES = ["team/app", "team/docker", "team/multi", "team/other", "team/tags"]


def listing(server: Server, query: str, path: str = "team/tags/tags/list", key: str = "tags") -> list[str]:
    found: list[str] = server.get(f"/v2/{path}{query}").json[key]
    return found


def test_tags_are_in_ascii_order(server: Server) -> None:
    assert server.get("/v2/team/tags/tags/list").json == {"name": "team/tags", "tags": TAGS}


@pytest.mark.parametrize("path", ["team/tags/tags/list", "_catalog"])
@pytest.mark.parametrize("size", [1, 2, 3, 6, 7])
def test_link_headers_lead_through_all_pages(server: Server, path: str, size: int) -> None:
    key, whole = ("repositories", NAMES) if path == "_catalog" else ("tags", TAGS)
    found: list[str] = []
    target: str | None = f"/v2/{path}?n={size}"
    while target:
        reply = server.get(target)
        assert len(reply.json[key]) <= size
        found += reply.json[key]
        link = reply.headers.get("Link", "")
        assert not link or link.endswith('>; rel="next"')
        target = link[1:].partition(">")[0] or None
    assert found == whole


def test_last_works_without_n_and_may_be_an_unknown_name(server: Server) -> None:
    assert listing(server, "?last=B") == ["_x", "a", "b"]
    assert listing(server, "?last=AA") == ["B", "_x", "a", "b"]
    assert listing(server, "?last=zzz") == []
    assert listing(server, "?n=1&last=zzz") == []


def test_page_of_size_zero_is_empty_and_has_no_link(server: Server) -> None:
    reply = server.get("/v2/team/tags/tags/list?n=0")
    assert reply.json["tags"] == []
    assert "Link" not in reply.headers


@pytest.mark.parametrize("path", ["/v2/team/tags/tags/list", "/v2/_catalog"])
def test_large_page_size_is_accepted_and_invalid_one_is_400(server: Server, path: str) -> None:
    assert server.get(f"{path}?n=1000000000000").status == 200
    for text in ("-1", "abc", "", "1_0", "%D9%A3", "1.5", "9" * 5000):
        reply = server.get(f"{path}?n={text}")
        assert (reply.status, reply.code) == (400, "UNSUPPORTED")


def test_link_header_escapes_the_query(server: Server) -> None:
    reply = server.get("/v2/_catalog?n=1&x=%3E%0D%0AInjected:%20yes%22&y=%ff")
    assert "Injected" not in reply.headers
    assert reply.headers["Link"].count(">") == 1


# Referrers


def referrers(server: Server, subject: str, query: str = "") -> Reply:
    return server.get(f"/v2/team/multi/referrers/{subject}{query}")


def test_referrers_are_found_below_the_fallback_tag(server: Server) -> None:
    reply = referrers(server, MULTI.root)
    assert reply.headers["Content-Type"] == OCI_INDEX
    assert (reply.json["schemaVersion"], reply.json["mediaType"]) == (2, OCI_INDEX)
    found = {node["digest"]: node for node in reply.json["manifests"]}
    assert found.keys() == {SBOM.root, SIGNATURE.root}
    assert found[SBOM.root]["artifactType"] == "application/spdx+json"
    assert found[SBOM.root]["annotations"] == {"made": "today"}
    assert found[SBOM.root]["size"] == len(SBOM.data)
    assert "OCI-Filters-Applied" not in reply.headers


def test_referrers_of_referrers_are_found(server: Server) -> None:
    assert [node["digest"] for node in referrers(server, SBOM.root).json["manifests"]] == [SBOM_SIGNATURE.root]


def test_referrers_are_filtered_by_artifact_type(server: Server) -> None:
    reply = referrers(server, MULTI.root, "?artifactType=application/sig")
    assert [node["digest"] for node in reply.json["manifests"]] == [SIGNATURE.root]
    assert reply.headers["OCI-Filters-Applied"] == "artifactType"
    assert referrers(server, MULTI.root, "?artifactType=none").json["manifests"] == []


def test_unknown_subject_has_no_referrers(server: Server) -> None:
    reply = referrers(server, NOWHERE)
    assert (reply.status, reply.json["manifests"]) == (200, [])


def test_artifact_type_of_an_image_is_its_config_media_type(tmp_path: Path) -> None:
    bare = manifest(config("linux", "amd64"), [], subject=APP.descriptor())
    of_index = index([OTHER], subject=APP.descriptor())
    names = {"docker.io/a/b:1": APP, "docker.io/a/b:2": bare, "docker.io/a/b:3": of_index}
    with running(make_layout(tmp_path / "layout", names)) as server:
        found = server.get(f"/v2/a/b/referrers/{APP.root}").json["manifests"]
    kinds = {node["digest"]: node.get("artifactType") for node in found}
    assert kinds == {bare.root: "application/vnd.oci.image.config.v1+json", of_index.root: None}


@pytest.mark.slow
def test_large_list_of_referrers_is_paginated(tmp_path: Path) -> None:
    text = "x" * 1_500_000
    some = [referrer_of(APP, "a/b", bytes([number]), annotations={"text": text}) for number in range(5)]
    names = {"docker.io/a/b:1": APP} | {f"docker.io/a/b:r{number}": one for number, one in enumerate(some)}
    found: list[str] = []
    with running(make_layout(tmp_path / "layout", names)) as server:
        target = f"/v2/a/b/referrers/{APP.root}?artifactType=a/b"
        while target:
            reply = server.get(target)
            assert len(reply.body) <= 4 * 1024 * 1024
            assert reply.headers["OCI-Filters-Applied"] == "artifactType"
            found += [node["digest"] for node in reply.json["manifests"]]
            target = reply.headers.get("Link", "")[1:].partition(">")[0]
    assert found == sorted(one.root for one in some)


# Writing


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "team/app/blobs/uploads/"),
        ("PUT", "team/app/manifests/v1"),
        ("PATCH", "team/app/blobs/uploads/1"),
        ("DELETE", "team/app/manifests/v1"),
        ("DELETE", f"team/app/blobs/{LARGE.digest}"),
        ("OPTIONS", ""),
        ("TRACE", "team/app/tags/list"),
    ],
)
def test_methods_other_than_get_and_head_are_405(server: Server, method: str, path: str) -> None:
    reply = server.get(f"/v2/{path}", method)
    assert (reply.status, reply.code) == (405, "UNSUPPORTED")
    assert reply.headers["Allow"] == "GET, HEAD"


def test_upload_with_a_body_receives_405(server: Server) -> None:
    head = f"PUT /v2/team/app/manifests/v1 HTTP/1.1\r\nHost: {server.host}\r\nContent-Length: 300000\r\n"
    answer = server.raw(head.encode() + b"Connection: close\r\n\r\n" + bytes(300_000))
    assert answer.startswith(b"HTTP/1.1 405 ")


def test_referrers_are_found_wherever_a_layout_has_them(tmp_path: Path) -> None:
    layout = make_layout(tmp_path / "layout", {"quay.io/team/multi:v1": MULTI})
    for one in (SIGNATURE, SBOM):
        for digest, data in {**one.blobs, **{name: data for name, (data, _) in one.manifests.items()}}.items():
            put(layout, digest, data)
    with running(layout) as server:
        listed = {node["digest"] for node in referrers(server, MULTI.root).json["manifests"]}
        assert listed == {SIGNATURE.root, SBOM.root}
        assert server.get(f"/v2/team/multi/manifests/{SBOM.root}").body == SBOM.data
        tag = MULTI.root.replace(":", "-")
        listed = {node["digest"] for node in server.get(f"/v2/team/multi/manifests/{tag}").json["manifests"]}
        assert listed == {SIGNATURE.root, SBOM.root}
