"""Tests of challenges and tokens: token requests, lifetimes, scopes and Authorization headers."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
from yarl import URL

from mirror.errors import ConfigError, TransferError, Unauthorized
from mirror.registry.auth.authenticator import Authenticator, Rejection
from mirror.registry.auth.challenges import Challenge
from mirror.registry.auth.tokens import Scopes
from mirror.registry.credentials import Credentials
from mirror.retry import RetryPolicy

pytestmark = pytest.mark.usefixtures("each_exchange")

PULL = "repository:library/redis:pull"
PUSH = "repository:a/b:pull,push"
ANN = Credentials("ann", "se:cret")
ROBOT = Credentials("", "", identity_token="identity")
REALM = "https://auth.example/token"


def challenge(realm: str = REALM, **parameters: str) -> list[Challenge]:
    return [Challenge("bearer", {"realm": realm, **parameters})]


# The dialogue


class Dialogue:
    """An authenticator and its token server, which gives the answers in order and repeats the last one."""

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
        self.auth = Authenticator(URL(base), self._find, self._fetch, self._fetch_challenges)
        self.at_root: list[str] = []  # the challenges of /v2/
        self.root_failures: list[TransferError] = []  # before them
        self.root_requests = 0

    async def _find(self, repository: str) -> Credentials | None:
        await asyncio.sleep(0)
        return self._credentials.get(repository) if isinstance(self._credentials, Mapping) else self._credentials

    async def _fetch_challenges(self) -> list[str]:
        self.root_requests += 1
        await asyncio.sleep(0)
        if self.root_failures:
            raise self.root_failures.pop(0)
        return self.at_root

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
        """Return the scopes of each token request."""
        return [url.query.getall("scope", []) for url, _ in self.asked]


NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time, which stands still unless a test moves it."""
    now = SimpleNamespace(seconds=0.0)
    wall = SimpleNamespace(monotonic=lambda: now.seconds, time=lambda: NOW.timestamp() + now.seconds)
    monkeypatch.setattr("mirror.registry.auth.tokens.time", wall)
    return now


def test_no_authorization_is_sent_before_a_challenge() -> None:
    assert Dialogue({"token": "t"}, credentials=ANN).header() is None


def test_token_is_used_only_for_its_scope() -> None:
    dialogue = Dialogue({"token": "t"})
    assert dialogue.answer(challenge(service="s"))
    assert (dialogue.header(PULL), dialogue.header(PUSH)) == ("Bearer t", None)


@pytest.mark.parametrize("answer", [{"token": "t"}, {"access_token": "t"}, {"token": "t", "access_token": "other"}])
def test_token_is_read_from_token_or_access_token(answer: dict[str, str]) -> None:
    dialogue = Dialogue(answer)
    dialogue.answer(challenge())
    assert dialogue.header() == "Bearer t"


@pytest.mark.parametrize(("credentials", "header"), [(None, None), (ANN, "Basic YW5uOnNlOmNyZXQ=")])
def test_token_request_has_credentials_if_there_are_any(credentials: Credentials | None, header: str | None) -> None:
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
def test_scope_of_the_challenge_comes_first_in_the_token_request(
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


def test_concurrent_answers_share_one_token_request() -> None:
    dialogue = Dialogue({"token": "t"})

    async def main() -> list[str | None]:
        return await asyncio.gather(*(dialogue.auth.answer(challenge(), PULL, None) for _ in range(50)))

    assert asyncio.run(main()) == ["Bearer t"] * 50
    assert len(dialogue.asked) == 1


def test_failed_token_request_is_shared_and_can_be_repeated() -> None:
    dialogue = Dialogue(TransferError("busy", transient=True), {"token": "t"})

    async def main() -> list[str | BaseException | None]:
        waiting = (dialogue.auth.answer(challenge(), PULL, None) for _ in range(50))
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert {str(error) for error in asyncio.run(main())} == {"busy"}
    assert len(dialogue.asked) == 1
    assert dialogue.answer(challenge()) == "Bearer t"


def test_failed_request_for_the_challenge_is_shared_and_can_be_repeated() -> None:
    dialogue = Dialogue({"token": "t"}, credentials=ANN)
    dialogue.at_root = [f'Bearer realm="{REALM}"']
    dialogue.root_failures = [TransferError("down")]

    async def ask_for_fifty() -> list[str | BaseException | None]:
        scopes = (f"repository:a{number}:pull" for number in range(50))
        waiting = (dialogue.auth.authorization_before(scope) for scope in scopes)
        return await asyncio.gather(*waiting, return_exceptions=True)

    async def main() -> None:
        assert {str(error) for error in await ask_for_fifty()} == {"down"}
        assert dialogue.root_requests == 1
        assert await ask_for_fifty() == ["Bearer t"] * 50
        assert dialogue.root_requests == 2

    asyncio.run(main())


def test_request_for_the_challenge_that_was_cancelled_is_made_by_another_caller() -> None:
    dialogue = Dialogue({"token": "t"}, credentials=ANN)
    dialogue.at_root = [f'Bearer realm="{REALM}"']

    async def main() -> list[str | BaseException | None]:
        first, *others = [asyncio.create_task(dialogue.auth.authorization_before(PULL)) for _ in range(3)]
        while not dialogue.root_requests:
            await asyncio.sleep(0)
        first.cancel()
        return await asyncio.gather(*others, return_exceptions=True)

    assert asyncio.run(main()) == ["Bearer t"] * 2


@pytest.mark.slow
def test_retries_of_many_requests_are_few_requests_for_the_challenge() -> None:
    dialogue = Dialogue({"token": "t"}, credentials=ANN)
    dialogue.root_failures = [TransferError("busy", transient=True) for _ in range(1000)]

    async def main() -> list[str | BaseException | None]:
        once = partial(dialogue.auth.authorization_before, PULL)
        return await asyncio.gather(*(RetryPolicy(2).run(once) for _ in range(50)), return_exceptions=True)

    assert {str(error) for error in asyncio.run(main())} == {"busy"}
    assert 3 <= dialogue.root_requests <= 5


def test_refused_token_is_replaced() -> None:
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    dialogue.answer(challenge())
    assert dialogue.answer(challenge(), refused="Bearer one")
    assert dialogue.header() == "Bearer two"


def test_refused_token_that_is_issued_again_is_not_used() -> None:
    dialogue = Dialogue({"token": "t"})
    dialogue.answer(challenge())
    assert not dialogue.answer(challenge(), refused="Bearer t")


# Lifetimes


def valid_after(clock: SimpleNamespace, after: float, **fields: object) -> bool:
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
def test_token_without_a_longer_lifetime_is_valid_for_a_minute(
    clock: SimpleNamespace, fields: dict[str, object]
) -> None:
    assert valid_after(clock, 45, **fields)
    assert not valid_after(clock, 60, **fields)


@pytest.mark.parametrize(
    ("age", "left"),
    [
        (0, 300),
        (100, 200),
        (230, 70),
        (290, 60),  # at least a minute, in case a clock is wrong
        (100_000, 60),
        (-50, 300),
        (-100_000, 300),
    ],
)
def test_lifetime_counts_from_issued_at_if_that_is_plausible(clock: SimpleNamespace, age: float, left: float) -> None:
    issued = (NOW - timedelta(seconds=age)).isoformat()
    assert valid_after(clock, left - 15, expires_in=300, issued_at=issued)
    clock.seconds = 0
    assert not valid_after(clock, left, expires_in=300, issued_at=issued)


@pytest.mark.parametrize(
    "text",
    [
        "2026-03-01T11:58:20Z",
        "2026-03-01T11:58:20.123456789Z",
        (NOW - timedelta(seconds=100)).astimezone(timezone(timedelta(hours=-7))).isoformat(),
    ],
)
def test_issued_at_is_parsed_in_several_formats(clock: SimpleNamespace, text: str) -> None:
    assert valid_after(clock, 180, expires_in=300, issued_at=text)
    clock.seconds = 0
    assert not valid_after(clock, 210, expires_in=300, issued_at=text)


@pytest.mark.parametrize(
    "issued", ["", "yesterday", None, 0, 1772366400, [], {}, True, "9999-99-99T00:00:00Z", "0001-01-01"]
)
def test_invalid_issued_at_is_ignored(clock: SimpleNamespace, issued: object) -> None:
    assert valid_after(clock, 280, expires_in=300, issued_at=issued)


@pytest.mark.parametrize("lifetime", [300, 300.0])
def test_token_is_renewed_shortly_before_it_expires(clock: SimpleNamespace, lifetime: float) -> None:
    assert valid_after(clock, 280, expires_in=lifetime)
    assert not valid_after(clock, 299, expires_in=lifetime)


@pytest.mark.parametrize("lifetime", ["1" + "0" * 400, "1e300", "9007199254740993", "1" * 4000])
def test_huge_lifetimes_are_accepted(clock: SimpleNamespace, lifetime: str) -> None:
    dialogue = Dialogue(b'{"token":"t","expires_in":%s}' % lifetime.encode())
    dialogue.answer(challenge())
    assert dialogue.header() == "Bearer t"


# Invalid responses of a token server

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
def test_invalid_token_response_is_a_transfer_error(body: bytes) -> None:
    dialogue = Dialogue(body)
    with pytest.raises(TransferError):
        dialogue.answer(challenge())
    assert dialogue.header() is None


def test_failed_token_request_fails_the_request() -> None:
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
def test_unsafe_realm_is_refused(realm: str) -> None:
    dialogue = Dialogue({"token": "t"}, credentials=ANN)
    with pytest.raises(TransferError, match="requires a token from"):
        dialogue.answer(challenge(realm))
    assert dialogue.asked == []


def test_realm_may_use_plain_http_if_the_registry_does() -> None:
    dialogue = Dialogue({"token": "t"}, base="http://127.0.0.1:5000")
    assert dialogue.answer(challenge("http://127.0.0.1:5001/token"))


# Choice of a challenge


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
def test_first_challenge_that_can_be_answered_is_used(
    challenges: list[Challenge], credentials: Credentials | None, header: str | None
) -> None:
    dialogue = Dialogue({"token": "t"}, credentials=credentials)
    assert dialogue.answer(challenges) == header
    assert dialogue.header() == header


def test_basic_credentials_are_tried_once() -> None:
    dialogue = Dialogue({}, credentials=ANN)
    assert dialogue.answer([Challenge("basic", {})]) == dialogue.header() == ANN.basic
    assert dialogue.answer([Challenge("basic", {})], refused=ANN.basic) is None


def test_next_challenge_is_answered_after_basic_was_refused() -> None:
    dialogue = Dialogue({"token": "t"}, credentials=ANN)
    assert dialogue.answer([Challenge("basic", {}), *challenge()], refused=ANN.basic) == "Bearer t"


def test_repositories_can_have_different_credentials() -> None:
    bob = Credentials("bob", "other")
    dialogue = Dialogue({"token": "t"}, credentials={"library/redis": ANN, "a/b": bob})
    for scope, who in ((PULL, ANN), (PUSH, bob)):
        assert dialogue.answer([Challenge("basic", {})], scope) == who.basic
        dialogue.answer(challenge(), scope, refused=who.basic)
    assert [authorization for _, authorization in dialogue.asked] == [ANN.basic, bob.basic]
    assert dialogue.header("repository:c:pull") is None


def test_unreadable_credentials_fail_the_request() -> None:
    async def broken(_: str) -> Credentials | None:
        raise ConfigError("broken")

    dialogue = Dialogue({"token": "t"})
    auth = Authenticator(URL("https://r.example"), broken, dialogue._fetch, dialogue._fetch_challenges)
    with pytest.raises(ConfigError):
        asyncio.run(auth.answer(challenge(), PULL, None))
    assert dialogue.asked == []


def test_hint_has_the_source_of_refused_credentials() -> None:
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
def test_token_request_falls_back_from_post_to_get(status: int) -> None:
    dialogue = Dialogue(TransferError("no", status=status), {"token": "t"}, credentials=ROBOT)
    assert dialogue.answer(challenge()) == "Bearer t"
    assert dialogue.asked[1] == (URL(REALM).extend_query([("scope", PULL)]), ROBOT.basic)


@pytest.mark.parametrize("status", [400, 403, 500, None])
def test_other_errors_of_a_token_post_fail_the_request(status: int | None) -> None:
    dialogue = Dialogue(TransferError("no", status=status), credentials=ROBOT)
    with pytest.raises(TransferError):
        dialogue.answer(challenge())
    assert len(dialogue.asked) == 1


def test_identity_token_does_not_answer_a_basic_challenge() -> None:
    assert Dialogue({}, credentials=ROBOT).answer([Challenge("basic", {})]) is None


def test_registry_token_is_sent_to_the_registry_without_a_token_request() -> None:
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
def test_scopes_of_one_resource_are_merged(text: str, written: str) -> None:
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
def test_wider_scopes_cover_narrower_ones(wide: str, narrow: str, covered: bool) -> None:
    assert (Scopes.parse(wide) >= Scopes.parse(narrow)) is covered


def test_push_token_is_used_for_pulling() -> None:
    dialogue = Dialogue({"token": "t"})
    dialogue.answer(challenge(), "repository:a:pull,push")
    assert dialogue.header("repository:a:pull") == "Bearer t"
    assert dialogue.header("repository:b:pull") is None


def test_mount_token_is_reused_for_mounts_and_pushes_to_its_target() -> None:
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    mount = "repository:a:pull,push repository:b:pull"
    dialogue.answer(challenge(), mount)
    assert dialogue.header(mount) == dialogue.header("repository:a:pull,push") == "Bearer one"
    assert dialogue.header("repository:a:pull,push repository:c:pull") is None
    assert dialogue.header("repository:b:pull") is None, "b may have other credentials"


def test_refused_wider_token_is_replaced_by_an_exact_one() -> None:
    dialogue = Dialogue({"token": "wide"}, {"token": "exact"})
    dialogue.answer(challenge(), "repository:a:pull,push")
    assert dialogue.answer(challenge(), "repository:a:pull", refused="Bearer wide") == "Bearer exact"
    assert dialogue.header("repository:a:pull") == "Bearer exact"


def test_insufficient_scope_adds_the_missing_scope_in_first_place() -> None:
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    dialogue.answer(challenge(scope=PULL))
    missing = challenge(scope="repository:other:pull", error="insufficient_scope")
    assert dialogue.answer(missing, refused="Bearer one", again=True) == "Bearer two"
    assert dialogue.scopes() == [[PULL], ["repository:other:pull", PULL]]


def test_scopes_of_a_challenge_are_split_at_spaces() -> None:
    dialogue = Dialogue({"token": "t"})
    dialogue.answer(challenge(scope="repository:x:pull aws"))
    assert dialogue.scopes() == [["repository:x:pull", "aws", PULL]]


def test_refused_new_token_is_not_renewed_without_a_reason() -> None:
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    dialogue.answer(challenge(scope=PULL))
    assert dialogue.answer(challenge(scope=PULL), refused="Bearer one", again=True) is None
    assert len(dialogue.asked) == 1
    assert dialogue.header() == "Bearer one", "another request may succeed with it"


def after_expiry(dialogue: Dialogue, header: str) -> str | None:
    """Return the Authorization header of the request that follows a 400 without a challenge."""
    rejection = Rejection("GET", 400, authorization=header)
    return asyncio.run(dialogue.auth.authorization_after(rejection, PULL, renewed=False))


def test_expired_token_is_renewed_by_the_same_request() -> None:
    """ECR Public sends no challenge when a token has expired."""
    dialogue = Dialogue({"token": "one"}, {"token": "two"})
    dialogue.answer(challenge(service="public.ecr.aws", scope="aws"))
    assert after_expiry(dialogue, "Bearer one") == dialogue.header() == "Bearer two"
    assert dialogue.asked[0][0] == dialogue.asked[1][0]
    assert dialogue.scopes()[1] == ["aws", PULL]


def test_basic_credentials_are_not_renewed() -> None:
    dialogue = Dialogue({}, credentials=ANN)
    dialogue.answer([Challenge("basic", {})])
    assert after_expiry(dialogue, ANN.basic) is None


def test_token_requests_of_two_repositories_run_concurrently() -> None:
    """A token server that is slow for one repository does not delay another one."""
    both = asyncio.Barrier(2)

    async def fetch(url: URL, authorization: str | None, form: Mapping[str, str] | None = None) -> bytes:
        async with both:
            return b'{"token":"t"}'

    async def no_credentials(_: str) -> Credentials | None:
        return None

    async def no_challenges() -> list[str]:
        return []

    async def main() -> list[str | None]:
        auth = Authenticator(URL("https://r.example"), no_credentials, fetch, no_challenges)
        async with asyncio.timeout(10):
            return await asyncio.gather(*(auth.answer(challenge(), scope, None) for scope in (PULL, PUSH)))

    assert asyncio.run(main()) == ["Bearer t", "Bearer t"]
