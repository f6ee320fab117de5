"""Tests of the embedded registry's own features: faults, log and tokens.

Without these tests, others could pass that should fail: because of a fault that has no effect, a request that is not
counted, or a token that grants everything. `tests/registry/test_conformance.py` tests the rest of the registry.
"""

import base64
import http.client
import json
import re
from collections.abc import Iterator

import pytest

from tests.support.registry import (
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
    """Make one request on a new connection; `Content_Type="…"` is the header Content-Type."""
    connection = http.client.HTTPConnection(registry.host, timeout=5)
    try:
        target = target.removeprefix(registry.url)
        connection.request(method, target, body, {name.replace("_", "-"): of for name, of in headers.items()})
        response = connection.getresponse()
        return Reply(response, response.read())
    finally:
        connection.close()


@pytest.fixture
def stored() -> Iterator[EmbeddedRegistry]:
    """A registry that holds DATA in a/b."""
    with serving(EmbeddedRegistry()) as running:
        running.put_blob("a/b", DATA)
        yield running


def start_upload(registry: EmbeddedRegistry, repo: str = "a/b") -> str:
    return ask(registry, "POST", f"/v2/{repo}/blobs/uploads/").location


def upload(registry: EmbeddedRegistry, data: bytes, digest: str) -> Reply:
    return ask(registry, "PUT", f"{start_upload(registry)}&digest={digest}", data)


# Behaviours in which real registries differ


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


def test_locations_are_relative_on_request() -> None:
    with serving(EmbeddedRegistry(relative_locations=True)) as registry:
        assert start_upload(registry).startswith("/v2/")


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


def test_referrers_are_listed_in_pages() -> None:
    with serving(EmbeddedRegistry(referrers=True, page=2)) as registry:
        for number in range(3):
            registry.put_manifest("a/b", None, referring(DIGEST, f"x/{number}"), TYPE)
        first, reply = referrers_of(registry)
        link = re.fullmatch(r'<(.*)>; rel="next"', reply.headers["Link"])
        assert link
        second = json.loads(ask(registry, "GET", link[1]).body)["manifests"]
        assert sorted([*first, *(node["artifactType"] for node in second)]) == ["x/0", "x/1", "x/2"]


@pytest.mark.parametrize("dashes", [True, False])
def test_tag_in_digest_form_names_the_digest_only_with_dashes(dashes: bool) -> None:
    with serving(EmbeddedRegistry(dashes=dashes)) as registry:
        digest = registry.put_manifest("a/b", None, referring(DIGEST, "x/y"), TYPE)
        reply = ask(registry, "GET", f"/v2/a/b/manifests/{digest.replace(':', '-')}")
        assert reply.status == (200 if dashes else 404)


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


def test_anonymous_token_does_not_push(guarded: EmbeddedRegistry) -> None:
    push = token(guarded, "repository:a/b:pull,push")
    reply = ask(guarded, "POST", "/v2/a/b/blobs/uploads/", Authorization=push)
    assert 'scope="repository:a/b:pull,push",error="insufficient_scope"' in reply.headers["WWW-Authenticate"]


def test_anonymous_token_can_be_forbidden(guarded: EmbeddedRegistry, bearer: Bearer) -> None:
    bearer.anonymous_pull = False
    assert ask(guarded, "GET", "/token?scope=repository:a/b:pull").status == 401


def test_wrong_password_gets_no_token(guarded: EmbeddedRegistry) -> None:
    assert ask(guarded, "GET", "/token", Authorization=basic("ann", "wrong")).status == 401


def test_token_grants_nothing_else(guarded: EmbeddedRegistry) -> None:
    other = token(guarded, "repository:other:pull")
    assert ask(guarded, "GET", BLOB, Authorization=other).status == 401


def test_mount_needs_pull_on_its_source(guarded: EmbeddedRegistry) -> None:
    push = token(guarded, "repository:c:pull,push", Authorization=basic("ann", "secret"))
    reply = ask(guarded, "POST", f"/v2/c/blobs/uploads/?mount={DIGEST}&from=a/b", Authorization=push)
    assert 'scope="repository:c:pull,push repository:a/b:pull"' in reply.headers["WWW-Authenticate"]


def test_token_expires(guarded: EmbeddedRegistry, bearer: Bearer) -> None:
    bearer.expires_in = 0
    assert ask(guarded, "GET", BLOB, Authorization=token(guarded, "repository:a/b:pull")).status == 401


def test_tokens_expire_on_request(guarded: EmbeddedRegistry, bearer: Bearer) -> None:
    pull = token(guarded, "repository:a/b:pull")
    bearer.expire()
    assert 'error="invalid_token"' in ask(guarded, "GET", BLOB, Authorization=pull).headers["WWW-Authenticate"]


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


# Faults


def add_fault(registry: EmbeddedRegistry, *action: Action, method: str = "GET") -> None:
    registry.fault(Fault(method=method, path="/blobs/", action=action))


def test_fault_affects_the_given_number_of_requests_after_skip(stored: EmbeddedRegistry) -> None:
    stored.fault(Fault(method="GET", path=f"{DIGEST}$", skip=1, times=2, action=Status(500)))
    assert [ask(stored, "GET", BLOB).status for _ in range(4)] == [200, 500, 500, 200]


def test_fault_with_times_none_affects_all_requests(stored: EmbeddedRegistry) -> None:
    stored.fault(Fault(times=None, action=Status(500)))
    assert [ask(stored, "GET", BLOB).status for _ in range(3)] == [500, 500, 500]


def test_fault_does_not_affect_other_requests(stored: EmbeddedRegistry) -> None:
    stored.fault(Fault(method="PUT", path="/blobs/", action=Status(500)))
    assert ask(stored, "GET", BLOB).status == 200


def test_fault_can_be_cleared(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Status(500))
    stored.clear_faults()
    assert ask(stored, "GET", BLOB).status == 200


def test_fault_can_match_the_query(stored: EmbeddedRegistry) -> None:
    stored.fault(Fault(path=r"\?mount=", action=Status(500)))
    assert ask(stored, "POST", f"/v2/c/blobs/uploads/?mount={DIGEST}&from=a/b").status == 500


def test_status_has_headers_and_body(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Status(429, (("Retry-After", "1"),), b"<html>", "text/html"))
    reply = ask(stored, "GET", BLOB)
    assert (reply.status, reply.headers["Retry-After"], reply.headers["Content-Type"], reply.body) == (
        429,
        "1",
        "text/html",
        b"<html>",
    )


def test_status_on_put_stores_nothing(registry: EmbeddedRegistry) -> None:
    add_fault(registry, Status(503), method="PUT")
    assert (upload(registry, DATA, DIGEST).status, registry.blobs("a/b")) == (503, set())


def test_redirect_points_elsewhere(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Redirect("http://127.0.0.1:1/x"))
    reply = ask(stored, "GET", BLOB)
    assert (reply.status, reply.location) == (307, "http://127.0.0.1:1/x")


@pytest.mark.parametrize("after", [0, 1, 99])
def test_cut_sends_the_given_number_of_bytes(stored: EmbeddedRegistry, after: int) -> None:
    add_fault(stored, Cut(after))
    with pytest.raises(http.client.IncompleteRead) as error:
        ask(stored, "GET", BLOB)
    assert error.value.partial == DATA[:after]


def test_cut_counts_what_was_sent(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Cut(7))
    with pytest.raises(http.client.IncompleteRead):
        ask(stored, "GET", BLOB)
    assert stored.blob_bytes_sent() == 7


def test_cut_at_the_end_sends_the_whole_response(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Cut(100))
    assert ask(stored, "GET", BLOB).body == DATA


def test_cut_before_the_response_sends_nothing(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Cut(None))
    with pytest.raises(http.client.RemoteDisconnected):
        ask(stored, "GET", BLOB)
    assert stored.requests[0].status == 0


def test_cut_of_a_chunked_response_is_noticed(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Chunked(), Cut(7))
    with pytest.raises(http.client.IncompleteRead):
        ask(stored, "GET", BLOB)


@pytest.mark.parametrize("after", [0, 1, 99])
def test_cut_upload_is_not_finished(stored: EmbeddedRegistry, after: int) -> None:
    add_fault(stored, Cut(after), method="PUT")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        upload(stored, b"x" * 100, digest_of(b"x" * 100))
    assert stored.blobs("a/b") == {DIGEST}


def test_cut_chunk_can_be_resumed(stored: EmbeddedRegistry) -> None:
    location = start_upload(stored)
    add_fault(stored, Cut(4), method="PATCH")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        ask(stored, "PATCH", location, DATA, Content_Range="0-99")
    status = ask(stored, "GET", location)
    assert status.headers["Range"] == "0-3"
    assert ask(stored, "PUT", f"{status.location}&digest={DIGEST}", DATA[4:]).status == 201


def test_cut_after_the_last_byte_loses_only_the_response(registry: EmbeddedRegistry) -> None:
    add_fault(registry, Cut(100), method="PUT")
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        upload(registry, DATA, DIGEST)
    assert registry.blobs("a/b") == {DIGEST}


def test_reset_is_a_reset(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Reset(None))
    with pytest.raises(ConnectionResetError):
        ask(stored, "GET", BLOB)


def test_reset_upload_is_a_reset(registry: EmbeddedRegistry) -> None:
    add_fault(registry, Reset(1), method="PUT")
    with pytest.raises(ConnectionError):
        upload(registry, DATA, DIGEST)


@pytest.mark.slow
def test_stall_sends_the_given_number_of_bytes_and_then_nothing(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Stall(7))
    connection = http.client.HTTPConnection(stored.host, timeout=0.3)
    connection.request("GET", BLOB)
    with connection.getresponse() as response:
        assert response.read(7) == DATA[:7]
        with pytest.raises(TimeoutError):
            response.read(1)
    connection.close()


def test_flip_changes_one_bit(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Flip(3))
    assert ask(stored, "GET", BLOB).body == DATA[:3] + b"2" + DATA[4:]


def test_truncated_body_has_a_matching_length(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Truncate(1))
    reply = ask(stored, "GET", BLOB)
    assert (reply.body, reply.headers["Content-Length"]) == (DATA[:-1], "99")


def test_extended_body_has_a_matching_length(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Extend(b"!"))
    reply = ask(stored, "GET", BLOB)
    assert (reply.body, reply.headers["Content-Length"]) == (DATA + b"!", "101")


@pytest.mark.parametrize("actions", [(Chunked(), Truncate(1)), (Truncate(1), Chunked())])
def test_chunked_body_has_no_length(stored: EmbeddedRegistry, actions: tuple[Action, ...]) -> None:
    add_fault(stored, *actions)
    reply = ask(stored, "GET", BLOB)
    assert (reply.body, reply.headers["Content-Length"]) == (DATA[:-1], None)


@pytest.mark.parametrize("value", ["sha256:wrong", None])
@pytest.mark.parametrize("name", ["Docker-Content-Digest", "Content-Type"])
def test_header_is_set_or_removed(stored: EmbeddedRegistry, name: str, value: str | None) -> None:
    add_fault(stored, Header(name, value))
    assert ask(stored, "GET", BLOB).headers[name] == value


def test_header_can_be_sent_twice(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Header("Content-Range", "bytes 0-1/2"), Header("Content-Range", "x", add=True))
    assert ask(stored, "GET", BLOB).headers.get_all("Content-Range") == ["bytes 0-1/2", "x"]


def test_too_large_length_ends_with_the_connection(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Header("Content-Length", "101"))
    with pytest.raises(http.client.IncompleteRead):
        ask(stored, "GET", BLOB)


def test_body_without_length_ends_with_the_connection(stored: EmbeddedRegistry) -> None:
    add_fault(stored, Header("Content-Length", None))
    reply = ask(stored, "GET", BLOB)
    assert (reply.body, reply.headers["Transfer-Encoding"]) == (DATA, None)


def test_range_can_be_ignored(stored: EmbeddedRegistry) -> None:
    add_fault(stored, RequestHeader("Range"))
    assert ask(stored, "GET", BLOB, Range="bytes=10-").status == 200


def test_authorization_can_be_ignored(guarded: EmbeddedRegistry) -> None:
    add_fault(guarded, RequestHeader("Authorization"))
    pull = token(guarded, "repository:a/b:pull")
    assert ask(guarded, "GET", BLOB, Authorization=pull).status == 401
