"""Challenges and tokens: what a registry asks for, and what is sent because of it."""

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from mirror.errors import TransferError
from mirror.registry.auth import Authenticator, Challenge, parse_challenges
from mirror.registry.credentials import Credentials
from tests.strategies import THOROUGH, nasty_text

PULL = "repository:library/redis:pull"
PUSH = "repository:a/b:pull,push"
ANN = Credentials("ann", "se:cret")
REALM = "https://auth.example/token"


def challenge(realm: str = REALM, **parameters: str) -> list[Challenge]:
    return [Challenge("bearer", {"realm": realm, **parameters})]


# Challenges


@pytest.mark.parametrize(
    ("header", "challenges"),
    [
        ('Basic realm="x"', [("basic", {"realm": "x"})]),
        ("Basic realm=x", [("basic", {"realm": "x"})]),
        ("Basic", [("basic", {})]),
        ("", []),
        (" , ,", []),
        ('BEARER REALM="x",Service=y', [("bearer", {"realm": "x", "service": "y"})]),
        ('Bearer realm = "x" , service= "y"', [("bearer", {"realm": "x", "service": "y"})]),
        ('Bearer realm="x",,service="y",', [("bearer", {"realm": "x", "service": "y"})]),
        (',, Basic realm="x"', [("basic", {"realm": "x"})]),
        (r'Bearer realm="a\"b\\c"', [("bearer", {"realm": 'a"b\\c'})]),
        ('Bearer realm=""', [("bearer", {"realm": ""})]),
        (
            'Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push",error="invalid_token"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://a/t",
                        "service": "s",
                        "scope": "repository:a/b:pull,push",
                        "error": "invalid_token",
                    },
                )
            ],
        ),
    ],
)
def test_a_challenge_has_a_scheme_and_parameters(header: str, challenges: list[tuple[str, dict[str, str]]]) -> None:
    assert [(one.scheme, one.parameters) for one in parse_challenges(header)] == challenges


@pytest.mark.parametrize(
    "first",
    [
        "Negotiate",
        "Negotiate ",
        "Negotiate YIIabc",
        "Negotiate YIIabc==",
        "NTLM TlRMTVNTUAAC+/=",
        'Digest realm="d", nonce="n,o", qop="auth,auth-int"',
        'Basic realm="x"',
        'Basic realm="Bearer realm=\\"no\\""',
    ],
)
def test_challenges_after_another_one_are_read(first: str) -> None:
    found = parse_challenges(f'{first}, Bearer realm="y",service="s"')
    assert len(found) == 2
    assert (found[1].scheme, found[1].parameters) == ("bearer", {"realm": "y", "service": "s"})


_token = st.text("abcXYZ019-_", min_size=1, max_size=8).filter(lambda text: text[0].isalpha())
_value = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=12)


@given(st.lists(st.tuples(_token, st.dictionaries(_token.map(str.lower), _value, min_size=1, max_size=3)), max_size=3))
@THOROUGH
def test_what_is_written_by_the_book_is_read(challenges: list[tuple[str, dict[str, str]]]) -> None:
    written = []
    for scheme, parameters in challenges:
        quoted = {name: text.replace("\\", "\\\\").replace('"', '\\"') for name, text in parameters.items()}
        written.append(f"{scheme} " + ", ".join(f'{name}="{text}"' for name, text in quoted.items()))
    found = [(one.scheme, one.parameters) for one in parse_challenges(", ".join(written))]
    assert found == [(scheme.lower(), parameters) for scheme, parameters in challenges]


@given(nasty_text | st.text('Basic realm=",\\ \t', max_size=60))
@THOROUGH
def test_any_header_is_some_challenges(header: str) -> None:
    for found in parse_challenges(header):
        assert found.scheme == found.scheme.lower() != ""


def test_a_long_hostile_header_is_read_at_once() -> None:
    for part in ("a ", 'a="', "a=", ",", "a", 'a b="c",', "a b== "):
        parse_challenges(part * 20_000)


# The dialogue


class Dialogue:
    """An authenticator, and the token server that it asks."""

    def __init__(self, *answers: Any, credentials: Credentials | None = None, base: str = "https://r.example") -> None:
        self.asked: list[tuple[URL, str | None]] = []
        self._answers = list(answers)
        self.auth = Authenticator(URL(base), credentials, self._fetch)

    async def _fetch(self, url: URL, authorization: str | None) -> bytes:
        self.asked.append((url, authorization))
        await asyncio.sleep(0)
        given = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(given, Exception):
            raise given
        return given if isinstance(given, bytes) else json.dumps(given).encode()

    def answer(self, challenges: list[Challenge], scope: str = PULL, refused: str | None = None) -> bool:
        return asyncio.run(self.auth.answer(challenges, scope, refused))

    def header(self, scope: str = PULL) -> str | None:
        return self.auth.header(scope)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time, which stands still unless a test moves it."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr("mirror.registry.auth.time", SimpleNamespace(monotonic=lambda: now.seconds))
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

    async def main() -> list[bool]:
        return await asyncio.gather(*(dialogue.auth.answer(challenge(), PULL, None) for _ in range(50)))

    assert all(asyncio.run(main()))
    assert len(dialogue.asked) == 1


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
    with pytest.raises(TransferError, match="wants tokens from"):
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
    assert dialogue.answer(challenges) is (header is not None)
    assert dialogue.header() == header


def test_basic_is_for_the_whole_registry_and_tried_once() -> None:
    dialogue = Dialogue({}, credentials=ANN)
    assert dialogue.answer([Challenge("basic", {})])
    assert dialogue.header(PUSH) == ANN.basic
    assert not dialogue.answer([Challenge("basic", {})], refused=ANN.basic)
