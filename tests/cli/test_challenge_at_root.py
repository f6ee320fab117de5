"""Tests of registries that send a challenge only at `/v2/`, and answer other anonymous requests as if by mistake."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import images
from tests.support.command import Mirror, assert_whole
from tests.support.registry import Basic, Bearer, Discreet, EmbeddedRegistry, Fault, Status, serving

pytestmark = pytest.mark.slow

IMAGE = images.image("linux/amd64", images.layer(1, 1000))
USERS = {"ann": "secret"}
WITH_PASSWORD = ("-u", "ann", "--password-stdin")


def save_login(mirror: Mirror, *hosts: str) -> None:
    folder = Path(mirror.env["DOCKER_CONFIG"])
    folder.mkdir(exist_ok=True)
    entry = {"auth": base64.b64encode(b"ann:secret").decode()}
    (folder / "config.json").write_text(json.dumps({"auths": dict.fromkeys(hosts, entry)}))


@pytest.fixture(params=["bearer-404", "bearer-403", "bearer-429", "basic-404", "basic-403", "basic-429"])
def discreet(request: pytest.FixtureRequest) -> Iterator[EmbeddedRegistry]:
    kind, _, status = request.param.partition("-")
    auth = Basic(USERS) if kind == "basic" else Bearer(USERS)
    with serving(EmbeddedRegistry(auth=Discreet(auth, int(status)))) as running:
        IMAGE.publish(running, "a", "v1")
        yield running


def test_image_hidden_from_anonymous_users_is_pulled_after_a_login(mirror: Mirror, discreet: EmbeddedRegistry) -> None:
    save_login(mirror, discreet.host)
    mirror("pull", f"{discreet.host}/a:v1")
    assert_whole(mirror.folder / "layout")


def test_user_on_the_command_line_counts_as_well(mirror: Mirror, discreet: EmbeddedRegistry) -> None:
    mirror("pull", f"{discreet.host}/a:v1", *WITH_PASSWORD, stdin="secret")
    assert_whole(mirror.folder / "layout")


def test_login_is_checked(mirror: Mirror, discreet: EmbeddedRegistry) -> None:
    assert "wrong" not in mirror("login", discreet.host, *WITH_PASSWORD, stdin="secret").err
    mirror("login", discreet.host, *WITH_PASSWORD, stdin="guess", code=1)


def test_push_to_such_a_registry_succeeds(mirror: Mirror, discreet: EmbeddedRegistry) -> None:
    save_login(mirror, discreet.host)
    mirror("pull", f"{discreet.host}/a:v1")
    mirror("push", "layout", f"{discreet.host}/copy")
    assert discreet.tags("copy/a") == {"v1": IMAGE.root}


def test_list_of_tags_is_requested_with_credentials_at_once(mirror: Mirror) -> None:
    """zot shows anonymous users fewer tags, instead of a challenge."""
    with serving(EmbeddedRegistry(auth=Bearer(USERS))) as running:
        for tag in ("public", "private"):
            IMAGE.publish(running, "a", tag)
        save_login(mirror, running.host)
        assert set(mirror("tags", f"{running.host}/a").lines) == {"public", "private"}
        lists = [seen for seen in running.requests if "/tags/list" in seen.path]
        assert all(seen.headers.get("authorization", "").startswith("Bearer ") for seen in lists)


def test_challenge_is_fetched_once(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Bearer(USERS))) as running:
        names = [f"repository{number}" for number in range(5)]
        for name in names:
            IMAGE.publish(running, name, "v1")
        save_login(mirror, running.host)
        mirror("pull", *(f"{running.host}/{name}:v1" for name in names))
        assert running.count("GET", "^/v2/$") == 1
        assert [seen.path for seen in running.requests if seen.status == 401] == ["/v2/"]


@pytest.mark.parametrize("other", [(), ("other.example",)])
def test_registry_without_credentials_is_not_asked_for_its_challenge(mirror: Mirror, other: tuple[str, ...]) -> None:
    with serving(EmbeddedRegistry()) as running:
        IMAGE.publish(running, "a", "v1")
        save_login(mirror, *other)
        mirror("pull", f"{running.host}/a:v1")
        assert running.requests[0].path == "/v2/a/manifests/v1"


def test_registry_that_requires_no_credentials_gets_none(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry()) as running:
        IMAGE.publish(running, "a", "v1")
        save_login(mirror, running.host)
        mirror("pull", f"{running.host}/a:v1")
        assert running.count("GET", "^/v2/$") == 1
        assert not any("authorization" in seen.headers for seen in running.requests)


@pytest.mark.parametrize("status", [404, 403, 405])
def test_registry_without_the_endpoint_is_asked_as_before(mirror: Mirror, status: int) -> None:
    with serving(EmbeddedRegistry(auth=Basic(USERS))) as running:
        IMAGE.publish(running, "a", "v1")
        save_login(mirror, running.host)
        running.fault(Fault(path="^/v2/$", times=None, action=Status(status)))
        mirror("pull", f"{running.host}/a:v1")
    assert_whole(mirror.folder / "layout")


def test_challenge_is_fetched_again_after_a_transient_failure(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Discreet(Basic(USERS)))) as running:
        IMAGE.publish(running, "a", "v1")
        save_login(mirror, running.host)
        running.fault(Fault(path="^/v2/$", action=Status(503)))
        mirror("pull", f"{running.host}/a:v1")
    assert_whole(mirror.folder / "layout")


def test_challenge_of_another_host_does_not_get_the_credentials(mirror: Mirror) -> None:
    challenge = (("WWW-Authenticate", 'Basic realm="give"'),)
    with serving(EmbeddedRegistry()) as running, serving(EmbeddedRegistry()) as other:
        IMAGE.publish(running, "a", "v1")
        save_login(mirror, running.host)
        other.fault(Fault(times=None, action=Status(401, challenge)))
        running.fault(Fault(path="^/v2/$", action=Status(307, (("Location", f"{other.url}/v2/"),))))
        mirror("pull", f"{running.host}/a:v1")
        assert not any("authorization" in seen.headers for seen in (*running.requests, *other.requests))


def test_failed_request_for_the_challenge_is_shared_by_all_images(mirror: Mirror) -> None:
    with serving(EmbeddedRegistry(auth=Basic(USERS))) as running:
        save_login(mirror, running.host)
        running.fault(Fault(path="^/v2/$", times=None, action=Status(503)))
        names = [f"{running.host}/a{number}:v1" for number in range(4)]
        mirror("pull", *names, "-j", 16, "--retries", 1, code=1)
        assert len(running.requests) == running.count("GET", "^/v2/$") == 2
