"""Tests of parsing WWW-Authenticate headers: the forms of RFC 9110, and malformed ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.registry.auth.challenges import parse_challenges
from tests.support.strategies import THOROUGH, nasty_text

pytestmark = pytest.mark.usefixtures("each_exchange")


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
def test_scheme_and_parameters_are_parsed(header: str, challenges: list[tuple[str, dict[str, str]]]) -> None:
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
def test_challenge_after_another_one_is_parsed(first: str) -> None:
    found = parse_challenges(f'{first}, Bearer realm="y",service="s"')
    assert len(found) == 2
    assert (found[1].scheme, found[1].parameters) == ("bearer", {"realm": "y", "service": "s"})


_token = st.text("abcXYZ019-_", min_size=1, max_size=8).filter(lambda text: text[0].isalpha())
_value = st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=12)


@pytest.mark.slow
@given(st.lists(st.tuples(_token, st.dictionaries(_token.map(str.lower), _value, min_size=1, max_size=3)), max_size=3))
@THOROUGH
def test_any_valid_header_is_parsed(challenges: list[tuple[str, dict[str, str]]]) -> None:
    written = []
    for scheme, parameters in challenges:
        quoted = {name: text.replace("\\", "\\\\").replace('"', '\\"') for name, text in parameters.items()}
        written.append(f"{scheme} " + ", ".join(f'{name}="{text}"' for name, text in quoted.items()))
    found = [(one.scheme, one.parameters) for one in parse_challenges(", ".join(written))]
    assert found == [(scheme.lower(), parameters) for scheme, parameters in challenges]


@given(nasty_text | st.text('Basic realm=",\\ \t', max_size=60))
@THOROUGH
def test_parser_never_raises(header: str) -> None:
    for found in parse_challenges(header):
        assert found.scheme == found.scheme.lower() != ""


# Headers that break parsers of challenges: found by fuzzing, or written by hand.
CORPUS = [
    'Bearer realm="a',
    'Bearer realm="a\\',
    'Bearer realm="a\\"',
    "Bearer realm=",
    "Bearer =x",
    'Bearer realm="a"b',
    'Bearer realm="a" service="b"',
    'Bearer realm="a",Bearer realm="b"',
    "Bearer realm=a=b",
    'realm="a"',
    '"Bearer" realm="a"',
    "Bearer\x00realm=a",
    "Bearer\x85realm=a",
    "Basic\tQQ==\t,\tBearer\trealm=a",
    "A" * 9000,
    "é realm=a",
    "\u017fcheme realm=a",
    ",",
    "=",
    "\\",
]


@pytest.mark.parametrize("header", CORPUS, ids=repr)
def test_malformed_header_can_be_parsed(header: str) -> None:
    assert all(found.scheme.isascii() for found in parse_challenges(header))


@pytest.mark.parametrize(
    ("header", "realms"),
    [
        ('Bearer realm="a" service="b"', ["a"]),
        ('Bearer realm="a",Bearer realm="b"', ["a", "b"]),
        ('realm="a"', []),
        ('Bearer realm="a', []),
        ('Basic realm="a",Bearer realm="b', ["a"]),
    ],
)
def test_challenges_before_a_syntax_error_are_kept(header: str, realms: list[str]) -> None:
    found = [one.parameters.get("realm") for one in parse_challenges(header)]
    assert [realm for realm in found if realm is not None] == realms


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [
        "a ",
        'a="',
        "a=",
        ",",
        "a",
        'a b="c",',
        "a b== ",
        "a  b",
        "a b.",
        '"',
        "\\",
        'a="\\',
        "a =",
        "a\t",
        "-",
        "a,=",
        "a b=,",
    ],
)
def test_long_hostile_header_is_parsed_quickly(part: str) -> None:
    """A parser that goes back to the start for every part would take hours."""
    for before in ("", "Bearer ", 'Bearer realm="', "Bearer realm="):
        found = parse_challenges('Basic realm="x", ' + before + part * 40_000)
        assert (found[0].scheme, found[0].parameters["realm"]) == ("basic", "x")
