"""What a 401 asks for, in every shape that RFC 9110 allows, and in many that it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.registry.auth.challenges import parse_challenges
from tests.support.profiles import every
from tests.support.strategies import THOROUGH, nasty_text


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


@pytest.mark.slow
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


# Found by a minute of fuzzing or written by hand: what readers of challenges stumble over.
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
def test_what_others_stumbled_over_is_some_challenges(header: str) -> None:
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
def test_what_comes_before_the_mistake_counts(header: str, realms: list[str]) -> None:
    found = [one.parameters.get("realm") for one in parse_challenges(header)]
    assert [realm for realm in found if realm is not None] == realms


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    every(
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
        ]
    ),
)
def test_a_long_hostile_header_is_read_at_once(part: str) -> None:
    """A reader that goes back to the start for every part would take hours."""
    for before in ("", "Bearer ", 'Bearer realm="', "Bearer realm="):
        parse_challenges(before + part * 40_000)
