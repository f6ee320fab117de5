"""Tests of the redaction of secrets in all forms in which a server may repeat them."""

import html
import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.cli import console
from mirror.errors import DigestMismatch, TransferError
from mirror.registry import Credentials
from mirror.text import redaction
from mirror.text.redaction import REDACTED, excerpt, hide, redact

PASSWORDS = ["s3cr3t-pass", "a b+c/d=e&f\"g'h\\i", "p%41ss%\\new", "pässwörd", "🔑key🔑", "line\nbreak\ttab", "hunter2"]
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "repr": repr,
    "ascii": ascii,
    "JSON": json.dumps,
    "JSON in JSON": lambda text: json.dumps(json.dumps(text)),
    "URL": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "URL twice": lambda text: quote(quote(text, safe=""), safe=""),
    "every byte": lambda text: "".join(f"%{byte:02x}" for byte in text.encode()),
    "HTML": html.escape,
    "references": lambda text: "".join(f"&#{ord(char)};" for char in text),
    "latin-1": lambda text: text.encode().decode("latin-1"),
    "hex": lambda text: text.encode().hex().upper(),
    "base64": lambda text: b64encode(text.encode()).decode().rstrip("="),
}


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    redaction.forget()
    yield
    redaction.forget()


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("form", FORMS)
def test_secret_is_found_in_every_form(form: str, password: str) -> None:
    hide(password)
    shown = FORMS[form](password)
    quoted = shown[:1] if form in ("repr", "ascii", "JSON") else ""
    text = redact(f"the server said {shown}, and no more", foreign=True)
    assert text == f"the server said {quoted}{REDACTED}{quoted}, and no more" or form == "JSON in JSON"
    assert shown not in text


@given(st.text(min_size=8, max_size=40), st.binary(max_size=9), st.binary(max_size=9), st.integers(0, 3))
def test_secret_is_found_at_every_place_in_base64(secret: str, before: bytes, after: bytes, way: int) -> None:
    redaction.forget()
    try:
        data = secret.encode()
    except UnicodeEncodeError:
        return
    hide(secret)
    encode = urlsafe_b64encode if way % 2 else b64encode
    whole = encode(before + data + after).decode()
    first, last = (len(before) * 8 + 5) // 6, (len(before) + len(data)) * 8 // 6
    inner = whole[first:last]  # depends on the secret alone
    shown = "\n".join(whole[at : at + 10] for at in range(0, len(whole), 10)) if way > 1 else whole
    assert inner not in redact(f"said {shown}.").replace("\n", "")


@pytest.mark.parametrize("length", range(16, 28))
def test_fragment_of_16_characters_is_found(length: int) -> None:
    hide("ann:correct-horse-battery-staple")
    whole = b64encode(b"ann:correct-horse-battery-staple").decode().rstrip("=")
    for start in range(len(whole) - length + 1):
        assert redact(f"said {whole[start : start + length]} …") == f"said {REDACTED} …"


@pytest.mark.parametrize("cut", range(480, 520))
def test_excerpt_contains_no_part_of_a_secret_that_it_cuts(cut: int) -> None:
    hide("s3cr3t-pass")
    assert "s3c" not in excerpt("x" * cut + "s3cr3t-pass", 500)


def test_short_password_is_found_only_as_a_word_in_foreign_text() -> None:
    hide("redis")
    assert excerpt("user ann, password redis: wrong", 100) == f"user ann, password {REDACTED}: wrong"
    assert excerpt("rediscovered", 100) == "rediscovered"
    assert redact("docker.io/library/redis:4.0") == "docker.io/library/redis:4.0"


@pytest.mark.parametrize("password", ["postgres", "Registry"])
def test_password_of_letters_is_found_only_as_a_word_in_foreign_text(password: str) -> None:
    hide(password)
    assert excerpt(f"user ann, password {password}: wrong", 100) == f"user ann, password {REDACTED}: wrong"
    assert redact("docker.io/library/postgres:registry") == "docker.io/library/postgres:registry"
    assert redact(f"said {b64encode(password.encode()).decode().rstrip('=')}") == f"said {REDACTED}"


def test_short_tokens_are_forgotten() -> None:
    hide("t0k-n", *(f"longer-token-{number}" for number in range(300)), is_token=True)
    assert excerpt("t0k-n", 100) == "t0k-n"


def test_adjacent_and_overlapping_secrets_become_one() -> None:
    hide("first-secret", "secret-second")
    assert redact("(first-secret-second)") == f"({REDACTED})"


def test_digests_and_names_stay_as_they_are() -> None:
    hide("ann:s3cr3t-pass", "s3cr3t-pass")
    text = f"docker.io/library/redis:4.0@sha256:{'0123456789abcdef' * 4} %2F \\u0041 é"
    assert redact(text) == text


def test_password_in_a_url_is_redacted_without_being_known() -> None:
    assert redact("http://ann:pw@proxy.internal:3128/") == f"http://{REDACTED}@proxy.internal:3128/"
    assert redact("http://user:password@proxy.internal") == "http://user:password@proxy.internal"  # in our own hints


def test_colons_in_a_url_are_searched_once() -> None:
    text = "//" + "x:" * 500_000  # else it takes hours
    assert redact(f"http:{text}") == f"http:{text}"
    assert redact(f"http:{text}@host") == f"http://{REDACTED}@host"


@pytest.mark.parametrize("secret", ["\ud83d-half-a-pair", "byte-\udcff-of-PEP-383"])
def test_secret_that_is_not_valid_text_is_found(secret: str) -> None:
    hide(secret)
    assert redact(f"said {secret}.") == f"said {REDACTED}."


@pytest.mark.parametrize("name", ["registry.platform.example.com/a", "docker.io/library/postgres-backup:1"])
def test_user_name_is_not_a_secret(name: str) -> None:
    Credentials("ci@platform.example.com", "s3cr3t")
    Credentials("robot$library+postgres-backup", "s3cr3t-pass", identity_token="t0k3n-of-the-robot")
    assert redact(name) == name
    for pair in (b"ci@platform.example.com:s3cr3t", b"robot$library+postgres-backup:s3cr3t-pass"):
        assert redact(f"Basic {b64encode(pair).decode()}") == f"Basic {REDACTED}"


def test_only_the_latest_tokens_are_kept() -> None:
    tokens = [sha256(b"%d" % number).hexdigest() for number in range(300)]
    hide(*tokens, is_token=True)
    assert redact(tokens[-1]) == redact(tokens[44]) == REDACTED
    assert redact(tokens[43]) == tokens[43]


def test_errors_of_the_library_are_redacted() -> None:
    hide("s3cr3t-pass")
    error = TransferError("said s3cr3t-pass", hint="not s3cr3t-pass", said="DENIED s3cr3t-pass")
    assert (str(error), error.hint, error.said) == (f"said {REDACTED}", f"not {REDACTED}", f"DENIED {REDACTED}")
    assert "s3cr3t" not in str(DigestMismatch("s3cr3t-pass", want="sha256:s3cr3t-pass", got=""))


def test_commands_redact_whatever_they_write(capsys: pytest.CaptureFixture[str]) -> None:
    """The output layer does not rely on those that made the text."""
    secret = "correct horse battery staple"
    redaction.hide(secret)
    console.error(f"it said {secret}", hint=f"log in with {secret}")
    console.result_json({"error": f"it said {secret}"})
    written = "".join(capsys.readouterr())
    redaction.forget()
    assert written.count("it said ") == 2
    assert "horse" not in written
