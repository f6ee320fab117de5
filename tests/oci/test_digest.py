"""Tests of digests: accepted digests are safe in paths and URLs, and match only their content."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.errors import InvalidDigest
from mirror.oci.digest import Digest
from tests.support.strategies import HEX, THOROUGH, any_digest, digest_by, digests, nasty_text, outcome

GOOD = "sha256:" + HEX * 4
EMPTY = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        "sha384:" + HEX * 6,
        "sha512:" + HEX * 8,
        "md5:abc",
        "blake3:ABC=_-",
        "sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564",
        "multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8",
        "a.b_c-d:1",
    ],
)
def test_digest_of_the_specification_is_accepted(text: str) -> None:
    assert Digest.parse(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        f":{HEX * 4}",
        HEX * 4,
        GOOD[:-1],
        GOOD + "0",
        GOOD + "\n",
        GOOD + "\0",
        " " + GOOD,
        GOOD + " ",
        GOOD.upper(),
        "SHA256:" + HEX * 4,
        "sha256:" + HEX.upper() * 4,
        "sha256:" + "g" * 64,
        "sha384:" + HEX * 4,
        "sha512:" + HEX * 4,
        "sha256:../../etc/passwd",
        "sha256:" + "../" * 21 + "a",
        "../sha256:" + HEX * 4,
        "sha256/x:" + HEX * 4,
        "a:..",
        "a:.",
        "a:b/c",
        "a:b\\c",
        "a:b%2f",
        "a:b?c",
        "a:b:c",
        "a..b:c",
        ".a:b",
        "a:\n",
        "a:b\0",
        "é:a",
        "a:é",
        "sha256:" + "٣" * 64,
        "a:" + "b" * 300,
    ],
)
def test_invalid_digest_is_refused(text: str) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(text)


@pytest.mark.parametrize("value", [None, True, 5, 1.5, b"sha256:00", ["a:b"], {"a": "b"}])
def test_value_that_is_not_text_is_refused(value: object) -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse(value)


@pytest.mark.slow
@given(nasty_text | any_digest.map(lambda text: text + "\n") | st.from_regex(r"[a-z0-9+._-]+:[a-zA-Z0-9=_-]+"))
@THOROUGH
def test_accepted_digest_is_safe_as_a_file_name(text: str) -> None:
    digest = outcome(lambda: Digest.parse(text))
    if not isinstance(digest, Digest):
        assert isinstance(digest, InvalidDigest)
        assert str(digest).isprintable()
        return
    assert not {*digest} & {*"/\\%?#\0\n\r "}
    assert {digest.algorithm, digest.encoded}.isdisjoint({"", ".", ".."})
    assert max(len(digest.algorithm), len(digest.encoded)) <= 255


@pytest.mark.slow
@given(any_digest)
@THOROUGH
def test_digest_keeps_its_text_and_parts(text: str) -> None:
    digest = Digest.parse(text)
    assert f"{digest.algorithm}:{digest.encoded}" == str(digest) == text
    assert digest.encoded.startswith(digest.short)


def test_the_digest_of_bytes_is_their_sha256() -> None:
    assert Digest.of(b"{}") == EMPTY


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_digest_matches_only_its_content_and_algorithm(algorithm: str) -> None:
    digest = Digest.parse(digest_by(algorithm, b"content"))
    right, wrong, other = digest.hasher(), digest.hasher(), hashlib.md5(b"content")
    right.update(b"con")
    right.update(memoryview(b"tent"))
    wrong.update(b"Content")
    assert digest.hashable
    assert [digest.matches(hasher) for hasher in (right, wrong, other)] == [True, False, False]


@pytest.mark.parametrize("text", ["md5:900150983cd24fb0d6963f7d28e17f72", "blake3:abc", "sha1:00", "sha256+b64u:xyz"])
def test_hasher_of_an_unsupported_algorithm_is_an_error(text: str) -> None:
    digest = Digest.parse(text)
    assert not digest.hashable
    with pytest.raises(InvalidDigest, match=r"digest algorithm .* is not supported") as caught:
        digest.hasher()
    assert "never stored" in (caught.value.hint or "")


def test_sha256_digest_with_the_prefix_sha512_is_refused() -> None:
    with pytest.raises(InvalidDigest):
        Digest.parse("sha512:" + hashlib.sha256(b"content").hexdigest())


@pytest.mark.slow
@given(digests(), digests())
@THOROUGH
def test_digests_are_equal_if_their_texts_are_equal(one: str, other: str) -> None:
    assert (Digest.parse(one) == Digest.parse(other)) is (one == other)
    assert len({Digest.parse(one), one}) == 1


def test_error_message_escapes_control_characters() -> None:
    with pytest.raises(InvalidDigest) as caught:
        Digest.parse("\x1b[2J\n" * 100)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000
