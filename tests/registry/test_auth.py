"""Challenges and tokens: what a registry asks for, and what is sent because of it."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace
from typing import Any

import pytest
from yarl import URL

from mirror.errors import ConfigError, TransferError, Unauthorized
from mirror.registry.auth.authenticator import Authenticator, Rejection
from mirror.registry.auth.challenges import Challenge
from mirror.registry.auth.tokens import Scopes
from mirror.registry.credentials import Credentials

PULL = "repository:library/redis:pull"
PUSH = "repository:a/b:pull,push"
ANN = Credentials("ann", "se:cret")
ROBOT = Credentials("", "", identity_token="identity")
REALM = "https://auth.example/token"


def challenge(realm: str = REALM, **parameters: str) -> list[Challenge]:
    return [Challenge("bearer", {"realm": realm, **parameters})]


# The dialogue


class Dialogue:
    """An authenticator, and the token server that it asks. Credentials may be one for each repository."""

    def __init__(
        self,
        *answers: Any,
        credentials: Credentials | Mapping[str, Credentials] | None = None,
        base: str = "https://r.example",
    ) -> None:
        self.asked: list[tuple[URL, str | None]] = []
        self.forms: list[Mapping[str, str]] = []
        self._answers = list(answers)
        self._credentials = credentials
        self.auth = Authenticator(URL(base), self._find, self._fetch)

    async def _find(self, repository: str) -> Credentials | None:
        await asyncio.sleep(0)
        return self._credentials.get(repository) if isinstance(self._credentials, Mapping) else self._credentials

    async def _fetch(self, url: URL, authorization: str | None, form: Mapping[str, str] | None = None) -> bytes:
        self.asked.append((url, authorization))
        self.forms += [form] if form else []
        await asyncio.sleep(0)
        given = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, bytes) else json.dumps(given).encode()

    def answer(
        self, challenges: list[Challenge], scope: str = PULL, refused: str | None = None, again: bool = False
    ) -> str | None:
        return asyncio.run(self.auth.answer(challenges, scope, refused, renewed=again))

    def header(self, scope: str = PULL) -> str | None:
        return self.auth.authorization(scope)

    def scopes(self) -> list[list[str]]:
        """What was asked for, each time."""
        return [url.query.getall("scope", []) for url, _ in self.asked]


NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time, which stands still unless a test moves it."""
    now = SimpleNamespace(seconds=0.0)
    wall = SimpleNamespace(monotonic=lambda: now.seconds, time=lambda: NOW.timestamp() + now.seconds)
    monkeypatch.setattr("mirror.registry.auth.tokens.time", wall)
    return now


def test_nothing_is_sent_before_the_registry_asks() -> None:
    assert Dialogue({"token": "t"}, credentials=ANN).header() is None


def test_a_token_is_for_its_scope_alone() -> None:
    dialogue = Dialogue({"token": "t"})
    assert dialogue.answer(challenge(service="s"))
    assert (dialogue.header(PULL), dialogue.header(PUSH)) == ("Bearer t", None)


@pytest.mark.parametrize("answer", [{"token": "t"}, {"access_token": "t"}, {"token": "t", "access_token": "other"}])
def test_a_token_has_two_names(answer: dict[str, str]) -> None:
    dialogue = Dialogue(answer)
    dialogue.answer(challenge())
    assert dialogue.header() == "Bearer t"


@pytest.mark.parametrize(("credentials", "header"), [(None, None), (ANN, "Basic YW5uOnNlOmNyZXQ=")])
def test_the_token_server_gets_the_credentials_if_there_are_any(
    credentials: Credentials | None, header: str | None
) -> None:
    dialogue = Dialogue({"token": "t"}, credentials=credentials)
    dialogue.answer(challenge())
    assert dialogue.asked[0][1] == header


@pytest.mark.parametrize(
    ("parameters", "scope", "query"),
    [
        ({}, PULL, [("scope", PULL)]),
        ({"service": "s"}, PULL, [("service", "s"), ("scope", PULL)]),
        ({"scope": PULL}, PULL, [("scope", PULL)]),
        ({"scope": PUSH}, PULL, [("scope", PUSH), ("scope", PULL)]),
        ({"scope": ""}, PULL, [("scope", PULL)]),
        ({}, f"{PUSH} {PULL}", [("scope", PUSH), ("scope", PULL)]),
        ({"scope": PULL}, f"{PUSH} {PULL}", [("scope", PULL), ("scope", PUSH)]),
        ({"service": "a b&c=d"}, PULL, [("service", "a b&c=d"), ("scope", PULL)]),
    ],
)
def test_the_missing_scope_is_asked_for_first(
    parameters: dict[str, str], scope: str, query: list[tuple[str, str]]
) -> None:
    dialogue = Dialogue({"token": "t"})
    dialogue.answer(challenge(**parameters), scope)
    assert list(dialogue.asked[0][0].query.items()) == query
    assert str(dialogue.asked[0][0].with_query(None)) == REALM


def test_the_query_of_a_realm_is_kept() -> None:
    dialogue = Dialogue({"token": "t"})
    dialogue.answer(challenge(f"{REALM}?account=x"))
    assert list(dialogue.asked[0][0].query.items()) == [("account", "x"), ("scope", PULL)]


def test_fifty_that_wait_make_one_request() -> None:
    dialogue = Dialogue({"token": "t"})

    async def main() -> list[str | None]:
        return await asyncio.gather(*(dialogue.auth.answer(challenge(), PULL, None) for _ in range(50)))

    assert asyncio.run(main()) == ["Bearer t"] * 50
    assert len(dialogue.asked) == 1


def test_fifty_that_wait_for_a_server_in_trouble_ask_it_once_and_may_ask_again() -> None:
    dialogue = Dialogue(TransferError("busy", transient=True), {"token": "t"})

    async def main() -> list[str | BaseException | None]:
        waiting = (dialogue.auth.answer(challenge(), PULL, None) for _ in range(50))
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert {str(error) for error in asyncio.run(main())} == {"busy"}
    assert len(dialogue.asked) == 1
    assert dialogue.answer(challenge()) == "Bearer t"


def test_a_token_that_is_refused_is_renewed_and_not_used_again() -> None:
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    dialogue.answer(challenge())
    assert dialogue.answer(challenge(), refused="Bearer one")
    assert dialogue.header() == "Bearer two"


def test_a_token_server_that_gives_what_was_refused_ends_the_dialogue() -> None:
    dialogue = Dialogue({"token": "t"})
    dialogue.answer(challenge())
    assert not dialogue.answer(challenge(), refused="Bearer t")


# Lifetimes


def lives(clock: SimpleNamespace, after: float, **fields: object) -> bool:
    dialogue = Dialogue({"token": "t", **fields})
    dialogue.answer(challenge())
    clock.seconds += after
    return dialogue.header() is not None


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"expires_in": None},
        {"expires_in": 0},
        {"expires_in": 1},
        {"expires_in": -5},
        {"expires_in": True},
        {"expires_in": "300"},
        {"expires_in": [300]},
    ],
)
def test_a_token_lives_a_minute_at_least_and_no_longer_unless_it_says_so(
    clock: SimpleNamespace, fields: dict[str, object]
) -> None:
    assert lives(clock, 45, **fields)
    assert not lives(clock, 60, **fields)


@pytest.mark.parametrize(
    ("age", "left"),
    [
        (0, 300),
        (100, 200),
        (230, 70),
        (290, 60),  # a minute at least, so that a wrong clock does no harm
        (100_000, 60),
        (-50, 300),
        (-100_000, 300),
    ],
)
def test_a_lifetime_counts_from_the_time_of_issue_where_that_makes_sense(
    clock: SimpleNamespace, age: float, left: float
) -> None:
    issued = (NOW - timedelta(seconds=age)).isoformat()
    assert lives(clock, left - 15, expires_in=300, issued_at=issued)
    clock.seconds = 0
    assert not lives(clock, left, expires_in=300, issued_at=issued)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T11:58:20Z",
        "2026-03-01T11:58:20.123456789Z",
        (NOW - timedelta(seconds=100)).astimezone(timezone(timedelta(hours=-7))).isoformat(),
    ],
)
def test_times_of_issue_have_many_forms(clock: SimpleNamespace, text: str) -> None:
    assert lives(clock, 180, expires_in=300, issued_at=text)
    clock.seconds = 0
    assert not lives(clock, 210, expires_in=300, issued_at=text)


@pytest.mark.parametrize(
    "issued", ["", "yesterday", None, 0, 1772366400, [], {}, True, "9999-99-99T00:00:00Z", "0001-01-01"]
)
def test_a_time_of_issue_that_is_none_changes_nothing(clock: SimpleNamespace, issued: object) -> None:
    assert lives(clock, 280, expires_in=300, issued_at=issued)


@pytest.mark.parametrize("lifetime", [300, 300.0])
def test_a_token_is_renewed_a_little_before_its_end(clock: SimpleNamespace, lifetime: float) -> None:
    assert lives(clock, 280, expires_in=lifetime)
    assert not lives(clock, 299, expires_in=lifetime)


@pytest.mark.parametrize("lifetime", ["1" + "0" * 400, "1e300", "9007199254740993", "1" * 4000])
def test_absurd_lifetimes_do_no_harm(clock: SimpleNamespace, lifetime: str) -> None:
    dialogue = Dialogue(b'{"token":"t","expires_in":%s}' % lifetime.encode())
    dialogue.answer(challenge())
    assert dialogue.header() == "Bearer t"


# Nonsense from a token server

BROKEN = [
    b"",
    b"null",
    b"[]",
    b"<html>",
    b"{}",
    b'{"token":""}',
    b'{"token":null}',
    b'{"token":1}',
    b'{"token":["t"]}',
    b'{"token":{"a":"b"}}',
    b'{"token":"a\\r\\nX-Evil: 1"}',
    b'{"token":"a\\u0000b"}',
    '{"token":"ä"}'.encode(),
    b'{"token":"a","token":"b"}',
    b'{"token":"t","expires_in":NaN}',
    b'{"token":"t","expires_in":1e999}',
    b'{"token":"t"',
    b"\xff",
]


@pytest.mark.parametrize("body", BROKEN)
def test_a_broken_token_is_a_failed_transfer(body: bytes) -> None:
    dialogue = Dialogue(body)
    with pytest.raises(TransferError):
        dialogue.answer(challenge())
    assert dialogue.header() is None


def test_a_token_server_that_fails_fails_the_request() -> None:
    dialogue = Dialogue(TransferError("busy", transient=True))
    with pytest.raises(TransferError, match="busy"):
        dialogue.answer(challenge())


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "token",
        "/token",
        "//auth.example/token",
        "file:///etc/passwd",
        "ftp://auth.example/token",
        "https://",
        "https:///token",
        "https://[::1/token",
        "https://auth.example:99999/token",
        "javascript:alert(1)",
        "http://auth.example/token",
        "HTTP://auth.example/token",
    ],
)
def test_a_realm_that_is_no_safe_web_address_is_refused(realm: str) -> None:
    dialogue = Dialogue({"token": "t"}, credentials=ANN)
    with pytest.raises(TransferError, match="requires a token from"):
        dialogue.answer(challenge(realm))
    assert dialogue.asked == []


def test_a_realm_may_be_plain_where_the_registry_is() -> None:
    dialogue = Dialogue({"token": "t"}, base="http://127.0.0.1:5000")
    assert dialogue.answer(challenge("http://127.0.0.1:5001/token"))


# Which challenge is answered


@pytest.mark.parametrize(
    ("challenges", "credentials", "header"),
    [
        ([Challenge("basic", {})], ANN, "Basic YW5uOnNlOmNyZXQ="),
        ([Challenge("basic", {})], None, None),
        ([], ANN, None),
        ([Challenge("negotiate", {})], ANN, None),
        ([Challenge("bearer", {})], ANN, None),
        ([Challenge("negotiate", {}), Challenge("basic", {})], ANN, "Basic YW5uOnNlOmNyZXQ="),
        ([Challenge("bearer", {}), Challenge("basic", {})], ANN, "Basic YW5uOnNlOmNyZXQ="),
        ([Challenge("basic", {}), *challenge()], None, "Bearer t"),
        ([*challenge(), Challenge("basic", {})], ANN, "Bearer t"),
    ],
)
def test_the_first_challenge_that_can_be_answered_is(
    challenges: list[Challenge], credentials: Credentials | None, header: str | None
) -> None:
    dialogue = Dialogue({"token": "t"}, credentials=credentials)
    assert dialogue.answer(challenges) == header
    assert dialogue.header() == header


def test_basic_is_tried_once() -> None:
    dialogue = Dialogue({}, credentials=ANN)
    assert dialogue.answer([Challenge("basic", {})]) == dialogue.header() == ANN.basic
    assert dialogue.answer([Challenge("basic", {})], refused=ANN.basic) is None


def test_basic_that_is_refused_leaves_the_next_challenge() -> None:
    dialogue = Dialogue({"token": "t"}, credentials=ANN)
    assert dialogue.answer([Challenge("basic", {}), *challenge()], refused=ANN.basic) == "Bearer t"


def test_each_repository_has_its_own_credentials() -> None:
    bob = Credentials("bob", "other")
    dialogue = Dialogue({"token": "t"}, credentials={"library/redis": ANN, "a/b": bob})
    for scope, who in ((PULL, ANN), (PUSH, bob)):
        assert dialogue.answer([Challenge("basic", {})], scope) == who.basic
        dialogue.answer(challenge(), scope, refused=who.basic)
    assert [authorization for _, authorization in dialogue.asked] == [ANN.basic, bob.basic]
    assert dialogue.header("repository:c:pull") is None


def test_credentials_that_cannot_be_read_fail_the_request() -> None:
    async def broken(_: str) -> Credentials | None:
        raise ConfigError("broken")

    dialogue = Dialogue({"token": "t"})
    auth = Authenticator(URL("https://r.example"), broken, dialogue._fetch)
    with pytest.raises(ConfigError):
        asyncio.run(auth.answer(challenge(), PULL, None))
    assert dialogue.asked == []


def test_credentials_that_the_token_server_refuses_are_named_by_their_source() -> None:
    who = Credentials("ann", "se:cret", source="/home/ann/auth.json")
    dialogue = Dialogue(Unauthorized("no", status=401, hint="?"), credentials=who)
    with pytest.raises(Unauthorized) as raised:
        dialogue.answer(challenge())
    assert "/home/ann/auth.json" in str(raised.value.hint)
    assert "cret" not in f"{raised.value}{raised.value.hint}"


# Identity tokens and registry tokens


def test_an_identity_token_is_posted_in_a_form() -> None:
    dialogue = Dialogue({"access_token": "t"}, credentials=ROBOT)
    assert dialogue.answer(challenge(service="s", scope=PULL), PUSH) == "Bearer t"
    assert dialogue.asked == [(URL(REALM), None)]
    assert dialogue.forms == [
        {
            "grant_type": "refresh_token",
            "refresh_token": "identity",
            "client_id": "oci-mirror",
            "service": "s",
            "scope": f"{PULL} {PUSH}",
        }
    ]


@pytest.mark.parametrize("status", [401, 404, 405])
def test_a_token_server_without_post_is_asked_by_get(status: int) -> None:
    dialogue = Dialogue(TransferError("no", status=status), {"token": "t"}, credentials=ROBOT)
    assert dialogue.answer(challenge()) == "Bearer t"
    assert dialogue.asked[1] == (URL(REALM).extend_query([("scope", PULL)]), ROBOT.basic)


@pytest.mark.parametrize("status", [400, 403, 500, None])
def test_a_post_that_fails_otherwise_fails_the_request(status: int | None) -> None:
    dialogue = Dialogue(TransferError("no", status=status), credentials=ROBOT)
    with pytest.raises(TransferError):
        dialogue.answer(challenge())
    assert len(dialogue.asked) == 1


def test_an_identity_token_is_no_password_for_the_registry() -> None:
    assert Dialogue({}, credentials=ROBOT).answer([Challenge("basic", {})]) is None


def test_a_registry_token_goes_to_the_registry_and_not_to_the_token_server() -> None:
    dialogue = Dialogue({}, credentials=Credentials("", "", registry_token="direct"))
    assert dialogue.answer(challenge()) == dialogue.header() == "Bearer direct"
    assert dialogue.answer(challenge(), refused="Bearer direct") is None
    assert dialogue.asked == []


def test_a_registry_token_with_a_line_break_is_refused() -> None:
    dialogue = Dialogue({}, credentials=Credentials("", "", registry_token="a\r\nX-Evil: 1"))
    with pytest.raises(TransferError):
        dialogue.answer(challenge())


# Scopes


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("", ""),
        ("aws", "aws"),
        ("repository:a:pull  repository:b:pull", "repository:a:pull repository:b:pull"),
        ("repository:a:pull repository:a:push", "repository:a:pull,push"),
        ("repository:a:pull repository:b:pull repository:a:pull", "repository:a:pull repository:b:pull"),
        ("repository:a:", "repository:a"),
        ("registry:catalog:*", "registry:catalog:*"),
        ("repository:host:5000/a:pull", "repository:host:5000/a:pull"),
        (":", ""),
    ],
)
def test_scopes_of_one_resource_are_one(text: str, written: str) -> None:
    assert str(Scopes.parse(text)) == written


@pytest.mark.parametrize(
    ("wide", "narrow", "covered"),
    [
        ("repository:a:pull,push", "repository:a:pull", True),
        ("repository:a:push,pull", "repository:a:pull,push", True),
        ("repository:a:pull", "repository:a:pull,push", False),
        ("repository:a:pull", "repository:b:pull", False),
        ("repository:a:pull,push repository:b:pull", "repository:a:pull,push", True),
        ("repository:a:pull", "", True),
        ("", "repository:a:pull", False),
        ("aws", "aws", True),
        ("repository:a:pull", "aws", False),
    ],
)
def test_a_token_covers_what_it_was_asked_for(wide: str, narrow: str, covered: bool) -> None:
    assert (Scopes.parse(wide) >= Scopes.parse(narrow)) is covered


def test_a_token_to_push_is_good_for_pulling() -> None:
    dialogue = Dialogue({"token": "t"})
    dialogue.answer(challenge(), "repository:a:pull,push")
    assert dialogue.header("repository:a:pull") == "Bearer t"
    assert dialogue.header("repository:b:pull") is None


def test_a_token_to_mount_is_good_for_the_same_again_and_for_less() -> None:
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    mount = "repository:a:pull,push repository:b:pull"
    dialogue.answer(challenge(), mount)
    assert dialogue.header(mount) == dialogue.header("repository:a:pull,push") == "Bearer one"
    assert dialogue.header("repository:a:pull,push repository:c:pull") is None
    assert dialogue.header("repository:b:pull") is None, "b may have other credentials"


def test_a_wide_token_that_is_refused_for_less_makes_way_for_an_exact_one() -> None:
    dialogue = Dialogue({"token": "wide"}, {"token": "exact"})
    dialogue.answer(challenge(), "repository:a:pull,push")
    assert dialogue.answer(challenge(), "repository:a:pull", refused="Bearer wide") == "Bearer exact"
    assert dialogue.header("repository:a:pull") == "Bearer exact"


def test_what_was_found_missing_is_merged_in_and_comes_first() -> None:
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    dialogue.answer(challenge(scope=PULL))
    missing = challenge(scope="repository:other:pull", error="insufficient_scope")
    assert dialogue.answer(missing, refused="Bearer one", again=True) == "Bearer two"
    assert dialogue.scopes() == [[PULL], ["repository:other:pull", PULL]]


def test_several_scopes_in_one_challenge_are_several() -> None:
    dialogue = Dialogue({"token": "t"})
    dialogue.answer(challenge(scope="repository:x:pull aws"))
    assert dialogue.scopes() == [["repository:x:pull", "aws", PULL]]


def test_a_new_token_that_is_refused_is_not_asked_for_again_without_a_reason() -> None:
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    dialogue.answer(challenge(scope=PULL))
    assert dialogue.answer(challenge(scope=PULL), refused="Bearer one", again=True) is None
    assert len(dialogue.asked) == 1
    assert dialogue.header() == "Bearer one", "another request may be luckier"


def expired(dialogue: Dialogue, header: str) -> str | None:
    """What follows a 400 without a challenge."""
    rejection = Rejection("GET", 400, authorization=header)
    return asyncio.run(dialogue.auth.authorization_after(rejection, PULL, renewed=False))


def test_a_token_is_renewed_as_it_was_asked_for() -> None:
    """ECR Public does not say again what it wants when a token has expired."""
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    dialogue.answer(challenge(service="public.ecr.aws", scope="aws"))
    assert expired(dialogue, "Bearer one") == dialogue.header() == "Bearer two"
    assert dialogue.asked[0][0] == dialogue.asked[1][0]
    assert dialogue.scopes()[1] == ["aws", PULL]


def test_what_is_no_token_is_not_renewed() -> None:
    dialogue = Dialogue({}, credentials=ANN)
    dialogue.answer([Challenge("basic", {})])
    assert expired(dialogue, ANN.basic) is None


def test_repositories_do_not_wait_for_each_other() -> None:
    """One token server that is slow for one repository holds up no other."""
    both = asyncio.Barrier(2)

    async def fetch(url: URL, authorization: str | None, form: Mapping[str, str] | None = None) -> bytes:
        async with both:
            return b'{"token":"t"}'

    async def nobody(_: str) -> Credentials | None:
        return None

    async def main() -> None:
        auth = Authenticator(URL("https://r.example"), nobody, fetch)
        async with asyncio.timeout(10), asyncio.TaskGroup() as group:
            for scope in (PULL, PUSH):
                group.create_task(auth.answer(challenge(), scope, None))

    asyncio.run(main())
