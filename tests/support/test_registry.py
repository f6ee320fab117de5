"""The embedded registry: it keeps the distribution specification, and its faults are what they say."""

import asyncio
import base64
import http.client
import json
import logging
import re
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.support import images
from tests.support.registry import (
    Basic,
    Bearer,
    Chunked,
    Cut,
    EmbeddedRegistry,
    Extend,
    Fault,
    Flip,
    Header,
    Redirect,
    RequestHeader,
    Reset,
    Stall,
    Status,
    Truncate,
    serving,
)
from tests.support.registry.faults import Action
from tests.support.registry.storage import digest_of

DATA = b"0123456789" * 10
DIGEST = digest_of(DATA)
BLOB = f"/v2/a/b/blobs/{DIGEST}"
TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class Reply:
    def __init__(self, response: http.client.HTTPResponse, body: bytes) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def location(self) -> str:
        return self.headers["Location"]

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["errors"][0]["code"])


def ask(registry: EmbeddedRegistry, method: str, target: str, body: bytes | None = None, **headers: str) -> Reply:
    """One request on a connection of its own; `Content_Type="…"` names a header."""
    connection = http.client.HTTPConnection(registry.host, timeout=5)
    try:
        target = target.removeprefix(registry.url)
        connection.request(method, target, body, {name.replace("_", "-"): of for name, of in headers.items()})
        response = connection.getresponse()
        return Reply(response, response.read())
    finally:
        connection.close()


@pytest.fixture
def registry() -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry()) as running:
        yield running


@pytest.fixture(params=["memory", "folder"])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[EmbeddedRegistry]:
    """A registry of each kind of storage that holds DATA in a/b."""
    with serving(EmbeddedRegistry(tmp_path if request.param == "folder" else None)) as running:
        running.put_blob("a/b", DATA)
        yield running


def start_upload(registry: EmbeddedRegistry, repo: str = "a/b") -> str:
    return ask(registry, "POST", f"/v2/{repo}/blobs/uploads/").location


def upload(registry: EmbeddedRegistry, data: bytes, digest: str) -> Reply:
    return ask(registry, "PUT", f"{start_upload(registry)}&digest={digest}", data)


def manifest_of(*layers: str) -> bytes:
    return json.dumps({"schemaVersion": 2, "layers": [{"digest": layer} for layer in layers]}).encode()


# Blobs


def test_base_answers(registry: EmbeddedRegistry) -> None:
    assert ask(registry, "GET", "/v2/").status == 200


def test_blob_is_served(stored: EmbeddedRegistry) -> None:
    assert ask(stored, "GET", BLOB).body == DATA


def test_blob_names_its_digest(stored: EmbeddedRegistry) -> None:
    assert ask(stored, "GET", BLOB).headers["Docker-Content-Digest"] == DIGEST


def test_head_has_the_length_and_no_body(stored: EmbeddedRegistry) -> None:
    reply = ask(stored, "HEAD", BLOB)
    assert (reply.headers["Content-Length"], reply.body) == ("100", b"")


def test_empty_blob_is_served(stored: EmbeddedRegistry) -> None:
    digest = stored.put_blob("a/b", b"")
    assert ask(stored, "GET", f"/v2/a/b/blobs/{digest}").body == b""


def test_sha512_blob_is_served(stored: EmbeddedRegistry) -> None:
    digest = stored.put_blob("a/b", DATA, "sha512")
    assert ask(stored, "GET", f"/v2/a/b/blobs/{digest}").body == DATA


def test_unknown_blob_is_404(registry: EmbeddedRegistry) -> None:
    reply = ask(registry, "GET", BLOB)
    assert (reply.status, reply.code) == (404, "BLOB_UNKNOWN")


def test_blob_of_another_repository_is_404(stored: EmbeddedRegistry) -> None:
    assert ask(stored, "GET", f"/v2/other/blobs/{DIGEST}").status == 404


def test_bad_digest_is_refused(registry: EmbeddedRegistry) -> None:
    assert ask(registry, "GET", "/v2/a/blobs/sha256:ABC").code == "DIGEST_INVALID"


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=10-", 10, 100), ("bytes=10-19", 10, 20), ("bytes=-5", 95, 100), ("bytes=90-500", 90, 100)],
)
def test_range_is_206(stored: EmbeddedRegistry, wanted: str, start: int, stop: int) -> None:
    reply = ask(stored, "GET", BLOB, Range=wanted)
    content_range = f"bytes {start}-{stop - 1}/100"
    assert (reply.status, reply.headers["Content-Range"], reply.body) == (
        206,
        content_range,
        DATA[start:stop],
    )


def test_range_past_the_end_is_416(stored: EmbeddedRegistry) -> None:
    reply = ask(stored, "GET", BLOB, Range="bytes=100-")
    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */100")


def test_several_ranges_are_ignored(stored: EmbeddedRegistry) -> None:
    assert ask(stored, "GET", BLOB, Range="bytes=0-1,4-5").status == 200


def test_deleted_blob_is_404(stored: EmbeddedRegistry) -> None:
    assert ask(stored, "DELETE", BLOB).status == 202
    assert ask(stored, "GET", BLOB).status == 404


def test_replaced_blob_has_wrong_bytes(stored: EmbeddedRegistry) -> None:
    stored.replace_blob(DIGEST, b"wrong")
    assert ask(stored, "GET", BLOB).body == b"wrong"


# Uploads


def test_put_stores_the_blob(stored: EmbeddedRegistry) -> None:
    digest = digest_of(b"new")
    assert upload(stored, b"new", digest).status == 201
    assert stored.get_blob("a/b", digest) == b"new"


def test_put_with_sha512_stores_the_blob(stored: EmbeddedRegistry) -> None:
    digest = digest_of(b"new", "sha512")
    assert upload(stored, b"new", digest).status == 201
    assert stored.get_blob("a/b", digest) == b"new"


def test_put_with_wrong_digest_is_refused(stored: EmbeddedRegistry) -> None:
    reply = upload(stored, b"new", digest_of(b"old"))
    assert (reply.status, reply.code) == (400, "DIGEST_INVALID")


def test_refused_blob_is_not_kept(stored: EmbeddedRegistry) -> None:
    upload(stored, b"new", digest_of(b"old"))
    assert stored.blobs("a/b") == {DIGEST}


def test_post_with_digest_stores_at_once(registry: EmbeddedRegistry) -> None:
    reply = ask(registry, "POST", f"/v2/a/b/blobs/uploads/?digest={DIGEST}", DATA)
    assert (reply.status, reply.location) == (201, BLOB)


def test_mount_links_a_blob(stored: EmbeddedRegistry) -> None:
    reply = ask(stored, "POST", f"/v2/c/blobs/uploads/?mount={DIGEST}&from=a/b")
    assert (reply.status, stored.blobs("c")) == (201, {DIGEST})


def test_mount_of_an_unknown_blob_starts_an_upload(registry: EmbeddedRegistry) -> None:
    reply = ask(registry, "POST", f"/v2/c/blobs/uploads/?mount={DIGEST}&from=a/b")
    assert reply.status == 202
    assert "/v2/c/blobs/uploads/" in reply.location


def test_chunks_make_a_blob(stored: EmbeddedRegistry) -> None:
    first = ask(stored, "PATCH", start_upload(stored), b"ab", Content_Range="0-1")
    second = ask(stored, "PATCH", first.location, b"cd", Content_Range="2-3")
    assert second.headers["Range"] == "0-3"
    assert ask(stored, "PUT", f"{second.location}&digest={digest_of(b'abcde')}", b"e").status == 201


def test_chunk_out_of_order_is_416(registry: EmbeddedRegistry) -> None:
    reply = ask(registry, "PATCH", start_upload(registry), b"ab", Content_Range="5-6")
    assert (reply.status, reply.headers["Range"]) == (416, "0-0")


def test_old_location_is_refused(registry: EmbeddedRegistry) -> None:
    location = start_upload(registry)
    ask(registry, "PATCH", location, b"ab")
    assert ask(registry, "PATCH", location, b"cd").code == "BLOB_UPLOAD_INVALID"


def test_location_without_its_query_is_refused(registry: EmbeddedRegistry) -> None:
    location = start_upload(registry).partition("?")[0]
    assert ask(registry, "PUT", f"{location}?digest={DIGEST}", DATA).status == 400


def test_status_tells_what_has_arrived(registry: EmbeddedRegistry) -> None:
    location = ask(registry, "PATCH", start_upload(registry), b"abc").location
    reply = ask(registry, "GET", location)
    assert (reply.status, reply.headers["Range"]) == (204, "0-2")


def test_deleted_upload_is_unknown(registry: EmbeddedRegistry) -> None:
    location = start_upload(registry)
    assert ask(registry, "DELETE", location).status == 204
    assert ask(registry, "GET", location).code == "BLOB_UPLOAD_UNKNOWN"


def test_locations_are_absolute(registry: EmbeddedRegistry) -> None:
    assert start_upload(registry).startswith(f"{registry.url}/v2/")


def test_locations_are_relative_on_request() -> None:
    with serving(EmbeddedRegistry(relative_locations=True)) as registry:
        assert start_upload(registry).startswith("/v2/")


def test_read_only_registry_refuses_uploads() -> None:
    with serving(EmbeddedRegistry(read_only=True)) as registry:
        assert ask(registry, "POST", "/v2/a/blobs/uploads/").status == 405


# Manifests


def test_manifest_is_stored_by_tag(stored: EmbeddedRegistry) -> None:
    data = manifest_of(DIGEST)
    reply = ask(stored, "PUT", "/v2/a/b/manifests/v1", data, Content_Type=TYPE)
    assert (reply.status, stored.get_manifest("a/b", "v1")) == (201, (data, TYPE))


@pytest.mark.parametrize("reference", ["v1", digest_of(manifest_of())])
def test_manifest_is_served_by_tag_and_digest(stored: EmbeddedRegistry, reference: str) -> None:
    digest = stored.put_manifest("a/b", "v1", manifest_of(), TYPE)
    reply = ask(stored, "GET", f"/v2/a/b/manifests/{reference}")
    assert (reply.body, reply.headers["Content-Type"]) == (manifest_of(), TYPE)
    assert reply.headers["Docker-Content-Digest"] == digest


def test_manifest_with_wrong_digest_is_refused(registry: EmbeddedRegistry) -> None:
    reply = ask(registry, "PUT", f"/v2/a/b/manifests/{DIGEST}", manifest_of(), Content_Type=TYPE)
    assert reply.code == "DIGEST_INVALID"


def test_manifest_without_its_layer_is_refused(registry: EmbeddedRegistry) -> None:
    reply = ask(registry, "PUT", "/v2/a/b/manifests/v1", manifest_of(DIGEST), Content_Type=TYPE)
    assert (reply.status, reply.code) == (400, "MANIFEST_BLOB_UNKNOWN")


def test_index_without_its_child_is_refused(registry: EmbeddedRegistry) -> None:
    index = json.dumps({"manifests": [{"digest": DIGEST}]}).encode()
    reply = ask(registry, "PUT", "/v2/a/b/manifests/v1", index, Content_Type=INDEX_TYPE)
    assert reply.code == "MANIFEST_BLOB_UNKNOWN"


def test_lax_registry_takes_a_manifest_without_its_layer() -> None:
    with serving(EmbeddedRegistry(strict=False)) as registry:
        reply = ask(registry, "PUT", "/v2/a/b/manifests/v1", manifest_of(DIGEST), Content_Type=TYPE)
    assert reply.status == 201


def test_manifest_of_another_type_than_it_says_is_refused(registry: EmbeddedRegistry) -> None:
    data = json.dumps({"mediaType": INDEX_TYPE}).encode()
    assert ask(registry, "PUT", "/v2/a/manifests/v1", data, Content_Type=TYPE).code == "MANIFEST_INVALID"


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"layers": 1}', b'{"config": {}}'])
def test_nonsense_is_no_manifest(registry: EmbeddedRegistry, data: bytes) -> None:
    assert ask(registry, "PUT", "/v2/a/manifests/v1", data, Content_Type=TYPE).code == "MANIFEST_INVALID"


def test_bad_tag_is_refused(registry: EmbeddedRegistry) -> None:
    assert ask(registry, "PUT", "/v2/a/manifests/-v1", b"{}", Content_Type=TYPE).code == "TAG_INVALID"


def test_unknown_manifest_is_404(stored: EmbeddedRegistry) -> None:
    assert ask(stored, "GET", "/v2/a/b/manifests/v1").code == "MANIFEST_UNKNOWN"


def test_deleting_a_tag_keeps_the_manifest(registry: EmbeddedRegistry) -> None:
    digest = registry.put_manifest("a", "v1", b"{}", TYPE)
    assert ask(registry, "DELETE", "/v2/a/manifests/v1").status == 202
    assert (registry.tags("a"), registry.manifests("a")) == ({}, {digest})


def test_deleting_a_manifest_deletes_its_tags(registry: EmbeddedRegistry) -> None:
    digest = registry.put_manifest("a", "v1", b"{}", TYPE)
    ask(registry, "DELETE", f"/v2/a/manifests/{digest}")
    assert (registry.tags("a"), registry.manifests("a")) == ({}, set())


# Lists


def test_tags_are_listed_in_order(registry: EmbeddedRegistry) -> None:
    for tag in ("b", "c", "a"):
        registry.put_manifest("x", tag, b"{}", TYPE)
    assert json.loads(ask(registry, "GET", "/v2/x/tags/list").body) == {"name": "x", "tags": ["a", "b", "c"]}


def test_tags_are_listed_in_pages() -> None:
    with serving(EmbeddedRegistry(page=2)) as registry:
        for tag in ("a", "b", "c"):
            registry.put_manifest("x", tag, b"{}", TYPE)
        first = ask(registry, "GET", "/v2/x/tags/list?n=5")
        link = re.fullmatch(r'<(.*)>; rel="next"', first.headers["Link"])
        assert link is not None
        second = ask(registry, "GET", link[1])
    assert json.loads(second.body)["tags"] == ["c"]
    assert second.headers["Link"] is None


def referring(subject: str, kind: str) -> bytes:
    document = {"schemaVersion": 2, "mediaType": TYPE, "artifactType": kind, "layers": [], "annotations": {"a": kind}}
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest_of(b"{}"), "size": 2}
    about = {"mediaType": TYPE, "digest": subject, "size": 1}
    return json.dumps({**document, "config": empty, "subject": about}).encode()


def referrers_of(registry: EmbeddedRegistry, query: str = "") -> tuple[list[str], Reply]:
    reply = ask(registry, "GET", f"/v2/a/b/referrers/{DIGEST}{query}")
    return [node["artifactType"] for node in json.loads(reply.body)["manifests"]], reply


def test_referrers_are_listed_with_types_and_annotations() -> None:
    with serving(EmbeddedRegistry(referrers=True)) as registry:
        data = referring(DIGEST, "x/y")
        registry.put_manifest("a/b", None, data, TYPE)
        reply = ask(registry, "GET", f"/v2/a/b/referrers/{DIGEST}")
        assert reply.headers["Content-Type"] == INDEX_TYPE
        (node,) = json.loads(reply.body)["manifests"]
        assert (node["digest"], node["size"]) == (digest_of(data), len(data))
        assert (node["artifactType"], node["annotations"]) == ("x/y", {"a": "x/y"})
        assert referrers_of(registry)[0] == ["x/y"]


def test_referrers_of_what_is_not_there_are_an_empty_list() -> None:
    with serving(EmbeddedRegistry(referrers=True)) as registry:
        assert referrers_of(registry)[0] == []


@pytest.mark.parametrize(("filters", "found"), [(True, ["x/y"]), (False, ["a/b", "x/y"])])
def test_referrers_are_filtered_where_the_registry_can(filters: bool, found: list[str]) -> None:
    with serving(EmbeddedRegistry(referrers=True, filters=filters)) as registry:
        for kind in ("x/y", "a/b"):
            registry.put_manifest("a/b", None, referring(DIGEST, kind), TYPE)
        kinds, reply = referrers_of(registry, "?artifactType=x/y")
        assert (sorted(kinds), reply.headers.get("OCI-Filters-Applied")) == (found, "artifactType" if filters else None)


def test_referrers_come_in_pages() -> None:
    with serving(EmbeddedRegistry(referrers=True, page=2)) as registry:
        for number in range(3):
            registry.put_manifest("a/b", None, referring(DIGEST, f"x/{number}"), TYPE)
        first, reply = referrers_of(registry)
        link = re.fullmatch(r'<(.*)>; rel="next"', reply.headers["Link"])
        assert link
        second = json.loads(ask(registry, "GET", link[1]).body)["manifests"]
        assert sorted([*first, *(node["artifactType"] for node in second)]) == ["x/0", "x/1", "x/2"]


@pytest.mark.parametrize("api", [True, False])
def test_a_subject_is_acknowledged_where_there_is_the_api(api: bool) -> None:
    with serving(EmbeddedRegistry(referrers=api)) as registry:
        registry.put_blob("a/b", b"{}")
        data = referring(DIGEST, "x/y")
        reply = ask(registry, "PUT", f"/v2/a/b/manifests/{digest_of(data)}", data, Content_Type=TYPE)
        assert (reply.status, reply.headers.get("OCI-Subject")) == (201, DIGEST if api else None)
        assert ask(registry, "GET", f"/v2/a/b/referrers/{DIGEST}").status == (200 if api else 404)


@pytest.mark.parametrize("dashes", [True, False])
def test_a_tag_of_a_digest_is_that_digest_only_at_gitlab(dashes: bool) -> None:
    with serving(EmbeddedRegistry(dashes=dashes)) as registry:
        digest = registry.put_manifest("a/b", None, referring(DIGEST, "x/y"), TYPE)
        reply = ask(registry, "GET", f"/v2/a/b/manifests/{digest.replace(':', '-')}")
        assert reply.status == (200 if dashes else 404)


def test_catalog_lists_repositories(stored: EmbeddedRegistry) -> None:
    assert json.loads(ask(stored, "GET", "/v2/_catalog").body) == {"repositories": ["a/b"]}


def test_tags_of_an_unknown_repository_are_404(registry: EmbeddedRegistry) -> None:
    assert ask(registry, "GET", "/v2/x/tags/list").code == "NAME_UNKNOWN"


def test_other_paths_are_404(registry: EmbeddedRegistry) -> None:
    assert ask(registry, "GET", "/v2/Upper/tags/list").status == 404


# The folder


def test_folder_outlives_the_registry(tmp_path: Path) -> None:
    EmbeddedRegistry(tmp_path).put_manifest("a", "v1", b"{}", TYPE)
    assert EmbeddedRegistry(tmp_path).get_manifest("a", "v1") == (b"{}", TYPE)


def test_folder_keeps_no_unfinished_upload(tmp_path: Path) -> None:
    with serving(EmbeddedRegistry(tmp_path)) as registry:
        ask(registry, "PATCH", start_upload(registry), b"abc")
    assert list((tmp_path / "blobs").iterdir()) == []


# Authentication


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def token(registry: EmbeddedRegistry, *scopes: str, **headers: str) -> str:
    query = "&".join(f"scope={scope}" for scope in scopes)
    reply = ask(registry, "GET", f"/token?service=embedded&{query}", None, **headers)
    return "Bearer " + str(json.loads(reply.body)["token"])


@pytest.fixture
def bearer() -> Bearer:
    return Bearer({"ann": "secret"}, anonymous_pull=True)


@pytest.fixture
def guarded(bearer: Bearer) -> Iterator[EmbeddedRegistry]:
    with serving(EmbeddedRegistry(auth=bearer)) as running:
        running.put_blob("a/b", DATA)
        yield running


def test_basic_challenges() -> None:
    with serving(EmbeddedRegistry(auth=Basic({"ann": "secret"}))) as registry:
        reply = ask(registry, "GET", "/v2/")
    assert (reply.status, reply.headers["WWW-Authenticate"]) == (401, 'Basic realm="embedded"')


@pytest.mark.parametrize(("password", "status"), [("secret", 200), ("wrong", 401), ("", 401)])
def test_basic_checks_the_password(password: str, status: int) -> None:
    with serving(EmbeddedRegistry(auth=Basic({"ann": "secret"}))) as registry:
        assert ask(registry, "GET", "/v2/", Authorization=basic("ann", password)).status == status


def test_bearer_challenge_names_realm_service_and_scope(guarded: EmbeddedRegistry) -> None:
    challenge = f'Bearer realm="{guarded.url}/token",service="embedded",scope="repository:a/b:pull"'
    assert ask(guarded, "GET", BLOB).headers["WWW-Authenticate"] == challenge


def test_anonymous_token_pulls(guarded: EmbeddedRegistry) -> None:
    pull = token(guarded, "repository:a/b:pull")
    assert ask(guarded, "GET", BLOB, Authorization=pull).body == DATA


def test_anonymous_token_does_not_push(guarded: EmbeddedRegistry) -> None:
    push = token(guarded, "repository:a/b:pull,push")
    reply = ask(guarded, "POST", "/v2/a/b/blobs/uploads/", Authorization=push)
    assert 'scope="repository:a/b:pull,push",error="insufficient_scope"' in reply.headers["WWW-Authenticate"]


def test_anonymous_token_can_be_forbidden(guarded: EmbeddedRegistry, bearer: Bearer) -> None:
    bearer.anonymous_pull = False
    assert ask(guarded, "GET", "/token?scope=repository:a/b:pull").status == 401


def test_token_of_a_user_pushes(guarded: EmbeddedRegistry) -> None:
    push = token(guarded, "repository:a/b:pull,push", Authorization=basic("ann", "secret"))
    assert ask(guarded, "POST", "/v2/a/b/blobs/uploads/", Authorization=push).status == 202


def test_wrong_password_gets_no_token(guarded: EmbeddedRegistry) -> None:
    assert ask(guarded, "GET", "/token", Authorization=basic("ann", "wrong")).status == 401


def test_token_grants_nothing_else(guarded: EmbeddedRegistry) -> None:
    other = token(guarded, "repository:other:pull")
    assert ask(guarded, "GET", BLOB, Authorization=other).status == 401


def test_mount_needs_pull_on_its_source(guarded: EmbeddedRegistry) -> None:
    push = token(guarded, "repository:c:pull,push", Authorization=basic("ann", "secret"))
    reply = ask(guarded, "POST", f"/v2/c/blobs/uploads/?mount={DIGEST}&from=a/b", Authorization=push)
    assert 'scope="repository:c:pull,push repository:a/b:pull"' in reply.headers["WWW-Authenticate"]


def test_one_token_has_several_scopes(guarded: EmbeddedRegistry) -> None:
    both = token(
        guarded,
        "repository:c:pull,push",
        "repository:a/b:pull",
        Authorization=basic("ann", "secret"),
    )
    target = f"/v2/c/blobs/uploads/?mount={DIGEST}&from=a/b"
    assert ask(guarded, "POST", target, Authorization=both).status == 201


def test_token_expires(guarded: EmbeddedRegistry, bearer: Bearer) -> None:
    bearer.expires_in = 0
    assert ask(guarded, "GET", BLOB, Authorization=token(guarded, "repository:a/b:pull")).status == 401


def test_tokens_expire_on_request(guarded: EmbeddedRegistry, bearer: Bearer) -> None:
    pull = token(guarded, "repository:a/b:pull")
    bearer.expire()
    assert 'error="invalid_token"' in ask(guarded, "GET", BLOB, Authorization=pull).headers["WWW-Authenticate"]


def test_token_is_not_posted_for(guarded: EmbeddedRegistry) -> None:
    assert ask(guarded, "POST", "/token", b"grant_type=refresh_token").status == 404


# The log


def test_requests_are_logged(stored: EmbeddedRegistry) -> None:
    ask(stored, "GET", f"{BLOB}?x=1", Range="bytes=90-")
    (seen,) = stored.requests
    assert (seen.method, seen.path, seen.query, seen.status, seen.sent) == (
        "GET",
        BLOB,
        {"x": ["1"]},
        206,
        10,
    )
    assert seen.headers["range"] == "bytes=90-"


def test_received_bytes_are_logged(registry: EmbeddedRegistry) -> None:
    upload(registry, DATA, DIGEST)
    assert [seen.received for seen in registry.requests] == [0, 100]


def test_requests_are_counted(stored: EmbeddedRegistry) -> None:
    ask(stored, "GET", BLOB)
    ask(stored, "HEAD", BLOB)
    assert (stored.count("GET", "/blobs/"), stored.count("GET|HEAD"), stored.count("GET", "x")) == (1, 2, 0)


def test_blob_bytes_are_counted(stored: EmbeddedRegistry) -> None:
    ask(stored, "GET", BLOB)
    ask(stored, "HEAD", BLOB)
    ask(stored, "GET", "/v2/")
    assert stored.blob_bytes_sent() == 100


def test_log_can_be_cleared(stored: EmbeddedRegistry) -> None:
    ask(stored, "GET", BLOB)
    stored.clear_log()
    assert stored.requests == []


# Faults


def go_wrong(registry: EmbeddedRegistry, *action: Action, method: str = "GET") -> None:
    registry.fault(Fault(method=method, path="/blobs/", action=action))


def test_fault_strikes_after_skip_and_as_often_as_it_says(stored: EmbeddedRegistry) -> None:
    stored.fault(Fault(method="GET", path=f"{DIGEST}$", skip=1, times=2, action=Status(500)))
    assert [ask(stored, "GET", BLOB).status for _ in range(4)] == [200, 500, 500, 200]


def test_fault_strikes_for_ever(stored: EmbeddedRegistry) -> None:
    stored.fault(Fault(times=None, action=Status(500)))
    assert [ask(stored, "GET", BLOB).status for _ in range(3)] == [500, 500, 500]


def test_fault_leaves_other_requests_alone(stored: EmbeddedRegistry) -> None:
    stored.fault(Fault(method="PUT", path="/blobs/", action=Status(500)))
    assert ask(stored, "GET", BLOB).status == 200


def test_fault_can_be_cleared(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Status(500))
    stored.clear_faults()
    assert ask(stored, "GET", BLOB).status == 200


def test_fault_can_match_the_query(stored: EmbeddedRegistry) -> None:
    stored.fault(Fault(path=r"\?mount=", action=Status(500)))
    assert ask(stored, "POST", f"/v2/c/blobs/uploads/?mount={DIGEST}&from=a/b").status == 500


def test_status_has_headers_and_body(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Status(429, (("Retry-After", "1"),), b"<html>", "text/html"))
    reply = ask(stored, "GET", BLOB)
    assert (reply.status, reply.headers["Retry-After"], reply.headers["Content-Type"], reply.body) == (
        429,
        "1",
        "text/html",
        b"<html>",
    )


def test_status_on_put_stores_nothing(registry: EmbeddedRegistry) -> None:
    go_wrong(registry, Status(503), method="PUT")
    assert (upload(registry, DATA, DIGEST).status, registry.blobs("a/b")) == (503, set())


def test_redirect_points_elsewhere(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Redirect("http://127.0.0.1:1/x"))
    reply = ask(stored, "GET", BLOB)
    assert (reply.status, reply.location) == (307, "http://127.0.0.1:1/x")


@pytest.mark.parametrize("after", [0, 1, 99])
def test_cut_sends_so_many_bytes(stored: EmbeddedRegistry, after: int) -> None:
    go_wrong(stored, Cut(after))
    with pytest.raises(http.client.IncompleteRead) as error:
        ask(stored, "GET", BLOB)
    assert error.value.partial == DATA[:after]


def test_cut_counts_what_was_sent(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Cut(7))
    with pytest.raises(http.client.IncompleteRead):
        ask(stored, "GET", BLOB)
    assert stored.blob_bytes_sent() == 7


def test_cut_at_the_end_is_a_whole_answer(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Cut(100))
    assert ask(stored, "GET", BLOB).body == DATA


def test_cut_before_everything_answers_nothing(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Cut(None))
    with pytest.raises(http.client.RemoteDisconnected):
        ask(stored, "GET", BLOB)
    assert stored.requests[0].status == 0


def test_chunked_cut_is_noticed(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Chunked(), Cut(7))
    with pytest.raises(http.client.IncompleteRead):
        ask(stored, "GET", BLOB)


@pytest.mark.parametrize("after", [0, 1, 99])
def test_cut_upload_is_not_finished(stored: EmbeddedRegistry, after: int) -> None:
    go_wrong(stored, Cut(after), method="PUT")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        upload(stored, b"x" * 100, digest_of(b"x" * 100))
    assert stored.blobs("a/b") == {DIGEST}


def test_cut_chunk_can_be_resumed(stored: EmbeddedRegistry) -> None:
    location = start_upload(stored)
    go_wrong(stored, Cut(4), method="PATCH")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(stored, "PATCH", location, DATA, Content_Range="0-99")
    status = ask(stored, "GET", location)
    assert status.headers["Range"] == "0-3"
    assert ask(stored, "PUT", f"{status.location}&digest={DIGEST}", DATA[4:]).status == 201


def test_cut_after_the_last_byte_loses_only_the_answer(registry: EmbeddedRegistry) -> None:
    go_wrong(registry, Cut(100), method="PUT")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        upload(registry, DATA, DIGEST)
    assert registry.blobs("a/b") == {DIGEST}


def test_reset_is_a_reset(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Reset(None))
    with pytest.raises(ConnectionResetError):
        ask(stored, "GET", BLOB)


def test_reset_upload_is_a_reset(registry: EmbeddedRegistry) -> None:
    go_wrong(registry, Reset(1), method="PUT")
    with pytest.raises(ConnectionError):
        upload(registry, DATA, DIGEST)


def test_stall_sends_so_many_bytes_and_then_nothing(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Stall(7))
    connection = http.client.HTTPConnection(stored.host, timeout=0.3)
    connection.request("GET", BLOB)
    with connection.getresponse() as response:
        assert response.read(7) == DATA[:7]
        with pytest.raises(TimeoutError):
            response.read(1)
    connection.close()


def test_stalled_registry_stops_at_once() -> None:
    with serving(EmbeddedRegistry()) as registry:
        registry.put_blob("a/b", DATA)
        go_wrong(registry, Stall(7))
        connection = http.client.HTTPConnection(registry.host, timeout=5)
        connection.request("GET", BLOB)
        response = connection.getresponse()
        started = time.monotonic()
    assert time.monotonic() - started < 1
    response.close()
    connection.close()


def test_flip_changes_one_bit(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Flip(3))
    assert ask(stored, "GET", BLOB).body == DATA[:3] + b"2" + DATA[4:]


def test_truncated_body_has_its_own_length(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Truncate(1))
    reply = ask(stored, "GET", BLOB)
    assert (reply.body, reply.headers["Content-Length"]) == (DATA[:-1], "99")


def test_extended_body_has_its_own_length(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Extend(b"!"))
    reply = ask(stored, "GET", BLOB)
    assert (reply.body, reply.headers["Content-Length"]) == (DATA + b"!", "101")


@pytest.mark.parametrize("actions", [(Chunked(), Truncate(1)), (Truncate(1), Chunked())])
def test_chunked_body_has_no_length(stored: EmbeddedRegistry, actions: tuple[Action, ...]) -> None:
    go_wrong(stored, *actions)
    reply = ask(stored, "GET", BLOB)
    assert (reply.body, reply.headers["Content-Length"]) == (DATA[:-1], None)


@pytest.mark.parametrize("value", ["sha256:wrong", None])
@pytest.mark.parametrize("name", ["Docker-Content-Digest", "Content-Type"])
def test_header_is_set_or_removed(stored: EmbeddedRegistry, name: str, value: str | None) -> None:
    go_wrong(stored, Header(name, value))
    assert ask(stored, "GET", BLOB).headers[name] == value


def test_header_is_doubled(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Header("Content-Range", "bytes 0-1/2"), Header("Content-Range", "x", add=True))
    assert ask(stored, "GET", BLOB).headers.get_all("Content-Range") == ["bytes 0-1/2", "x"]


def test_too_large_length_ends_with_the_connection(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Header("Content-Length", "101"))
    with pytest.raises(http.client.IncompleteRead):
        ask(stored, "GET", BLOB)


def test_body_without_length_ends_with_the_connection(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, Header("Content-Length", None))
    reply = ask(stored, "GET", BLOB)
    assert (reply.body, reply.headers["Transfer-Encoding"]) == (DATA, None)


def test_range_can_be_ignored(stored: EmbeddedRegistry) -> None:
    go_wrong(stored, RequestHeader("Range"))
    assert ask(stored, "GET", BLOB, Range="bytes=10-").status == 200


def test_authorization_can_be_ignored(guarded: EmbeddedRegistry) -> None:
    go_wrong(guarded, RequestHeader("Authorization"))
    pull = token(guarded, "repository:a/b:pull")
    assert ask(guarded, "GET", BLOB, Authorization=pull).status == 401


# How it runs


def test_registry_stops_while_a_connection_is_kept() -> None:
    with serving(EmbeddedRegistry()) as registry:
        connection = http.client.HTTPConnection(registry.host, timeout=5)
        connection.request("GET", "/v2/")
        connection.getresponse().read()
        started = time.monotonic()
    assert time.monotonic() - started < 1
    connection.close()


@pytest.mark.parametrize("root", [True, False])
def test_registry_stops_while_a_client_does_not_read(tmp_path: Path, root: bool) -> None:
    with serving(EmbeddedRegistry(tmp_path if root else None)) as registry:
        digest = registry.put_blob("a", b"x" * (64 << 20))
        connection = http.client.HTTPConnection(registry.host, timeout=5)
        connection.request("GET", f"/v2/a/blobs/{digest}")
        response = connection.getresponse()
        started = time.monotonic()
    assert time.monotonic() - started < 1
    response.close()
    connection.close()


def test_registry_runs_in_a_loop() -> None:
    async def look() -> int:
        async with EmbeddedRegistry().started() as registry:
            reply = await asyncio.to_thread(ask, registry, "GET", "/v2/")
            return reply.status

    assert asyncio.run(look()) == 200


def test_taken_port_is_an_error() -> None:
    with serving(EmbeddedRegistry()) as registry:
        port = int(registry.host.rpartition(":")[2])
        with pytest.raises(OSError, match="address"), serving(EmbeddedRegistry(port=port)):
            pass


def test_stopped_registry_has_no_host() -> None:
    with pytest.raises(RuntimeError):
        str(EmbeddedRegistry().host)


def connect(registry: EmbeddedRegistry) -> socket.socket:
    address, _, port = registry.host.partition(":")
    return socket.create_connection((address, int(port)), timeout=5)


@pytest.mark.parametrize("root", [True, False])
def test_client_that_leaves_is_not_logged(tmp_path: Path, root: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(EmbeddedRegistry(tmp_path if root else None)) as registry:
        digest = registry.put_blob("a", b"x" * (64 << 20))
        with connect(registry) as client:
            client.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            client.recv(10)
        with connect(registry) as client:
            client.sendall(b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx")
        time.sleep(0.2)
    assert [record for record in caplog.records if record.name != "asyncio"] == []


def test_bytes_that_never_left_are_not_counted(tmp_path: Path) -> None:
    with serving(EmbeddedRegistry(tmp_path)) as registry:
        digest = registry.put_blob("a", b"x" * (64 << 20))
        with connect(registry) as client:
            client.sendall(f"GET /v2/a/blobs/{digest} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            client.recv(10)
        time.sleep(0.2)
        assert registry.blob_bytes_sent() < 64 << 20


def self_signed(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """The contexts of a server and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "server.pem"
    path.write_bytes(private + certificate.public_bytes(pem))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    return server, ssl.create_default_context(cafile=str(path))


@pytest.mark.parametrize("root", [True, False])
def test_registry_speaks_tls(tmp_path: Path, root: bool) -> None:
    server, client = self_signed(tmp_path)
    with serving(EmbeddedRegistry(tmp_path / "root" if root else None, tls=server)) as registry:
        digest = registry.put_blob("a", DATA)
        connection = http.client.HTTPSConnection(
            "localhost", int(registry.host.rpartition(":")[2]), context=client, timeout=5
        )
        connection.request("GET", f"/v2/a/blobs/{digest}")
        body = connection.getresponse().read()
        connection.close()
    assert (body, registry.requests[0].sent) == (DATA, 100)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_command_prints_one_line_and_stops_quietly(tmp_path: Path, number: int) -> None:
    command = [sys.executable, "-m", "tests.support.registry", "--root", str(tmp_path), "--user", "ann:secret"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], 10)[0]
        line = process.stdout.readline()
        process.send_signal(number)
        rest, errors = process.communicate(timeout=10)
    assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+\n", line)
    assert (rest, errors, process.returncode) == ("", "", 0)


# The peer


@pytest.mark.peer
@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("docker", [True, False])
def test_skopeo_copies_from_and_to_it(tmp_path: Path, docker: bool) -> None:
    source = EmbeddedRegistry(tmp_path, auth=Bearer(anonymous_pull=True))
    target = EmbeddedRegistry(auth=Basic({"ann": "secret"}), relative_locations=True)
    image = images.multi_arch(docker=docker)
    image.publish(source, "a/b", "v1")
    command = ["skopeo", "--insecure-policy", "copy", "--all", "--dest-creds=ann:secret"]
    command += ["--src-tls-verify=false", "--dest-tls-verify=false"]
    with serving(source), serving(target):
        command += [f"docker://{source.host}/a/b:v1", f"docker://{target.host}/c:v2"]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert target.tags("c") == {"v2": image.root}
    assert target.blobs("c") == set(image.blobs)
